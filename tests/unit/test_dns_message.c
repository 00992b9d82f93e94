#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "routing/dns_message.h"

/* A message as it is written. */
struct packet {
    uint8_t bytes[65535];
    size_t len;
};

static void put_16(struct packet *p, unsigned value)
{
    p->bytes[p->len++] = (uint8_t)(value >> 8);
    p->bytes[p->len++] = (uint8_t)value;
}

static void put_name(struct packet *p, const char *name)
{
    while (*name != '\0') {
        size_t n = strcspn(name, ".");
        p->bytes[p->len++] = (uint8_t)n;
        memcpy(p->bytes + p->len, name, n);
        p->len += n;
        name += n + (name[n] == '.');
    }
    p->bytes[p->len++] = 0;
}

static struct packet *packet_new(const char *question, enum dns_type type, unsigned rcode)
{
    struct packet *p = calloc(1, sizeof(*p));
    assert_non_null(p);
    put_16(p, 0x1234);
    put_16(p, 0x8180 | rcode);
    put_16(p, 1);
    put_16(p, 0);
    put_16(p, 0);
    put_16(p, 0);
    put_name(p, question);
    put_16(p, (unsigned)type);
    put_16(p, 1);
    return p;
}

/* The record up to its data, counted in the answer (or, with at = 8, the authority) section. */
static void put_head(struct packet *p, size_t at, const char *owner, enum dns_type type,
                     uint32_t ttl, size_t data_len)
{
    p->bytes[at + 1]++;
    put_name(p, owner);
    put_16(p, (unsigned)type);
    put_16(p, 1);
    put_16(p, ttl >> 16);
    put_16(p, ttl & 0xffff);
    put_16(p, (unsigned)data_len);
}

static void put_a(struct packet *p, const char *owner, uint32_t ttl, uint8_t last)
{
    const uint8_t address[] = {192, 0, 2, last};
    put_head(p, 6, owner, DNS_A, ttl, 4);
    memcpy(p->bytes + p->len, address, 4);
    p->len += 4;
}

static void put_alias(struct packet *p, const char *owner, uint32_t ttl, const char *target)
{
    put_head(p, 6, owner, DNS_CNAME, ttl, strlen(target) + 2);
    put_name(p, target);
}

static void put_mx(struct packet *p, uint32_t ttl, unsigned preference, const char *host)
{
    put_head(p, 6, "d.test", DNS_MX, ttl, 2 + (host[0] == '\0' ? 1 : strlen(host) + 2));
    put_16(p, preference);
    put_name(p, host);
}

static void put_soa(struct packet *p, uint32_t ttl, uint32_t minimum)
{
    put_head(p, 8, "test", DNS_SOA, ttl, 2 + 20);
    put_name(p, "");
    put_name(p, "");
    for (int i = 0; i < 8; i++) {
        put_16(p, 0);
    }
    put_16(p, minimum >> 16);
    put_16(p, minimum & 0xffff);
}

/* Parses a copy of exactly the message's size, so that a sanitizer sees every read beyond it. */
static const struct dns_answer *parse(const struct packet *p, const char *name, enum dns_type type)
{
    uint8_t *exact = malloc(p->len > 0 ? p->len : 1);
    assert_non_null(exact);
    memcpy(exact, p->bytes, p->len);
    const struct dns_answer *answer = dns_message_parse(exact, p->len, name, type);
    free(exact);
    assert_non_null(answer);
    return answer;
}

static void assert_status(struct packet *p, const char *name, enum dns_type type,
                          enum dns_status status, uint32_t ttl)
{
    const struct dns_answer *answer = parse(p, name, type);
    assert_int_equal(answer->status, status);
    if (status != DNS_FAIL) {
        assert_int_equal(answer->ttl, ttl);
    }
    if (status != DNS_OK) {
        assert_non_null(answer->why);
    }
    dns_answer_unref(answer);
    free(p);
}

static void addresses_have_the_least_ttl(void **state)
{
    (void)state;
    struct packet *p = packet_new("A.test", DNS_A, 0);
    put_a(p, "a.TEST", 300, 1);
    put_a(p, "a.test", 60, 2);
    put_a(p, "other.test", 1, 3);
    const struct dns_answer *answer = parse(p, "a.test", DNS_A);
    assert_int_equal(answer->status, DNS_OK);
    assert_int_equal(answer->count, 2);
    assert_int_equal(answer->ttl, 60);
    assert_int_equal(ntohl(answer->records[1].in4.s_addr), 0xc0000202);
    dns_answer_unref(answer);
    free(p);
}

static void a_chain_is_followed_in_any_order(void **state)
{
    (void)state;
    struct packet *p = packet_new("a.test", DNS_A, 0);
    put_a(p, "c.test", 300, 7);
    put_alias(p, "b.test", 20, "C.test");
    put_alias(p, "a.test", 90, "b.test");
    const struct dns_answer *answer = parse(p, "a.test", DNS_A);
    assert_int_equal(answer->status, DNS_OK);
    assert_int_equal(answer->count, 1);
    assert_int_equal(answer->ttl, 20);
    dns_answer_unref(answer);
    free(p);
}

