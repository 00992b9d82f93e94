#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/bench/bench_line.h"

static void lines_are_the_same_however_they_are_cut(void **state)
{
    static const char *const lines[] = {"250-one", "", "250 two", "bare"};
    const struct span all = SPAN("250-one\r\n\r\n250 two\r\nbare\nrest");
    (void)state;
    for (size_t cut = 1; cut <= all.len; cut++) {
        struct bench_line kept = {0};
        size_t count = 0;
        for (size_t at = 0; at < all.len; at += cut) {
            struct span bytes = span_first(span_skip(all, at), cut), line;
            while (bench_line_take(&kept, &bytes, &line)) {
                assert_true(count < 4);
                assert_true(span_equal(line, span_of(lines[count++])));
            }
            assert_int_equal(bytes.len, 0);
        }
        assert_int_equal(count, 4);
        assert_int_equal(kept.len, 4);
    }
}

static void of_a_line_that_is_too_long_the_rest_is_left_out(void **state)
{
    char long_line[2 * BENCH_LINE];
    struct bench_line kept = {0};
    struct span line;
    (void)state;
    memset(long_line, 'x', sizeof(long_line));
    for (int i = 0; i < 3; i++) {
        struct span bytes = span_make(long_line, sizeof(long_line));
        assert_false(bench_line_take(&kept, &bytes, &line));
    }
    struct span bytes = SPAN("\r\nnext\r\n");
    assert_true(bench_line_take(&kept, &bytes, &line));
    assert_int_equal(line.len, BENCH_LINE);
    assert_true(bench_line_take(&kept, &bytes, &line));
    assert_true(span_equal(line, SPAN("next")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_are_the_same_however_they_are_cut),
        cmocka_unit_test(of_a_line_that_is_too_long_the_rest_is_left_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
