/* Relays: compiled from the configuration, Gmail built in, loops and cycles refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "routing/relay.h"

#define T(literal)                                                                                 \
    {                                                                                              \
        .text = (char[]){literal}, .line = 3, .column = 5                                          \
    }

static void expect(struct config *config, const char *said, size_t errors)
{
    char line[1024];
    bool found = !said;
    struct diag_list *diags = diag_list_new();
    config->path = (char[]){"splitmx.yaml"};
    config->hostname.text = (char[]){"mx.example.com"};
    struct relay_set *set = relay_set_new(config, diags);
    for (size_t i = 0; i < diag_count(diags); i++) {
        diag_format(diag_at(diags, i), line, sizeof(line));
        if (said && strstr(line, said)) {
            found = true;
        } else {
            print_error("%s\n", line);
        }
    }
    assert_int_equal(diag_errors(diags), errors);
    assert_true(found);
    assert_true((set != NULL) == (errors == 0));
    relay_set_free(set);
    diag_list_free(diags);
}

static void expect_next_hop(const char *hop, enum config_identity identity, const char *listen,
                            const char *said, size_t errors)
{
    char hop_text[128], listen_text[128];
    memcpy(hop_text, hop, strlen(hop) + 1);
    memcpy(listen_text, listen, strlen(listen) + 1);
    struct config_listener listener = {.address = {.text = listen_text}};
    struct config_relay relay = {.name = T("local"),
                                 .next_hop = {.text = hop_text, .line = 3, .column = 5},
                                 .identity = identity,
                                 .max_connections = 7};
    struct config config = {
        .relays = &relay, .relay_count = 1, .listeners = &listener, .listener_count = 1};
    expect(&config, said, errors);
}

static void test_gmail_is_built_in(void **state)
{
    struct config config = {.path = NULL};
    struct relay_set *set = relay_set_new(&config, NULL);
    (void)state;
    assert_non_null(set);
    const struct relay *gmail = relay_find(set, SPAN("gmail"));
    assert_non_null(gmail);
    assert_int_equal(gmail->hop_count, 5);
    assert_string_equal(gmail->hops[0].host, "aspmx.l.google.com");
    assert_int_equal(gmail->hops[0].kind, NEXTHOP_HOST);
    assert_int_equal(gmail->hops[4].port, 25);
    assert_int_equal(gmail->tls, RELAY_TLS_VERIFY);
    assert_int_equal(gmail->recipients_max, 100);
    assert_true(gmail->one_domain);
    relay_set_free(set);
}

/* What could be read of a faulty configuration is compiled too, for its further errors: a host that
 * was refused is not there then. */
static void test_hosts_that_were_refused_are_passed_over(void **state)
{
    struct config_host hosts[] = {{{.text = NULL}, 1}, {T("b.example"), 20}};
    struct config_relay relay = {
        .name = T("gmail"), .hosts = hosts, .host_count = 2, .port = 25, .max_connections = 3};
    struct config config = {.relays = &relay, .relay_count = 1};
    (void)state;
    struct relay_set *set = relay_set_new(&config, NULL);
    const struct relay *gmail = relay_find(set, SPAN("gmail"));
    assert_int_equal(gmail->hop_count, 1);
    assert_string_equal(gmail->hops[0].host, "b.example");
    relay_set_free(set);
    hosts[1].host.text = NULL;
    expect(&config, NULL, 0);
}

static void test_gmail_keys_override_one_by_one(void **state)
{
    struct config_host hosts[] = {{T("b.example"), 20}, {T("127.0.0.1"), 10}};
    struct config_relay relay = {
        .name = T("gmail"), .hosts = hosts, .host_count = 2, .port = 2526, .max_connections = 3};
    struct config config = {.relays = &relay, .relay_count = 1};
    struct relay_set *set = relay_set_new(&config, NULL);
    (void)state;
    assert_non_null(set);
    assert_int_equal(relay_count(set), 1);
    const struct relay *gmail = relay_at(set, 0);
    assert_int_equal(gmail->hops[0].kind, NEXTHOP_ADDRESS);
    assert_int_equal(net_address_port(&gmail->hops[0].address), 2526);
    assert_string_equal(gmail->hops[1].host, "b.example");
    assert_int_equal(gmail->tls, RELAY_TLS_VERIFY);
    assert_int_equal(gmail->max_connections, 3);
    relay_set_free(set);
}

