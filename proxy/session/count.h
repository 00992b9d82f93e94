/*
 * count: a number that one thread writes and any may read. A plain load and store is enough for
 * that, and cheaper than a locked addition.
 */
#ifndef SPLITMX_PROXY_SESSION_COUNT_H
#define SPLITMX_PROXY_SESSION_COUNT_H

#include <stdatomic.h>
#include <stdint.h>

static inline uint64_t count_get(const _Atomic uint64_t *count)
{
    return atomic_load_explicit(count, memory_order_relaxed);
}

static inline void count_add(_Atomic uint64_t *count, uint64_t n)
{
    atomic_store_explicit(count, count_get(count) + n, memory_order_relaxed);
}

#endif
