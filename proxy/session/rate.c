#include "proxy/session/rate.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "config/hash.h"

#define WINDOW      8 /* cells a key may be in */
#define MINUTE      60000
#define COUNT_BITS  8
#define MINUTE_BITS 24

/* A cell: the key's tag, 32 bits, the minute, and the count in it. Minute 0 is a free cell's. */
struct rate {
    struct hash_key key;
    size_t mask;
    _Atomic uint64_t cells[];
};

static uint64_t minute_of(uint64_t cell)
{
    return cell >> COUNT_BITS & ((UINT64_C(1) << MINUTE_BITS) - 1);
}

static uint64_t count_of(uint64_t cell)
{
    return cell & ((UINT64_C(1) << COUNT_BITS) - 1);
}

struct rate *rate_new(size_t keys, uint64_t seed)
{
    size_t cells = 64;
    while (cells < keys * 2) {
        cells *= 2;
    }
    struct rate *rate = calloc(1, sizeof *rate + cells * sizeof rate->cells[0]);
    if (rate != NULL) {
        rate->key = hash_key_of(seed);
        rate->mask = cells - 1;
    }
    return rate;
}

void rate_free(struct rate *rate)
{
    free(rate);
}

/* Whether the cell could be changed from what was seen; else somebody else was faster. */
static bool cell_set(_Atomic uint64_t *cell, uint64_t seen, uint64_t next)
{
    return atomic_compare_exchange_strong_explicit(cell, &seen, next, memory_order_relaxed,
                                                   memory_order_relaxed);
}

/* The key's cell in this minute, or one whose minute is over; NULL: all are taken. */
static _Atomic uint64_t *cell_for(struct rate *rate, uint64_t hash, uint64_t minute, uint64_t *seen)
{
    _Atomic uint64_t *free_cell = NULL;
    for (size_t i = 0; i < WINDOW; i++) {
        _Atomic uint64_t *cell = &rate->cells[(hash + i) & rate->mask];
        uint64_t word = atomic_load_explicit(cell, memory_order_relaxed);
        if (minute_of(word) == minute && word >> 32 == hash >> 32) {
            *seen = word;
            return cell;
        }
        if (minute_of(word) != minute && free_cell == NULL) {
            free_cell = cell;
            *seen = word;
        }
    }
    return free_cell;
}

bool rate_take(struct rate *rate, const void *key, size_t key_len, unsigned limit, uint64_t now)
{
    uint64_t hash = hash_bytes(&rate->key, key, key_len);
    uint64_t minute = (now / MINUTE + 1) & ((UINT64_C(1) << MINUTE_BITS) - 1);
    for (;;) {
        uint64_t seen = 0;
        _Atomic uint64_t *cell = cell_for(rate, hash, minute, &seen);
        uint64_t count = cell != NULL && minute_of(seen) == minute ? count_of(seen) : 0;
        if (cell == NULL || count >= limit) {
            return false;
        }
        uint64_t next = hash >> 32 << 32 | minute << COUNT_BITS | (count + 1);
        if (cell_set(cell, seen, next)) {
            return true;
        }
    }
}