static void test_our_own_listeners_are_no_next_hop(void **state)
{
    static const struct {
        const char *listen, *hop;
        bool own;
    } samples[] = {
        {"127.0.0.1:25", "smtp:[127.0.0.1]", true},
        {"127.0.0.1:25", "smtp:[127.0.0.1]:26", false},
        {"127.0.0.1:25", "smtp:[127.0.0.2]", false},
        {"0.0.0.0:25", "smtp:[127.0.0.2]", true},
        {"0.0.0.0:25", "smtp:[0.0.0.0]", true},
        {"0.0.0.0:25", "smtp:[::1]", false},
        {"[::]:25", "smtp:[127.0.0.1]", true},
        {"[::]:25", "smtp:[::1]", true},
        {"[::]:25", "smtp:[192.0.2.1]", false},
        {"192.0.2.1:25", "smtp:[198.51.100.1],[192.0.2.1]", true},
        {"127.0.0.1:25", "smtp:[0.0.0.0]", true},
        {"[::1]:25", "smtp:[127.0.0.1]", false},
        {"[::]:25", "smtp:[unix:/run/lmtp]", false},
        {"[::]:25", "smtp:[localhost.example]", false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(samples) / sizeof(*samples); i++) {
        expect_next_hop(samples[i].hop, IDENTITY_NONE, samples[i].listen,
                        samples[i].own ? "splitmx.yaml:3:5: next hop [" : NULL, samples[i].own);
    }
}

static void test_local_next_hops_ask_for_an_identity(void **state)
{
    const char *said = "splitmx.yaml:3:5: warning: without `identity:`";
    (void)state;
    expect_next_hop("smtp:[127.0.0.1]:26", IDENTITY_UNSET, "[::]:25", said, 0);
    expect_next_hop("smtp:[10.1.2.3]", IDENTITY_UNSET, "[::]:25", said, 0);
    expect_next_hop("smtp:[unix:/run/x]", IDENTITY_UNSET, "[::]:25", said, 0);
    expect_next_hop("smtp:[127.0.0.1]:26", IDENTITY_XCLIENT, "[::]:25", NULL, 0);
    expect_next_hop("smtp:[192.0.2.1]", IDENTITY_UNSET, "[::]:25", NULL, 0);
}

static void test_next_hops_are_smtp_and_complete(void **state)
{
    (void)state;
    expect_next_hop("error:no", IDENTITY_NONE, "[::]:25", "`error:` is no transport of a relay", 1);
    expect_next_hop("lmtp:[unix:/run/x]", IDENTITY_NONE, "[::]:25",
                    "`lmtp:` is no transport of a relay: expected `smtp:` with", 1);
    expect_next_hop("[192.0.2.1]:26", IDENTITY_NONE, "[::]:25", "`smtp:[…]`", 1);
    expect_next_hop("other", IDENTITY_NONE, "[::]:25", "is `smtp:` with", 1);
    expect_next_hop("smtp:", IDENTITY_NONE, "[::]:25", "a relay needs a next hop", 1);
    expect_next_hop("smtp:[x", IDENTITY_NONE, "[::]:25", "without `]`", 1);
}

static struct config_relay relay_to(struct config_text name, const char *fallback,
                                    const char *unknown)
{
    return (struct config_relay){
        .name = name,
        .next_hop = {.text = (char *)(uintptr_t) "smtp:[h.example]"},
        .identity = IDENTITY_NONE,
        .fallback = {(char *)(uintptr_t)fallback, 4, 9},
        .unknown_recipient = {(char *)(uintptr_t)unknown, 5, 9},
    };
}

static void test_fallbacks_are_linked(void **state)
{
    struct config_relay relays[] = {relay_to((struct config_text)T("local"), "king", "gmail"),
                                    relay_to((struct config_text)T("king"), NULL, NULL)};
    struct config config = {.relays = relays, .relay_count = 2};
    struct relay_set *set = relay_set_new(&config, NULL);
    (void)state;
    assert_non_null(set);
    const struct relay *local = relay_find(set, SPAN("local"));
    assert_ptr_equal(local->fallback, relay_find(set, SPAN("king")));
    assert_ptr_equal(local->unknown_recipient, relay_find(set, SPAN("gmail")));
    assert_null(relay_find(set, SPAN("Local")));
    relay_set_free(set);
}

static void test_unknown_names_and_cycles_are_errors(void **state)
{
    (void)state;
    struct config_relay lost[] = {relay_to((struct config_text)T("kingmailer"), NULL, NULL),
                                  relay_to((struct config_text)T("local"), "kingmialer", NULL)};
    struct config config = {.relays = lost, .relay_count = 2};
    expect(&config, "4:9: no relay is named `kingmialer`; did you mean `kingmailer`?", 1);
    struct config_relay self[] = {relay_to((struct config_text)T("a"), "a", NULL)};
    config = (struct config){.relays = self, .relay_count = 1};
    expect(&config, "4:9: fallbacks from `a` lead back to it", 1);
    struct config_relay ring[] = {relay_to((struct config_text)T("a"), "b", NULL),
                                  relay_to((struct config_text)T("b"), "c", NULL),
                                  relay_to((struct config_text)T("c"), NULL, "a"),
                                  relay_to((struct config_text)T("d"), "a", NULL)};
    config = (struct config){.relays = ring, .relay_count = 4};
    expect(&config, "lead back to it", 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gmail_is_built_in),
        cmocka_unit_test(test_hosts_that_were_refused_are_passed_over),
        cmocka_unit_test(test_gmail_keys_override_one_by_one),
        cmocka_unit_test(test_our_own_listeners_are_no_next_hop),
        cmocka_unit_test(test_local_next_hops_ask_for_an_identity),
        cmocka_unit_test(test_next_hops_are_smtp_and_complete),
        cmocka_unit_test(test_fallbacks_are_linked),
        cmocka_unit_test(test_unknown_names_and_cycles_are_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
