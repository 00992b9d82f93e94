#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proxy/wire/proxy_header.h"

#define V2       "\r\n\r\n\0\r\nQUIT\n"
#define V4_PAIR  "\xc0\x00\x02\x01\xc6\x33\x64\x02\xdc\x04\x00\x19"
#define V4_TEXT  "192.0.2.1:56324"
#define V4_TO    "198.51.100.2:25"
#define V6_ONE   "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01"
#define V6_TWO   "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x02"
#define V6_PORTS "\xdc\x04\x00\x19"
#define MAPPED   "\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\x00\x02\x01"

/* What a parse said, however the input was cut. */
struct verdict {
    enum proxy_status status;
    struct proxy_header header;
    size_t used;
};

/* In memory of its own, so that a sanitizer sees a read beyond what has arrived. */
static enum proxy_status parse_copy(struct span input, struct proxy_header *header, size_t *used)
{
    char *copy = malloc(input.len > 0 ? input.len : 1);

    assert_non_null(copy);
    memcpy(copy, input.ptr, input.len);
    const enum proxy_status status = proxy_header_parse(span_make(copy, input.len), header, used);
    free(copy);
    return status;
}

/* Feeds ever longer beginnings, by random steps or (step 1) a byte at a time, until it is decided,
 * and checks that nothing that follows changes it. */
static struct verdict feed(struct span input, unsigned most)
{
    struct verdict verdict = {.status = PROXY_MORE, .used = SIZE_MAX}, later;
    size_t len = 0;

    memset(&verdict.header, 0x55, sizeof verdict.header);
    while (verdict.status == PROXY_MORE && len < input.len) {
        len += 1 + (most > 1 ? (size_t)rand() % most : 0);
        len = len < input.len ? len : input.len;
        verdict.status = parse_copy(span_first(input, len), &verdict.header, &verdict.used);
    }
    later = verdict;
    assert_int_equal(parse_copy(input, &later.header, &later.used), verdict.status);
    assert_int_equal(later.used, verdict.used);
    assert_memory_equal(&later.header, &verdict.header, sizeof verdict.header);
    if (verdict.status != PROXY_OK) { /* nothing is written */
        assert_true(verdict.used == SIZE_MAX);
        assert_int_equal(*(const unsigned char *)&verdict.header, 0x55);
    }
    return verdict;
}

static struct verdict parse(struct span input)
{
    const struct verdict whole = feed(input, 1);

    for (unsigned most = 2; most < 400; most *= 3) {
        const struct verdict cut = feed(input, most);
        assert_int_equal(cut.status, whole.status);
        assert_int_equal(cut.used, whole.used);
    }
    return whole;
}

static void expect_addresses(struct span header, const char *source, const char *destination)
{
    char buffer[PROXY_HEADER_MAX + 64], text[NET_ADDRESS_TEXT];
    struct text stream = TEXT(buffer);

    text_put(&stream, header);
    text_puts(&stream, "EHLO client.example\r\n");
    const struct verdict verdict = parse(text_span(&stream));
    assert_int_equal(verdict.status, PROXY_OK);
    assert_int_equal(verdict.used, header.len);
    if (source == NULL) {
        const struct net_address none = {0};
        assert_int_equal(verdict.header.kind, PROXY_LOCAL);
        assert_true(net_address_equal(&verdict.header.source, &none));
        assert_true(net_address_equal(&verdict.header.destination, &none));
        return;
    }
    assert_int_equal(verdict.header.kind, PROXY_ADDRESSES);
    net_address_text_port(&verdict.header.source, text, sizeof text);
    assert_string_equal(text, source);
    net_address_text_port(&verdict.header.destination, text, sizeof text);
    assert_string_equal(text, destination);
}

static void expect_local(struct span header)
{
    expect_addresses(header, NULL, NULL);
}

/* What bytes are bad, not only incomplete: more of them would not help. */
static void expect_bad(struct span input)
{
    if (parse(input).status != PROXY_BAD) {
        print_error("taken: %.*s\n", SPAN_ARGS(input));
    }
    assert_int_equal(parse(input).status, PROXY_BAD);
}

