#include "routing/import.h"

#include "config/text.h"
#include "routing/address.h"
#include "routing/import_check.h"

#define KEY_MAX (ADDRESS_MAX + 1) /* ".domain" */
#define WHY_MAX 512

/* As look-ups spell it. */
static struct span fold_address(const struct address *address, char *out)
{
    size_t len = address_fold_local(address, out).len;
    out[len++] = '@';
    return span_make(out, len + address_fold(address->domain, out + len).len);
}

static bool check_address_key(struct import_reader *reader, struct import_route *route,
                              char *folded)
{
    struct address address;
    struct span key = route->key;
    if (key.ptr[0] == '@') {
        diag_error(reader->diags, route->place, "a whole domain is written without `@`: `%.*s`",
                   SPAN_ARGS(span_skip(key, 1)));
        return false;
    }
    switch (address_parse(key, true, true, &address)) {
    case ADDRESS_OK:
        break;
    case ADDRESS_TOO_LONG:
        diag_error(reader->diags, route->place, "the address is longer than %d octets",
                   ADDRESS_MAX);
        return false;
    case ADDRESS_SYNTAX:
    case ADDRESS_ROUTING:
    case ADDRESS_UTF8:
        diag_error(reader->diags, route->place, "`%.*s` is no address", SPAN_ARGS(key));
        return false;
    }
    if (span_starts_fold(key, SPAN("*@"))) {
        diag_warning(reader->diags, route->place,
                     "`%.*s` is a mailbox called `*`; everyone at a domain is written as the "
                     "domain alone: `%.*s`",
                     SPAN_ARGS(key), SPAN_ARGS(span_skip(key, 2)));
    }
    if (address_has_routing(&address)) {
        diag_warning(reader->diags, route->place,
                     "`%.*s` is never used: addresses with `%%`, `!` or `@` in the local part are "
                     "refused",
                     SPAN_ARGS(key));
    }
    route->key = fold_address(&address, folded);
    return true;
}

/* "domain", ".domain" or "[literal]": read as the domain of an address. */
static bool check_domain_key(struct import_reader *reader, struct import_route *route, char *folded)
{
    struct address address;
    char buffer[KEY_MAX + 3];
    struct text text = TEXT(buffer);
    bool dot = route->key.ptr[0] == '.';
    text_puts(&text, "x@");
    text_put(&text, span_skip(route->key, dot ? 1 : 0));
    if (!text.full && address_parse(text_span(&text), true, true, &address) == ADDRESS_OK &&
        !(dot && address.literal)) {
        route->key = address_fold(route->key, folded);
        return true;
    }
    if (route->key.ptr[0] == '/') {
        diag_error(reader->diags, route->place,
                   "regular expressions are not read here: expected an address or a domain");
    } else {
        diag_error(reader->diags, route->place,
                   "`%.*s` is no pattern: expected user@domain, domain, .domain or *",
                   SPAN_ARGS(route->key));
    }
    return false;
}

/* False when it is none, which is told; else route's key is as look-ups spell it, in `folded`. */
static bool check_key(struct import_reader *reader, struct import_route *route, char *folded)
{
    struct span key = route->key;
    if (key.len == 0) {
        diag_error(reader->diags, route->place, "an empty pattern");
        return false;
    }
    if (key.len > KEY_MAX) {
        diag_error(reader->diags, route->place, "the pattern is longer than %d octets", KEY_MAX);
        return false;
    }
    if (span_equal(key, SPAN("*"))) {
        return true;
    }
    return span_find(key, '@') < key.len ? check_address_key(reader, route, folded)
                                         : check_domain_key(reader, route, folded);
}

/* Whether the words look like a status or a reply's code: "550 5.1.1 gone", as in access maps, "5.1
 * gone", "5.1.1gone". */
static bool begins_with_status(const struct transport *transport, struct span word)
{
    unsigned long long code;
    if (word.len == 3 && span_number(word, 599, &code)) {
        return code >= 400;
    }
    return strcmp(transport->enhanced + 1, ".0.0") == 0 && word.len > 2 &&
           (word.ptr[0] == '4' || word.ptr[0] == '5') && word.ptr[1] == '.' && word.ptr[2] >= '0' &&
           word.ptr[2] <= '9';
}

/* What is taken as it stands, that is, as words, or not at all, and was hardly meant so. */
static bool warn_words(struct import_reader *reader, const struct import_route *route,
                       const struct transport *transport)
{
    struct span words;
    switch (transport->kind) {
    case TRANSPORT_ERROR:
    case TRANSPORT_RETRY:
        words = span_of(transport->text);
        words = span_first(words, span_find(words, ' '));
        if (!begins_with_status(transport, words)) {
            return false;
        }
        diag_warning(reader->diags, route->to_place,
                     "`%.*s` is sent as words behind %u %s: a status is written x.y.z, as in "
                     "`error:5.1.1 text`",
                     SPAN_ARGS(words), transport->code, transport->enhanced);
        return true;
    case TRANSPORT_DISCARD:
        words = span_trim(span_skip(route->to, span_find(route->to, ':') + 1));
        if (words.len == 0) {
            return false;
        }
        diag_warning(reader->diags, route->to_place,
                     "`%.*s` is not used: what `discard:` takes is dropped, and goes nowhere",
                     SPAN_ARGS(words));
        return true;
    case TRANSPORT_SMTP:
    case TRANSPORT_RELAY:
        return false;
    }
    return false;
}

static bool check_destination(struct import_reader *reader, const struct import_route *route)
{
    struct transport transport;
    char why[WHY_MAX];
    size_t where;
    bool anywhere = false;
    bool everyone = span_equal(route->key, SPAN("*"));
    if (!everyone && recent_has(reader->fine, route->to)) {
        return true;
    }
    if (!transport_parse(route->to, route->dialect, &transport, why, sizeof(why), &where)) {
        struct diag_place place = route->to_place;
        place.column += place.column > 0 ? (unsigned)where : 0;
        diag_error(reader->diags, place, "%s", why);
        return false;
    }
    for (size_t i = 0; i < transport.hop_count; i++) {
        anywhere |= transport.hops[i].kind == NEXTHOP_DOMAIN;
    }
    bool ok = !anywhere || !everyone;
    if (!ok) {
        diag_error(reader->diags, route->to_place,
                   "`smtp:` needs a next hop under `*`, or mail would go anywhere");
    }
    if (!warn_words(reader, route, &transport)) {
        recent_add(reader->fine, route->to);
    }
    transport_release(&transport);
    return ok;
}

bool import_give(struct import_reader *reader, struct import_route route)
{
    char folded[KEY_MAX];
    bool key_ok = check_key(reader, &route, folded);
    bool to_ok = check_destination(reader, &route);
    if (!key_ok || !to_ok) {
        return true;
    }
    reader->stopped = !reader->sink(reader->context, &route);
    return !reader->stopped;
}

bool import_is_yaml(const char *path)
{
    struct span name = span_of(path);
    return span_ends(name, SPAN(".yaml")) || span_ends(name, SPAN(".yml")) ||
           span_ends(name, SPAN(".json"));
}

void import_read(const char *path, import_sink *sink, void *context, struct diag_list *diags)
{
    struct import_reader reader = {.path = path,
                                   .sink = sink,
                                   .context = context,
                                   .diags = diags,
                                   .fine = recent_new(IMPORT_FINE_SLOTS)};
    if (import_is_yaml(path)) {
        import_read_yaml(&reader);
    } else {
        import_read_map(&reader);
    }
    recent_free(reader.fine);
}
