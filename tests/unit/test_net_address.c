/* net_address: literals, unix paths, host:port, networks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <string.h>

#include "config/net_address.h"

static struct net_address parsed(const char *text, uint16_t port)
{
    struct net_address address;
    assert_true(net_address_parse(span_of(text), port, &address));
    return address;
}

static void literals_are_read_and_written_back(void **state)
{
    char text[NET_ADDRESS_TEXT];
    struct net_address address = parsed("192.0.2.1", 25);
    (void)state;
    net_address_text(&address, text, sizeof(text));
    assert_string_equal(text, "192.0.2.1");
    net_address_text_port(&address, text, sizeof(text));
    assert_string_equal(text, "192.0.2.1:25");
    assert_int_equal(net_address_length(&address), sizeof(struct sockaddr_in));
    address = parsed("2001:DB8:0::1", 2525);
    net_address_text(&address, text, sizeof(text));
    assert_string_equal(text, "2001:db8::1");
    net_address_text_port(&address, text, sizeof(text));
    assert_string_equal(text, "[2001:db8::1]:2525");
    net_address_set_port(&address, 26);
    assert_int_equal(net_address_port(&address), 26);
    assert_int_equal(net_address_length(&address), sizeof(struct sockaddr_in6));
}

static void what_is_no_literal_is_refused(void **state)
{
    static const char *const bad[] = {"",
                                      "1.2.3",
                                      "1.2.3.256",
                                      "1.2.3.4.5",
                                      "01.2.3.4 ",
                                      "::g",
                                      "[::1]",
                                      "fe80::1%lo",
                                      "localhost",
                                      "127.1",
                                      "0x7f.0.0.1",
                                      "2001:0db8:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000"
                                      ":0000:0000:0001"};
    struct net_address address;
    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_false(net_address_parse(span_of(bad[i]), 25, &address));
    }
    assert_false(net_address_parse(SPAN("127.0.0.1\0.5"), 25, &address));
}

static void mapped_addresses_become_ipv4(void **state)
{
    struct net_address four = parsed("192.0.2.1", 25), mapped = parsed("::ffff:192.0.2.1", 25);
    struct net_address from;
    struct sockaddr_in6 kernel = {.sin6_family = AF_INET6, .sin6_port = htons(25)};
    (void)state;
    assert_true(net_address_equal(&four, &mapped));
    inet_pton(AF_INET6, "::ffff:192.0.2.1", &kernel.sin6_addr);
    assert_true(net_address_from((const struct sockaddr *)&kernel, &from));
    assert_true(net_address_equal(&four, &from));
    net_address_set_port(&from, 26);
    assert_false(net_address_equal(&four, &from));
    struct sockaddr other = {.sa_family = AF_UNSPEC};
    assert_false(net_address_from(&other, &from));
}

static void unix_paths_have_the_kernels_bound(void **state)
{
    char path[109], text[NET_ADDRESS_TEXT];
    struct net_address address;
    (void)state;
    memset(path, 'a', sizeof(path));
    assert_true(net_address_unix(span_make(path, 107), &address));
    assert_false(net_address_unix(span_make(path, 108), &address));
    assert_false(net_address_unix(SPAN(""), &address));
    assert_false(net_address_unix(SPAN("a\0b"), &address));
    assert_true(net_address_unix(SPAN("/run/lmtp"), &address));
    net_address_text_port(&address, text, sizeof(text));
    assert_string_equal(text, "unix:/run/lmtp");
    assert_int_equal(net_address_port(&address), 0);
    assert_int_equal(net_address_length(&address),
                     offsetof(struct sockaddr_un, sun_path) + sizeof("/run/lmtp"));
    assert_true(net_address_is_local(&address));
}

static void local_and_special_addresses_are_known(void **state)
{
    static const struct {
        const char *text;
        bool local, special;
    } table[] = {
        {"127.0.0.1", true, true},
        {"127.255.0.1", true, true},
        {"::1", true, true},
        {"10.1.2.3", true, false},
        {"172.16.0.1", true, false},
        {"172.31.255.1", true, false},
        {"172.32.0.1", false, false},
        {"172.15.0.1", false, false},
        {"192.168.9.9", true, false},
        {"169.254.1.1", true, true},
        {"fe80::1", true, true},
        {"fd00::1", true, false},
        {"fc00::1", true, false},
        {"fe00::1", false, false},
        {"192.0.2.1", false, false},
        {"2001:db8::1", false, false},
        {"0.0.0.0", false, true},
        {"::", false, true},
        {"224.0.0.1", false, true},
        {"ff02::1", false, true},
        {"0.1.2.3", false, true},
        {"255.255.255.255", false, true},
        {"::ffff:127.0.0.1", true, true},
        {"11.0.0.1", false, false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct net_address address = parsed(table[i].text, 0);
        if (net_address_is_local(&address) != table[i].local) {
            fail_msg("%s: local", table[i].text);
        }
        if (net_address_is_special(&address) != table[i].special) {
            fail_msg("%s: special", table[i].text);
        }
    }
}

static void host_and_port_are_split(void **state)
{
    static const struct {
        const char *text, *host;
        uint16_t port;
    } good[] = {
        {"127.0.0.1:25", "127.0.0.1", 25},
        {"[::]:25", "::", 25},
        {"[2001:db8::1]:65535", "2001:db8::1", 65535},
        {"mx.example.com:587", "mx.example.com", 587},
        {"localhost:1", "localhost", 1},
    };
    static const char *const bad[] = {
        "",        "25",    ":25",          "[::]",         "::1:25",   "[::]25",
        "[::1:25", "[]:25", "[1.2.3.4]:25", "a:0",          "a:65536",  "a:-1",
        "a: 25",   "a:",    "a b:25",       "300.1.1.1:25", "1.2.3:25", "[mx.example.com]:25",
        "*:25"};
    struct span host;
    uint16_t port;
    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_true(host_port_split(span_of(good[i].text), &host, &port));
        assert_true(span_equal(host, span_of(good[i].host)));
        assert_int_equal(port, good[i].port);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (host_port_split(span_of(bad[i]), &host, &port)) {
            fail_msg("accepted %s", bad[i]);
        }
    }
}

static void host_names_keep_to_dns(void **state)
{
    static const char *const bad[] = {"",   ".",  "a.",  ".a",  "a..b",
                                      "-a", "a-", "a b", "a/b", "\xc3\xa4.de"};
    char longest[254];
    (void)state;
    assert_true(host_name_valid(SPAN("mx.example.com")));
    assert_true(host_name_valid(SPAN("A-1._tcp.x")));
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_false(host_name_valid(span_of(bad[i])));
    }
    memset(longest, 'a', sizeof(longest));
    assert_true(host_name_valid(span_make(longest, 63)));
    assert_false(host_name_valid(span_make(longest, 64)));
    for (size_t i = 63; i < sizeof(longest); i += 64) {
        longest[i] = '.';
    }
    assert_true(host_name_valid(span_make(longest, 253)));
    assert_false(host_name_valid(span_make(longest, 254)));
    assert_false(host_name_valid(SPAN("a\0b")));
}

static bool holds(const char *network, const char *address)
{
    struct net_prefix prefix;
    struct net_address one = parsed(address, 1234);
    assert_true(net_prefix_parse(span_of(network), &prefix));
    return net_prefix_holds(&prefix, &one);
}

static void networks_hold_their_addresses(void **state)
{
    (void)state;
    assert_true(holds("10.0.0.0/8", "10.255.1.2"));
    assert_false(holds("10.0.0.0/8", "11.0.0.0"));
    assert_true(holds("192.0.2.128/25", "192.0.2.129"));
    assert_false(holds("192.0.2.128/25", "192.0.2.127"));
    assert_true(holds("0.0.0.0/0", "203.0.113.9"));
    assert_false(holds("0.0.0.0/0", "2001:db8::1"));
    assert_true(holds("192.0.2.1", "192.0.2.1"));
    assert_false(holds("192.0.2.1", "192.0.2.0"));
    assert_true(holds("2001:db8::/33", "2001:db8:7fff::1"));
    assert_false(holds("2001:db8::/33", "2001:db8:8000::1"));
    assert_true(holds("::ffff:10.0.0.0/104", "10.9.9.9"));
    assert_false(holds("::ffff:10.0.0.0/104", "11.9.9.9"));
}

static void malformed_networks_are_refused(void **state)
{
    static const char *const bad[] = {
        "",     "/8",     "10.0.0.0/",         "10.0.0.0/33",  "10.0.0.0/a",
        "10/8", "::/129", "::ffff:10.0.0.0/8", "10.0.0.0/8/8", "example.com"};
    struct net_prefix prefix;
    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (net_prefix_parse(span_of(bad[i]), &prefix)) {
            fail_msg("accepted %s", bad[i]);
        }
    }
}

static bool overlap(const char *a, const char *b)
{
    struct net_address x = parsed(a, 25), y = parsed(b, 25);
    assert_int_equal(net_address_overlap(&x, &y), net_address_overlap(&y, &x));
    net_address_set_port(&y, 26);
    assert_false(net_address_overlap(&x, &y));
    net_address_set_port(&y, 25);
    return net_address_overlap(&x, &y);
}

static void a_wildcard_overlaps_with_what_it_stands_for(void **state)
{
    (void)state;
    assert_true(overlap("127.0.0.1", "127.0.0.1"));
    assert_false(overlap("127.0.0.1", "127.0.0.2"));
    assert_true(overlap("0.0.0.0", "127.0.0.1"));
    assert_true(overlap("::", "127.0.0.1"));
    assert_true(overlap("::", "0.0.0.0"));
    assert_true(overlap("::", "2001:db8::1"));
    assert_false(overlap("0.0.0.0", "2001:db8::1"));
    assert_false(overlap("::1", "127.0.0.1"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(literals_are_read_and_written_back),
        cmocka_unit_test(what_is_no_literal_is_refused),
        cmocka_unit_test(mapped_addresses_become_ipv4),
        cmocka_unit_test(unix_paths_have_the_kernels_bound),
        cmocka_unit_test(local_and_special_addresses_are_known),
        cmocka_unit_test(host_and_port_are_split),
        cmocka_unit_test(host_names_keep_to_dns),
        cmocka_unit_test(a_wildcard_overlaps_with_what_it_stands_for),
        cmocka_unit_test(networks_hold_their_addresses),
        cmocka_unit_test(malformed_networks_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
