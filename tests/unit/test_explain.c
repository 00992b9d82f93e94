/* explain: route's answers, as JSON exactly in the order of the contract. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "proxy/cli/explain.h"
#include "proxy/daemon/quote.h"

typedef void printer(const struct explanation *explanation, FILE *out);

static void assert_printed(printer *print, const char *asked, const struct decision *decision,
                           const char *want)
{
    const struct span whole = span_of(asked);
    const struct address parsed = {.whole = whole,
                                   .domain = span_skip(whole, span_rfind(whole, '@') + 1)};
    const struct explanation explanation = {whole, &parsed, decision};
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    assert_non_null(out);
    print(&explanation, out);
    fclose(out);
    assert_string_equal(text, want);
    free(text);
}

static struct decision matched(const struct destination *destination)
{
    return (struct decision){.kind = DECISION_REPLY,
                             .matched = true,
                             .hit = {destination, "example.com", "/etc/r.yaml", 3}};
}

static void a_relay_is_explained_with_its_next_hops(void **state)
{
    struct nexthop hops[] = {
        {.kind = NEXTHOP_HOST, .host = "kingmailer.org", .port = 25},
        {.kind = NEXTHOP_MX, .host = "example.net", .port = 26},
        {.kind = NEXTHOP_DOMAIN, .port = 25},
        {.kind = NEXTHOP_ADDRESS, .host = "::1", .port = 25},
        {.kind = NEXTHOP_ADDRESS, .host = "unix:/run/lmtp", .port = 0},
    };
    char gmail_name[] = "gmail", other_name[] = "other", king_name[] = "king";
    const struct relay gmail = {.name = gmail_name}, other = {.name = other_name};
    struct relay relay = {.name = king_name, .hops = hops, .hop_count = 5, .tls = RELAY_TLS_VERIFY};
    struct destination destination = {.kind = TRANSPORT_SMTP};
    struct decision decision = matched(&destination);
    (void)state;
    decision.kind = DECISION_RELAY;
    decision.relay = &relay;
    decision.fallback = &gmail;
    decision.unknown_recipient = &other;
    assert_printed(
        explain_json, "User@Example.com", &decision,
        "{\"address\":\"User@Example.com\",\"matched\":\"example.com\","
        "\"source\":\"/etc/r.yaml:3\",\"relay\":\"king\",\"action\":null,\"next_hops\":["
        "{\"protocol\":\"smtp\",\"host\":\"kingmailer.org\",\"port\":25,\"mx\":false},"
        "{\"protocol\":\"smtp\",\"host\":\"example.net\",\"port\":26,\"mx\":true},"
        "{\"protocol\":\"smtp\",\"host\":\"example.com\",\"port\":25,\"mx\":true},"
        "{\"protocol\":\"smtp\",\"host\":\"::1\",\"port\":25,\"mx\":false},"
        "{\"protocol\":\"smtp\",\"host\":\"unix:/run/lmtp\",\"port\":null,\"mx\":false}],"
        "\"fallback\":\"gmail\",\"unknown_recipient\":\"other\",\"tls\":\"verify\"}\n");
    relay.hop_count = 2;
    assert_printed(explain_text, "user@example.com", &decision,
                   "user@example.com\n"
                   "  matched    example.com, /etc/r.yaml:3\n"
                   "  relay      king\n"
                   "  next hop   [kingmailer.org]:25 (the host itself, no MX)\n"
                   "  next hop   example.net:26 (by the MX records of example.net)\n"
                   "  fallback   gmail\n"
                   "  unknown    other (asked for recipients that king does not know)\n"
                   "  tls        verify\n");
}

static void assert_action(const struct decision *decision, const char *action)
{
    char want[512];
    snprintf(want, sizeof(want),
             "{\"address\":\"a@b\",\"matched\":%s,\"source\":%s,\"relay\":null,\"action\":\"%s\","
             "\"next_hops\":null,\"fallback\":null,\"unknown_recipient\":null,\"tls\":null}\n",
             decision->matched ? "\"example.com\"" : "null",
             decision->matched ? "\"/etc/r.yaml:3\"" : "null", action);
    assert_printed(explain_json, "a@b", decision, want);
}

static void actions_are_spelt_as_in_a_table(void **state)
{
    struct destination destination = {.kind = TRANSPORT_ERROR};
    struct decision decision = matched(&destination);
    (void)state;
    decision.code = 550;
    decision.enhanced = "5.7.1";
    decision.text = "not here";
    assert_action(&decision, "error:5.7.1 not here");
    decision.code = 450;
    decision.enhanced = "4.2.1";
    assert_action(&decision, "error:4.2.1 not here");
    destination.kind = TRANSPORT_RETRY;
    decision.text = "";
    assert_action(&decision, "retry:4.2.1");
    destination.kind = TRANSPORT_DISCARD;
    decision.kind = DECISION_DISCARD;
    assert_action(&decision, "discard:");
}

static void a_refusal_of_ours_is_an_action_without_a_match(void **state)
{
    struct decision decision = {
        .kind = DECISION_REPLY, .code = 550, .enhanced = "5.7.1", .text = "not here"};
    (void)state;
    assert_action(&decision, "error:5.7.1 not here");
    assert_printed(explain_text, "a@b", &decision,
                   "a@b\n  matched    nothing\n  refused    550 5.7.1 not here\n");
    decision.outside = true; /* the domain has to be named: the map that knows it is not asked */
    assert_printed(explain_text, "a@b", &decision,
                   "a@b\n  matched    nothing\n  refused    550 5.7.1 not here\n"
                   "  because    b is not among the `domains:` (default: those in the keys of YAML "
                   "routes;\n             a transport map and `*` add none)\n");
    decision.code = 451;
    decision.enhanced = "4.3.0";
    assert_action(&decision, "retry:4.3.0 not here");
}

static void assert_string(struct span value, const char *json, const char *plain)
{
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    assert_non_null(out);
    json_put_string(out, value);
    fflush(out);
    assert_string_equal(text, json);
    rewind(out);
    print_plain(out, value);
    fputc('\0', out);
    fclose(out);
    assert_string_equal(text, plain);
    free(text);
}

static void no_byte_breaks_json_or_a_terminal(void **state)
{
    (void)state;
    assert_string(SPAN("a\"b\\c\n\x1b[2J\0"), "\"a\\\"b\\\\c\\u000a\\u001b[2J\\u0000\"",
                  "a\"b\\c\\x0a\\x1b[2J\\x00");
    assert_string(SPAN("gr\xc3\xbc\xc3\x9f"
                       "e\xff\xe2\x80\xae"),
                  "\"gr\xc3\xbc\xc3\x9f"
                  "e\\ufffd\\u202e\"",
                  "gr\xc3\xbc\xc3\x9f"
                  "e\\xff\\xe2\\x80\\xae");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_relay_is_explained_with_its_next_hops),
        cmocka_unit_test(actions_are_spelt_as_in_a_table),
        cmocka_unit_test(a_refusal_of_ours_is_an_action_without_a_match),
        cmocka_unit_test(no_byte_breaks_json_or_a_terminal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
