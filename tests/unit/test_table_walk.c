/* Going through a table: everything once, in order, until told to stop. */
#include "tests/unit/routing_fixture.h"

#include "routing/table_walk.h"

struct seen {
    char buffer[512];
    struct text text;
    size_t count;
    size_t most;
};

static struct seen *seen_new(struct seen *seen, size_t most)
{
    *seen = (struct seen){.most = most};
    seen->text = TEXT(seen->buffer);
    return seen;
}

static bool on_domain(void *context, struct span domain)
{
    struct seen *seen = context;
    text_put(&seen->text, domain);
    text_putc(&seen->text, ' ');
    return ++seen->count < seen->most;
}

static bool on_route(void *context, struct span key, const struct destination *destination)
{
    struct seen *seen = context;
    text_put(&seen->text, key);
    text_printf(&seen->text, "=%s ",
                destination->kind == TRANSPORT_SMTP ? destination->relay->name : "action");
    return ++seen->count < seen->most;
}

static const char content[] = "user@b.example: local\n"
                              "Boss@B.example: {to: local, fallback: gmail}\n"
                              "a.example: smtp:[h.example]\n"
                              ".a.example: local\n"
                              "gone@b.example: 'error:5.1.1 gone'\n";

static void test_every_route_is_seen_once_in_the_order_of_keys(void **state)
{
    struct seen seen;
    struct fixture *f = fixture_new();
    (void)state;
    fixture_routes(f, "r.yaml", content);
    struct table *table = fixture_must_load(f);
    assert_true(table_walk_routes(table, on_route, seen_new(&seen, 100)));
    assert_string_equal(seen.buffer, ".a.example=local a.example=smtp:[h.example] "
                                     "boss@b.example=local gone@b.example=action "
                                     "user@b.example=local ");
    assert_int_equal(seen.count, table_routes(table));
    table_unref(table);
    fixture_free(f);
}

static void test_domains_are_those_that_mail_is_accepted_for(void **state)
{
    struct seen seen;
    struct fixture *f = fixture_new();
    (void)state;
    fixture_routes(f, "r.yaml", content);
    struct table *table = fixture_must_load(f);
    assert_true(table_walk_domains(table, on_domain, seen_new(&seen, 100)));
    assert_string_equal(seen.buffer, ".a.example a.example b.example ");
    table_unref(table);
    fixture_free(f);
}

static void test_a_visitor_that_has_enough_ends_the_walk(void **state)
{
    struct seen seen;
    struct fixture *f = fixture_new();
    (void)state;
    fixture_routes(f, "r.yaml", content);
    struct table *table = fixture_must_load(f);
    assert_true(table_walk_routes(table, on_route, seen_new(&seen, 2)));
    assert_int_equal(seen.count, 2);
    assert_true(table_walk_domains(table, on_domain, seen_new(&seen, 1)));
    assert_string_equal(seen.buffer, ".a.example ");
    table_unref(table);
    fixture_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_route_is_seen_once_in_the_order_of_keys),
        cmocka_unit_test(test_domains_are_those_that_mail_is_accepted_for),
        cmocka_unit_test(test_a_visitor_that_has_enough_ends_the_walk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
