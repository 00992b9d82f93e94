/* host, query: what an HTTP request may name, and an address out of a URL. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <string.h>

#include "proxy/admin/host.h"
#include "proxy/admin/query.h"

static bool fine(const char *at, const char *host)
{
    struct sockaddr_in6 six = {.sin6_family = AF_INET6};
    struct sockaddr_in four = {.sin_family = AF_INET};
    if (inet_pton(AF_INET, at, &four.sin_addr) == 1) {
        return host_is_fine((const struct sockaddr *)&four, host);
    }
    assert_int_equal(inet_pton(AF_INET6, at, &six.sin6_addr), 1);
    return host_is_fine((const struct sockaddr *)&six, host);
}

static void a_name_is_asked_about_at_loopback_only(void **state)
{
    static const char *const loopback[] = {"127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1"};
    static const char *const other[] = {"192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1"};
    (void)state;
    for (size_t i = 0; i < sizeof loopback / sizeof loopback[0]; i++) {
        assert_false(fine(loopback[i], "evil.test"));
        assert_true(fine(loopback[i], "localhost"));
        assert_true(fine(loopback[i], NULL));
    }
    for (size_t i = 0; i < sizeof other / sizeof other[0]; i++) {
        assert_true(fine(other[i], "mail.example.com:8025"));
    }
}

static void addresses_and_localhost_are_fine_and_nothing_like_them(void **state)
{
    static const char *const good[] = {"127.0.0.1",          "10.0.0.1:80", "[::1]",
                                       "[2001:db8::1]:8025", "LocalHost:1", "localhost.",
                                       "a.b.localhost"};
    static const char *const bad[] = {
        "",       "localhost.evil.test", "xlocalhost", ".localhost", "127.0.0.1.evil.test",
        "::1",    "[127.0.0.1]",         "[::1",       "[::1]x",     "127.0.0.1:99999",
        "[]",     "127.0.0.1:8025:1",    "0x7f.1",     "2130706433", "localhost:-1",
        "[::1%1]"};
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_true(fine("127.0.0.1", good[i]));
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_false(fine("127.0.0.1", bad[i]));
    }
}

static void an_address_comes_out_of_its_encoding(void **state)
{
    char out[ADDRESS_MAX + 1], encoded[3 * ADDRESS_MAX + 4];
    (void)state;
    assert_null(query_address("a%2Bb%40Example.com", out));
    assert_string_equal(out, "a+b@Example.com");
    assert_null(query_address("%22%C3%a4%22@x", out));
    assert_string_equal(out, "\"\xc3\xa4\"@x");
    static const char *const bad[] = {"", "%", "%4", "%4g", "%-1", "a%00b"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_non_null(query_address(bad[i], out));
    }
    for (size_t i = 0; i <= ADDRESS_MAX; i++) {
        memcpy(encoded + 3 * i, "%61", 4);
    }
    assert_non_null(query_address(encoded, out));
    assert_null(query_address(encoded + 3, out));
    assert_int_equal(strlen(out), ADDRESS_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_name_is_asked_about_at_loopback_only),
        cmocka_unit_test(addresses_and_localhost_are_fine_and_nothing_like_them),
        cmocka_unit_test(an_address_comes_out_of_its_encoding),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
