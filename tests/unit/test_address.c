/* Addresses: what is taken, what is refused and with which class, source routes, extensions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

#include "routing/address.h"

struct sample {
    const char *text;
    enum address_error error;
    const char *local;
    const char *domain;
};

static enum address_error parse(const char *text, bool routing_ok, bool utf8, struct address *out)
{
    return address_parse(span_of(text), routing_ok, utf8, out);
}

static void check(const struct sample *sample, bool routing_ok, bool utf8)
{
    struct address address;
    enum address_error error = parse(sample->text, routing_ok, utf8, &address);
    if (error != sample->error) {
        print_error("%s\n", sample->text);
    }
    assert_int_equal(error, sample->error);
    if (error != ADDRESS_OK) {
        return;
    }
    assert_true(span_equal(address.local, span_of(sample->local)));
    assert_true(span_equal(address.domain, span_of(sample->domain)));
}

static void test_recipients_are_split_or_refused(void **state)
{
    static const struct sample samples[] = {
        {"user@example.com", ADDRESS_OK, "user", "example.com"},
        {"User+Ext@Example.COM", ADDRESS_OK, "User+Ext", "Example.COM"},
        {"a..b.@docomo.example", ADDRESS_OK, "a..b.", "docomo.example"},
        {"\"john doe\"@example.com", ADDRESS_OK, "\"john doe\"", "example.com"},
        {"\"a\\\"b\"@example.com", ADDRESS_OK, "\"a\\\"b\"", "example.com"},
        {"u@[192.0.2.1]", ADDRESS_OK, "u", "[192.0.2.1]"},
        {"u@[IPv6:2001:db8::1]", ADDRESS_OK, "u", "[IPv6:2001:db8::1]"},
        {"@a.example,@b.example:u@d.example", ADDRESS_OK, "u", "d.example"},
        {"@[192.0.2.1]:u@d.example", ADDRESS_OK, "u", "d.example"},
        {"postmaster", ADDRESS_OK, "postmaster", ""},
        {"PostMaster", ADDRESS_OK, "PostMaster", ""},
        {"", ADDRESS_SYNTAX, NULL, NULL},
        {"user", ADDRESS_SYNTAX, NULL, NULL},
        {"@example.com", ADDRESS_SYNTAX, NULL, NULL},
        {"user@", ADDRESS_SYNTAX, NULL, NULL},
        {"user@example.com.", ADDRESS_SYNTAX, NULL, NULL},
        {"user@.example.com", ADDRESS_SYNTAX, NULL, NULL},
        {"user@exa mple.com", ADDRESS_SYNTAX, NULL, NULL},
        {"us er@example.com", ADDRESS_SYNTAX, NULL, NULL},
        {"us\ter@example.com", ADDRESS_SYNTAX, NULL, NULL},
        {"\"a\x01\"@example.com", ADDRESS_SYNTAX, NULL, NULL},
        {"\"open@example.com", ADDRESS_SYNTAX, NULL, NULL},
        {"\"a\"b@example.com", ADDRESS_SYNTAX, NULL, NULL},
        {"\"\"@example.com", ADDRESS_SYNTAX, NULL, NULL},
        {"u@[192.0.2]", ADDRESS_SYNTAX, NULL, NULL},
        {"u@[2001:db8::1]", ADDRESS_SYNTAX, NULL, NULL},
        {"u@[IPv6:192.0.2.1]", ADDRESS_SYNTAX, NULL, NULL},
        {"u@[192.0.2.1", ADDRESS_SYNTAX, NULL, NULL},
        {"@a.example,u@d.example", ADDRESS_SYNTAX, NULL, NULL},
        {"@a.example:", ADDRESS_SYNTAX, NULL, NULL},
        {"user%evil.example@example.com", ADDRESS_ROUTING, NULL, NULL},
        {"evil.example!user@example.com", ADDRESS_ROUTING, NULL, NULL},
        {"user@evil.example@example.com", ADDRESS_ROUTING, NULL, NULL},
        {"\"user@evil.example\"@example.com", ADDRESS_ROUTING, NULL, NULL},
        {"\"user%evil.example\"@example.com", ADDRESS_ROUTING, NULL, NULL},
        {"\"user\\@evil.example\"@example.com", ADDRESS_ROUTING, NULL, NULL},
        {"@example.com:user%evil.example@example.com", ADDRESS_ROUTING, NULL, NULL},
        {"m\xc3\xbcller@example.com", ADDRESS_UTF8, NULL, NULL},
        {"u@\xe2\x84\xaa.example", ADDRESS_UTF8, NULL, NULL},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(samples) / sizeof(*samples); i++) {
        check(&samples[i], false, false);
    }
}

static void test_senders_may_carry_routing_characters(void **state)
{
    static const struct sample samples[] = {
        {"a%b@example.com", ADDRESS_OK, "a%b", "example.com"},
        {"a!b@example.com", ADDRESS_OK, "a!b", "example.com"},
        {"\"a@b\"@example.com", ADDRESS_OK, "\"a@b\"", "example.com"},
        {"a@b@example.com", ADDRESS_SYNTAX, NULL, NULL},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(samples) / sizeof(*samples); i++) {
        check(&samples[i], true, false);
    }
}

static void test_utf8_is_taken_only_when_well_formed(void **state)
{
    static const struct sample samples[] = {
        {"m\xc3\xbcller@b\xc3\xbc.example", ADDRESS_OK, "m\xc3\xbcller", "b\xc3\xbc.example"},
        {"\xc3\xbc\"x@example.com", ADDRESS_SYNTAX, NULL, NULL},
        {"\xc0\xafx@example.com", ADDRESS_SYNTAX, NULL, NULL},
        {"\xed\xa0\x80@example.com", ADDRESS_SYNTAX, NULL, NULL},
        {"\xf4\x90\x80\x80@example.com", ADDRESS_SYNTAX, NULL, NULL},
        {"\xc2\x85@example.com", ADDRESS_SYNTAX, NULL, NULL},
        {"\xc3", ADDRESS_SYNTAX, NULL, NULL},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(samples) / sizeof(*samples); i++) {
        check(&samples[i], false, true);
    }
}

static void test_length_ends_at_320_octets(void **state)
{
    char text[400];
    struct address address;
    (void)state;
    memset(text, 'a', sizeof(text));
    memcpy(text + ADDRESS_MAX - 12, "@example.com", 12);
    assert_int_equal(address_parse(span_make(text, ADDRESS_MAX), false, false, &address),
                     ADDRESS_OK);
    memcpy(text + ADDRESS_MAX - 11, "@example.com", 12);
    text[ADDRESS_MAX - 12] = 'a';
    assert_int_equal(address_parse(span_make(text, ADDRESS_MAX + 1), false, false, &address),
                     ADDRESS_TOO_LONG);
}

static void test_a_label_ends_at_63_octets_unless_it_is_to_become_another(void **state)
{
    char text[] = "u@aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.example";
    struct address address;
    (void)state;
    assert_int_equal(parse(text, false, false, &address), ADDRESS_OK);
    text[2 + 63] = 'a';
    assert_int_equal(parse(text, false, false, &address), ADDRESS_SYNTAX);
    memcpy(text + 2, "\xc3\xbc", 2);
    assert_int_equal(parse(text, false, true, &address), ADDRESS_OK);
}

/* Under the address sanitiser this shows every read past the end. */
static void test_no_prefix_is_read_past_its_end(void **state)
{
    static const char *const texts[] = {"@a.example,@b:\"a\\\"@b\"@[IPv6:2001:db8::1]",
                                        "m\xc3\xbc\xe2\x84\xaa\xf0\x9f\x98\x80@b\xc3\xbc.example"};
    (void)state;
    for (size_t t = 0; t < 2; t++) {
        for (size_t len = 0; len <= strlen(texts[t]); len++) {
            struct address address;
            char *copy = malloc(len + 1); /* never read behind len */
            assert_non_null(copy);
            memcpy(copy, texts[t], len);
            char *exact = realloc(copy, len ? len : 1);
            address_parse(span_make(exact, len), false, true, &address);
            free(exact);
        }
    }
}

