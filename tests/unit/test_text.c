/* text: a bounded buffer never overflows, and says when it was too small. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "config/text.h"

static void what_fits_is_written_whole(void **state)
{
    char buffer[12];
    struct text text = TEXT(buffer);
    (void)state;
    text_puts(&text, "250 ");
    text_putc(&text, 'O');
    text_put(&text, SPAN("K"));
    text_printf(&text, " %03d%c", 7, '!');
    assert_string_equal(buffer, "250 OK 007!");
    assert_int_equal(text.len, 11);
    assert_false(text.full);
    assert_true(span_equal(text_span(&text), SPAN("250 OK 007!")));
}

static void what_does_not_fit_is_cut_and_told(void **state)
{
    char buffer[5];
    struct text text = TEXT(buffer);
    (void)state;
    text_puts(&text, "abcd");
    assert_false(text.full);
    text_putc(&text, 'e');
    assert_true(text.full);
    assert_string_equal(buffer, "abcd");
    text = TEXT(buffer);
    text_puts(&text, "abcdefgh");
    assert_true(text.full);
    assert_string_equal(buffer, "abcd");
}

static void nothing_is_taken_once_full(void **state)
{
    char buffer[8];
    struct text text = TEXT(buffer);
    (void)state;
    text_printf(&text, "%s", "a long word");
    assert_true(text.full);
    assert_string_equal(buffer, "a long ");
    assert_int_equal(text.len, 7);
    text_puts(&text, "");
    text_printf(&text, "x");
    text_putc(&text, 'x');
    assert_string_equal(buffer, "a long ");
}

static void formatting_exactly_to_the_end_is_not_full(void **state)
{
    char buffer[4];
    struct text text = TEXT(buffer);
    (void)state;
    text_printf(&text, "%d", 123);
    assert_false(text.full);
    text_printf(&text, "%s", "");
    assert_false(text.full);
    text_printf(&text, "%s", "4");
    assert_true(text.full);
    assert_string_equal(buffer, "123");
}

static void a_buffer_of_no_bytes_is_full_from_the_start(void **state)
{
    char untouched = 'x';
    struct text text = text_over(&untouched, 0);
    (void)state;
    text_puts(&text, "abc");
    text_printf(&text, "abc");
    assert_true(text.full);
    assert_int_equal(text.len, 0);
    assert_int_equal(untouched, 'x');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_fits_is_written_whole),
        cmocka_unit_test(what_does_not_fit_is_cut_and_told),
        cmocka_unit_test(nothing_is_taken_once_full),
        cmocka_unit_test(formatting_exactly_to_the_end_is_not_full),
        cmocka_unit_test(a_buffer_of_no_bytes_is_full_from_the_start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
