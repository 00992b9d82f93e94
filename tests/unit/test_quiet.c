/* quiet: the work is done before quiet_run returns, at a priority that the caller does not take on.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sched.h>
#include <time.h>

#include "routing/quiet.h"

static void look(void *context, struct quiet *quiet)
{
    int *policy = context;
    assert_non_null(quiet);
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

/* By the clock of the processor, so that a busy machine does not matter. */
static double processor_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double wall_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void work_hard(void *context, struct quiet *quiet)
{
    double *slept = context;
    double began = wall_seconds(), worked = processor_seconds();
    while (processor_seconds() - worked < 0.05) {
        quiet_rest(quiet);
    }
    *slept = wall_seconds() - began - (processor_seconds() - worked);
}

static void test_work_rests_only_when_it_is_quiet(void **state)
{
    double slept;
    (void)state;
    quiet_run(work_hard, &slept);
    assert_true(slept > 0.01); /* of some 0.05 / 200e-6 * 100e-6 at the least */
    quiet_rest(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_work_is_done_at_idle_priority),
        cmocka_unit_test(test_work_rests_only_when_it_is_quiet),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
