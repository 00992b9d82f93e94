#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proxy/wire/xclient.h"

#define ALL (XCLIENT_BIT(XCLIENT_ATTRIBUTES) - 1)

static unsigned offered(const char *line)
{
    unsigned attributes = ALL; /* what was there does not count */

    assert_true(xclient_offer_line(span_of(line), &attributes));
    return attributes;
}

static void the_offer_is_what_the_line_lists(void **state)
{
    (void)state;
    assert_int_equal(offered("XCLIENT NAME ADDR PROTO HELO REVERSE_NAME PORT LOGIN DESTADDR "
                             "DESTPORT"),
                     ALL);
    assert_int_equal(offered("XCLIENT NAME ADDR"),
                     XCLIENT_BIT(XCLIENT_NAME) | XCLIENT_BIT(XCLIENT_ADDR));
    assert_int_equal(offered("xclient  addr   Helo "),
                     XCLIENT_BIT(XCLIENT_ADDR) | XCLIENT_BIT(XCLIENT_HELO));
    assert_int_equal(offered("XCLIENT PORT FORWARD PORTS POR ADDR=x"), XCLIENT_BIT(XCLIENT_PORT));
    assert_int_equal(offered("XCLIENT"), 0);
}

static void other_keywords_are_no_offer(void **state)
{
    static const char *const others[] = {
        "",          "XFORWARD NAME ADDR", "XCLIENTS ADDR", "XCLIEN ADDR",
        "SIZE 1000", " XCLIENT ADDR",      "XCLIENT=ADDR"};

    (void)state;
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        unsigned attributes = 42;
        assert_false(xclient_offer_line(span_of(others[i]), &attributes));
        assert_int_equal(attributes, 42);
    }
}

struct sample {
    struct net_address client, destination;
    struct xclient_values values;
};

static void sample_init(struct sample *sample, const char *client, const char *destination)
{
    assert_true(net_address_parse(span_of(client), 56324, &sample->client));
    assert_true(net_address_parse(span_of(destination), 25, &sample->destination));
    sample->values = (struct xclient_values){
        .name = "mail.client.example",
        .reverse_name = "mail.client.example",
        .client = &sample->client,
        .destination = &sample->destination,
        .helo = SPAN("helo.client.example"),
        .esmtp = true,
    };
}

/* All lines, one after the other; checks what holds for any. */
static const char *lines_of(const struct xclient_values *values, unsigned attributes,
                            unsigned *count)
{
    static char all[XCLIENT_ATTRIBUTES * XCLIENT_LINE_MAX + 1];
    struct text lines = TEXT(all);
    struct xclient_writer writer;

    *count = 0;
    xclient_init(&writer, values, attributes);
    while (true) {
        char buffer[XCLIENT_LINE_MAX + 1]; /* as much as is promised to do */
        struct text line = TEXT(buffer);
        const bool more = xclient_next(&writer, &line);
        if (!more) {
            assert_int_equal(line.len, 0);
            break;
        }
        assert_false(line.full);
        assert_memory_equal(line.ptr, "XCLIENT ", 8);
        assert_int_equal(span_find(text_span(&line), '\r'), line.len - 2);
        assert_int_equal(span_find(text_span(&line), '\n'), line.len - 1);
        for (size_t i = 0; i + 2 < line.len; i++) {
            assert_true(line.ptr[i] >= ' ' && line.ptr[i] < 0x7f);
        }
        text_put(&lines, text_span(&line));
        assert_true(++*count <= XCLIENT_ATTRIBUTES);
    }
    assert_false(lines.full);
    return all;
}

static void expect_lines(const struct xclient_values *values, unsigned attributes, const char *want)
{
    unsigned count;

    assert_string_equal(lines_of(values, attributes, &count), want);
}

static void one_line_tells_everything_that_is_listed(void **state)
{
    struct sample sample;

    (void)state;
    sample_init(&sample, "192.0.2.1", "198.51.100.2");
    expect_lines(&sample.values, ALL,
                 "XCLIENT LOGIN=[UNAVAILABLE] DESTADDR=198.51.100.2 DESTPORT=25"
                 " REVERSE_NAME=mail.client.example PORT=56324 PROTO=ESMTP"
                 " HELO=helo.client.example NAME=mail.client.example ADDR=192.0.2.1\r\n");
}

static void only_what_is_listed_is_told(void **state)
{
    struct sample sample;
    unsigned count;

    (void)state;
    sample_init(&sample, "192.0.2.1", "198.51.100.2");
    sample.values.esmtp = false;
    expect_lines(&sample.values, XCLIENT_BIT(XCLIENT_ADDR) | XCLIENT_BIT(XCLIENT_PROTO),
                 "XCLIENT PROTO=SMTP ADDR=192.0.2.1\r\n");
    expect_lines(&sample.values, XCLIENT_BIT(XCLIENT_LOGIN), "XCLIENT LOGIN=[UNAVAILABLE]\r\n");
    lines_of(&sample.values, 0, &count);
    assert_int_equal(count, 0);
    lines_of(&sample.values, ~ALL, &count); /* bits that stand for nothing */
    assert_int_equal(count, 0);
}

