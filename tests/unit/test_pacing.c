#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>

#include "routing/pacing.h"

#define MAX     20 /* max-connections */
#define MINUTE  60000
#define THREADS 8

static const uint64_t start = 1000000;

static struct pace *gmail(struct pacing **pacing)
{
    *pacing = pacing_new(4);
    assert_non_null(*pacing);
    struct pace *pace = pacing_of(*pacing, SPAN("gmail"));
    assert_non_null(pace);
    return pace;
}

static unsigned begun(struct pace *pace, uint64_t now) /* how many more may begin */
{
    unsigned count = 0;
    while (count < 1000 && pace_begin(pace, MAX, now)) {
        count++;
    }
    for (unsigned i = 0; i < count; i++) {
        pace_end(pace);
    }
    return count;
}

static void a_relay_that_was_never_slowed_has_no_limit(void **state)
{
    struct pacing *pacing;
    struct pace *pace = gmail(&pacing);

    (void)state;
    assert_int_equal(pace_allowed(pace, MAX, 0), PACE_NO_LIMIT);
    assert_int_equal(begun(pace, 0), 1000);
    pacing_free(pacing);
}

static void nothing_begins_for_ten_minutes(void **state)
{
    struct pacing *pacing;
    struct pace *pace = gmail(&pacing);

    (void)state;
    assert_true(pace_slow(pace, start));
    assert_int_equal(begun(pace, start), 0);
    assert_int_equal(begun(pace, start + 10 * MINUTE - 1), 0);
    assert_int_equal(pace_allowed(pace, MAX, start + 10 * MINUTE - 1), 0);
    assert_int_equal(begun(pace, start + 10 * MINUTE), 1);
    pacing_free(pacing);
}

static void then_one_and_one_more_each_minute(void **state)
{
    struct pacing *pacing;
    struct pace *pace = gmail(&pacing);

    (void)state;
    pace_slow(pace, start);
    for (unsigned n = 1; n < MAX; n++) {
        const uint64_t minute = start + (9 + n) * MINUTE;
        assert_int_equal(begun(pace, minute), n);
        assert_int_equal(begun(pace, minute + MINUTE - 1), n);
        assert_int_equal(pace_allowed(pace, MAX, minute), n);
    }
    pacing_free(pacing);
}

static void at_max_connections_it_is_forgotten(void **state)
{
    struct pacing *pacing;
    struct pace *pace = gmail(&pacing);
    const uint64_t end = start + (9 + MAX) * MINUTE;

    (void)state;
    pace_slow(pace, start);
    assert_int_equal(begun(pace, end - 1), MAX - 1);
    assert_int_equal(pace_allowed(pace, MAX, end), PACE_NO_LIMIT);
    assert_true(pace_begin(pace, MAX, end));
    assert_int_equal(begun(pace, start + 11 * MINUTE), 1000); /* nor does a lagging clock know it */
    pace_end(pace);
    assert_true(pace_slow(pace, end)); /* and it can be slowed again */
    assert_int_equal(begun(pace, end), 0);
    pacing_free(pacing);
}

static void transactions_from_before_count_against_the_ramp(void **state)
{
    struct pacing *pacing;
    struct pace *pace = gmail(&pacing);

    (void)state;
    assert_true(pace_begin(pace, MAX, start));
    assert_true(pace_begin(pace, MAX, start));
    pace_slow(pace, start);
    assert_false(pace_begin(pace, MAX, start + 11 * MINUTE));
    assert_true(pace_begin(pace, MAX, start + 12 * MINUTE));
    assert_false(pace_begin(pace, MAX, start + 12 * MINUTE));
    pace_end(pace);
    assert_true(pace_begin(pace, MAX, start + 12 * MINUTE));
    for (int i = 0; i < 10; i++) {
        pace_end(pace); /* more often than begun: is not counted below none */
    }
    assert_int_equal(begun(pace, start + 12 * MINUTE), 3);
    pacing_free(pacing);
}

static void a_second_refusal_during_the_ramp_starts_anew(void **state)
{
    struct pacing *pacing;
    struct pace *pace = gmail(&pacing);
    const uint64_t again = start + 14 * MINUTE;

    (void)state;
    assert_true(pace_slow(pace, start));
    assert_int_equal(begun(pace, again), 5);
    assert_true(pace_slow(pace, again));
    assert_int_equal(begun(pace, again + 10 * MINUTE - 1), 0);
    assert_int_equal(begun(pace, again + 10 * MINUTE), 1);
    pacing_free(pacing);
}

