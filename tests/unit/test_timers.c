#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proxy/session/timers.h"

#define MANY 300

struct probe {
    struct timer timer;
    struct timers *timers;
    unsigned called;
    struct probe *stops; /* stopped when this one is due */
    uint64_t again;      /* set again for then, once */
    uint64_t *clock;     /* due time of the one called before */
};

static void on_due(void *owner)
{
    struct probe *probe = owner;

    assert_false(timer_is_set(&probe->timer));
    probe->called++;
    if (probe->clock != NULL) {
        assert_true(probe->timer.due >= *probe->clock);
        *probe->clock = probe->timer.due;
    }
    if (probe->stops != NULL) {
        timer_stop(probe->timers, &probe->stops->timer);
    }
    if (probe->again != 0) {
        const uint64_t due = probe->again;
        probe->again = 0;
        timer_set(probe->timers, &probe->timer, due);
    }
}

static void probe_init(struct probe *probe, struct timers *timers)
{
    *probe = (struct probe){.timers = timers};
    probe->timer.on_due = on_due;
    probe->timer.owner = probe;
}

static void nothing_is_due_when_nothing_is_set(void **state)
{
    struct timers timers;

    (void)state;
    timers_init(&timers);
    assert_true(timers_next(&timers) == UINT64_MAX);
    timers_run(&timers, UINT64_MAX);
    timers_release(&timers);
}

static void timers_are_called_when_due_and_once(void **state)
{
    struct timers timers;
    struct probe a, b;

    (void)state;
    timers_init(&timers);
    probe_init(&a, &timers);
    probe_init(&b, &timers);
    timer_set(&timers, &a.timer, 20);
    timer_set(&timers, &b.timer, 10);
    assert_int_equal(timers_next(&timers), 10);
    timers_run(&timers, 9);
    assert_int_equal(a.called + b.called, 0);
    timers_run(&timers, 10);
    assert_int_equal(b.called, 1);
    assert_int_equal(a.called, 0);
    assert_int_equal(timers_next(&timers), 20);
    timers_run(&timers, 30);
    timers_run(&timers, 40);
    assert_int_equal(a.called, 1);
    assert_int_equal(b.called, 1);
    timers_release(&timers);
}

static void setting_again_moves_a_timer(void **state)
{
    struct timers timers;
    struct probe a, b;

    (void)state;
    timers_init(&timers);
    probe_init(&a, &timers);
    probe_init(&b, &timers);
    timer_set(&timers, &a.timer, 10);
    timer_set(&timers, &b.timer, 20);
    timer_set(&timers, &a.timer, 30);
    assert_int_equal(timers_next(&timers), 20);
    timer_set(&timers, &a.timer, 5);
    assert_int_equal(timers_next(&timers), 5);
    timers_release(&timers);
    assert_false(timer_is_set(&a.timer));
}

static void a_callback_may_set_and_stop(void **state)
{
    struct timers timers;
    struct probe a, b;

    (void)state;
    timers_init(&timers);
    probe_init(&a, &timers);
    probe_init(&b, &timers);
    a.stops = &b;
    a.again = 50;
    timer_set(&timers, &a.timer, 10);
    timer_set(&timers, &b.timer, 10);
    timer_set(&timers, &b.timer, 11);
    timers_run(&timers, 20);
    assert_int_equal(a.called, 1);
    assert_int_equal(b.called, 0);
    assert_int_equal(timers_next(&timers), 50);
    timer_stop(&timers, &b.timer);
    timers_run(&timers, 50);
    assert_int_equal(a.called, 2);
    timers_release(&timers);
}

static void a_released_timer_is_not_set(void **state)
{
    static struct probe probes[MANY];
    struct timers timers;

    (void)state;
    timers_init(&timers);
    for (size_t i = 0; i < MANY; i++) {
        probe_init(&probes[i], &timers);
        timer_set(&timers, &probes[i].timer, 1 + i * 7919 % MANY);
    }
    timers_release(&timers);
    for (size_t i = 0; i < MANY; i++) {
        assert_false(timer_is_set(&probes[i].timer));
        assert_int_equal(probes[i].called, 0);
    }
}

/* Against the plain rule: whatever is set and due has been called, in order, nothing else. */
static void random_use_keeps_the_order(void **state)
{
    static struct probe probes[MANY];
    unsigned expected[MANY] = {0};
    uint64_t now = 0, clock;
    struct timers timers;

    (void)state;
    srand(3);
    timers_init(&timers);
    for (size_t i = 0; i < MANY; i++) {
        probe_init(&probes[i], &timers);
        probes[i].clock = &clock;
    }
    for (int round = 0; round < 20000; round++) {
        struct probe *probe = &probes[(size_t)rand() % MANY];
        switch (rand() % 8) {
        case 0:
            timer_stop(&timers, &probe->timer);
            break;
        case 1:
            now += (uint64_t)rand() % 40;
            for (size_t i = 0; i < MANY; i++) {
                expected[i] += timer_is_set(&probes[i].timer) && probes[i].timer.due <= now;
            }
            clock = 0;
            timers_run(&timers, now);
            break;
        default:
            timer_set(&timers, &probe->timer, now + 1 + (uint64_t)rand() % 500);
            break;
        }
        uint64_t next = UINT64_MAX;
        for (size_t i = 0; i < MANY; i++) {
            assert_int_equal(probes[i].called, expected[i]);
            if (timer_is_set(&probes[i].timer)) {
                assert_ptr_equal(*probes[i].timer.link, &probes[i].timer);
                next = probes[i].timer.due < next ? probes[i].timer.due : next;
            }
        }
        assert_true(timers_next(&timers) == next);
    }
    timers_release(&timers);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_due_when_nothing_is_set),
        cmocka_unit_test(timers_are_called_when_due_and_once),
        cmocka_unit_test(setting_again_moves_a_timer),
        cmocka_unit_test(a_callback_may_set_and_stop),
        cmocka_unit_test(a_released_timer_is_not_set),
        cmocka_unit_test(random_use_keeps_the_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
