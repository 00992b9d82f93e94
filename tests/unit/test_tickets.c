#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <string.h>

#include "tls/tickets.h"

#define BEGIN ((uint64_t)1000000)

static struct tickets *tickets;

static int make(void **state)
{
    (void)state;
    tickets = tickets_new();
    return tickets == NULL;
}

static int release(void **state)
{
    (void)state;
    tickets_free(tickets);
    return 0;
}

static struct ticket_key newest(uint64_t now)
{
    struct ticket_key key;
    tickets_newest(tickets, now, &key);
    return key;
}

static bool same(const struct ticket_key *a, const struct ticket_key *b)
{
    return memcmp(a, b, sizeof(*a)) == 0;
}

/* It is the very key, where it is found. */
static enum ticket_age find(uint64_t now, const struct ticket_key *key)
{
    struct ticket_key found;
    const enum ticket_age age = tickets_find(tickets, now, key->name, &found);
    assert_true(age == TICKET_UNKNOWN || same(&found, key));
    return age;
}

static void a_key_is_used_for_its_period(void **state)
{
    const struct ticket_key first = newest(BEGIN);
    const struct ticket_key last = newest(BEGIN + TICKETS_PERIOD - 1);
    (void)state;
    assert_true(same(&first, &last));
    assert_int_equal(find(BEGIN + TICKETS_PERIOD - 1, &first), TICKET_NEW);
}

static void no_two_keys_share_anything(void **state)
{
    const struct ticket_key first = newest(BEGIN);
    const struct ticket_key second = newest(BEGIN + TICKETS_PERIOD);
    const struct ticket_key zeros = {0};
    (void)state;
    assert_memory_not_equal(first.name, second.name, sizeof(first.name));
    assert_memory_not_equal(first.cipher, second.cipher, sizeof(first.cipher));
    assert_memory_not_equal(first.mac, second.mac, sizeof(first.mac));
    assert_memory_not_equal(first.cipher, zeros.cipher, sizeof(first.cipher));
    assert_int_equal(find(BEGIN + TICKETS_PERIOD, &zeros), TICKET_UNKNOWN);
}

static void a_key_that_was_replaced_is_read_for_one_period_more(void **state)
{
    const struct ticket_key first = newest(BEGIN);
    const struct ticket_key second = newest(BEGIN + TICKETS_PERIOD);
    (void)state;
    assert_int_equal(find(BEGIN + 2 * TICKETS_PERIOD - 1, &first), TICKET_OLD);
    assert_int_equal(find(BEGIN + 2 * TICKETS_PERIOD, &first), TICKET_UNKNOWN);
    assert_int_equal(find(BEGIN + 2 * TICKETS_PERIOD, &second), TICKET_OLD);
}

/* A ticket that comes back is a handshake, so it renews keys too. */
static void looking_for_a_key_notices_that_it_is_time(void **state)
{
    const struct ticket_key first = newest(BEGIN);
    (void)state;
    assert_int_equal(find(BEGIN + TICKETS_PERIOD, &first), TICKET_OLD);
    assert_int_equal(find(BEGIN + 2 * TICKETS_PERIOD, &first), TICKET_UNKNOWN);
}

static void after_a_silence_nothing_old_is_read(void **state)
{
    const struct ticket_key first = newest(BEGIN);
    (void)state;
    assert_int_equal(find(BEGIN + 2 * TICKETS_PERIOD - 1, &first), TICKET_OLD);
    const struct ticket_key second = newest(BEGIN + 9 * TICKETS_PERIOD);
    assert_int_equal(find(BEGIN + 9 * TICKETS_PERIOD, &first), TICKET_UNKNOWN);
    assert_int_equal(find(BEGIN + 12 * TICKETS_PERIOD, &second), TICKET_UNKNOWN);
}

/* Each thread makes this clock go on by whole periods, so that keys are changed all the time; one
 * that is found is the one that was taken. NULL: always so. */
static void *take_and_find(void *clock)
{
    _Atomic uint64_t *now = clock;
    for (size_t i = 0; i < 20000; i++) {
        const struct ticket_key key = newest(*now);
        struct ticket_key found = key;
        if (i % 16 == 0) {
            *now += TICKETS_PERIOD;
        }
        tickets_find(tickets, *now, key.name, &found);
        if (!same(&found, &key)) {
            return clock;
        }
    }
    return NULL;
}

static void threads_see_whole_keys(void **state)
{
    _Atomic uint64_t now = BEGIN;
    pthread_t threads[4];
    (void)state;
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, take_and_find, &now), 0);
    }
    for (size_t i = 0; i < 4; i++) {
        void *wrong = NULL;
        assert_int_equal(pthread_join(threads[i], &wrong), 0);
        assert_null(wrong);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_key_is_used_for_its_period, make, release),
        cmocka_unit_test_setup_teardown(no_two_keys_share_anything, make, release),
        cmocka_unit_test_setup_teardown(a_key_that_was_replaced_is_read_for_one_period_more, make,
                                        release),
        cmocka_unit_test_setup_teardown(looking_for_a_key_notices_that_it_is_time, make, release),
        cmocka_unit_test_setup_teardown(after_a_silence_nothing_old_is_read, make, release),
        cmocka_unit_test_setup_teardown(threads_see_whole_keys, make, release),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
