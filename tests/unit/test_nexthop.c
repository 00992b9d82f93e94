/* Destinations: every form of section 4, both dialects, and what is refused with which words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "config/text.h"
#include "routing/nexthop.h"

static bool parse(const char *text, enum transport_dialect dialect, struct transport *out,
                  char why[256])
{
    size_t where = SIZE_MAX;
    bool ok = transport_parse(span_of(text), dialect, out, why, 256, &where);
    assert_true(where <= strlen(text));
    return ok;
}

static void test_next_hops_are_read_as_written(void **state)
{
    static const struct {
        const char *text;
        const char *hops; /* kind letter and text of each */
    } samples[] = {
        {"smtp:[kingmailer.org]", "H[kingmailer.org]:25 "},
        {"smtp:[Kingmailer.ORG]:2525", "H[kingmailer.org]:2525 "},
        {"smtp:example.com", "Mexample.com:25 "},
        {"smtp:example.com:26", "Mexample.com:26 "},
        {"smtp:relay:26,smtp:27", "Mrelay:26 Msmtp:27 "}, /* names that hosts have */
        {"smtp:[192.0.2.1]", "A[192.0.2.1]:25 "},
        {"smtp:[127.0.0.1]:10025", "A[127.0.0.1]:10025 "},
        {"smtp:[2001:db8::1]:26", "A[2001:db8::1]:26 "},
        {"smtp:[IPv6:2001:DB8::1]", "A[2001:db8::1]:25 "},
        {"smtp:[unix:/run/a,b]", "A[unix:/run/a,b] "},
        {"smtp:", "D "},
        {"SMTP:[a.example], b.example:26 ,[192.0.2.1]",
         "H[a.example]:25 Mb.example:26 A[192.0.2.1]:25 "},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(samples) / sizeof(*samples); i++) {
        struct transport transport;
        char why[256] = "", seen[512], one[NEXTHOP_TEXT];
        struct text all = TEXT(seen);
        if (!parse(samples[i].text, TRANSPORT_YAML, &transport, why)) {
            fail_msg("%s: %s", samples[i].text, why);
        }
        assert_int_equal(transport.kind, TRANSPORT_SMTP);
        for (size_t hop = 0; hop < transport.hop_count; hop++) {
            one[0] = '\0';
            nexthop_text(&transport.hops[hop], one, sizeof(one));
            text_printf(&all, "%c%s ", "HMAD"[transport.hops[hop].kind], one);
        }
        assert_string_equal(seen, samples[i].hops);
        transport_release(&transport);
    }
}

static void test_literal_addresses_carry_their_port(void **state)
{
    struct transport transport;
    char why[256];
    (void)state;
    assert_true(parse("smtp:[127.0.0.1]:10025", TRANSPORT_YAML, &transport, why));
    assert_int_equal(net_address_port(&transport.hops[0].address), 10025);
    transport_release(&transport);
}