static void version_1_tells_both_addresses(void **state)
{
    (void)state;
    expect_addresses(SPAN("PROXY TCP4 192.0.2.1 198.51.100.2 56324 25\r\n"), V4_TEXT, V4_TO);
    expect_addresses(SPAN("PROXY TCP4 255.255.255.255 0.0.0.0 65535 0\r\n"),
                     "255.255.255.255:65535", "0.0.0.0:0");
    expect_addresses(SPAN("PROXY TCP6 2001:db8::1 2001:DB8:0:0:0:0:0:2 56324 25\r\n"),
                     "[2001:db8::1]:56324", "[2001:db8::2]:25");
    expect_addresses(SPAN("PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
                          "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n"),
                     "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
                     "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535");
}

static void mapped_addresses_are_ipv4(void **state)
{
    (void)state;
    expect_addresses(SPAN("PROXY TCP6 ::ffff:192.0.2.1 ::FFFF:c633:6402 56324 25\r\n"), V4_TEXT,
                     V4_TO);
    expect_addresses(SPAN("PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 56324 25\r\n"), V4_TEXT,
                     "[2001:db8::2]:25");
    expect_addresses(SPAN(V2 "\x21\x21\x00\x24" MAPPED V6_TWO V6_PORTS), V4_TEXT,
                     "[2001:db8::2]:25");
}

static void version_1_unknown_is_the_peer_whatever_follows(void **state)
{
    char buffer[PROXY_V1_MAX + 1];
    struct text line = TEXT(buffer);

    (void)state;
    expect_local(SPAN("PROXY UNKNOWN\r\n"));
    expect_local(SPAN("PROXY UNKNOWN \r\n"));
    expect_local(SPAN("PROXY UNKNOWN 192.0.2.1 198.51.100.2 56324 25\r\n"));
    expect_local(SPAN("PROXY UNKNOWN \xff\0\x01 x  y\r\n"));
    text_puts(&line, "PROXY UNKNOWN ");
    while (line.len < PROXY_V1_MAX - 2) {
        text_putc(&line, 'f');
    }
    text_puts(&line, "\r\n");
    assert_false(line.full);
    expect_local(text_span(&line));
    expect_bad(SPAN("PROXY UNKNOWN a\nb\r\n"));
    expect_bad(SPAN("PROXY UNKNOWN a\rb\r\n"));
}

static void version_1_is_taken_by_the_letter_only(void **state)
{
    static const char *const bad[] = {
        "X",
        "EHLO client.example\r\n",
        "proxy TCP4 192.0.2.1 198.51.100.2 1 25\r\n",
        " PROXY TCP4 192.0.2.1 198.51.100.2 1 25\r\n",
        "PROXY\r\n",
        "PROXY \r\n",
        "PROXYTCP4 192.0.2.1 198.51.100.2 1 25\r\n",
        "PROXY\tTCP4 192.0.2.1 198.51.100.2 1 25\r\n",
        "PROXY  TCP4 192.0.2.1 198.51.100.2 1 25\r\n",
        "PROXY tcp4 192.0.2.1 198.51.100.2 1 25\r\n",
        "PROXY TCP 192.0.2.1 198.51.100.2 1 25\r\n",
        "PROXY TCP46 192.0.2.1 198.51.100.2 1 25\r\n",
        "PROXY UDP4 192.0.2.1 198.51.100.2 1 25\r\n",
        "PROXY unknown\r\n",
        "PROXY UNKNOWNX\r\n",
        "PROXY TCP4\r\n",
        "PROXY TCP4 \r\n",
        "PROXY TCP4 192.0.2.1\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 1\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 1 \r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 1 25 \r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 1 25 x\r\n",
        "PROXY TCP4 192.0.2.1  198.51.100.2 1 25\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2  1 25\r\n",
        "PROXY TCP4 192.0.2.1\t198.51.100.2 1 25\r\n",
        "PROXY TCP4 192.0.2.01 198.51.100.2 1 25\r\n",
        "PROXY TCP4 192.0.2.256 198.51.100.2 1 25\r\n",
        "PROXY TCP4 192.0.2 198.51.100.2 1 25\r\n",
        "PROXY TCP4 192.0.2.1. 198.51.100.2 1 25\r\n",
        "PROXY TCP4 mail.example 198.51.100.2 1 25\r\n",
        "PROXY TCP4 2001:db8::1 2001:db8::2 1 25\r\n",
        "PROXY TCP4 192.0.2.1 2001:db8::2 1 25\r\n",
        "PROXY TCP4 ::ffff:192.0.2.1 198.51.100.2 1 25\r\n",
        "PROXY TCP6 192.0.2.1 198.51.100.2 1 25\r\n",
        "PROXY TCP6 2001:db8::1 198.51.100.2 1 25\r\n",
        "PROXY TCP6 [2001:db8::1] 2001:db8::2 1 25\r\n",
        "PROXY TCP6 2001:db8::1::1 2001:db8::2 1 25\r\n",
        "PROXY TCP6 fe80::1%lo 2001:db8::2 1 25\r\n",
        "PROXY TCP6 1:2:3:4:5:6:7 2001:db8::2 1 25\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 01 25\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 1 025\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 00 25\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 65536 25\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 1 99999999999999999999\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 +1 25\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 -1 25\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 0x1 25\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 1 25\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 1 25\n\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 1 25\r\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 1 25\rEHLO x\r\n",
    };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        expect_bad(span_of(bad[i]));
    }
    expect_bad(SPAN("PROXY TCP4 192.0.2.1\0 198.51.100.2 1 25\r\n"));
    expect_bad(SPAN("PROXY TCP4 192.0.2.1 198.51.100.2 1 25\0\r\n"));
    expect_bad(SPAN("\0"));
}

