/* The sorter: order, stability, bounded runs and their merging. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "routing/sorter.h"

#define RECORDS 5000
#define KEYS    700

/* Keys come several times; the values count up, so that their order shows. */
static void check(size_t run_bytes, bool spills)
{
    struct sorter *sorter = sorter_new("/tmp", run_bytes);
    struct sorter_record record;
    char key[16], last[16] = "";
    unsigned seed = 1, last_value = 0, count = 0;
    assert_non_null(sorter);
    for (unsigned i = 0; i < RECORDS; i++) {
        seed = seed * 1103515245 + 12345;
        snprintf(key, sizeof(key), "k%u", (seed >> 8) % KEYS);
        assert_int_equal(sorter_add(sorter, span_of(key), span_make((const char *)&i, sizeof(i))),
                         SORTER_OK);
    }
    assert_int_equal(sorter_runs(sorter) > 2, spills);
    while (sorter_next(sorter, &record) == SORTER_OK) {
        unsigned value;
        assert_int_equal(record.value.len, sizeof(value));
        memcpy(&value, record.value.ptr, sizeof(value));
        memcpy(key, record.key.ptr, record.key.len);
        key[record.key.len] = '\0';
        int order = strcmp(last, key);
        assert_true(order < 0 || (order == 0 && last_value < value));
        memcpy(last, key, sizeof(last));
        last_value = value;
        count++;
    }
    assert_int_equal(count, RECORDS);
    assert_int_equal(sorter_next(sorter, &record), SORTER_END);
    sorter_free(sorter);
}

static void test_records_come_in_order_and_equal_keys_as_added(void **state)
{
    (void)state;
    check(SORTER_RUN_BYTES, false);
    check(4096, true);
    check(1, true); /* a run for each record */
}

static void test_a_sorter_without_records_ends_at_once(void **state)
{
    struct sorter *sorter = sorter_new("/tmp", 4096);
    struct sorter_record record;
    (void)state;
    assert_int_equal(sorter_next(sorter, &record), SORTER_END);
    sorter_free(sorter);
}

static void test_a_shorter_key_comes_first(void **state)
{
    static const char *const keys[] = {"ab", "a", "abc", "", "b"};
    static const char *const order[] = {"", "a", "ab", "abc", "b"};
    struct sorter *sorter = sorter_new("/tmp", 4096);
    struct sorter_record record;
    (void)state;
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(sorter_add(sorter, span_of(keys[i]), SPAN("")), SORTER_OK);
    }
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(sorter_next(sorter, &record), SORTER_OK);
        assert_true(span_equal(record.key, span_of(order[i])));
    }
    sorter_free(sorter);
}

static void test_records_of_the_greatest_size_survive_runs(void **state)
{
    struct sorter *sorter = sorter_new("/tmp", 3 * SORTER_RECORD_MAX);
    struct sorter_record record;
    char value[SORTER_RECORD_MAX];
    (void)state;
    memset(value, 'v', sizeof(value));
    for (int i = 0; i < 40; i++) {
        char key = (char)('A' + i * 7 % 40);
        assert_int_equal(
            sorter_add(sorter, span_make(&key, 1), span_make(value, sizeof(value) - 1)), SORTER_OK);
    }
    for (int i = 0; i < 40; i++) {
        assert_int_equal(sorter_next(sorter, &record), SORTER_OK);
        assert_int_equal(record.key.ptr[0], 'A' + i);
        assert_memory_equal(record.value.ptr, value, sizeof(value) - 1);
    }
    assert_int_equal(sorter_add(sorter, SPAN("kk"), span_make(value, sizeof(value) - 1)),
                     SORTER_FAILED);
    sorter_free(sorter);
}

/* Records in order, but for every `gap`-th, which comes again: runs that need sorting and runs that
 * do not, in one file. */
static void test_records_in_order_but_for_some(void **state)
{
    (void)state;
    for (unsigned gap = 50; gap < 5000; gap *= 3) {
        struct sorter *sorter = sorter_new("/tmp", 4096);
        struct sorter_record record;
        char key[16], last[16] = "";
        unsigned added = 0, count = 0;
        for (unsigned i = 0; i < RECORDS; i++, added++) {
            snprintf(key, sizeof(key), "k%06u", i);
            assert_int_equal(sorter_add(sorter, span_of(key), SPAN("v")), SORTER_OK);
            snprintf(key, sizeof(key), "k%06u", i / 2);
            if (i % gap == gap - 1) {
                assert_int_equal(sorter_add(sorter, span_of(key), SPAN("w")), SORTER_OK);
                added++;
            }
        }
        for (; sorter_next(sorter, &record) == SORTER_OK; count++) {
            memcpy(key, record.key.ptr, record.key.len);
            key[record.key.len] = '\0';
            int order = strcmp(last, key);
            assert_true(order < 0 || (order == 0 && record.value.ptr[0] == 'w'));
            memcpy(last, key, sizeof(last));
        }
        assert_int_equal(count, added);
        sorter_free(sorter);
    }
}

static void test_a_folder_that_is_not_there_fails_the_spill(void **state)
{
    struct sorter *sorter = sorter_new("/nonexistent/folder", 1);
    (void)state;
    assert_int_equal(sorter_add(sorter, SPAN("a"), SPAN("")), SORTER_OK);
    assert_int_equal(sorter_add(sorter, SPAN("b"), SPAN("")), SORTER_FAILED);
    assert_int_equal(errno, ENOENT);
    sorter_free(sorter);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_records_come_in_order_and_equal_keys_as_added),
        cmocka_unit_test(test_a_sorter_without_records_ends_at_once),
        cmocka_unit_test(test_a_shorter_key_comes_first),
        cmocka_unit_test(test_records_of_the_greatest_size_survive_runs),
        cmocka_unit_test(test_records_in_order_but_for_some),
        cmocka_unit_test(test_a_folder_that_is_not_there_fails_the_spill),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
