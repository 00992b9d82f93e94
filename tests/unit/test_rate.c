/* proxy/session/rate: so many a minute for each key, counted by all threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "config/span.h"
#include "proxy/session/rate.h"

#define MINUTE UINT64_C(60000)

static unsigned take_all(struct rate *rate, const char *key, unsigned limit, uint64_t now)
{
    unsigned taken = 0;
    while (taken < 1000 && rate_take(rate, key, strlen(key), limit, now)) {
        taken++;
    }
    return taken;
}

static void a_key_has_its_limit_and_no_more(void **state)
{
    struct rate *rate = rate_new(16, 1);
    (void)state;
    assert_int_equal(take_all(rate, "a", 20, 5 * MINUTE), 20);
    assert_int_equal(take_all(rate, "b", 3, 5 * MINUTE), 3);
    assert_int_equal(take_all(rate, "a", 20, 6 * MINUTE - 1), 0);
    rate_free(rate);
}

static void the_next_minute_begins_anew(void **state)
{
    struct rate *rate = rate_new(16, 1);
    (void)state;
    for (uint64_t minute = 0; minute < 100; minute++) {
        assert_int_equal(take_all(rate, "a", 2, minute * MINUTE), 2);
    }
    rate_free(rate);
}

static void a_full_table_refuses_new_keys_until_the_minute_is_over(void **state)
{
    struct rate *rate = rate_new(1, 1); /* a few dozen cells */
    unsigned taken = 0;
    (void)state;
    for (uint32_t key = 0; key < 10000; key++) {
        taken += rate_take(rate, &key, sizeof key, 1, 0);
    }
    assert_in_range(taken, 16, 64);
    assert_int_equal(take_all(rate, "another", 1, MINUTE), 1);
    rate_free(rate);
}

struct crowd {
    struct rate *rate;
    atomic_uint taken;
};

static void *push(void *context)
{
    struct crowd *crowd = context;
    for (unsigned i = 0; i < 10000; i++) {
        if (rate_take(crowd->rate, "a", 1, 200, 0)) {
            atomic_fetch_add(&crowd->taken, 1);
        }
    }
    return NULL;
}

static void threads_share_a_limit(void **state)
{
    struct crowd crowd = {.rate = rate_new(16, 1)};
    pthread_t threads[4];
    (void)state;
    assert_true(rate_take(crowd.rate, "a", 1, 200, 0)); /* it has its cell */
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, push, &crowd), 0);
    }
    for (size_t i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
    }
    assert_int_equal(atomic_load(&crowd.taken), 199);
    rate_free(crowd.rate);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_key_has_its_limit_and_no_more),
        cmocka_unit_test(the_next_minute_begins_anew),
        cmocka_unit_test(a_full_table_refuses_new_keys_until_the_minute_is_over),
        cmocka_unit_test(threads_share_a_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