static void version_1_ends_within_107_octets(void **state)
{
    char line[PROXY_V1_MAX + 8];
    struct proxy_header header;
    size_t used;

    (void)state;
    memset(line, 'x', sizeof line);
    memcpy(line, "PROXY UNKNOWN ", 14);
    assert_int_equal(proxy_header_parse(span_make(line, PROXY_V1_MAX - 1), &header, &used),
                     PROXY_MORE);
    expect_bad(span_make(line, PROXY_V1_MAX));
    memcpy(line + PROXY_V1_MAX - 1, "\r\n", 2); /* its LF is the 108th */
    expect_bad(span_make(line, PROXY_V1_MAX + 1));
    memcpy(line + PROXY_V1_MAX - 2, "\r\n", 2);
    expect_local(span_make(line, PROXY_V1_MAX));
}

static void version_2_tells_both_addresses(void **state)
{
    (void)state;
    expect_addresses(SPAN(V2 "\x21\x11\x00\x0c" V4_PAIR), V4_TEXT, V4_TO);
    expect_addresses(SPAN(V2 "\x21\x21\x00\x24" V6_ONE V6_TWO V6_PORTS), "[2001:db8::1]:56324",
                     "[2001:db8::2]:25");
}

static void tlvs_are_skipped(void **state)
{
    (void)state;
    expect_addresses(SPAN(V2 "\x21\x11\x00\x0f" V4_PAIR "\x04\x00\x00"), V4_TEXT, V4_TO);
    expect_addresses(SPAN(V2 "\x21\x11\x00\x17" V4_PAIR "\x01\x00\x02h2\xee\x00\x03\r\n\r"),
                     V4_TEXT, V4_TO);
    expect_addresses(SPAN(V2 "\x21\x21\x00\x28" V6_ONE V6_TWO V6_PORTS "\x02\x00\x01x"),
                     "[2001:db8::1]:56324", "[2001:db8::2]:25");
}

static void tlvs_fill_the_length_to_the_octet(void **state)
{
    (void)state;
    expect_bad(SPAN(V2 "\x21\x11\x00\x0d" V4_PAIR "\x04"));
    expect_bad(SPAN(V2 "\x21\x11\x00\x0e" V4_PAIR "\x04\x00"));
    expect_bad(SPAN(V2 "\x21\x11\x00\x0f" V4_PAIR "\x04\x00\x01x"));
    expect_bad(SPAN(V2 "\x21\x11\x00\x0f" V4_PAIR "\x04\x01\x00"));
    expect_bad(SPAN(V2 "\x21\x11\x00\x13" V4_PAIR "\x01\x00\x02h2\xee\x00"));
    expect_bad(SPAN(V2 "\x21\x21\x00\x25" V6_ONE V6_TWO V6_PORTS "\x04"));
}

static void version_2_local_is_the_peer_whatever_its_block_is(void **state)
{
    (void)state;
    expect_local(SPAN(V2 "\x20\x00\x00\x00"));
    expect_local(SPAN(V2 "\x20\x11\x00\x0c" V4_PAIR));
    expect_local(SPAN(V2 "\x20\xff\x00\x05xxxxx"));
    expect_local(SPAN(V2 "\x20\x12\x00\x00"));
}

