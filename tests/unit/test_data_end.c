#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "config/random.h"
#include "tests/bench/data_end.h"

/* How many octets belong to the data when it comes in pieces of `cut`; the length + 1 when its end
 * does not come. */
static size_t end_of(struct span data, size_t cut)
{
    unsigned state = DATA_BEGIN;
    for (size_t at = 0; at < data.len; at += cut) {
        const struct span piece = span_first(span_skip(data, at), cut);
        struct span left = piece;
        if (data_end_take(&state, &left)) {
            return at + piece.len - left.len;
        }
        assert_int_equal(left.len, 0);
    }
    return data.len + 1;
}

/* The plainest way to look for it. */
static size_t expected_end(struct span data)
{
    if (span_equal(span_first(data, 3), SPAN(".\r\n"))) {
        return 3;
    }
    for (size_t at = 0; at + 5 <= data.len; at++) {
        if (span_equal(span_first(span_skip(data, at), 5), SPAN("\r\n.\r\n"))) {
            return at + 5;
        }
    }
    return data.len + 1;
}

static void the_end_is_found_and_nothing_behind_it_taken(void **state)
{
    (void)state;
    assert_int_equal(end_of(SPAN("one\r\n.\r\nMAIL"), 100), 8);
    assert_int_equal(end_of(SPAN(".\r\nMAIL"), 100), 3);
}

static void dots_elsewhere_are_not_the_end(void **state)
{
    static const char *const others[] = {"a.\r\n",      "\r\n..\r\n", "\n.\n",
                                         "\r.\r",       "\r\n.\n",    "\r\n.\r",
                                         "\r\n.\r\r\n", "\n.\r\n",    "..\r\n.x\r\n"};
    (void)state;
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        const struct span data = span_of(others[i]);
        for (size_t cut = 1; cut <= data.len; cut++) {
            assert_int_equal(end_of(data, cut), data.len + 1);
        }
    }
}

static void all_cuts_of_all_data_give_the_same(void **state)
{
    static const char octets[] = "\r\n.\r\n.x";
    uint64_t seed = 1;
    char bytes[24];
    (void)state;
    for (int i = 0; i < 20000; i++) {
        const struct span data = span_make(bytes, 1 + random_step(&seed) % sizeof(bytes));
        for (size_t at = 0; at < data.len; at++) {
            bytes[at] = octets[random_step(&seed) % (sizeof(octets) - 1)];
        }
        for (size_t cut = 1; cut <= data.len; cut++) {
            assert_int_equal(end_of(data, cut), expected_end(data));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_end_is_found_and_nothing_behind_it_taken),
        cmocka_unit_test(dots_elsewhere_are_not_the_end),
        cmocka_unit_test(all_cuts_of_all_data_give_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