static void test_actions_have_code_status_and_words(void **state)
{
    static const struct {
        const char *text;
        unsigned code;
        const char *enhanced;
        const char *words;
    } samples[] = {
        {"error:5.7.1 not here", 550, "5.7.1", "not here"},
        {"error:not here", 550, "5.0.0", "not here"},
        {"error:4.2.1 later", 450, "4.2.1", "later"},
        {"error: 5.1.1  gone ", 550, "5.1.1", "gone"},
        {"error:5.1", 550, "5.0.0", "5.1"},
        {"error:", 550, "5.0.0", "recipient refused"},
        {"retry:", 450, "4.0.0", "try again later"},
        {"retry:busy", 450, "4.0.0", "busy"},
        {"retry:4.3.2 busy", 450, "4.3.2", "busy"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(samples) / sizeof(*samples); i++) {
        struct transport transport;
        char why[256];
        assert_true(parse(samples[i].text, TRANSPORT_YAML, &transport, why));
        assert_int_equal(transport.code, samples[i].code);
        assert_string_equal(transport.enhanced, samples[i].enhanced);
        assert_string_equal(transport.text, samples[i].words);
        transport_release(&transport);
    }
}

static void test_dialects_differ_in_relay(void **state)
{
    struct transport transport;
    char why[256];
    (void)state;
    assert_true(parse("relay:[a.example]", TRANSPORT_MAP, &transport, why));
    assert_int_equal(transport.kind, TRANSPORT_SMTP);
    transport_release(&transport);
    assert_false(parse("relay:[a.example]", TRANSPORT_YAML, &transport, why));
    assert_true(parse("discard:silently", TRANSPORT_MAP, &transport, why));
    assert_int_equal(transport.kind, TRANSPORT_DISCARD);
    transport_release(&transport);
    assert_true(parse("local", TRANSPORT_YAML, &transport, why));
    assert_int_equal(transport.kind, TRANSPORT_RELAY);
    assert_string_equal(transport.text, "local");
    transport_release(&transport);
}

static void test_what_is_wrong_is_said(void **state)
{
    static const struct {
        const char *text;
        const char *says;
    } samples[] = {
        {"", "no destination"},
        {":", "no transport in front of the colon"},
        {":[a.example]", "no transport in front of the colon"},
        {"[a.example]", "with its transport"},
        {"lmtp:unix:/run/x", "`lmtp:` is not known here"},
        {"virtual:", "`virtual:` is not known here"},
        {"smtp", "with a colon, and in quotes: \"smtp:"},
        {"smtp:[a.example]:26,smtp:[b.example]", "`smtp:` is written once"},
        {"smtp:[a.example", "without `]`"},
        {"smtp:[]", "nothing between the brackets"},
        {"smtp:[a.example]x", "after `]`"},
        {"smtp:[a.example]:", "no port"},
        {"smtp:[a.example]:0", "no port"},
        {"smtp:[a.example]:65536", "no port"},
        {"smtp:[a.example]:25x", "no port"},
        {"smtp:192.0.2.1", "in brackets: [192.0.2.1]"},
        {"smtp:192.0.2.1:25", "in brackets: [192.0.2.1]"},
        {"smtp:2001:db8::1", "in brackets: [2001:db8::1]"},
        {"smtp:[192.0.2.256]", "no host name and no IP address"},
        {"smtp:[2001:db8::g]", "no IPv6 address"},
        {"smtp:[unix:run/x]", "absolute path"},
        {"smtp:[unix:/run/x]:25", "no port"},
        {"smtp:[a.example],", "beside a comma"},
        {"smtp:,[a.example]", "beside a comma"},
        {"smtp:b\xc3\xbc.example", "printable ASCII"},
        {"error:caf\xc3\xa9", "printable ASCII"},
        {"error:a\rb", "printable ASCII"},
        {"error:2.1.5 fine", "begins with 4. or 5."},
        {"retry:5.1.1 no", "begins with 4."},
        {"local smtp", "expected a relay's name"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(samples) / sizeof(*samples); i++) {
        struct transport transport;
        char why[256] = "";
        if (parse(samples[i].text, TRANSPORT_YAML, &transport, why)) {
            fail_msg("%s was taken", samples[i].text);
        }
        if (!strstr(why, samples[i].says)) {
            fail_msg("%s: %s", samples[i].text, why);
        }
    }
}

static void test_seventeen_next_hops_are_too_many(void **state)
{
    struct transport transport;
    char text[512] = "smtp:", why[256];
    struct text all = {text, 5, sizeof(text), false};
    (void)state;
    for (int i = 0; i < NEXTHOPS_MAX; i++) {
        text_printf(&all, "%s[h%d.example]", i ? "," : "", i);
    }
    assert_true(parse(text, TRANSPORT_YAML, &transport, why));
    assert_int_equal(transport.hop_count, NEXTHOPS_MAX);
    transport_release(&transport);
    text_puts(&all, ",[h.example]");
    assert_false(parse(text, TRANSPORT_YAML, &transport, why));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_next_hops_are_read_as_written),
        cmocka_unit_test(test_literal_addresses_carry_their_port),
        cmocka_unit_test(test_actions_have_code_status_and_words),
        cmocka_unit_test(test_dialects_differ_in_relay),
        cmocka_unit_test(test_what_is_wrong_is_said),
        cmocka_unit_test(test_seventeen_next_hops_are_too_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
