/* Decisions: what each recipient gets, and that no table makes an open relay. */
#include "tests/unit/routing_fixture.h"

#include "routing/route.h"

static void decide(struct fixture *f, const struct table *table, const char *text, char out[512])
{
    struct decision decision;
    struct address address;
    struct text words = text_over(out, 512);
    route_decide(&f->config, f->set, table, span_of(text), &address, &decision);
    switch (decision.kind) {
    case DECISION_RELAY:
        text_printf(&words, "relay %s", decision.relay->name);
        return;
    case DECISION_REPLY:
        text_printf(&words, "%u %s %s", decision.code, decision.enhanced, decision.text);
        return;
    case DECISION_DISCARD:
        text_puts(&words, "discard");
        return;
    }
}

static void expect(struct fixture *f, const struct table *table, const char *text,
                   const char *begins)
{
    char seen[512];
    decide(f, table, text, seen);
    if (strncmp(seen, begins, strlen(begins)) != 0) {
        fail_msg("%s: expected %s, seen %s", text, begins, seen);
    }
}

static void test_recipients_go_where_the_table_says(void **state)
{
    struct fixture *f = fixture_new();
    (void)state;
    fixture_routes(f, "r.yaml",
                   "user@example.com: local\nkingmail@example.com: smtp:[kingmailer.org]\n"
                   "example.com: other\ngone@example.com: error:5.1.1 gone\n"
                   "busy@example.com: \"retry:\"\nsink@example.com: \"discard:\"\n"
                   "only@lone.example: local\nu@[192.0.2.1]: local\n");
    struct table *table = fixture_must_load(f);
    expect(f, table, "User+x@EXAMPLE.com", "relay local");
    expect(f, table, "kingmail@example.com", "relay smtp:[kingmailer.org]");
    expect(f, table, "@a.example:else@example.com", "relay other");
    expect(f, table, "gone@example.com", "550 5.1.1 gone");
    expect(f, table, "busy@example.com", "450 4.0.0 try again later");
    expect(f, table, "sink@example.com", "discard");
    expect(f, table, "x@lone.example", "550 5.7.1 no route");
    expect(f, table, "x@sub.example.com", "550 5.7.1 mail for this domain");
    expect(f, table, "u@[192.0.2.1]", "relay local");
    expect(f, table, "x@[192.0.2.1]", "550 5.7.1");
    expect(f, table, "x@[192.0.2.2]", "550 5.7.1");
    table_unref(table);
    fixture_free(f);
}

static void test_bad_addresses_have_their_replies(void **state)
{
    struct fixture *f = fixture_new();
    char long_address[400];
    (void)state;
    fixture_routes(f, "r.yaml", "example.com: local\n");
    struct table *table = fixture_must_load(f);
    expect(f, table, "", "501 5.1.3");
    expect(f, table, "user", "501 5.1.3");
    expect(f, table, "a b@example.com", "501 5.1.3");
    expect(f, table, "a%evil.example@example.com", "550 5.7.1");
    expect(f, table, "evil.example!a@example.com", "550 5.7.1");
    expect(f, table, "\"a@evil.example\"@example.com", "550 5.7.1");
    expect(f, table, "a@evil.example@example.com", "550 5.7.1");
    expect(f, table, "m\xc3\xbcller@example.com", "553 5.6.7");
    expect(f, table, "a@e\xe2\x84\xaa.example", "553 5.6.7");
    memset(long_address, 'a', sizeof(long_address));
    memcpy(long_address + 380, "@example.com", 13);
    expect(f, table, long_address, "501 5.1.3");
    f->config.smtputf8 = true;
    expect(f, table, "m\xc3\xbcller@example.com", "relay local");
    table_unref(table);
    fixture_free(f);
}

/* Whatever the keys are, a recipient outside `domains` is refused. */
static void test_no_table_makes_an_open_relay(void **state)
{
    static const char *const tables[] = {
        "* smtp:[h.example]\n.com smtp:\n.evil.example smtp:\nevil.example local\n",
        "* smtp:[h.example]\nu@evil.example local\n"};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct fixture *f = fixture_new();
        fixture_routes(f, "map", tables[i]);
        struct table *table = fixture_must_load(f);
        expect(f, table, "u@evil.example", "550 5.7.1 mail for this domain");
        table_unref(table);
        fixture_domain(f, "example.com");
        table = fixture_must_load(f);
        expect(f, table, "u@evil.example", "550 5.7.1 mail for this domain");
        expect(f, table, "u@x.evil.example", "550 5.7.1 mail for this domain");
        expect(f, table, "u@x.com", "550 5.7.1 mail for this domain");
        expect(f, table, "u@sub.example.com", "550 5.7.1 mail for this domain");
        expect(f, table, "u@[192.0.2.1]", "550 5.7.1 mail for this domain");
        table_unref(table);
        fixture_free(f);
    }
}

static void test_star_catches_inside_domains_only(void **state)
{
    struct fixture *f = fixture_new();
    (void)state;
    fixture_routes(f, "r.yaml", "\"*\": other\nuser@example.com: local\n");
    struct table *table = fixture_must_load(f);
    expect(f, table, "x@example.com", "relay other");
    expect(f, table, "x@example.net", "550 5.7.1 mail for this domain");
    table_unref(table);
    fixture_free(f);
}

static void expect_postmaster(const char *routes, const char *relay, const char *begins)
{
    struct fixture *f = fixture_new();
    f->relays[0].name.text = fixture_text(relay);
    relay_set_free(f->set);
    f->set = relay_set_new(&f->config, f->diags);
    fixture_domain(f, "example.com");
    fixture_routes(f, "r.yaml", routes);
    struct table *table = fixture_must_load(f);
    expect(f, table, "PostMaster", begins);
    table_unref(table);
    fixture_free(f);
}

static void test_postmaster_without_a_domain_finds_a_home(void **state)
{
    (void)state;
    expect_postmaster("postmaster@mx.example.com: other\n", "local", "relay other");
    expect_postmaster("mx.example.com: other\n", "local", "relay other");
    expect_postmaster(".example.com: other\n", "local", "relay other");
    expect_postmaster("\"*\": error:5.7.1 not here\n", "local", "relay local");
    expect_postmaster("\"*\": error:5.7.1 not here\n", "main", "550 5.7.1 no route");
    expect_postmaster("postmaster@example.com: other\n", "main", "550 5.7.1 no route");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_recipients_go_where_the_table_says),
        cmocka_unit_test(test_bad_addresses_have_their_replies),
        cmocka_unit_test(test_no_table_makes_an_open_relay),
        cmocka_unit_test(test_star_catches_inside_domains_only),
        cmocka_unit_test(test_postmaster_without_a_domain_finds_a_home),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
