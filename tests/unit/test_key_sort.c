/* key_sort: the order of keys that agree for long, end early, hold zeros, or are equal. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "config/random.h"
#include "routing/key_sort.h"

#define KEY_MOST 40
#define COUNT    3000

/* What a record is here: its length, then the key, then its number. */
struct record {
    unsigned char len;
    char key[KEY_MOST];
    unsigned number;
};

static struct span key_of_record(const char *bytes)
{
    const struct record *record = (const void *)bytes;
    return span_make(record->key, record->len);
}

static int compare(struct span a, struct span b)
{
    size_t common = a.len < b.len ? a.len : b.len;
    int order = memcmp(a.ptr, b.ptr, common);
    return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

static void expect_sorted(const struct record *records, size_t count)
{
    static struct key_item items[COUNT], spare[COUNT / 2];
    static bool seen[COUNT];
    memset(seen, 0, sizeof(seen));
    for (size_t i = 0; i < count; i++) {
        items[i].record = (const char *)&records[i];
    }
    key_sort(items, count, spare, key_of_record);
    for (size_t i = 0; i < count; i++) {
        const struct record *now = (const void *)items[i].record;
        assert_false(seen[now->number]);
        seen[now->number] = true;
        if (i > 0) {
            const struct record *before = (const void *)items[i - 1].record;
            int order =
                compare(key_of_record((const char *)before), key_of_record((const char *)now));
            assert_true(order < 0 || (order == 0 && before->number < now->number));
        }
    }
}

/* Keys of few different letters, so that many agree, many are equal and many begin others. */
static void check(unsigned letters, unsigned most, unsigned common, size_t count)
{
    static struct record records[COUNT];
    static const char alphabet[] = {'\0', 'a', '\xff', '@', 'z', '\1'};
    uint64_t random = letters * 100 + most;
    for (size_t i = 0; i < count; i++) {
        struct record *record = &records[i];
        record->number = (unsigned)i;
        record->len = (unsigned char)(common + random_step(&random) % (most + 1));
        memset(record->key, 'k', common);
        for (size_t at = common; at < record->len; at++) {
            record->key[at] = alphabet[random_step(&random) % letters];
        }
    }
    expect_sorted(records, count);
}

static void test_keys_come_in_order_and_equal_ones_as_they_were(void **state)
{
    (void)state;
    for (unsigned letters = 1; letters <= 6; letters++) {
        for (unsigned most = 0; most <= 24; most++) {
            check(letters, most, 0, 200);
            check(letters, most, 14, 200);
        }
        check(letters, 8, 0, COUNT);
        check(letters, 20, 7, COUNT);
    }
}

static void test_few_records_are_sorted_as_well(void **state)
{
    (void)state;
    for (size_t count = 0; count < 40; count++) {
        check(3, 10, 0, count);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys_come_in_order_and_equal_ones_as_they_were),
        cmocka_unit_test(test_few_records_are_sorted_as_well),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