static void test_folding_is_ascii_only(void **state)
{
    char out[32];
    struct span folded = address_fold(SPAN("MiX\xc3\x9c@EXAMPLE"), out);
    (void)state;
    assert_true(span_equal(folded, SPAN("mix\xc3\x9c@example")));
}

static void test_extension_is_cut_at_the_first_delimiter(void **state)
{
    static const struct {
        const char *text;
        char delimiter;
        const char *user;
    } samples[] = {
        {"user+a+b@example.com", '+', "user"},   {"user@example.com", '+', ""},
        {"+user@example.com", '+', ""},          {"user+@example.com", '+', "user"},
        {"user+a@example.com", '\0', ""},        {"user-a@example.com", '-', "user"},
        {"\"user+a\"@example.com", '+', "user"}, {"\"user +a\"@example.com", '+', ""},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(samples) / sizeof(*samples); i++) {
        struct address address;
        assert_int_equal(parse(samples[i].text, false, false, &address), ADDRESS_OK);
        char local[ADDRESS_MAX];
        struct span user =
            address_without_extension(address_fold_local(&address, local), samples[i].delimiter);
        assert_true(span_equal(user, span_of(samples[i].user)));
    }
}

static void test_a_quoted_local_part_is_folded_to_its_shortest_spelling(void **state)
{
    static const char *const samples[][2] = {
        {"\"King.Mail\"@x", "king.mail"},
        {"\"\\k\\i\\ng\"@x", "king"},
        {"\"King Mail\"@x", "\"king mail\""},
        {"\"k\\i\\\"\\\\ng\"@x", "\"ki\\\"\\\\ng\""},
        {"\"a..b\"@x", "a..b"},
        {"\"a@b\"@x", "\"a@b\""},
        {"\"a\\@b\"@x", "\"a@b\""},
        {"\"a(b)\"@x", "\"a(b)\""},
        {"Plain+X@x", "plain+x"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(samples) / sizeof(*samples); i++) {
        struct address address;
        char out[ADDRESS_MAX];
        assert_int_equal(parse(samples[i][0], true, false, &address), ADDRESS_OK);
        struct span local = address_fold_local(&address, out);
        assert_true(span_equal(local, span_of(samples[i][1])));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_recipients_are_split_or_refused),
        cmocka_unit_test(test_senders_may_carry_routing_characters),
        cmocka_unit_test(test_utf8_is_taken_only_when_well_formed),
        cmocka_unit_test(test_length_ends_at_320_octets),
        cmocka_unit_test(test_a_label_ends_at_63_octets_unless_it_is_to_become_another),
        cmocka_unit_test(test_no_prefix_is_read_past_its_end),
        cmocka_unit_test(test_folding_is_ascii_only),
        cmocka_unit_test(test_a_quoted_local_part_is_folded_to_its_shortest_spelling),
        cmocka_unit_test(test_extension_is_cut_at_the_first_delimiter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
