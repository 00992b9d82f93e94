/* Addresses: what is accepted lies whole in what was given, is split at the last @ outside quotes,
 * and holds nothing that could end a line; folding is done once and for all. */
#include "routing/address.h"
#include "tests/fuzz/require.h"

static void require_inside(struct span inner, struct span outer)
{
    require(inner.ptr >= outer.ptr && inner.ptr + inner.len <= outer.ptr + outer.len);
}

/* Where a quoted string that begins at 0 ends, or 0: read here once more, by RFC 5321 4.1.2. */
static size_t quoted_length(struct span s)
{
    for (size_t i = 1; i < s.len; i++) {
        if (s.ptr[i] == '\\') {
            i++;
        } else if (s.ptr[i] == '"') {
            return i + 1;
        }
    }
    return 0;
}

static void require_split(const struct address *address)
{
    const struct span whole = address->whole, local = address->local, domain = address->domain;
    require(local.len > 0 && local.ptr == whole.ptr);
    if (domain.len == 0) {
        require(span_equal_fold(whole, SPAN("postmaster")) && local.len == whole.len);
        return;
    }
    require(local.len + 1 + domain.len == whole.len && whole.ptr[local.len] == '@');
    require(domain.ptr == whole.ptr + local.len + 1);
    require(span_find(domain, '@') == domain.len && span_find(domain, '"') == domain.len);
    require(address->quoted == (local.ptr[0] == '"'));
    require(!address->quoted || quoted_length(whole) == local.len);
    require(address->quoted || span_find(local, '"') == local.len);
    require(address->literal == (domain.ptr[0] == '['));
}

static void require_same(const struct address *a, const struct address *b)
{
    require(a->whole.ptr == b->whole.ptr && a->whole.len == b->whole.len);
    require(a->local.ptr == b->local.ptr && a->local.len == b->local.len);
    require(a->domain.len == b->domain.len);
    require(a->quoted == b->quoted && a->literal == b->literal);
}

/* As tables have it: an address still, the same when it is folded again, and no longer. */
static void require_fold(const struct address *address)
{
    char bytes[ADDRESS_MAX + 1], again[ADDRESS_MAX];
    struct address folded;
    const struct span local = address_fold_local(address, bytes);
    size_t len = local.len;
    require(len > 0 && len <= address->local.len);
    const struct span user = address_without_extension(local, '+');
    require(user.len < len && (user.len == 0 || local.ptr[user.len] == '+'));
    if (address->domain.len == 0) {
        return;
    }
    bytes[len++] = '@';
    len += address_fold(address->domain, bytes + len).len;
    require(address_parse(span_make(bytes, len), true, true, &folded) == ADDRESS_OK);
    require(span_equal(folded.local, span_first(folded.whole, local.len)));
    require(span_equal(address_fold_local(&folded, again), folded.local));
    require(span_equal(address_fold(folded.domain, again), folded.domain));
}

static void require_good(struct span text, const struct address *address)
{
    struct address again;
    require_inside(address->whole, text);
    require(address->whole.len <= ADDRESS_MAX);
    require(address->whole.ptr + address->whole.len == text.ptr + text.len);
    require_no_control(address->whole);
    require_split(address);
    require_fold(address);
    /* A source route is gone for good. */
    require(address_parse(address->whole, true, true, &again) == ADDRESS_OK);
    require_same(address, &again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct span text = span_make((const char *)data, size);
    struct address address, lax;
    const enum address_error most = address_parse(text, true, true, &lax);

    if (most == ADDRESS_OK) {
        require_good(text, &lax);
    }
    for (unsigned i = 0; i < 4; i++) {
        const bool routing_ok = i & 1, utf8 = i & 2;
        if (address_parse(text, routing_ok, utf8, &address) != ADDRESS_OK) {
            continue;
        }
        /* What is accepted with less is accepted with more, and is the same. */
        require(most == ADDRESS_OK);
        require_same(&address, &lax);
        require(routing_ok || !address_has_routing(&address));
        if (!utf8) {
            require_printable(address.whole);
        }
    }
    return 0;
}
