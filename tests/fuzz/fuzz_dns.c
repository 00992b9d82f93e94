/*
 * DNS answers as they came in, and what mail is sent to for them: names that are host names,
 * addresses that a stranger's DNS may lead to; the same for every cut, or nothing.
 *
 * Input: a byte for the type that was asked for, then the answer to the question NAME.
 */
#include "routing/dns_cache.h"
#include "routing/exchange.h"
#include "tests/fuzz/require.h"

#define NAME "a.example"

/* In memory of that size, so that a read beyond it is found. */
static const struct dns_answer *parse(const uint8_t *data, size_t len, enum dns_type type)
{
    uint8_t *copy = malloc(len > 0 ? len : 1);
    require(copy != NULL);
    memcpy(copy, data, len);
    const struct dns_answer *answer = dns_message_parse(copy, len, NAME, type);
    free(copy);
    require(answer != NULL && !answer->ours);
    return answer;
}

static void require_name(const char *name)
{
    const struct span s = span_of(name);
    require(s.len <= DNS_NAME_MAX);
    for (size_t i = 0; i < s.len; i++) {
        require(s.ptr[i] > ' ' && s.ptr[i] < 0x7f && s.ptr[i] == ascii_lower(s.ptr[i]));
    }
}

static bool is_same(const struct dns_record *a, const struct dns_record *b)
{
    return a->preference == b->preference && memcmp(&a->in4, &b->in4, sizeof a->in4) == 0 &&
           memcmp(&a->in6, &b->in6, sizeof a->in6) == 0 && strcmp(a->name, b->name) == 0;
}

static void require_answer(const struct dns_answer *answer)
{
    require((answer->status == DNS_OK) == (answer->count > 0));
    require((answer->status == DNS_OK) == (answer->why == NULL));
    require(answer->count <= DNS_RECORDS_MAX && answer->ttl <= INT32_MAX);
    for (size_t i = 0; i < answer->count; i++) {
        require_name(answer->records[i].name);
    }
}

/* An answer that was cut says what the whole one says, or that it is broken. */
static void require_cut(const struct dns_answer *whole, const struct dns_answer *cut)
{
    if (cut->status == DNS_FAIL) {
        return;
    }
    require(cut->status == whole->status && cut->count == whole->count);
    require(cut->status != DNS_OK || cut->ttl == whole->ttl);
    for (size_t i = 0; i < cut->count; i++) {
        require(is_same(&cut->records[i], &whole->records[i]));
    }
}

static void require_host(const char *name)
{
    for (const char *c = name; *c != '\0'; c++) {
        const char lower = ascii_lower(*c);
        require((lower >= 'a' && lower <= 'z') || (lower >= '0' && lower <= '9') || *c == '.' ||
                *c == '-' || *c == '_');
    }
    require(name[0] != '\0');
}

static void require_exchanges(const struct dns_answer *mx)
{
    struct exchange_host hosts[EXCHANGE_HOSTS_MAX];
    uint64_t random = 1;
    const size_t count = exchange_order(mx, &random, hosts);
    require(count <= EXCHANGE_HOSTS_MAX && count <= mx->count);
    for (size_t i = 0; i < count; i++) {
        require_host(hosts[i].name);
        require(i == 0 || hosts[i - 1].preference <= hosts[i].preference);
    }
    require(!exchange_is_null_mx(mx) || count == 0);
}

static void require_addresses(const struct dns_answer *answer, enum dns_type type)
{
    struct net_address own;
    struct resolver_address out[RESOLVER_ADDRESSES_MAX];
    struct resolver_answer found;
    const struct dns_answer *none = dns_answer_failure(DNS_NODATA, "no such record");
    const struct exchange_host host = {.name = "mx.a.example",
                                       .v4 = type == DNS_A ? answer : none,
                                       .v6 = type == DNS_AAAA ? answer : none};
    require(net_address_parse(SPAN("192.0.2.25"), 25, &own));
    exchange_addresses(&host, 1, 25, &(struct exchange_own){&own, 1}, out, &found);
    require(found.count <= RESOLVER_ADDRESSES_MAX);
    require((found.status == RESOLVER_OK) == (found.count > 0));
    for (size_t i = 0; i < found.count; i++) {
        require(!net_address_is_special(&out[i].address));
        require(!net_address_equal(&out[i].address, &own));
        require(strcmp(out[i].host, host.name) == 0);
    }
    dns_answer_unref(none);
}

/* It is kept for an hour at most, and counted. */
static void require_cached(const struct dns_answer *answer, enum dns_type type)
{
    struct dns_cache *cache = dns_cache_new(4, 16384, 1);
    require(cache != NULL);
    dns_cache_put(cache, NAME, type, answer, 1000);
    const struct dns_answer *kept = dns_cache_get(cache, NAME, type, 1000);
    require(kept == NULL || kept == answer);
    require(dns_cache_get(cache, NAME, type, 1000 + UINT64_C(1000) * (DNS_CACHE_TTL_MAX + 1)) ==
            NULL);
    dns_cache_free(cache);
    require(answer->refs == 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const enum dns_type types[] = {DNS_A, DNS_MX, DNS_AAAA, DNS_PTR};
    if (size == 0) {
        return 0;
    }
    const enum dns_type type = types[data[0] % 4];
    const struct dns_answer *whole = parse(++data, --size, type);
    require_answer(whole);
    for (size_t len = 0; len < size; len += len < 300 ? 1 : 97) {
        const struct dns_answer *cut = parse(data, len, type);
        require_cut(whole, cut);
        dns_answer_unref(cut);
    }
    if (type == DNS_MX) {
        require_exchanges(whole);
    } else if (type != DNS_PTR) {
        require_addresses(whole, type);
    }
    require_cached(whole, type);
    dns_answer_unref(whole);
    return 0;
}
