/* PROXY headers: read the same however they are cut, and what was read can be written and read
 * again. */
#include "proxy/wire/proxy_header.h"
#include "tests/fuzz/require.h"

static bool is_ip(const struct net_address *address)
{
    return address->any.sa_family == AF_INET || address->any.sa_family == AF_INET6;
}

static void require_equal(const struct proxy_header *a, const struct proxy_header *b)
{
    require(a->kind == b->kind && net_address_equal(&a->source, &b->source) &&
            net_address_equal(&a->destination, &b->destination));
}

static void require_round_trip(const struct proxy_header *header)
{
    char buffer[PROXY_V1_MAX + 1];
    struct text text = TEXT(buffer);
    struct proxy_header again;
    size_t used;

    proxy_header_write(&header->source, &header->destination, &text);
    require(!text.full);
    require(proxy_header_parse(text_span(&text), &again, &used) == PROXY_OK && used == text.len);
    require_equal(header, &again);
}

/* Of the first len bytes only, in memory of that size, so that a read beyond them is found. */
static enum proxy_status parse_first(const uint8_t *data, size_t len, struct proxy_header *out,
                                     size_t *used)
{
    char *copy = malloc(len > 0 ? len : 1);

    require(copy != NULL);
    memcpy(copy, data, len);
    const enum proxy_status status = proxy_header_parse(span_make(copy, len), out, used);
    free(copy);
    return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct proxy_header whole, cut;
    size_t used = 0, cut_used = 0;

    if (size == 0) {
        return 0;
    }
    const enum proxy_status status = parse_first(data, size, &whole, &used);
    require(status != PROXY_MORE || size < PROXY_HEADER_MAX);
    require(status != PROXY_OK || (used > 0 && used <= size && used <= PROXY_HEADER_MAX));
    /* The first 300 beginnings, then some, so that long headers do not take their square. */
    bool decided = false;
    for (size_t len = 0; len <= size; len += len < 300 ? 1 : 97) {
        const enum proxy_status now = parse_first(data, len, &cut, &cut_used);
        require(now == status || now == PROXY_MORE);
        require(now != PROXY_MORE || !decided);
        decided = now != PROXY_MORE;
        if (now == PROXY_OK) {
            require(len >= used && cut_used == used);
            require_equal(&whole, &cut);
        } else if (status == PROXY_OK) {
            require(len < used);
        }
    }
    if (status == PROXY_OK) {
        require((whole.kind == PROXY_ADDRESSES) ==
                (is_ip(&whole.source) && is_ip(&whole.destination)));
        require_round_trip(&whole);
    }
    return 0;
}