static void ipv6_addresses_say_so(void **state)
{
    struct sample sample;

    (void)state;
    sample_init(&sample, "2001:db8::1", "2001:db8::2");
    expect_lines(&sample.values, XCLIENT_BIT(XCLIENT_ADDR) | XCLIENT_BIT(XCLIENT_DESTADDR),
                 "XCLIENT DESTADDR=IPV6:2001:db8::2 ADDR=IPV6:2001:db8::1\r\n");
    sample_init(&sample, "::ffff:192.0.2.1", "::ffff:198.51.100.2");
    expect_lines(&sample.values, XCLIENT_BIT(XCLIENT_ADDR) | XCLIENT_BIT(XCLIENT_DESTADDR),
                 "XCLIENT DESTADDR=198.51.100.2 ADDR=192.0.2.1\r\n");
}

static void what_is_not_known_is_unavailable(void **state)
{
    static const char nothing[] =
        "XCLIENT LOGIN=[UNAVAILABLE] DESTADDR=[UNAVAILABLE] DESTPORT=[UNAVAILABLE]"
        " REVERSE_NAME=[UNAVAILABLE] PORT=[UNAVAILABLE] PROTO=SMTP HELO=[UNAVAILABLE]"
        " NAME=[UNAVAILABLE] ADDR=[UNAVAILABLE]\r\n";
    struct xclient_values values = {0};
    struct net_address address;

    (void)state;
    expect_lines(&values, ALL, nothing);
    assert_true(net_address_unix(SPAN("/run/x"), &address));
    values.client = values.destination = &address;
    expect_lines(&values, ALL, nothing);
    assert_true(net_address_parse(SPAN("192.0.2.1"), 0, &address));
    expect_lines(&values, XCLIENT_BIT(XCLIENT_PORT) | XCLIENT_BIT(XCLIENT_ADDR),
                 "XCLIENT PORT=[UNAVAILABLE] ADDR=192.0.2.1\r\n");
}

static void a_name_that_may_still_come_is_temporarily_unavailable(void **state)
{
    const unsigned names = XCLIENT_BIT(XCLIENT_NAME) | XCLIENT_BIT(XCLIENT_REVERSE_NAME);
    struct xclient_values values = {.names_later = true};

    (void)state;
    expect_lines(&values, names, "XCLIENT REVERSE_NAME=[TEMPUNAVAIL] NAME=[TEMPUNAVAIL]\r\n");
    values.reverse_name = "a.example";
    expect_lines(&values, names, "XCLIENT REVERSE_NAME=a.example NAME=[TEMPUNAVAIL]\r\n");
    values.names_later = false;
    expect_lines(&values, names, "XCLIENT REVERSE_NAME=a.example NAME=[UNAVAILABLE]\r\n");
    values.name = "b.example";
    expect_lines(&values, names, "XCLIENT REVERSE_NAME=a.example NAME=b.example\r\n");
}

static void a_name_that_is_no_host_name_is_not_passed_on(void **state)
{
    static const char *const names[] = {"",
                                        "a b",
                                        "a\r\nXCLIENT ADDR=127.0.0.1",
                                        "a+b",
                                        "a=b",
                                        "\xc3\xa4.example",
                                        "a..b",
                                        ".a",
                                        "-a.example",
                                        "a.",
                                        "1.2",
                                        "192.0.2.1",
                                        "[192.0.2.1]",
                                        "[TEMPUNAVAIL]"};
    struct xclient_values values = {0};

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        values.name = values.reverse_name = names[i];
        values.names_later = i % 2 == 0;
        expect_lines(&values, XCLIENT_BIT(XCLIENT_NAME) | XCLIENT_BIT(XCLIENT_REVERSE_NAME),
                     "XCLIENT REVERSE_NAME=[UNAVAILABLE] NAME=[UNAVAILABLE]\r\n");
    }
}

static void a_helo_is_passed_on_as_xtext(void **state)
{
    struct xclient_values values = {0};

    (void)state;
    values.helo = SPAN("a b+c=d\r\nRSET\0\x7f\x80\xff~!");
    expect_lines(&values, XCLIENT_BIT(XCLIENT_HELO),
                 "XCLIENT HELO=a+20b+2Bc+3Dd+0D+0ARSET+00+7F+80+FF+7E+21\r\n");
    values.helo = SPAN("[IPv6:2001:db8::1]");
    expect_lines(&values, XCLIENT_BIT(XCLIENT_HELO), "XCLIENT HELO=[IPv6:2001:db8::1]\r\n");
    values.helo = SPAN("-what_ever..");
    expect_lines(&values, XCLIENT_BIT(XCLIENT_HELO), "XCLIENT HELO=-what_ever..\r\n");
}

