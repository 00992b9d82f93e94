/* quiet: the work is done before quiet_run returns, at a priority that the caller does not take on.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sched.h>

#include "routing/quiet.h"

static void look(void *context)
{
    int *policy = context;
    *policy = sched_getscheduler(0);
}

static void test_work_is_done_at_idle_priority(void **state)
{
    const int before = sched_getscheduler(0);
    int policy = -1;
    (void)state;
    quiet_run(look, &policy);
    assert_int_equal(policy, SCHED_IDLE);
    assert_int_equal(sched_getscheduler(0), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_work_is_done_at_idle_priority),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
