#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>

#include "proxy/session/quota.h"

#define THREADS 8

static void a_key_is_counted_up_to_its_limit(void **state)
{
    struct quota *quota = quota_new(10, 1);
    quota_cell cells[3];

    (void)state;
    assert_non_null(quota);
    for (int i = 0; i < 3; i++) {
        cells[i] = quota_take(quota, "abc", 3, 3);
        assert_true(cells[i] != QUOTA_NONE);
    }
    assert_int_equal(quota_count(quota, "abc", 3), 3);
    assert_true(quota_take(quota, "abc", 3, 3) == QUOTA_NONE);
    assert_true(quota_take(quota, "abd", 3, 3) != QUOTA_NONE);
    quota_give(quota, cells[1]);
    assert_int_equal(quota_count(quota, "abc", 3), 2);
    assert_true(quota_take(quota, "abc", 3, 3) != QUOTA_NONE);
    assert_true(quota_take(quota, "xyz", 3, 0) == QUOTA_NONE);
    quota_give(quota, QUOTA_NONE);
    quota_free(quota);
}

static void counts_do_not_spill_over_their_bits(void **state)
{
    struct quota *quota = quota_new(1, 1);
    unsigned taken = 0;

    (void)state;
    assert_non_null(quota);
    while (taken < 70000 && quota_take(quota, "a", 1, UINT32_MAX) != QUOTA_NONE) {
        taken++;
    }
    assert_int_equal(taken, 65535);
    assert_int_equal(quota_count(quota, "a", 1), 65535);
    quota_free(quota);
}

static void as_many_keys_fit_as_were_asked_for(void **state)
{
    enum { KEYS = 10000 };
    static quota_cell cells[KEYS];

    (void)state;
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct quota *quota = quota_new(KEYS, seed);
        assert_non_null(quota);
        for (uint32_t key = 0; key < KEYS; key++) {
            cells[key] = quota_take(quota, &key, sizeof key, 1);
            assert_true(cells[key] != QUOTA_NONE);
        }
        for (uint32_t key = 0; key < KEYS; key++) {
            assert_int_equal(quota_count(quota, &key, sizeof key), 1);
            quota_give(quota, cells[key]);
            assert_int_equal(quota_count(quota, &key, sizeof key), 0);
        }
        quota_free(quota);
    }
}

static void a_key_that_is_given_back_leaves_room(void **state)
{
    struct quota *quota = quota_new(1, 5);

    (void)state;
    assert_non_null(quota);
    for (uint32_t key = 0; key < 5000; key++) {
        const quota_cell cell = quota_take(quota, &key, sizeof key, 1);
        assert_true(cell != QUOTA_NONE);
        quota_give(quota, cell);
    }
    quota_free(quota);
}

/* The table has 64 cells, a key's window 16 of them: full means refused, not shared. */
static void a_full_table_refuses(void **state)
{
    struct quota *quota = quota_new(1, 5);
    unsigned taken = 0;

    (void)state;
    assert_non_null(quota);
    for (uint32_t key = 0; key < 5000; key++) {
        taken += quota_take(quota, &key, sizeof key, 1) != QUOTA_NONE;
    }
    assert_int_equal(taken, 64);
    quota_free(quota);
}

/* A key that sits behind others keeps its one cell when those before it go. */
static void a_freed_cell_does_not_split_a_key(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 50; seed++) {
        struct quota *quota = quota_new(1, seed);
        quota_cell cells[40];
        assert_non_null(quota);
        for (uint32_t key = 0; key < 40; key++) {
            cells[key] = quota_take(quota, &key, sizeof key, 2);
        }
        for (uint32_t key = 0; key < 40; key += 2) {
            quota_give(quota, cells[key]);
        }
        for (uint32_t key = 1; key < 40; key += 2) {
            if (cells[key] != QUOTA_NONE) {
                assert_true(quota_take(quota, &key, sizeof key, 2) == cells[key]);
                assert_true(quota_take(quota, &key, sizeof key, 2) == QUOTA_NONE);
            }
        }
        quota_free(quota);
    }
}