static void chains_without_end_fail(void **state)
{
    (void)state;
    struct packet *p = packet_new("a.test", DNS_A, 0);
    put_alias(p, "a.test", 90, "b.test");
    put_alias(p, "b.test", 90, "a.test");
    assert_status(p, "a.test", DNS_A, DNS_FAIL, 0);

    p = packet_new("x0", DNS_A, 0);
    for (int i = 0; i <= DNS_CHAIN_MAX; i++) {
        char from[16], to[16];
        snprintf(from, sizeof(from), "x%d", i);
        snprintf(to, sizeof(to), "x%d", i + 1);
        put_alias(p, from, 90, to);
    }
    assert_status(p, "x0", DNS_A, DNS_FAIL, 0);
}

static void a_chain_that_leads_nowhere_has_no_data(void **state)
{
    (void)state;
    struct packet *p = packet_new("a.test", DNS_AAAA, 0);
    put_alias(p, "a.test", 10, "b.test");
    assert_status(p, "a.test", DNS_AAAA, DNS_NODATA, 10);
}

static void negative_answers_live_by_the_soa(void **state)
{
    (void)state;
    struct packet *p = packet_new("a.test", DNS_A, 3);
    put_soa(p, 900, 120);
    assert_status(p, "a.test", DNS_A, DNS_NXDOMAIN, 120);
    p = packet_new("a.test", DNS_A, 0);
    put_soa(p, 30, 120);
    assert_status(p, "a.test", DNS_A, DNS_NODATA, 30);
    assert_status(packet_new("a.test", DNS_A, 0), "a.test", DNS_A, DNS_NODATA, 60);
}

static void server_errors_fail(void **state)
{
    (void)state;
    static const unsigned codes[] = {1, 2, 4, 5, 9};
    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        struct packet *p = packet_new("a.test", DNS_A, codes[i]);
        put_a(p, "a.test", 300, 1);
        assert_status(p, "a.test", DNS_A, DNS_FAIL, 0);
    }
}

static void mx_has_preference_name_and_ttl(void **state)
{
    (void)state;
    struct packet *p = packet_new("d.test", DNS_MX, 0);
    put_mx(p, 300, 20, "B.d.test");
    put_mx(p, 299, 10, "a.d.test");
    const struct dns_answer *answer = parse(p, "d.test", DNS_MX);
    assert_int_equal(answer->count, 2);
    assert_int_equal(answer->ttl, 299);
    assert_int_equal(answer->records[0].preference, 20);
    assert_string_equal(answer->records[0].name, "b.d.test");
    assert_string_equal(answer->records[1].name, "a.d.test");
    dns_answer_unref(answer);
    free(p);
}

static void the_root_as_mx_reads_as_the_empty_name(void **state)
{
    (void)state;
    struct packet *p = packet_new("d.test", DNS_MX, 0);
    put_mx(p, 300, 0, "");
    const struct dns_answer *answer = parse(p, "d.test", DNS_MX);
    assert_int_equal(answer->count, 1);
    assert_string_equal(answer->records[0].name, "");
    dns_answer_unref(answer);
    free(p);
}

static void of_too_many_mx_the_most_preferred_are_kept(void **state)
{
    (void)state;
    struct packet *p = packet_new("d.test", DNS_MX, 0);
    for (unsigned i = 0; i < 100; i++) {
        put_mx(p, 300, 1000 - i, "a.test");
    }
    const struct dns_answer *answer = parse(p, "d.test", DNS_MX);
    assert_int_equal(answer->count, DNS_RECORDS_MAX);
    for (size_t i = 0; i < answer->count; i++) {
        assert_in_range(answer->records[i].preference, 901, 900 + DNS_RECORDS_MAX);
    }
    dns_answer_unref(answer);
    free(p);
}

static void names_with_odd_bytes_are_marked(void **state)
{
    (void)state;
    static const char odd[][4] = {"a\nb", "a b",
                                  "a\x7f"
                                  "b",
                                  "a\xc3z"};
    for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
        struct packet *p = packet_new("1.in-addr.arpa", DNS_PTR, 0);
        put_head(p, 6, "1.in-addr.arpa", DNS_PTR, 60, 5);
        p->bytes[p->len++] = 3;
        memcpy(p->bytes + p->len, odd[i], 3);
        p->len += 3;
        p->bytes[p->len++] = 0;
        const struct dns_answer *answer = parse(p, "1.in-addr.arpa", DNS_PTR);
        assert_int_equal(answer->count, 1);
        assert_string_equal(answer->records[0].name, "?");
        dns_answer_unref(answer);
        free(p);
    }
}

static void a_dot_inside_a_label_is_no_separator(void **state)
{
    (void)state;
    struct packet *p = packet_new("d.test", DNS_MX, 0);
    static const uint8_t data[] = {0, 10, 6, 'a', '.', 't', 'e', 's', 't', 0};
    put_head(p, 6, "d.test", DNS_MX, 60, sizeof(data));
    memcpy(p->bytes + p->len, data, sizeof(data));
    p->len += sizeof(data);
    const struct dns_answer *answer = parse(p, "d.test", DNS_MX);
    assert_string_equal(answer->records[0].name, "?");
    dns_answer_unref(answer);
    free(p);
}

