/* Destinations: refused in words, at a place inside; what is accepted can be printed and read
 * again. */
#include <stdio.h>

#include "config/text.h"
#include "routing/nexthop.h"
#include "tests/fuzz/require.h"

#define WHY 512

static bool parse(struct span text, enum transport_dialect dialect, struct transport *out)
{
    char why[WHY];
    size_t where = 0;
    if (transport_parse(text, dialect, out, why, sizeof why, &where)) {
        return true;
    }
    require(where <= text.len && why[0] != '\0' && strlen(why) < sizeof why);
    require_no_control(span_of(why));
    /* Where there is no room, the words are cut. */
    char brief[8];
    require(!transport_parse(text, dialect, out, brief, sizeof brief, &where));
    require(strlen(brief) < sizeof brief);
    require(out->hops == NULL && out->text == NULL);
    return false;
}

static void require_hop(const struct nexthop *hop)
{
    const struct span host = span_of(hop->host);
    switch (hop->kind) {
    case NEXTHOP_HOST:
    case NEXTHOP_MX:
        require(host_name_valid(host) && !host_name_is_numeric(host) && hop->port != 0);
        for (size_t i = 0; i < host.len; i++) {
            require(host.ptr[i] == ascii_lower(host.ptr[i]));
        }
        return;
    case NEXTHOP_ADDRESS:
        require(net_address_port(&hop->address) == hop->port);
        require((hop->port == 0) == (hop->address.any.sa_family == AF_UNIX));
        return;
    case NEXTHOP_DOMAIN:
        require(host.len == 0);
        return;
    }
    abort();
}

static void print_hops(const struct transport *transport, struct text *out)
{
    char hop[NEXTHOP_TEXT];
    text_puts(out, "smtp:");
    for (size_t i = 0; i < transport->hop_count; i++) {
        hop[0] = '\0';
        require_hop(&transport->hops[i]);
        require(transport->hops[i].priority == i);
        nexthop_text(&transport->hops[i], hop, sizeof hop);
        text_puts(out, i == 0 ? "" : ",");
        text_puts(out, hop);
    }
}

static void print(const struct transport *transport, struct text *out)
{
    switch (transport->kind) {
    case TRANSPORT_SMTP:
        require(transport->hop_count > 0 && transport->hop_count <= NEXTHOPS_MAX);
        print_hops(transport, out);
        return;
    case TRANSPORT_ERROR:
    case TRANSPORT_RETRY:
        require(transport->code == (transport->enhanced[0] == '4' ? 450 : 550));
        require(transport->kind == TRANSPORT_ERROR || transport->code == 450);
        text_puts(out, transport->kind == TRANSPORT_ERROR ? "error:" : "retry:");
        text_puts(out, transport->enhanced);
        text_puts(out, " ");
        text_puts(out, transport->text);
        return;
    case TRANSPORT_DISCARD:
        text_puts(out, "discard:");
        return;
    case TRANSPORT_RELAY:
        require(!transport_is_name(span_of(transport->text)));
        text_puts(out, transport->text);
        return;
    }
    abort();
}

static void require_same(const struct transport *a, const struct transport *b)
{
    require(a->kind == b->kind && a->hop_count == b->hop_count && a->code == b->code);
    require(strcmp(a->enhanced, b->enhanced) == 0);
    require((a->text == NULL) == (b->text == NULL));
    require(a->text == NULL || strcmp(a->text, b->text) == 0);
    for (size_t i = 0; i < a->hop_count; i++) {
        require(a->hops[i].kind == b->hops[i].kind && a->hops[i].port == b->hops[i].port);
        require(strcmp(a->hops[i].host, b->hops[i].host) == 0);
        require(net_address_equal(&a->hops[i].address, &b->hops[i].address));
    }
}

static void require_round_trip(const struct transport *transport)
{
    static char buffer[NEXTHOPS_MAX * NEXTHOP_TEXT + 1024];
    struct text text = TEXT(buffer);
    struct transport again;
    print(transport, &text);
    require(!text.full);
    require_printable(text_span(&text));
    for (unsigned i = 0; i < 2; i++) {
        require(parse(text_span(&text), i == 0 ? TRANSPORT_YAML : TRANSPORT_MAP, &again));
        require_same(transport, &again);
        transport_release(&again);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct span text = span_make((const char *)data, size);
    struct transport yaml, map;
    const bool in_yaml = parse(text, TRANSPORT_YAML, &yaml);
    const bool in_map = parse(text, TRANSPORT_MAP, &map);

    require(!in_yaml || in_map); /* maps have `relay:` besides */
    if (in_map) {
        require_round_trip(&map);
    }
    if (in_yaml) {
        require_same(&yaml, &map);
        transport_release(&yaml);
    }
    if (in_map) {
        transport_release(&map);
    }
    return 0;
}
