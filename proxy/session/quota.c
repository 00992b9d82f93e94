#include "proxy/session/quota.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "config/hash.h"

#define WINDOW     16 /* cells a key may be in */
#define COUNT_BITS 16
#define COUNT_MASK ((UINT64_C(1) << COUNT_BITS) - 1)

/*
 * A cell is the key's tag (48 bits of its hash) above its count; 0 is a free cell. Nothing else is
 * guarded by a cell, so relaxed order is enough. Two keys that share tag and window would be
 * counted as one: with 10,000 keys at once that is a chance of one in five million.
 */
struct quota {
    struct hash_key key;
    size_t mask; /* cells - 1, a power of two less one */
    _Atomic uint64_t cells[];
};

struct quota *quota_new(size_t keys, uint64_t seed)
{
    /* Four cells a key: a window is then full once in some hundred thousand new keys at the very
     * worst. */
    size_t cells = 64;
    if (keys > QUOTA_NONE / 8) {
        return NULL;
    }
    while (cells < keys * 4) {
        cells *= 2;
    }
    struct quota *quota = calloc(1, sizeof *quota + cells * sizeof quota->cells[0]);
    if (quota == NULL) {
        return NULL;
    }
    quota->mask = cells - 1;
    quota->key = hash_key_of(seed);
    for (size_t i = 0; i < cells; i++) {
        atomic_init(&quota->cells[i], 0);
    }
    return quota;
}

void quota_free(struct quota *quota)
{
    free(quota);
}

/* Adds one to a cell while it is the tag's. False: it is no longer, look again. *taken tells the
 * outcome. */
static bool cell_add(_Atomic uint64_t *cell, uint64_t tag, unsigned limit, bool *taken)
{
    uint64_t word = atomic_load_explicit(cell, memory_order_relaxed);
    do {
        if (word == 0 || word >> COUNT_BITS != tag) {
            return false;
        }
        if ((word & COUNT_MASK) >= limit) {
            *taken = false;
            return true;
        }
    } while (!atomic_compare_exchange_weak_explicit(cell, &word, word + 1, memory_order_relaxed,
                                                    memory_order_relaxed));
    *taken = true;
    return true;
}

/* One look at the window. True: settled, *cell says how; false: another thread was quicker. */
static bool window_take(struct quota *quota, uint64_t key_hash, unsigned limit, quota_cell *cell)
{
    const uint64_t tag = key_hash >> COUNT_BITS;
    size_t free_at = SIZE_MAX;

    /* The whole window: keys come and go, so the key may be behind a cell that has become free. */
    for (size_t i = 0; i < WINDOW; i++) {
        const size_t at = (size_t)(key_hash + i) & quota->mask;
        const uint64_t word = atomic_load_explicit(&quota->cells[at], memory_order_relaxed);
        if (word == 0) {
            free_at = free_at == SIZE_MAX ? at : free_at;
        } else if (word >> COUNT_BITS == tag) {
            bool taken;
            if (!cell_add(&quota->cells[at], tag, limit, &taken)) {
                return false;
            }
            *cell = taken ? (quota_cell)at : QUOTA_NONE;
            return true;
        }
    }
    if (free_at == SIZE_MAX) {
        *cell = QUOTA_NONE;
        return true;
    }
    uint64_t none = 0;
    *cell = (quota_cell)free_at;
    return atomic_compare_exchange_strong_explicit(&quota->cells[free_at], &none,
                                                   tag << COUNT_BITS | 1, memory_order_relaxed,
                                                   memory_order_relaxed);
}

quota_cell quota_take(struct quota *quota, const void *key, size_t key_len, unsigned limit)
{
    const uint64_t key_hash = hash_bytes(&quota->key, key, key_len);
    quota_cell cell = QUOTA_NONE;

    if (limit == 0) {
        return QUOTA_NONE;
    }
    limit = limit < COUNT_MASK ? limit : (unsigned)COUNT_MASK;
    while (!window_take(quota, key_hash, limit, &cell)) {
    }
    return cell;
}

void quota_give(struct quota *quota, quota_cell cell)
{
    if (cell == QUOTA_NONE || cell > quota->mask) {
        return;
    }
    uint64_t word = atomic_load_explicit(&quota->cells[cell], memory_order_relaxed);
    uint64_t less;
    do {
        if (word == 0) {
            return;
        }
        less = (word & COUNT_MASK) <= 1 ? 0 : word - 1;
    } while (!atomic_compare_exchange_weak_explicit(&quota->cells[cell], &word, less,
                                                    memory_order_relaxed, memory_order_relaxed));
}

unsigned quota_count(const struct quota *quota, const void *key, size_t key_len)
{
    const uint64_t key_hash = hash_bytes(&quota->key, key, key_len);
    unsigned count = 0;

    for (size_t i = 0; i < WINDOW; i++) {
        const uint64_t word = atomic_load_explicit(
            &quota->cells[(size_t)(key_hash + i) & quota->mask], memory_order_relaxed);
        if (word >> COUNT_BITS == key_hash >> COUNT_BITS) {
            count += (unsigned)(word & COUNT_MASK);
        }
    }
    return count;
}

size_t quota_client_key(const struct net_address *address, unsigned char *out)
{
    switch (address->any.sa_family) {
    case AF_INET:
        memcpy(out, &address->in4.sin_addr, 4);
        return 4;
    case AF_INET6:
        memcpy(out, &address->in6.sin6_addr, 8);
        return 8;
    default: /* unix: whoever is behind it is one client */
        return 0;
    }
}