static void what_has_no_ip_address_is_the_peer(void **state)
{
    char buffer[16 + 216 + 4] = V2 "\x21\x31\x00\xd8";

    (void)state;
    memset(buffer + 16, 0xff, 216); /* no TLVs, these */
    expect_local(SPAN(V2 "\x21\x00\x00\x00"));
    expect_local(SPAN(V2 "\x21\x00\x00\x05xxxxx"));
    expect_local(SPAN(V2 "\x21\x01\x00\x00"));
    expect_local(SPAN(V2 "\x21\x10\x00\x0c" V4_PAIR));
    expect_local(span_make(buffer, 16 + 216));
    buffer[15] = (char)(216 + 4);
    memcpy(buffer + 16 + 216, "\x04\x00\x01x", 4);
    expect_local(span_make(buffer, 16 + 216 + 4));
    buffer[15] = (char)215;
    expect_bad(span_make(buffer, 16 + 215));
}

static void version_2_is_taken_by_the_letter_only(void **state)
{
    (void)state;
    expect_bad(SPAN("\r\nEHLO x\r\n"));
    expect_bad(SPAN("\r\n\r\n\0\r\nQUIT\r\x21\x11\x00\x0c" V4_PAIR));
    expect_bad(SPAN(V2 "\x11\x11\x00\x0c" V4_PAIR)); /* version 1 */
    expect_bad(SPAN(V2 "\x31\x11\x00\x0c" V4_PAIR)); /* version 3 */
    expect_bad(SPAN(V2 "\x01\x11\x00\x0c" V4_PAIR));
    expect_bad(SPAN(V2 "\x22\x11\x00\x0c" V4_PAIR)); /* no such command */
    expect_bad(SPAN(V2 "\x2f\x11\x00\x0c" V4_PAIR));
    expect_bad(SPAN(V2 "\x21\x41\x00\x0c" V4_PAIR)); /* no such family */
    expect_bad(SPAN(V2 "\x21\xf1\x00\x0c" V4_PAIR));
    expect_bad(SPAN(V2 "\x21\x13\x00\x0c" V4_PAIR)); /* no such protocol */
    expect_bad(SPAN(V2 "\x21\x1f\x00\x0c" V4_PAIR));
    expect_bad(SPAN(V2 "\x21\x12\x00\x0c" V4_PAIR)); /* datagrams */
    expect_bad(SPAN(V2 "\x21\x22\x00\x24" V6_ONE V6_TWO V6_PORTS));
    expect_bad(SPAN(V2 "\x21\x02\x00\x00"));
    expect_bad(SPAN(V2 "\x21\x32\x00\x00"));
    expect_bad(SPAN(V2 "\x21\x11\x00\x0b" V4_PAIR)); /* too short for its addresses */
    expect_bad(SPAN(V2 "\x21\x11\x00\x00"));
    expect_bad(SPAN(V2 "\x21\x21\x00\x0c" V4_PAIR));
    expect_bad(SPAN(V2 "\x21\x21\x00\x23" V6_ONE V6_TWO V6_PORTS));
}

static void version_2_is_bounded_before_it_has_arrived(void **state)
{
    static char buffer[PROXY_HEADER_MAX + 64];
    const struct span all = span_make(buffer, PROXY_HEADER_MAX);
    struct proxy_header header;
    size_t used;

    (void)state;
    memcpy(buffer, V2 "\x21\x11\x10\x00" V4_PAIR, 28); /* 4096, a TLV filling it */
    memcpy(buffer + 28, "\x04\x0f\xf1", 3);
    expect_addresses(all, V4_TEXT, V4_TO);
    assert_int_equal(proxy_header_parse(span_first(all, all.len - 1), &header, &used), PROXY_MORE);
    expect_bad(SPAN(V2 "\x21\x11\x10\x01"));
    expect_bad(SPAN(V2 "\x20\x00\xff\xff"));
}

