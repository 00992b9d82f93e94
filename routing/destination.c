#include "routing/destination.h"

#include <stdlib.h>

#include "config/text.h"
#include "routing/gmail.h"

struct destinations {
    uint32_t count;
    struct destination *items;
    struct transport *transports; /* own the reply texts of items */
    struct relay **relays;        /* own the relays of direct transports */
};

/* A destination taken apart again. */
struct unpacked {
    enum transport_dialect dialect;
    const char *part[DESTINATION_PARTS]; /* NUL-terminated; "" where absent */
};

struct span destination_pack(const struct import_route *route, char *out)
{
    struct text text = text_over(out, DESTINATION_PACKED);
    text_putc(&text, route->dialect == TRANSPORT_MAP ? 'm' : 'y');
    text_put(&text, route->to);
    text_putc(&text, '\0');
    text_put(&text, route->fallback);
    text_putc(&text, '\0');
    text_put(&text, route->unknown_recipient);
    text_putc(&text, '\0');
    return text.full ? SPAN("") : text_span(&text);
}

static bool unpack(struct span packed, struct unpacked *out)
{
    if (packed.len == 0) {
        return false;
    }
    out->dialect = packed.ptr[0] == 'm' ? TRANSPORT_MAP : TRANSPORT_YAML;
    packed = span_skip(packed, 1);
    for (int i = 0; i < DESTINATION_PARTS; i++) {
        size_t end = span_find(packed, '\0');
        if (end == packed.len) {
            return false;
        }
        out->part[i] = packed.ptr;
        packed = span_skip(packed, end + 1);
    }
    return true;
}

struct destinations *destinations_new(uint32_t count)
{
    struct destinations *d = calloc(1, sizeof(*d));
    if (!d) {
        return NULL;
    }
    d->count = count;
    d->items = calloc((size_t)count + 1, sizeof(*d->items));
    d->transports = calloc((size_t)count + 1, sizeof(*d->transports));
    d->relays = calloc((size_t)count + 1, sizeof(struct relay *));
    if (d->items && d->transports && d->relays) {
        return d;
    }
    destinations_free(d);
    return NULL;
}

void destinations_free(struct destinations *d)
{
    if (!d) {
        return;
    }
    for (uint32_t i = 0; i < d->count; i++) {
        if (d->transports) {
            transport_release(&d->transports[i]);
        }
        if (d->relays) {
            relay_free(d->relays[i]);
        }
    }
    free(d->items);
    free(d->transports);
    free(d->relays);
    free(d);
}

const struct destination *destinations_at(const struct destinations *d, uint32_t number)
{
    return number < d->count ? &d->items[number] : NULL;
}

static struct diag_place place_of(const struct destination_context *context,
                                  const struct destination_places *places,
                                  enum destination_part part)
{
    const char *file = places->file < context->file_count ? context->files[places->file] : NULL;
    return (struct diag_place){file, places->line[part], places->column[part]};
}

static const struct relay *find_relay(const struct destination_context *context, const char *name,
                                      struct diag_place place)
{
    const struct relay *relay = relay_find(context->relays, span_of(name));
    if (!relay) {
        relay_report_unknown(context->relays, name, place, context->diags);
    }
    return relay;
}

static bool compile_direct(struct destinations *d, uint32_t number, const char *text,
                           struct diag_place place, const struct destination_context *context)
{
    struct transport *transport = &d->transports[number];
    char name[NEXTHOP_TEXT];
    for (size_t i = 0; i < transport->hop_count; i++) {
        if (!relay_hop_is_own(context->config, &transport->hops[i])) {
            continue;
        }
        nexthop_text(&transport->hops[i], name, sizeof(name));
        diag_error(context->diags, place,
                   "next hop %s is one of our own listeners: mail would go round in a loop", name);
        return false;
    }
    d->relays[number] = relay_direct(transport, span_of(text));
    d->items[number].relay = d->relays[number];
    if (!d->relays[number]) {
        diag_error(context->diags, place, "out of memory");
    }
    return d->relays[number] != NULL;
}

static bool compile_to(struct destinations *d, uint32_t number, const struct unpacked *texts,
                       struct diag_place place, const struct destination_context *context)
{
    struct destination *item = &d->items[number];
    struct transport *transport = &d->transports[number];
    char why[256];
    size_t where;
    if (!transport_parse(span_of(texts->part[DESTINATION_TO]), texts->dialect, transport, why,
                         sizeof(why), &where)) {
        diag_error(context->diags, place, "%s", why);
        return false;
    }
    item->kind = transport->kind;
    item->code = transport->code;
    item->enhanced = transport->enhanced;
    item->text = transport->text;
    switch (transport->kind) {
    case TRANSPORT_SMTP:
        return compile_direct(d, number, texts->part[DESTINATION_TO], place, context);
    case TRANSPORT_RELAY:
        item->kind = TRANSPORT_SMTP;
        item->relay = find_relay(context, transport->text, place);
        return item->relay != NULL;
    case TRANSPORT_ERROR:
    case TRANSPORT_RETRY:
    case TRANSPORT_DISCARD:
        return true;
    }
    return false;
}

/* A detour leads elsewhere (design: section 4). */
static bool leads_away(const struct relay *relay, const struct relay *detour,
                       struct diag_place place, const struct destination_context *context)
{
    if (detour != NULL && detour == relay) {
        diag_error(context->diags, place, "`%s` leads back to itself", relay->name);
        return false;
    }
    return detour != NULL;
}

bool destinations_compile(struct destinations *d, uint32_t number, struct span packed,
                          const struct destination_places *places,
                          const struct destination_context *context)
{
    struct unpacked texts;
    struct destination *item = &d->items[number];
    struct diag_place to_place = place_of(context, places, DESTINATION_TO);
    if (!unpack(packed, &texts)) {
        diag_error(context->diags, to_place, "the table in force cannot be read");
        return false;
    }
    bool ok = compile_to(d, number, &texts, to_place, context);
    const char *fallback = texts.part[DESTINATION_FALLBACK];
    const char *unknown = texts.part[DESTINATION_UNKNOWN];
    item->fallback = item->relay ? item->relay->fallback : NULL;
    item->unknown_recipient = item->relay ? item->relay->unknown_recipient : NULL;
    if (*fallback) {
        item->fallback =
            find_relay(context, fallback, place_of(context, places, DESTINATION_FALLBACK));
        ok = leads_away(item->relay, item->fallback,
                        place_of(context, places, DESTINATION_FALLBACK), context) &&
             ok;
    }
    if (*unknown) {
        item->unknown_recipient =
            find_relay(context, unknown, place_of(context, places, DESTINATION_UNKNOWN));
        ok = leads_away(item->relay, item->unknown_recipient,
                        place_of(context, places, DESTINATION_UNKNOWN), context) &&
             ok;
    }
    return ok;
}