static void pointer_loops_fail(void **state)
{
    (void)state;
    for (unsigned target = 0; target < 64; target++) {
        struct packet *p = packet_new("d.test", DNS_A, 0);
        p->bytes[7] = 1;
        size_t here = p->len;
        put_16(p, 0xc000 | (unsigned)(here + target)); /* itself and forward */
        for (int i = 0; i < 40; i++) {
            put_16(p, 0xc000 | (unsigned)here);
        }
        assert_status(p, "d.test", DNS_A, DNS_FAIL, 0);
    }
    /* Label, then back to its own start: grows for ever where only the place of the pointer is
     * compared. */
    struct packet *p = packet_new("d.test", DNS_A, 0);
    p->bytes[7] = 1;
    size_t here = p->len;
    p->bytes[p->len++] = 1;
    p->bytes[p->len++] = 'a';
    put_16(p, 0xc000 | (unsigned)here);
    assert_status(p, "d.test", DNS_A, DNS_FAIL, 0);
}

static void data_of_the_wrong_length_fails(void **state)
{
    (void)state;
    for (size_t len = 0; len < 8; len++) {
        struct packet *p = packet_new("a.test", DNS_A, 0);
        put_head(p, 6, "a.test", DNS_A, 60, len);
        p->len += len;
        assert_status(p, "a.test", DNS_A, len == 4 ? DNS_OK : DNS_FAIL, 60);
    }
    struct packet *p = packet_new("d.test", DNS_MX, 0);
    put_head(p, 6, "d.test", DNS_MX, 60, 4); /* the name goes on behind the data */
    put_16(p, 10);
    put_name(p, "abc");
    assert_status(p, "d.test", DNS_MX, DNS_FAIL, 0);
}

static void every_cut_and_every_flipped_byte_is_survived(void **state)
{
    (void)state;
    struct packet *p = packet_new("d.test", DNS_MX, 0);
    put_mx(p, 300, 20, "b.d.test");
    put_head(p, 6, "d.test", DNS_MX, 60, 6);
    put_16(p, 10);
    p->bytes[p->len++] = 1;
    p->bytes[p->len++] = 'c';
    put_16(p, 0xc000 | 12);
    size_t answers_end = p->len, len = p->len;
    put_soa(p, 30, 120);
    len = p->len;
    for (p->len = 0; p->len < len; p->len++) {
        const struct dns_answer *answer = parse(p, "d.test", DNS_MX);
        assert_int_equal(answer->status, p->len < answers_end ? DNS_FAIL : DNS_OK);
        dns_answer_unref(answer);
    }
    for (size_t i = 0; i < len; i++) {
        uint8_t kept = p->bytes[i];
        for (unsigned value = 0; value < 256; value++) {
            p->bytes[i] = (uint8_t)value;
            dns_answer_unref(parse(p, "d.test", DNS_MX));
        }
        p->bytes[i] = kept;
    }
    free(p);
}

static const char *reverse_of(const char *literal)
{
    static char name[DNS_NAME_MAX + 1];
    struct net_address address;
    assert_true(net_address_parse(span_of(literal), 25, &address));
    assert_true(dns_reverse_name(&address, name, sizeof name));
    return name;
}

static void test_an_address_has_its_name_under_arpa_backwards(void **state)
{
    struct net_address address;
    char name[20];
    (void)state;
    assert_string_equal(reverse_of("192.0.2.10"), "10.2.0.192.in-addr.arpa");
    assert_string_equal(reverse_of("2001:db8::1f"),
                        "f.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa");
    assert_true(net_address_parse(SPAN("192.0.2.10"), 25, &address));
    assert_false(dns_reverse_name(&address, name, sizeof name));
    assert_true(net_address_unix(SPAN("/run/mail"), &address));
    assert_false(dns_reverse_name(&address, name, sizeof name));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_have_the_least_ttl),
        cmocka_unit_test(a_chain_is_followed_in_any_order),
        cmocka_unit_test(chains_without_end_fail),
        cmocka_unit_test(a_chain_that_leads_nowhere_has_no_data),
        cmocka_unit_test(negative_answers_live_by_the_soa),
        cmocka_unit_test(server_errors_fail),
        cmocka_unit_test(mx_has_preference_name_and_ttl),
        cmocka_unit_test(the_root_as_mx_reads_as_the_empty_name),
        cmocka_unit_test(of_too_many_mx_the_most_preferred_are_kept),
        cmocka_unit_test(names_with_odd_bytes_are_marked),
        cmocka_unit_test(a_dot_inside_a_label_is_no_separator),
        cmocka_unit_test(pointer_loops_fail),
        cmocka_unit_test(data_of_the_wrong_length_fails),
        cmocka_unit_test(every_cut_and_every_flipped_byte_is_survived),
        cmocka_unit_test(test_an_address_has_its_name_under_arpa_backwards),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
