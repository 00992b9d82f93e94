/* history: what the counters' differences say of each step. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "proxy/admin/history.h"

static struct snapshot_relay *relay_of(struct snapshot *counts, const char *name)
{
    assert_true(snapshot_name(counts, name));
    for (size_t i = 0; i < counts->relay_count; i++) {
        if (strcmp(counts->relays[i].name, name) == 0) {
            return &counts->relays[i];
        }
    }
    return NULL;
}

static uint32_t last(const struct history *history, unsigned relay, enum history_series series)
{
    return history_value(history, relay, series, history_steps(history) - 1);
}

static void a_step_is_what_has_come_since_the_one_before(void **state)
{
    struct history *history = history_new();
    struct snapshot *counts = snapshot_new();
    struct snapshot_relay *local = relay_of(counts, "local");
    (void)state;
    counts->counters[STAT_SESSIONS] = 1000;
    local->value[RELAY_MESSAGES_ACCEPTED] = 500;
    local->time[RELAY_TIME_END_OF_DATA].bucket[9] = 500;
    history_sample(history, counts, 100); /* what was before it began is in no step */
    assert_int_equal(history_steps(history), 0);
    assert_int_equal(history_end(history), 0);

    counts->counters[STAT_SESSIONS] += 7;
    local->value[RELAY_MESSAGES_ACCEPTED] += 3;
    local->value[RELAY_RECIPIENTS_REJECTED] += 2;
    local->value[RELAY_MESSAGES_UNANSWERED] += 1;
    history_sample(history, counts, 110);
    assert_int_equal(history_steps(history), 1);
    assert_int_equal(history_end(history), 110);
    assert_int_equal(history_sessions(history, 0), 7);
    assert_int_equal(history_relays(history), 1);
    assert_string_equal(history_name(history, 0), "local");
    assert_int_equal(last(history, 0, HISTORY_ACCEPTED), 3);
    assert_int_equal(last(history, 0, HISTORY_FAILED), 3);
    assert_int_equal(last(history, 0, HISTORY_P50), HISTORY_NOTHING);

    history_sample(history, counts, 120);
    assert_int_equal(history_sessions(history, 1), 0);
    assert_int_equal(last(history, 0, HISTORY_ACCEPTED), 0);
    assert_int_equal(history_value(history, 0, HISTORY_ACCEPTED, 0), 3);
    snapshot_free(counts);
    history_free(history);
}

static void times_are_those_of_the_step(void **state)
{
    struct history *history = history_new();
    struct snapshot *counts = snapshot_new();
    struct latency_sum *time = &relay_of(counts, "local")->time[RELAY_TIME_END_OF_DATA];
    (void)state;
    time->bucket[0] = 1000000;
    history_sample(history, counts, 0);
    time->bucket[6] += 98; /* 51 to 100 ms */
    time->bucket[9] += 2;  /* 501 to 1000 ms */
    history_sample(history, counts, 10);
    assert_int_equal(last(history, 0, HISTORY_P50), 50 + 50 * 50 / 98);
    assert_int_equal(last(history, 0, HISTORY_P99), 750);
    time->bucket[LATENCY_BOUNDS] += 1; /* has no end */
    history_sample(history, counts, 20);
    assert_int_equal(last(history, 0, HISTORY_P50), latency_bounds[LATENCY_BOUNDS - 1]);
    time->bucket[0] += 1;
    history_sample(history, counts, 30);
    assert_int_equal(last(history, 0, HISTORY_P99), 1);
    snapshot_free(counts);
    history_free(history);
}

static void the_oldest_steps_go_and_a_new_relay_had_nothing_before(void **state)
{
    struct history *history = history_new();
    struct snapshot *counts = snapshot_new();
    (void)state;
    history_sample(history, counts, 0);
    for (unsigned i = 1; i <= HISTORY_STEPS + 5; i++) {
        counts->counters[STAT_SESSIONS] += i;
        if (i == HISTORY_STEPS) {
            relay_of(counts, "late")->value[RELAY_MESSAGES_ACCEPTED] = 9;
        }
        history_sample(history, counts, 10 * (time_t)i);
    }
    assert_int_equal(history_steps(history), HISTORY_STEPS);
    assert_int_equal(history_sessions(history, 0), 6);
    assert_int_equal(history_sessions(history, HISTORY_STEPS - 1), HISTORY_STEPS + 5);
    assert_int_equal(history_value(history, 0, HISTORY_ACCEPTED, HISTORY_STEPS - 6), 9);
    for (unsigned i = 0; i < HISTORY_STEPS; i++) {
        assert_true(i == HISTORY_STEPS - 6 || history_value(history, 0, HISTORY_ACCEPTED, i) == 0);
        assert_int_equal(history_value(history, 0, HISTORY_P50, i), HISTORY_NOTHING);
    }
    struct history *copy = history_copy(history);
    history_free(history);
    assert_int_equal(history_value(copy, 0, HISTORY_ACCEPTED, HISTORY_STEPS - 6), 9);
    history_free(copy);
    snapshot_free(counts);
}

static void of_too_many_relays_the_first_are_kept(void **state)
{
    struct history *history = history_new();
    struct snapshot *counts = snapshot_new();
    char name[16];
    (void)state;
    relay_of(counts, ""); /* what was answered without any relay */
    for (unsigned i = 0; i < HISTORY_RELAYS + 10; i++) {
        snprintf(name, sizeof name, "r%u", i);
        relay_of(counts, name);
    }
    history_sample(history, counts, 0);
    history_sample(history, counts, 10);
    assert_int_equal(history_relays(history), HISTORY_RELAYS);
    assert_string_equal(history_name(history, 0), "r0");
    snapshot_free(counts);
    history_free(history);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_step_is_what_has_come_since_the_one_before),
        cmocka_unit_test(times_are_those_of_the_step),
        cmocka_unit_test(the_oldest_steps_go_and_a_new_relay_had_nothing_before),
        cmocka_unit_test(of_too_many_relays_the_first_are_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
