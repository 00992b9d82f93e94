#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "routing/dns_cache.h"

#define ROOM (1u << 20)

static struct dns_cache *cache_of(size_t entries)
{
    struct dns_cache *cache = dns_cache_new(entries, ROOM, 42);
    assert_non_null(cache);
    return cache;
}

static void put(struct dns_cache *cache, const char *name, enum dns_status status, uint32_t ttl,
                uint64_t now)
{
    struct dns_answer *answer = dns_answer_new(status, 0, 0);
    assert_non_null(answer);
    answer->ttl = ttl;
    dns_cache_put(cache, name, DNS_A, answer, now);
    dns_answer_unref(answer);
}

static bool has(struct dns_cache *cache, const char *name, uint64_t now)
{
    return dns_cache_get(cache, name, DNS_A, now) != NULL;
}

static void an_answer_lives_for_its_ttl_and_no_longer(void **state)
{
    (void)state;
    struct dns_cache *cache = cache_of(10);
    put(cache, "a.test", DNS_OK, 30, 1000);
    assert_true(has(cache, "a.test", 1000));
    assert_true(has(cache, "a.test", 30999));
    assert_false(has(cache, "a.test", 31000));
    assert_int_equal(dns_cache_count(cache), 0);
    dns_cache_free(cache);
}

static void ttls_are_bounded_by_kind(void **state)
{
    (void)state;
    static const struct {
        enum dns_status status;
        uint32_t ttl;
        uint64_t seconds;
    } cases[] = {
        {DNS_OK, 0, 1},       {DNS_OK, 86400, 3600},     {DNS_NODATA, 86400, 300},
        {DNS_NODATA, 20, 20}, {DNS_NXDOMAIN, 4000, 300}, {DNS_NXDOMAIN, 0, 1},
        {DNS_FAIL, 86400, 5}, {DNS_FAIL, 0, 5},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct dns_cache *cache = cache_of(10);
        put(cache, "a.test", cases[i].status, cases[i].ttl, 0);
        assert_true(has(cache, "a.test", cases[i].seconds * 1000 - 1));
        assert_false(has(cache, "a.test", cases[i].seconds * 1000));
        dns_cache_free(cache);
    }
}

static void types_of_a_name_are_kept_apart(void **state)
{
    (void)state;
    struct dns_cache *cache = cache_of(10);
    put(cache, "a.test", DNS_OK, 30, 0);
    assert_non_null(dns_cache_get(cache, "a.test", DNS_A, 1));
    assert_null(dns_cache_get(cache, "a.test", DNS_AAAA, 1));
    assert_null(dns_cache_get(cache, "b.test", DNS_A, 1));
    dns_cache_free(cache);
}

static void the_newer_answer_stands(void **state)
{
    (void)state;
    struct dns_cache *cache = cache_of(10);
    put(cache, "a.test", DNS_FAIL, 0, 0);
    put(cache, "a.test", DNS_OK, 30, 0);
    assert_int_equal(dns_cache_get(cache, "a.test", DNS_A, 1)->status, DNS_OK);
    assert_int_equal(dns_cache_count(cache), 1);
    dns_cache_free(cache);
}

static void a_doubtful_answer_is_kept_no_longer_than_said(void **state)
{
    (void)state;
    struct dns_cache *cache = cache_of(10);
    put(cache, "a.test", DNS_OK, 600, 1000);
    dns_cache_shorten(cache, "a.test", DNS_AAAA, 1000); /* not known: nothing */
    dns_cache_shorten(cache, "a.test", DNS_A, 6000);
    assert_true(has(cache, "a.test", 5999));
    assert_false(has(cache, "a.test", 6000));
    put(cache, "a.test", DNS_OK, 2, 1000);
    dns_cache_shorten(cache, "a.test", DNS_A, 6000);
    assert_false(has(cache, "a.test", 3000));
    dns_cache_free(cache);
}

static void the_least_recently_used_goes_first(void **state)
{
    (void)state;
    struct dns_cache *cache = cache_of(3);
    put(cache, "a.test", DNS_OK, 30, 0);
    put(cache, "b.test", DNS_OK, 30, 0);
    put(cache, "c.test", DNS_OK, 30, 0);
    assert_true(has(cache, "a.test", 1));
    put(cache, "d.test", DNS_OK, 30, 1);
    assert_true(has(cache, "a.test", 2));
    assert_false(has(cache, "b.test", 2));
    assert_true(has(cache, "c.test", 2));
    assert_true(has(cache, "d.test", 2));
    dns_cache_free(cache);
}

static void bytes_are_bounded_too(void **state)
{
    (void)state;
    struct dns_cache *cache = dns_cache_new(100000, 16384, 42);
    assert_non_null(cache);
    for (unsigned i = 0; i < 5000; i++) {
        char name[32];
        snprintf(name, sizeof(name), "host%u.test", i);
        put(cache, name, DNS_OK, 30, 0);
        assert_true(has(cache, name, 1));
    }
    assert_in_range(dns_cache_count(cache), 20, 300);
    dns_cache_free(cache);
}

static void clearing_forgets_all(void **state)
{
    (void)state;
    struct dns_cache *cache = cache_of(10);
    put(cache, "a.test", DNS_OK, 30, 0);
    put(cache, "b.test", DNS_OK, 30, 0);
    dns_cache_clear(cache);
    assert_false(has(cache, "a.test", 0));
    assert_int_equal(dns_cache_count(cache), 0);
    put(cache, "a.test", DNS_OK, 30, 0);
    assert_true(has(cache, "a.test", 0));
    dns_cache_free(cache);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_answer_lives_for_its_ttl_and_no_longer),
        cmocka_unit_test(ttls_are_bounded_by_kind),
        cmocka_unit_test(types_of_a_name_are_kept_apart),
        cmocka_unit_test(the_newer_answer_stands),
        cmocka_unit_test(a_doubtful_answer_is_kept_no_longer_than_said),
        cmocka_unit_test(the_least_recently_used_goes_first),
        cmocka_unit_test(bytes_are_bounded_too),
        cmocka_unit_test(clearing_forgets_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
