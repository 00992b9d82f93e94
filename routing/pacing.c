#include "routing/pacing.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "config/hash.h"

/*
 * A pace is, in one word, when the silence ends (40 bits, 0: not slowed) above the transactions
 * that are open. Nothing else is guarded by it, so relaxed order is enough.
 */
#define OPEN_BITS 24
#define OPEN_MASK ((UINT64_C(1) << OPEN_BITS) - 1)

struct pace {
    _Atomic uint64_t name; /* its hash; 0: free. Never freed, so a search ends at the first free */
    _Atomic uint64_t word;
};

struct pacing {
    size_t count;
    struct pace paces[];
};

struct pacing *pacing_new(size_t relays)
{
    if (relays > SIZE_MAX / 2 / sizeof(struct pace)) {
        return NULL;
    }
    struct pacing *pacing = calloc(1, sizeof *pacing + relays * sizeof pacing->paces[0]);
    if (pacing != NULL) {
        pacing->count = relays;
    }
    return pacing;
}

void pacing_free(struct pacing *pacing)
{
    free(pacing);
}

/* Taken for the name: names are the operator's own, and few. */
static uint64_t hash_of(struct span name)
{
    const struct hash_key key = hash_key_of(0);
    uint64_t hash = hash_bytes(&key, name.ptr, name.len);
    return hash != 0 ? hash : 1;
}

struct pace *pacing_of(struct pacing *pacing, struct span relay)
{
    const uint64_t name = hash_of(relay);

    for (size_t i = 0; i < pacing->count; i++) {
        struct pace *pace = &pacing->paces[i];
        uint64_t held = atomic_load_explicit(&pace->name, memory_order_relaxed);
        if (held == 0 &&
            atomic_compare_exchange_strong_explicit(&pace->name, &held, name, memory_order_relaxed,
                                                    memory_order_relaxed)) {
            held = name;
        }
        if (held == name) {
            return pace;
        }
    }
    return NULL;
}

static uint64_t load(const struct pace *pace)
{
    return atomic_load_explicit(&pace->word, memory_order_relaxed);
}

/* False: another thread was quicker; *was is what it left. */
static bool swap(struct pace *pace, uint64_t *was, uint64_t next)
{
    return atomic_compare_exchange_weak_explicit(&pace->word, was, next, memory_order_relaxed,
                                                 memory_order_relaxed);
}

static unsigned allowed(uint64_t word, unsigned max_connections, uint64_t now)
{
    const uint64_t quiet_until = word >> OPEN_BITS;
    if (quiet_until == 0) {
        return PACE_NO_LIMIT;
    }
    if (now < quiet_until) {
        return 0;
    }
    const uint64_t ramp = 1 + (now - quiet_until) / PACING_STEP;
    return ramp < max_connections ? (unsigned)ramp : PACE_NO_LIMIT;
}

bool pace_begin(struct pace *pace, unsigned max_connections, uint64_t now)
{
    uint64_t was, next;
    if (pace == NULL) {
        return true;
    }
    was = load(pace);
    do {
        const unsigned most = allowed(was, max_connections, now);
        const uint64_t open = was & OPEN_MASK;
        if (open >= most) {
            return false;
        }
        next = most == PACE_NO_LIMIT ? open + 1 : was + 1; /* at its end the ramp is forgotten */
    } while (!swap(pace, &was, next));
    return true;
}

void pace_end(struct pace *pace)
{
    if (pace == NULL) {
        return;
    }
    uint64_t was = load(pace);
    while ((was & OPEN_MASK) != 0 && !swap(pace, &was, was - 1)) {
    }
}

bool pace_slow(struct pace *pace, uint64_t now)
{
    const uint64_t quiet_until = now + PACING_QUIET;
    uint64_t was, next;
    if (pace == NULL) {
        return false;
    }
    was = load(pace);
    do {
        if (was >> OPEN_BITS >= quiet_until) {
            return false; /* told by a worker whose clock is ahead */
        }
        next = quiet_until << OPEN_BITS | (was & OPEN_MASK);
    } while (!swap(pace, &was, next));
    return was >> OPEN_BITS <= now;
}

unsigned pace_allowed(const struct pace *pace, unsigned max_connections, uint64_t now)
{
    return pace == NULL ? PACE_NO_LIMIT : allowed(load(pace), max_connections, now);
}
