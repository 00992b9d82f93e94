/* When a damaged table is built again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proxy/daemon/repair.h"

#define START UINT64_C(1000000)

static void test_the_first_attempt_is_at_once_and_pauses_grow(void **state)
{
    static const uint64_t waits[] = {0, 2000, 4000, 8000, 16000, 32000, 60000, 60000};
    struct repair repair = {0};
    uint64_t now = START;
    (void)state;
    for (size_t i = 0; i < sizeof(waits) / sizeof(*waits); i++) { /* damaged again at once */
        assert_int_equal(repair_plan(&repair, now), waits[i]);
        now += waits[i];
    }
}

static void test_time_that_has_gone_by_counts(void **state)
{
    struct repair repair = {0};
    (void)state;
    assert_int_equal(repair_plan(&repair, START), 0);
    assert_int_equal(repair_plan(&repair, START + 1500), 500);
    assert_int_equal(repair_plan(&repair, START + 2000 + 5000), 0);
    assert_int_equal(repair_plan(&repair, START + 2000 + 5000 + 1), 7999);
}

static void test_a_pause_begins_when_an_attempt_has_ended(void **state)
{
    struct repair repair = {0};
    (void)state;
    repair_ended(&repair, START); /* of a reload that somebody asked for */
    assert_int_equal(repair_plan(&repair, START), 0);
    repair_ended(&repair, START + 10000);
    assert_int_equal(repair_plan(&repair, START + 10500), 1500);
}

static void test_after_a_quiet_time_it_begins_anew(void **state)
{
    struct repair repair = {0};
    (void)state;
    assert_int_equal(repair_plan(&repair, START), 0);
    assert_int_equal(repair_plan(&repair, START), 2000);
    assert_int_equal(repair_plan(&repair, START), 6000); /* the one planned has not begun yet */
    const uint64_t later = START + 6000 + 2 * REPAIR_PAUSE_MOST;
    assert_int_equal(repair_plan(&repair, later), 0);
    assert_int_equal(repair_plan(&repair, later), 2000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_first_attempt_is_at_once_and_pauses_grow),
        cmocka_unit_test(test_time_that_has_gone_by_counts),
        cmocka_unit_test(test_a_pause_begins_when_an_attempt_has_ended),
        cmocka_unit_test(test_after_a_quiet_time_it_begins_anew),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
