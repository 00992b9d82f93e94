/* span: comparing, finding, trimming, numbers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <limits.h>
#include <stdlib.h>

#include "config/span.h"

static void comparison_ignores_ascii_case_only(void **state)
{
    (void)state;
    assert_true(span_equal_fold(SPAN("Example.COM"), SPAN("eXAMPLE.com")));
    assert_false(span_equal_fold(SPAN("a"), SPAN("ab")));
    assert_false(span_equal_fold(SPAN("@"), SPAN("`"))); /* 0x20 apart, but no letters */
    assert_false(span_equal_fold(SPAN("\xc3\x84"), SPAN("\xc3\xa4")));
    assert_true(span_equal(span_make(NULL, 0), SPAN("")));
    assert_false(span_equal(SPAN("a"), SPAN("A")));
}

static void prefixes_and_suffixes_are_found(void **state)
{
    (void)state;
    assert_true(span_starts_fold(SPAN("FROM:<a@b>"), SPAN("from:")));
    assert_false(span_starts_fold(SPAN("fro"), SPAN("from:")));
    assert_true(span_starts_fold(SPAN(""), SPAN("")));
    assert_true(span_ends(SPAN("routes.yaml"), SPAN(".yaml")));
    assert_false(span_ends(SPAN("yaml"), SPAN(".yaml")));
    assert_false(span_ends(SPAN("routes.YAML"), SPAN(".yaml")));
}

static void a_byte_that_is_absent_is_found_at_the_end(void **state)
{
    (void)state;
    assert_int_equal(span_find(SPAN("a@b@c"), '@'), 1);
    assert_int_equal(span_rfind(SPAN("a@b@c"), '@'), 3);
    assert_int_equal(span_find(SPAN("abc"), '@'), 3);
    assert_int_equal(span_rfind(SPAN("abc"), '@'), 3);
    assert_int_equal(span_find(span_make(NULL, 0), '@'), 0);
    assert_int_equal(span_rfind(span_make(NULL, 0), '@'), 0);
    assert_int_equal(span_find(SPAN("a\0b"), 'b'), 2);
}

static void cutting_never_leaves_the_span(void **state)
{
    (void)state;
    assert_int_equal(span_skip(SPAN("abc"), 9).len, 0);
    assert_int_equal(span_first(SPAN("abc"), 9).len, 3);
    assert_true(span_equal(span_skip(SPAN("abc"), 1), SPAN("bc")));
}

static void trimming_takes_spaces_and_tabs_at_both_ends(void **state)
{
    (void)state;
    assert_true(span_equal(span_trim(SPAN(" \t a b\t ")), SPAN("a b")));
    assert_int_equal(span_trim(SPAN(" \t ")).len, 0);
    assert_int_equal(span_trim(SPAN("\r")).len, 1);
}

static void a_number_is_digits_up_to_its_maximum(void **state)
{
    unsigned long long number = 7;
    (void)state;
    assert_true(span_number(SPAN("0"), 0, &number));
    assert_int_equal(number, 0);
    assert_true(span_number(SPAN("00025"), 65535, &number));
    assert_int_equal(number, 25);
    assert_true(span_number(SPAN("65535"), 65535, &number));
    assert_false(span_number(SPAN("65536"), 65535, &number));
    assert_false(span_number(SPAN("1"), 0, &number));
    assert_false(span_number(SPAN("9"), 5, &number));
    assert_true(span_number(SPAN("18446744073709551615"), ULLONG_MAX, &number));
    assert_true(number == ULLONG_MAX);
    assert_false(span_number(SPAN("18446744073709551616"), ULLONG_MAX, &number));
    assert_false(span_number(SPAN("99999999999999999999999"), ULLONG_MAX, &number));
    assert_false(span_number(SPAN(""), 9, &number));
    assert_false(span_number(SPAN("+1"), 9, &number));
    assert_false(span_number(SPAN("-1"), 9, &number));
    assert_false(span_number(SPAN("1 "), 9, &number));
}

static void a_copy_is_terminated(void **state)
{
    (void)state;
    char *copy = span_dup(span_first(SPAN("abcdef"), 3));
    assert_string_equal(copy, "abc");
    free(copy);
    copy = span_dup(span_make(NULL, 0));
    assert_string_equal(copy, "");
    free(copy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(comparison_ignores_ascii_case_only),
        cmocka_unit_test(prefixes_and_suffixes_are_found),
        cmocka_unit_test(a_byte_that_is_absent_is_found_at_the_end),
        cmocka_unit_test(cutting_never_leaves_the_span),
        cmocka_unit_test(trimming_takes_spaces_and_tabs_at_both_ends),
        cmocka_unit_test(a_number_is_digits_up_to_its_maximum),
        cmocka_unit_test(a_copy_is_terminated),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
