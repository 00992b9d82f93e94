/* tls/memory: this process takes all the memory that it may have, and looks what the library gets.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <cmocka.h>

#include <openssl/crypto.h>

#include "tls/memory.h"

#define RECORD (16 * 1024 + 300) /* the library's buffer for one */

/* All that malloc has given, each block pointing to the one before. */
struct taken {
    struct taken *before;
};

static void take_all(struct taken **taken)
{
    for (size_t size = 1 << 20; size >= sizeof(struct taken); size /= 2) {
        struct taken *block;
        while ((block = malloc(size)) != NULL) {
            block->before = *taken;
            *taken = block;
        }
    }
}

static void give_back(struct taken **taken)
{
    while (*taken != NULL) {
        struct taken *before = (*taken)->before;
        free(*taken);
        *taken = before;
    }
}

static int no_memory(void **state)
{
    static struct taken *taken;
    struct rlimit limit;
    if (getrlimit(RLIMIT_AS, &limit) != 0) {
        return -1;
    }
    limit.rlim_cur = 1; /* no more than there is */
    if (setrlimit(RLIMIT_AS, &limit) != 0) {
        return -1;
    }
    take_all(&taken);
    *state = &taken;
    return 0;
}

static int memory_again(void **state)
{
    struct rlimit limit;
    getrlimit(RLIMIT_AS, &limit);
    limit.rlim_cur = limit.rlim_max;
    give_back(*state);
    return setrlimit(RLIMIT_AS, &limit);
}

static void with_memory_nothing_is_noticed(void **state)
{
    (void)state;
    tls_memory_clear();
    void *block = OPENSSL_realloc(OPENSSL_malloc(40), RECORD);
    assert_non_null(block);
    OPENSSL_free(block);
    assert_null(OPENSSL_malloc(0));
    assert_false(tls_memory_was_short());
}

static void records_are_read_and_written_without_memory(void **state)
{
    (void)state;
    tls_memory_clear();
    for (int round = 0; round < 1000; round++) { /* what is given back is there again */
        void *header = OPENSSL_malloc(40);
        void *buffer = OPENSSL_malloc(RECORD);
        assert_non_null(header);
        assert_non_null(buffer);
        memset(header, 1, 40);
        memset(buffer, 2, RECORD);
        OPENSSL_free(header);
        OPENSSL_free(buffer);
    }
    assert_false(tls_memory_was_short());
}

static void what_does_not_fit_the_reserve_is_noticed(void **state)
{
    (void)state;
    tls_memory_clear();
    assert_null(OPENSSL_malloc(32 * 1024));
    assert_true(tls_memory_was_short());
    tls_memory_clear();
    assert_false(tls_memory_was_short());
}

static void the_reserve_has_an_end(void **state)
{
    void *blocks[1000];
    size_t count = 0;
    (void)state;
    tls_memory_clear();
    while (count < 1000 && (blocks[count] = OPENSSL_malloc(64)) != NULL) {
        assert_int_equal((uintptr_t)blocks[count] % 16, 0);
        memset(blocks[count], (int)count, 64);
        count++;
    }
    assert_in_range(count, 10, 999);
    assert_true(tls_memory_was_short());
    for (size_t i = 0; i < count; i++) {
        const unsigned char *bytes = blocks[i];
        assert_int_equal(bytes[0], i & 255);
        assert_int_equal(bytes[63], i & 255);
        OPENSSL_free(blocks[i]);
    }
}

static void a_block_of_the_reserve_grows_with_what_is_in_it(void **state)
{
    (void)state;
    char *block = OPENSSL_malloc(10);
    assert_non_null(block);
    memcpy(block, "123456789", 10);
    assert_ptr_equal(OPENSSL_realloc(block, 60), block);
    char *grown = OPENSSL_realloc(block, RECORD);
    assert_non_null(grown);
    assert_string_equal(grown, "123456789");
    tls_memory_clear();
    assert_null(OPENSSL_realloc(grown, 64 * 1024));
    assert_true(tls_memory_was_short());
    assert_string_equal(grown, "123456789");
    OPENSSL_free(grown);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(with_memory_nothing_is_noticed),
#ifndef __SANITIZE_ADDRESS__ /* whose memory has no such limit */
        cmocka_unit_test_setup_teardown(records_are_read_and_written_without_memory, no_memory,
                                        memory_again),
        cmocka_unit_test_setup_teardown(what_does_not_fit_the_reserve_is_noticed, no_memory,
                                        memory_again),
        cmocka_unit_test_setup_teardown(the_reserve_has_an_end, no_memory, memory_again),
        cmocka_unit_test_setup_teardown(a_block_of_the_reserve_grows_with_what_is_in_it, no_memory,
                                        memory_again),
#endif
    };
    tls_memory_watch();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
