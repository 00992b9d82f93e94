#include "tls/memory.h"

#include <openssl/crypto.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* What a record's header is written with, and the buffer for a record. */
#define SMALL       64
#define LARGE       (17 * 1024)
#define SMALL_COUNT 64
#define LARGE_COUNT 16

/* Never touched while there is memory, so that it costs none. */
static struct {
    alignas(max_align_t) char small[SMALL_COUNT][SMALL];
    alignas(max_align_t) char large[LARGE_COUNT][LARGE];
    atomic_bool small_used[SMALL_COUNT];
    atomic_bool large_used[LARGE_COUNT];
} reserve;

static _Thread_local bool was_short;

/* ---- the reserve ---- */

static bool take(atomic_bool *used, size_t count, size_t *which)
{
    for (*which = 0; *which < count; (*which)++) {
        if (!atomic_exchange(&used[*which], true)) {
            return true;
        }
    }
    return false;
}

static void *reserve_take(size_t size)
{
    size_t which;
    if (size <= SMALL && take(reserve.small_used, SMALL_COUNT, &which)) {
        return reserve.small[which];
    }
    if (size > SMALL && size <= LARGE && take(reserve.large_used, LARGE_COUNT, &which)) {
        return reserve.large[which];
    }
    return NULL;
}

/* The size of one of its blocks; 0: it is none. */
static size_t reserve_size(const void *block)
{
    const char *at = block;
    if (at >= reserve.small[0] && at < reserve.small[0] + sizeof reserve.small) {
        return SMALL;
    }
    return at >= reserve.large[0] && at < reserve.large[0] + sizeof reserve.large ? LARGE : 0;
}

static void reserve_give(void *block, size_t size)
{
    const char *at = block;
    if (size == SMALL) {
        atomic_store(&reserve.small_used[(size_t)(at - reserve.small[0]) / SMALL], false);
    } else {
        atomic_store(&reserve.large_used[(size_t)(at - reserve.large[0]) / LARGE], false);
    }
}

/* ---- what the library calls ---- */

static void *or_reserve(void *block, size_t size)
{
    if (block == NULL) {
        block = reserve_take(size);
        was_short |= block == NULL;
    }
    return block;
}

/* As the library's own: of nothing there is none. */
static void *on_malloc(size_t size, const char *file, int line)
{
    (void)file;
    (void)line;
    return size != 0 ? or_reserve(malloc(size), size) : NULL;
}

static void on_free(void *block, const char *file, int line)
{
    const size_t reserved = reserve_size(block);
    (void)file;
    (void)line;
    if (reserved != 0) {
        reserve_give(block, reserved);
    } else {
        free(block);
    }
}

/* One of the reserve's becomes larger; it stays where it is when there is no memory. */
static void *reserve_grow(void *block, size_t reserved, size_t size)
{
    if (size <= reserved) {
        return block;
    }
    void *grown = or_reserve(malloc(size), size);
    if (grown != NULL) {
        memcpy(grown, block, reserved);
        reserve_give(block, reserved);
    }
    return grown;
}

/* What malloc has given is not moved to the reserve: its size is not known here. */
static void *on_realloc(void *block, size_t size, const char *file, int line)
{
    const size_t reserved = reserve_size(block);
    if (block == NULL) {
        return on_malloc(size, file, line);
    }
    if (size == 0) {
        on_free(block, file, line);
        return NULL;
    }
    if (reserved != 0) {
        return reserve_grow(block, reserved, size);
    }
    void *grown = realloc(block, size);
    was_short |= grown == NULL;
    return grown;
}

void tls_memory_watch(void)
{
    CRYPTO_set_mem_functions(on_malloc, on_realloc, on_free);
}

/* ---- whether there was none ---- */

void tls_memory_clear(void)
{
    was_short = false;
}

bool tls_memory_was_short(void)
{
    return was_short;
}