struct shared {
    struct quota *quota;
    atomic_int held[4]; /* by key, taken by all threads together */
    atomic_int over;
};

static void *hammer(void *context)
{
    struct shared *shared = context;
    unsigned seed = (unsigned)(uintptr_t)&seed;

    for (int round = 0; round < 100000; round++) {
        const uint32_t key = (uint32_t)rand_r(&seed) % 4;
        const quota_cell cell = quota_take(shared->quota, &key, sizeof key, 3);
        if (cell != QUOTA_NONE) {
            if (atomic_fetch_add(&shared->held[key], 1) >= 3 + THREADS) {
                atomic_fetch_add(&shared->over, 1);
            }
            atomic_fetch_sub(&shared->held[key], 1);
            quota_give(shared->quota, cell);
        }
    }
    return NULL;
}

static void threads_leave_nothing_behind(void **state)
{
    struct shared shared = {.quota = quota_new(4, 9)};
    pthread_t threads[THREADS];

    (void)state;
    assert_non_null(shared.quota);
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, hammer, &shared), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    assert_int_equal(shared.over, 0);
    for (uint32_t key = 0; key < 4; key++) {
        assert_int_equal(quota_count(shared.quota, &key, sizeof key), 0);
    }
    quota_free(shared.quota);
}

struct taker {
    struct quota *quota;
    unsigned taken;
};

static void *take_many(void *context)
{
    struct taker *taker = context;
    for (int i = 0; i < 5000; i++) {
        taker->taken += quota_take(taker->quota, "k", 1, 10000) != QUOTA_NONE;
    }
    return NULL;
}

static void threads_together_stay_within_the_limit(void **state)
{
    struct quota *quota = quota_new(4, 9);
    struct taker takers[THREADS];
    pthread_t threads[THREADS];
    unsigned taken = 0;

    (void)state;
    assert_non_null(quota);
    for (int i = 0; i < THREADS; i++) {
        takers[i] = (struct taker){.quota = quota};
        assert_int_equal(pthread_create(&threads[i], NULL, take_many, &takers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        taken += takers[i].taken;
    }
    /* Nothing is given back here, so no hole moves and the key has one cell. */
    assert_int_equal(taken, 10000);
    assert_int_equal(quota_count(quota, "k", 1), 10000);
    quota_free(quota);
}

static void keys_of_clients_are_address_or_prefix(void **state)
{
    struct net_address a, b;
    unsigned char one[16], two[16];

    (void)state;
    assert_true(net_address_parse(SPAN("192.0.2.1"), 1, &a));
    assert_true(net_address_parse(SPAN("192.0.2.2"), 1, &b));
    assert_int_equal(quota_client_key(&a, one), 4);
    assert_int_equal(quota_client_key(&b, two), 4);
    assert_memory_not_equal(one, two, 4);
    assert_true(net_address_parse(SPAN("2001:db8:1:2::1"), 1, &a));
    assert_true(net_address_parse(SPAN("2001:db8:1:2:ffff::2"), 2, &b));
    assert_int_equal(quota_client_key(&a, one), 8);
    assert_int_equal(quota_client_key(&b, two), 8);
    assert_memory_equal(one, two, 8);
    assert_true(net_address_parse(SPAN("2001:db8:1:3::1"), 1, &b));
    assert_int_equal(quota_client_key(&b, two), 8);
    assert_memory_not_equal(one, two, 8);
    assert_true(net_address_unix(SPAN("/x"), &a));
    assert_int_equal(quota_client_key(&a, one), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_key_is_counted_up_to_its_limit),
        cmocka_unit_test(counts_do_not_spill_over_their_bits),
        cmocka_unit_test(as_many_keys_fit_as_were_asked_for),
        cmocka_unit_test(a_key_that_is_given_back_leaves_room),
        cmocka_unit_test(a_full_table_refuses),
        cmocka_unit_test(a_freed_cell_does_not_split_a_key),
        cmocka_unit_test(threads_leave_nothing_behind),
        cmocka_unit_test(threads_together_stay_within_the_limit),
        cmocka_unit_test(keys_of_clients_are_address_or_prefix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