static void a_beginning_wants_more(void **state)
{
    static const struct span beginnings[] = {
        {"", 0},
        {"P", 1},
        {"PROXY", 5},
        {"PROXY TCP4 192.0.2.1 198.51.100.2 1 25", 38},
        {"PROXY TCP4 192.0.2.1 198.51.100.2 1 25\r", 39},
        {"\r", 1},
        {V2, 12},
        {V2 "\x21\x11\x00", 15},
        {V2 "\x21\x11\x00\x0c" V4_PAIR, 27},
        {V2 "\x20\x00\x00\x01", 16},
    };

    (void)state;
    for (size_t i = 0; i < sizeof beginnings / sizeof beginnings[0]; i++) {
        assert_int_equal(parse(beginnings[i]).status, PROXY_MORE);
    }
}

static const char *written(const char *source, const char *destination)
{
    static char buffer[PROXY_V1_MAX + 1];
    struct net_address from, to;
    struct text out = TEXT(buffer);

    assert_true(net_address_parse(span_of(source), 56324, &from));
    assert_true(net_address_parse(span_of(destination), 25, &to));
    proxy_header_write(&from, &to, &out);
    assert_false(out.full);
    expect_addresses(text_span(&out),
                     from.any.sa_family == AF_INET ? V4_TEXT : "[2001:db8::1]:56324",
                     to.any.sa_family == AF_INET ? V4_TO : "[2001:db8::2]:25");
    return buffer;
}

static void what_is_written_is_version_1_of_one_family(void **state)
{
    (void)state;
    assert_string_equal(written("192.0.2.1", "198.51.100.2"),
                        "PROXY TCP4 192.0.2.1 198.51.100.2 56324 25\r\n");
    assert_string_equal(written("2001:db8::1", "2001:db8::2"),
                        "PROXY TCP6 2001:db8::1 2001:db8::2 56324 25\r\n");
    assert_string_equal(written("192.0.2.1", "2001:db8::2"),
                        "PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 56324 25\r\n");
    assert_string_equal(written("2001:db8::1", "198.51.100.2"),
                        "PROXY TCP6 2001:db8::1 ::ffff:198.51.100.2 56324 25\r\n");
}

static void the_longest_addresses_fit(void **state)
{
    char buffer[PROXY_V1_MAX + 1];
    struct net_address address;
    struct text out = TEXT(buffer);

    (void)state;
    assert_true(
        net_address_parse(SPAN("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"), 65535, &address));
    proxy_header_write(&address, &address, &out);
    assert_false(out.full);
    assert_int_equal(out.len, 104);
}

static void an_address_that_is_not_known_is_written_as_unknown(void **state)
{
    char buffer[PROXY_V1_MAX + 1];
    struct net_address known, path;
    const struct net_address none = {0};
    const struct net_address *const unusable[] = {NULL, &none, &path};

    (void)state;
    assert_true(net_address_parse(SPAN("192.0.2.1"), 1, &known));
    assert_true(net_address_unix(SPAN("/run/x"), &path));
    for (size_t i = 0; i < 3; i++) {
        struct text out = TEXT(buffer);
        proxy_header_write(&known, unusable[i], &out);
        assert_string_equal(buffer, "PROXY UNKNOWN\r\n");
        out = TEXT(buffer);
        proxy_header_write(unusable[i], &known, &out);
        assert_string_equal(buffer, "PROXY UNKNOWN\r\n");
    }
    expect_local(SPAN("PROXY UNKNOWN\r\n"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(version_1_tells_both_addresses),
        cmocka_unit_test(mapped_addresses_are_ipv4),
        cmocka_unit_test(version_1_unknown_is_the_peer_whatever_follows),
        cmocka_unit_test(version_1_is_taken_by_the_letter_only),
        cmocka_unit_test(version_1_ends_within_107_octets),
        cmocka_unit_test(version_2_tells_both_addresses),
        cmocka_unit_test(tlvs_are_skipped),
        cmocka_unit_test(tlvs_fill_the_length_to_the_octet),
        cmocka_unit_test(version_2_local_is_the_peer_whatever_its_block_is),
        cmocka_unit_test(what_has_no_ip_address_is_the_peer),
        cmocka_unit_test(version_2_is_taken_by_the_letter_only),
        cmocka_unit_test(version_2_is_bounded_before_it_has_arrived),
        cmocka_unit_test(a_beginning_wants_more),
        cmocka_unit_test(what_is_written_is_version_1_of_one_family),
        cmocka_unit_test(the_longest_addresses_fit),
        cmocka_unit_test(an_address_that_is_not_known_is_written_as_unknown),
    };
    srand(1); /* the same cuts in every run */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