/* Each of those that were under way may be told; the last one counts, and the log has one line. */
static void refusals_in_the_silence_are_one(void **state)
{
    struct pacing *pacing;
    struct pace *pace = gmail(&pacing);

    (void)state;
    assert_true(pace_slow(pace, start));
    assert_false(pace_slow(pace, start + 3000));
    assert_false(pace_slow(pace, start + 1000)); /* a worker whose clock lags */
    assert_int_equal(begun(pace, start + 3000 + 10 * MINUTE - 1), 0);
    assert_int_equal(begun(pace, start + 3000 + 10 * MINUTE), 1);
    pacing_free(pacing);
}

static void with_one_connection_the_ramp_ends_with_the_silence(void **state)
{
    struct pacing *pacing;
    struct pace *pace = gmail(&pacing);

    (void)state;
    pace_slow(pace, start);
    assert_int_equal(pace_allowed(pace, 1, start + 10 * MINUTE - 1), 0);
    assert_int_equal(pace_allowed(pace, 1, start + 10 * MINUTE), PACE_NO_LIMIT);
    pacing_free(pacing);
}

static void relays_are_slowed_by_name(void **state)
{
    struct pacing *pacing;
    struct pace *pace = gmail(&pacing);
    struct pace *other = pacing_of(pacing, SPAN("other"));

    (void)state;
    assert_true(other != pace);
    assert_true(pacing_of(pacing, SPAN("gmail")) == pace);
    pace_slow(pace, start);
    assert_int_equal(begun(pace, start), 0);
    assert_int_equal(begun(other, start), 1000);
    pacing_free(pacing);
}

static void a_relay_without_a_place_is_never_slowed(void **state)
{
    struct pacing *pacing = pacing_new(1);

    (void)state;
    assert_non_null(pacing);
    assert_non_null(pacing_of(pacing, SPAN("gmail")));
    struct pace *none = pacing_of(pacing, SPAN("other"));
    assert_null(none);
    assert_false(pace_slow(none, start));
    assert_true(pace_begin(none, MAX, start));
    pace_end(none);
    assert_int_equal(pace_allowed(none, MAX, start), PACE_NO_LIMIT);
    assert_non_null(pacing_of(pacing, SPAN("gmail")));
    pacing_free(pacing);
    assert_null(pacing_new(SIZE_MAX));
}

struct hammer {
    struct pacing *pacing;
    atomic_int open, most, slowed;
};

static void *hammer(void *context)
{
    struct hammer *hammer = context;
    struct pace *pace = pacing_of(hammer->pacing, SPAN("gmail"));

    atomic_fetch_add(&hammer->slowed, pace_slow(pace, start));
    for (int i = 0; i < 50000; i++) {
        if (pace_begin(pace, MAX, start + 12 * MINUTE)) {
            const int open = atomic_fetch_add(&hammer->open, 1) + 1;
            int most = atomic_load(&hammer->most);
            while (open > most && !atomic_compare_exchange_weak(&hammer->most, &most, open)) {
            }
            atomic_fetch_sub(&hammer->open, 1);
            pace_end(pace);
        }
    }
    return NULL;
}

static void threads_together_stay_within_the_ramp(void **state)
{
    struct hammer shared = {.pacing = pacing_new(4)};
    pthread_t threads[THREADS];

    (void)state;
    assert_non_null(shared.pacing);
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, hammer, &shared), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    assert_in_range(shared.most, 1, 3);
    assert_int_equal(shared.slowed, 1);
    struct pace *pace = pacing_of(shared.pacing, SPAN("gmail"));
    assert_int_equal(begun(pace, start + 12 * MINUTE), 3); /* nothing is left behind */
    pacing_free(shared.pacing);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_relay_that_was_never_slowed_has_no_limit),
        cmocka_unit_test(nothing_begins_for_ten_minutes),
        cmocka_unit_test(then_one_and_one_more_each_minute),
        cmocka_unit_test(at_max_connections_it_is_forgotten),
        cmocka_unit_test(transactions_from_before_count_against_the_ramp),
        cmocka_unit_test(a_second_refusal_during_the_ramp_starts_anew),
        cmocka_unit_test(refusals_in_the_silence_are_one),
        cmocka_unit_test(with_one_connection_the_ramp_ends_with_the_silence),
        cmocka_unit_test(relays_are_slowed_by_name),
        cmocka_unit_test(a_relay_without_a_place_is_never_slowed),
        cmocka_unit_test(threads_together_stay_within_the_ramp),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
