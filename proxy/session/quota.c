#include "proxy/session/quota.h"

#include <stdatomic.h>
#include <stdlib.h>

#define WINDOW     16 /* cells a key may be in */
#define COUNT_BITS 16
#define COUNT_MASK ((UINT64_C(1) << COUNT_BITS) - 1)

/*
 * A cell is the key's tag (48 bits of its hash) above its count; 0 is a free cell. Nothing else is
 * guarded by a cell, so relaxed order is enough. Two keys that share tag and window would be
 * counted as one: with 10,000 keys at once that is a chance of one in five million.
 */
struct quota {
    uint64_t key[2];
    size_t mask; /* cells - 1, a power of two less one */
    _Atomic uint64_t cells[];
};

static uint64_t rotate(uint64_t x, unsigned n)
{
    return x << n | x >> (64 - n);
}

static void sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[1] = rotate(v[1], 13) ^ v[0];
    v[0] = rotate(v[0], 32);
    v[2] += v[3];
    v[3] = rotate(v[3], 16) ^ v[2];
    v[0] += v[3];
    v[3] = rotate(v[3], 21) ^ v[0];
    v[2] += v[1];
    v[1] = rotate(v[1], 17) ^ v[2];
    v[2] = rotate(v[2], 32);
}

/*
 * SipHash-1-3 (Aumasson, Bernstein): keyed, so a stranger with an IPv6 prefix to choose from cannot
 * aim its addresses at one window and fill it. The hash never leaves the process, and a guess at it
 * gains no more than a refused connection, so the short variant is enough.
 */
static uint64_t hash(const struct quota *quota, const unsigned char *bytes, size_t len)
{
    uint64_t v[4] = {
        quota->key[0] ^ UINT64_C(0x736f6d6570736575), quota->key[1] ^ UINT64_C(0x646f72616e646f6d),
        quota->key[0] ^ UINT64_C(0x6c7967656e657261), quota->key[1] ^ UINT64_C(0x7465646279746573)};
    uint64_t word;

    for (size_t left = len;; left -= 8, bytes += 8) {
        const bool tail = left < 8;
        word = tail ? (uint64_t)len << 56 : 0;
        for (size_t i = 0; i < (tail ? left : 8); i++) {
            word |= (uint64_t)bytes[i] << (8 * i);
        }
        v[3] ^= word;
        sip_round(v);
        v[0] ^= word;
        if (tail) {
            break;
        }
    }
    v[2] ^= 0xff;
    for (int i = 0; i < 3; i++) {
        sip_round(v);
    }
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

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
    /* The second key is only there for the form: the secret has 64 bits. */
    quota->key[0] = seed;
    quota->key[1] = rotate(seed, 32) * UINT64_C(0x9e3779b97f4a7c15);
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
    const uint64_t key_hash = hash(quota, key, key_len);
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
    const uint64_t key_hash = hash(quota, key, key_len);
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
