/* explain: route's answers, as JSON in the order of the contract, with more behind it. */
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

static void assert_text(const struct explanation *explanation, printer *print, const char *want)
{
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    assert_non_null(out);
    print(explanation, out);
    fclose(out);
    assert_string_equal(text, want);
    free(text);
}

static struct inquiry inquiry_about(const char *asked, const struct decision *decision)
{
    const struct span whole = span_of(asked);
    return (struct inquiry){
        .question = {
            .asked = whole,
            .parsed = {.whole = whole, .domain = span_skip(whole, span_rfind(whole, '@') + 1)},
            .decision = *decision}};
}

/* Where nobody was asked but the table. */
static void assert_printed(printer *print, const char *asked, const struct decision *decision,
                           const char *want)
{
    const struct inquiry inquiry = inquiry_about(asked, decision);
    const struct explanation explanation = {.inquiry = &inquiry};
    assert_text(&explanation, print, want);
}

/* The members behind those of the contract, where only the table was asked. */
#define BEHIND "\"tried\":[],\"endpoints\":null,\"daemon\":false"

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
        "\"fallback\":\"gmail\",\"unknown_recipient\":\"other\",\"tls\":\"verify\"," BEHIND "}\n");
    relay.hop_count = 2;
    assert_printed(explain_text, "user@example.com", &decision,
                   "user@example.com\n"
                   "  matched    example.com, /etc/r.yaml:3\n"
                   "  relay      king\n"
                   "  next hop   [kingmailer.org]:25 (the host itself, no MX)\n"
                   "  next hop   example.net:26 (by the MX records of example.net)\n"
                   "  identity   none: the server sees this host as the client\n"
                   "  tls        verify: always encrypted, and the certificate is for the host's "
                   "name, by an authority of this system; else 451 4.7.5\n"
                   "  fallback   gmail, when no next hop can be used; what one refuses stays "
                   "refused\n"
                   "  unknown    other (asked for recipients that king does not know)\n");
}

