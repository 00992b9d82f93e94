/* proxy/session/relay_stats and latency: what a world counts of each relay. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "proxy/session/relay_stats.h"

static struct relay_table *table_new(void)
{
    struct relay_table *table = calloc(1, sizeof *table);
    assert_non_null(table);
    return table;
}

static void a_name_has_one_entry_whatever_comes_between(void **state)
{
    struct relay_table *table = table_new();
    struct relay_stats *local = relay_stats_of(table, SPAN("local"));
    char name[32];
    (void)state;
    for (unsigned i = 0; i < 1000; i++) {
        snprintf(name, sizeof name, "relay%u", i);
        relay_stats_of(table, span_of(name));
        assert_ptr_equal(relay_stats_of(table, SPAN("local")), local);
    }
    assert_string_equal(local->name, "local");
    free(table);
}

static void a_name_is_not_that_of_which_it_is_the_beginning(void **state)
{
    struct relay_table *table = table_new();
    (void)state;
    struct relay_stats *whole = relay_stats_of(table, SPAN("local-and-more"));
    struct relay_stats *part = relay_stats_of(table, SPAN("local"));
    assert_ptr_not_equal(whole, part);
    assert_ptr_equal(relay_stats_of(table, SPAN("local-and-more")), whole);
    free(table);
}

static void those_that_find_no_room_are_counted_together(void **state)
{
    struct relay_table *table = table_new();
    struct relay_stats *others = &table->entry[RELAY_STATS_OTHERS];
    unsigned alone = 0;
    char name[32];
    (void)state;
    for (unsigned i = 0; i < 1000; i++) {
        snprintf(name, sizeof name, "relay%u", i);
        alone += relay_stats_of(table, span_of(name)) != others ? 1 : 0;
    }
    assert_int_equal(alone, RELAY_STATS_MAX - RELAY_STATS_FIRST);
    assert_int_equal(relay_stats_count(table), RELAY_STATS_MAX);
    assert_ptr_equal(relay_stats_of(table, SPAN("relay999")), others);
    assert_ptr_not_equal(relay_stats_of(table, SPAN("relay0")), others);
    free(table);
}

static void a_name_that_is_too_long_or_empty_is_one_of_the_others(void **state)
{
    struct relay_table *table = table_new();
    char name[RELAY_STATS_NAME];
    (void)state;
    memset(name, 'x', sizeof name);
    assert_ptr_equal(relay_stats_of(table, span_make(name, sizeof name)),
                     &table->entry[RELAY_STATS_OTHERS]);
    assert_ptr_equal(relay_stats_of(table, SPAN("")), &table->entry[RELAY_STATS_OTHERS]);
    assert_int_equal(relay_stats_count(table), RELAY_STATS_FIRST);
    struct relay_stats *longest = relay_stats_of(table, span_make(name, sizeof name - 1));
    assert_int_equal(strlen(longest->name), sizeof name - 1);
    free(table);
}

static void a_time_is_in_the_bucket_of_the_least_bound_that_is_not_below(void **state)
{
    struct latency latency = {0};
    struct latency_sum sum = {0};
    uint64_t total = 0;
    (void)state;
    for (unsigned i = 0; i < LATENCY_BOUNDS; i++) {
        assert_true(i == 0 || latency_bounds[i] > latency_bounds[i - 1]);
        latency_count(&latency, latency_bounds[i]);
        latency_count(&latency, latency_bounds[i] + 1);
        total += 2 * (uint64_t)latency_bounds[i] + 1;
    }
    latency_count(&latency, 0);
    latency_count(&latency, UINT32_MAX);
    latency_add_up(&latency, &sum);
    assert_int_equal(sum.bucket[0], 2);
    for (unsigned i = 1; i < LATENCY_BOUNDS; i++) {
        assert_int_equal(sum.bucket[i], 2);
    }
    assert_int_equal(sum.bucket[LATENCY_BOUNDS], 2);
    assert_int_equal(sum.sum, total + UINT32_MAX);
}

static void sums_add_up(void **state)
{
    struct latency one = {0}, other = {0};
    struct latency_sum sum = {0};
    (void)state;
    latency_count(&one, 7);
    latency_count(&other, 8);
    latency_count(&other, 400);
    latency_add_up(&one, &sum);
    latency_add_up(&other, &sum);
    assert_int_equal(sum.bucket[3], 2);
    assert_int_equal(sum.bucket[8], 1);
    assert_int_equal(sum.sum, 415);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_name_has_one_entry_whatever_comes_between),
        cmocka_unit_test(a_name_is_not_that_of_which_it_is_the_beginning),
        cmocka_unit_test(those_that_find_no_room_are_counted_together),
        cmocka_unit_test(a_name_that_is_too_long_or_empty_is_one_of_the_others),
        cmocka_unit_test(a_time_is_in_the_bucket_of_the_least_bound_that_is_not_below),
        cmocka_unit_test(sums_add_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