static void a_value_longer_than_255_octets_is_unavailable(void **state)
{
    char helo[300];
    struct xclient_values values = {0};
    unsigned count;

    (void)state;
    memset(helo, 'x', sizeof helo);
    values.helo = span_make(helo, 255);
    const char *line = lines_of(&values, XCLIENT_BIT(XCLIENT_HELO), &count);
    assert_int_equal(strlen(line), strlen("XCLIENT HELO=\r\n") + 255);
    values.helo.len = 256;
    expect_lines(&values, XCLIENT_BIT(XCLIENT_HELO), "XCLIENT HELO=[UNAVAILABLE]\r\n");
    helo[100] = '+'; /* takes three: it is what is sent that counts */
    values.helo.len = 253;
    line = lines_of(&values, XCLIENT_BIT(XCLIENT_HELO), &count);
    assert_int_equal(strlen(line), strlen("XCLIENT HELO=\r\n") + 255);
    values.helo.len = 254;
    expect_lines(&values, XCLIENT_BIT(XCLIENT_HELO), "XCLIENT HELO=[UNAVAILABLE]\r\n");
    memset(helo, '=', sizeof helo);
    values.helo.len = 255;
    expect_lines(&values, XCLIENT_BIT(XCLIENT_HELO), "XCLIENT HELO=[UNAVAILABLE]\r\n");
}

/* A valid host name of that many octets (1..253). */
static const char *host_name(char *out, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        out[i] = i % 50 == 49 && i + 1 < len ? '.' : 'a';
    }
    out[len] = '\0';
    return out;
}

static void a_line_of_512_octets_is_not_split_and_one_of_513_is(void **state)
{
    const unsigned set =
        XCLIENT_BIT(XCLIENT_NAME) | XCLIENT_BIT(XCLIENT_HELO) | XCLIENT_BIT(XCLIENT_ADDR);
    char name[254], helo[255];
    struct sample sample;
    unsigned count;

    (void)state;
    sample_init(&sample, "192.0.2.1", "198.51.100.2");
    sample.values.name = host_name(name, 230);
    memset(helo, 'h', sizeof helo);
    const size_t others = strlen("XCLIENT HELO= NAME= ADDR=192.0.2.1\r\n") + 230;
    sample.values.helo = span_make(helo, XCLIENT_LINE_MAX - others);
    assert_int_equal(strlen(lines_of(&sample.values, set, &count)), XCLIENT_LINE_MAX);
    assert_int_equal(count, 1);
    sample.values.helo.len++;
    const char *lines = lines_of(&sample.values, set, &count);
    assert_int_equal(count, 2);
    assert_memory_equal(lines, "XCLIENT HELO=h", 14);
    assert_non_null(strstr(lines, "h\r\nXCLIENT NAME=a"));
    assert_non_null(strstr(lines, "a ADDR=192.0.2.1\r\n"));
}

static size_t times(const char *all, const char *what)
{
    size_t n = 0;

    while ((all = strstr(all, what)) != NULL) {
        all++;
        n++;
    }
    return n;
}

static void however_it_is_split_each_attribute_is_set_once(void **state)
{
    static const char *const keys[] = {
        " LOGIN=", " DESTADDR=", " DESTPORT=", " REVERSE_NAME=", " PORT=",
        " PROTO=", " HELO=",     " NAME=",     " ADDR="};
    char name[254], reverse[254], helo[256];
    struct sample sample;
    unsigned count;

    (void)state;
    sample_init(&sample, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
                "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
    memset(helo, 'h', sizeof helo);
    for (unsigned i = 0; i < 3000; i++) {
        const unsigned set = i == 0 ? ALL : (unsigned)rand() & ALL;
        sample.values.name = host_name(name, i == 0 ? 253 : 1 + (size_t)rand() % 253);
        sample.values.reverse_name = host_name(reverse, i == 0 ? 253 : 1 + (size_t)rand() % 253);
        sample.values.helo = span_make(helo, i == 0 ? 255 : (size_t)rand() % 256);
        const char *lines = lines_of(&sample.values, set, &count);
        assert_true(count <= 3);
        for (unsigned k = 0; k < XCLIENT_ATTRIBUTES; k++) {
            assert_int_equal(times(lines, keys[k]), (set & XCLIENT_BIT(k)) != 0);
        }
        const char *own = strstr(lines, " NAME="), *address = strstr(lines, " ADDR=");
        if (own != NULL) { /* in the last line, the address at its end */
            assert_int_equal(times(own, "\r\n"), 1);
        }
        if (address != NULL) {
            assert_int_equal(times(address, "\r\n"), 1);
            assert_null(strchr(address + 1, ' '));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_offer_is_what_the_line_lists),
        cmocka_unit_test(other_keywords_are_no_offer),
        cmocka_unit_test(one_line_tells_everything_that_is_listed),
        cmocka_unit_test(only_what_is_listed_is_told),
        cmocka_unit_test(ipv6_addresses_say_so),
        cmocka_unit_test(what_is_not_known_is_unavailable),
        cmocka_unit_test(a_name_that_may_still_come_is_temporarily_unavailable),
        cmocka_unit_test(a_name_that_is_no_host_name_is_not_passed_on),
        cmocka_unit_test(a_helo_is_passed_on_as_xtext),
        cmocka_unit_test(a_value_longer_than_255_octets_is_unavailable),
        cmocka_unit_test(a_line_of_512_octets_is_not_split_and_one_of_513_is),
        cmocka_unit_test(however_it_is_split_each_attribute_is_set_once),
    };
    srand(1); /* the same values in every run */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