static void assert_action(const struct decision *decision, const char *action)
{
    char want[512];
    snprintf(want, sizeof(want),
             "{\"address\":\"a@b\",\"matched\":%s,\"source\":%s,\"relay\":null,\"action\":\"%s\","
             "\"next_hops\":null,\"fallback\":null,\"unknown_recipient\":null,\"tls\":null," BEHIND
             "}\n",
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

/* ---- keys, addresses, health, the probe ---- */

static struct net_address address_of(const char *text)
{
    struct net_address address;
    assert_true(net_address_parse(span_of(text), 25, &address));
    return address;
}

#define STATUS                                                                                     \
    "{\"configuration\":\"/"                                                                       \
    "nowhere\",\"relays\":[{\"name\":\"king\",\"slowed_to\":2}],\"endpoints\":["                   \
    "{\"address\":\"192.0.2.1:25\",\"state\":\"ok\",\"failures\":0,\"seconds\":9},"                \
    "{\"address\":\"192.0.2.1:25\",\"state\":\"down\",\"failures\":4,\"seconds\":7},"              \
    "{\"address\":\"192.0.2.2:25\",\"state\":\"ok\",\"failures\":0,\"seconds\":9}]}"

static void health_is_what_the_daemon_says(void **state)
{
    struct daemon_view *view = daemon_view_of(SPAN(STATUS));
    struct daemon_view *none = daemon_view_of(SPAN("no json"));
    struct daemon_health health;
    struct net_address first = address_of("192.0.2.1"), second = address_of("192.0.2.2"),
                       third = address_of("192.0.2.3");
    unsigned slowed = 0;
    (void)state;
    assert_true(daemon_view_runs(view));
    assert_true(daemon_view_health(view, &first, &health)); /* the worse of the two */
    assert_string_equal(health.state, "down");
    assert_int_equal(health.failures, 4);
    assert_int_equal(health.seconds, 7);
    assert_true(daemon_view_health(view, &second, &health));
    assert_string_equal(health.state, "ok");
    assert_false(daemon_view_health(view, &third, &health));
    assert_true(daemon_view_slowed(view, "king", &slowed));
    assert_int_equal(slowed, 2);
    assert_false(daemon_view_slowed(view, "other", &slowed));
    assert_false(daemon_view_runs(none) || daemon_view_health(none, &first, &health));
    assert_false(daemon_view_runs(NULL) || daemon_view_health(NULL, &first, &health));
    daemon_view_free(view);
    daemon_view_free(none);
}

static void a_probe_tells_who_was_asked_and_what_a_client_would_be_told(void **state)
{
    struct nexthop hop = {.kind = NEXTHOP_HOST, .host = "kingmailer.org", .port = 25};
    char name[] = "king", missing[] = "a@example.com", hit[] = "example.com";
    struct relay relay = {.name = name, .hops = &hop, .hop_count = 1, .tls = RELAY_TLS_MAY};
    struct destination destination = {.kind = TRANSPORT_SMTP};
    struct decision decision = matched(&destination);
    struct resolver_address addresses[] = {{address_of("192.0.2.1"), "kingmailer.org"},
                                           {address_of("192.0.2.3"), "kingmailer.org"}};
    struct trail_key keys[] = {{missing, TABLE_MISS}, {hit, TABLE_HIT}};
    static struct attempt down, answered;
    struct attempt *attempts[] = {&down, &answered};
    const char *recipients[] = {"a@example.com"};
    struct daemon_view *view = daemon_view_of(SPAN(STATUS));
    (void)state;
    decision.kind = DECISION_RELAY;
    decision.relay = &relay;
    struct inquiry inquiry = inquiry_about("a@example.com", &decision);
    inquiry.question.trail = (struct trail){.keys = keys, .count = 2};
    inquiry.looked_up = true;
    inquiry.hops[ROLE_RELAY] = (struct hops){
        .count = 1,
        .items = {{.hop = &hop, .status = RESOLVER_OK, .addresses = addresses, .count = 2}}};
    down = (struct attempt){.relay = &relay,
                            .at = &addresses[0],
                            .call = {.end = CALL_UNAVAILABLE, .why = "connection refused"}};
    answered = (struct attempt){
        .relay = &relay,
        .at = &addresses[1],
        .call = {.end = CALL_DONE,
                 .name = "king.test",
                 .answered = 1,
                 .wish = {.recipients = recipients},
                 .answers = {{.code = 550, .enhanced = "5.1.1", .words = "550 5.1.1 no \x1b[2J"}}}};
    inquiry.attempts = attempts;
    inquiry.attempt_count = 2;
    inquiry.verdict = (struct verdict){.code = 550, .enhanced = "5.1.1", .words = "no"};
    const struct explanation explanation = {.inquiry = &inquiry, .daemon = view, .probed = true};
    assert_text(&explanation, explain_text,
                "a@example.com\n"
                "  tried      a@example.com: no such key\n"
                "             example.com: this one\n"
                "  matched    example.com, /etc/r.yaml:3\n"
                "  relay      king, which has asked for less: slowed down to 2 at once\n"
                "  next hop   [kingmailer.org]:25 (the host itself, no MX)\n"
                "             - kingmailer.org 192.0.2.1:25: down for 7 s, 4 failures in a row\n"
                "             - kingmailer.org 192.0.2.3:25: no mail lately\n"
                "  identity   none: the server sees this host as the client\n"
                "  tls        may: encrypted where it is offered, for any certificate; else in "
                "clear text\n"
                "  fallback   none: 451 4.4.1 when no next hop can be used\n"
                "  unknown    nobody else is asked: king says who exists\n"
                "  probe      kingmailer.org 192.0.2.1:25 cannot be used: connection refused\n"
                "             kingmailer.org 192.0.2.3:25 answers as king.test, in clear text\n"
                "             RCPT TO:<a@example.com>: 550 5.1.1 no \\x1b[2J\n"
                "  verdict    would be refused: 550 5.1.1 no\n");
    assert_text(
        &explanation, explain_json,
        "{\"address\":\"a@example.com\",\"matched\":\"example.com\",\"source\":\"/etc/r.yaml:3\","
        "\"relay\":\"king\",\"action\":null,\"next_hops\":[{\"protocol\":\"smtp\",\"host\":"
        "\"kingmailer.org\",\"port\":25,\"mx\":false}],\"fallback\":null,\"unknown_recipient\":"
        "null,"
        "\"tls\":\"may\",\"tried\":[{\"key\":\"a@example.com\",\"found\":false},{\"key\":"
        "\"example.com\",\"found\":true}],\"endpoints\":[{\"next_hop\":0,\"host\":"
        "\"kingmailer.org\",\"address\":\"192.0.2.1:25\",\"health\":\"down\",\"failures\":4,"
        "\"seconds\":7},{\"next_hop\":0,\"host\":\"kingmailer.org\",\"address\":\"192.0.2.3:25\","
        "\"health\":null,\"failures\":null,\"seconds\":null}],\"daemon\":true,\"probe\":{"
        "\"accepted\":false,\"code\":550,\"enhanced\":\"5.1.1\",\"text\":\"no\",\"attempts\":["
        "{\"role\":\"relay\",\"relay\":\"king\",\"host\":\"kingmailer.org\",\"address\":"
        "\"192.0.2.1:25\",\"name\":null,\"tls\":null,\"command\":null,\"reply\":null,\"why\":"
        "\"connection refused\"},{\"role\":\"relay\",\"relay\":\"king\",\"host\":"
        "\"kingmailer.org\",\"address\":\"192.0.2.3:25\",\"name\":\"king.test\",\"tls\":null,"
        "\"command\":\"RCPT\",\"reply\":\"550 5.1.1 no \\u001b[2J\",\"why\":null}]}}\n");
    daemon_view_free(view);
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
        cmocka_unit_test(health_is_what_the_daemon_says),
        cmocka_unit_test(a_probe_tells_who_was_asked_and_what_a_client_would_be_told),
        cmocka_unit_test(no_byte_breaks_json_or_a_terminal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
