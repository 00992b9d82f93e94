/* recent: what was added may be forgotten; what was not is never said to be there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "routing/recent.h"

static void test_what_was_added_is_there(void **state)
{
    struct recent *recent = recent_new(16);
    (void)state;
    assert_non_null(recent);
    assert_false(recent_has(recent, SPAN("a")));
    assert_false(recent_has(recent, SPAN("")));
    recent_add(recent, SPAN("a"));
    recent_add(recent, SPAN(""));
    assert_true(recent_has(recent, SPAN("a")));
    assert_true(recent_has(recent, SPAN("")));
    assert_false(recent_has(recent, SPAN("b")));
    assert_false(recent_has(recent, SPAN("aa")));
    recent_free(recent);
}

static void test_the_newest_are_there_and_nothing_else(void **state)
{
    struct recent *recent = recent_new(8);
    char text[24];
    (void)state;
    for (int i = 0; i < 1000; i++) {
        snprintf(text, sizeof(text), "domain%d", i);
        assert_false(recent_has(recent, span_of(text)));
        recent_add(recent, span_of(text));
        assert_true(recent_has(recent, span_of(text)));
    }
    int known = 0;
    for (int i = 0; i < 1000; i++) {
        snprintf(text, sizeof(text), "domain%d", i);
        known += recent_has(recent, span_of(text));
    }
    assert_in_range(known, 2, 8);
    recent_free(recent);
}

static void test_long_strings_are_not_remembered(void **state)
{
    struct recent *recent = recent_new(4);
    char text[RECENT_TEXT + 1];
    (void)state;
    memset(text, 'x', sizeof(text));
    recent_add(recent, span_make(text, sizeof(text)));
    assert_false(recent_has(recent, span_make(text, sizeof(text))));
    recent_add(recent, span_make(text, RECENT_TEXT));
    assert_true(recent_has(recent, span_make(text, RECENT_TEXT)));
    recent_free(recent);
}

static void test_without_memory_nothing_is_remembered(void **state)
{
    (void)state;
    recent_add(NULL, SPAN("a"));
    assert_false(recent_has(NULL, SPAN("a")));
    recent_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_was_added_is_there),
        cmocka_unit_test(test_the_newest_are_there_and_nothing_else),
        cmocka_unit_test(test_long_strings_are_not_remembered),
        cmocka_unit_test(test_without_memory_nothing_is_remembered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
