/* spares: what is given back is taken again, within bounds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdbool.h>
#include <string.h>

#include "config/spares.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define KEEPS false
#else
#define KEEPS true
#endif

static void what_is_given_back_is_taken_again(void **state)
{
    struct spares spares = {0};
    (void)state;
    char *first = spare_new(&spares, 1000);
    spare_free(first);
    char *again = spare_take(&spares, 1000);
    char *other = spare_take(&spares, 1000);
    if (KEEPS) {
        assert_ptr_equal(again, first);
    }
    assert_ptr_not_equal(other, again);
    spare_free(again);
    spare_free(other);
    spares_release(&spares);
}

static void a_new_one_is_zero_though_it_was_used(void **state)
{
    struct spares spares = {0};
    (void)state;
    for (size_t size = 0; size < 40000; size = size * 2 + 1) {
        char *block = spare_take(&spares, size);
        memset(block, 0xff, size);
        spare_free(block);
        block = spare_new(&spares, size);
        for (size_t i = 0; i < size; i++) {
            assert_int_equal(block[i], 0);
        }
        spare_free(block);
    }
    spares_release(&spares);
}

/* A block serves every size of its class, and none beyond: the sanitizer and valgrind look on. */
static void every_size_has_room_for_itself(void **state)
{
    struct spares spares = {0};
    (void)state;
    for (size_t size = 1; size < 70000; size += size < 4200 ? 1 : 777) {
        char *block = spare_take(&spares, size);
        assert_int_equal((uintptr_t)block % _Alignof(max_align_t), 0);
        memset(block, 0x5a, size);
        spare_free(block);
    }
    spares_release(&spares);
}

static void no_more_is_kept_than_the_bound(void **state)
{
    enum { BLOCKS = 200, SIZE = 4000 };
    struct spares spares = {0};
    void *blocks[BLOCKS];
    size_t kept = 0;
    (void)state;
    for (int i = 0; i < BLOCKS; i++) {
        blocks[i] = spare_take(&spares, SIZE);
    }
    for (int i = 0; i < BLOCKS; i++) {
        spare_free(blocks[i]);
    }
    for (size_t i = 0; i < SPARES_CLASSES; i++) {
        kept += spares.count[i];
    }
    assert_int_equal(kept, KEEPS ? SPARES_KEPT / 4096 : 0);
    spares_release(&spares);
    assert_null(spares.kept[SPARES_FINE / SPARES_STEP - 1]);
}

static void what_outlives_a_release_is_still_there(void **state)
{
    struct spares spares = {0};
    (void)state;
    char *block = spare_new(&spares, 100);
    spares_release(&spares);
    memset(block, 1, 100);
    spare_free(block);
    spare_free(NULL);
    spares_release(&spares);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_given_back_is_taken_again),
        cmocka_unit_test(a_new_one_is_zero_though_it_was_used),
        cmocka_unit_test(every_size_has_room_for_itself),
        cmocka_unit_test(no_more_is_kept_than_the_bound),
        cmocka_unit_test(what_outlives_a_release_is_still_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
