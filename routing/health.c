#include "routing/health.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "config/hash.h"

/* The rules of section 6, in milliseconds. */
#define RUN_MAX      3     /* failures in a row */
#define ATTEMPTS_MIN 10    /* attempts, over half of them failed */
#define LOCAL_WAIT   5000  /* between probes of a local endpoint, at least */
#define LOCAL_JITTER 5000  /* and so much more at most */
#define REMOTE_WAIT  60000 /* between probes of a remote one */
/* An endpoint may answer each probe and fail all mail (TLS, say). It is not probed at their pace.
 */
#define CLEARED_WAIT 5000

#define WINDOW    16 /* cells an endpoint may be in */
#define KEY_WORDS ((sizeof(struct net_address) + 7) / 8 + 1)
#define TOUCH     1000 /* ms: how exact a cell's last use is */

/* ---- the breaker: a value, and what happens to it ---- */

enum cell_state { CELL_FREE, CELL_BUSY, CELL_OK, CELL_SUSPECT, CELL_OPEN };

struct breaker {
    enum cell_state state;
    bool claimed; /* a probe is under way */
    bool good;    /* OPEN: the last probe was */
    unsigned run; /* failures in a row */
    uint64_t due; /* the next probe; claimed: when the claim runs out; OK: not before */
    unsigned generation;
};

/*
 * In one word, so that every transition is one compare-and-swap: state 3 bits, claimed, good, run
 * 8, due 40, generation 11. The generation counts what the cell was used for; it comes round after
 * 2048 owners, each of which was idle for HEALTH_IDLE.
 */
#define RUN_BITS        8
#define DUE_BITS        40
#define GENERATION_BITS 11
#define MASK(bits)      ((UINT64_C(1) << (bits)) - 1)

static uint64_t pack(struct breaker b)
{
    return (uint64_t)b.state | (uint64_t)b.claimed << 3 | (uint64_t)b.good << 4 |
           (uint64_t)b.run << 5 | (b.due & MASK(DUE_BITS)) << 13 |
           (b.generation & MASK(GENERATION_BITS)) << 53;
}

static struct breaker unpack(uint64_t word)
{
    return (struct breaker){.state = (enum cell_state)(word & 7),
                            .claimed = word >> 3 & 1,
                            .good = word >> 4 & 1,
                            .run = (unsigned)(word >> 5 & MASK(RUN_BITS)),
                            .due = word >> 13 & MASK(DUE_BITS),
                            .generation = (unsigned)(word >> 53)};
}

static bool breaker_is_used(struct breaker b)
{
    return b.state != CELL_FREE && b.state != CELL_BUSY;
}

static bool breaker_wants_probe(struct breaker b)
{
    return b.state == CELL_SUSPECT || b.state == CELL_OPEN;
}

static void breaker_fail(struct breaker *b)
{
    b->run += b->run < MASK(RUN_BITS);
}

/* Mail's outcomes after the suspicion say nothing that the probe does not say better: they may be
 * of connections begun long before. */
static enum health_change breaker_note(struct breaker *b, bool ok, bool half_failed, uint64_t now)
{
    if (b->state != CELL_OK) {
        return HEALTH_SAME;
    }
    if (ok) {
        b->run = 0;
    } else {
        breaker_fail(b);
    }
    if (b->run < RUN_MAX && !half_failed) {
        return HEALTH_SAME;
    }
    b->state = CELL_SUSPECT;
    b->due = b->due > now ? b->due : now;
    return HEALTH_SUSPECTED;
}

static void breaker_close(struct breaker *b, uint64_t now)
{
    b->state = CELL_OK;
    b->run = 0;
    b->due = now + CLEARED_WAIT;
}

static enum health_change breaker_probed(struct breaker *b, bool ok, uint64_t wait, uint64_t now)
{
    if (!breaker_wants_probe(*b)) {
        return HEALTH_SAME; /* settled by another, after this one's claim had run out */
    }
    const bool was_open = b->state == CELL_OPEN;
    const bool was_good = b->good;
    b->claimed = false;
    if (ok && (!was_open || was_good)) {
        breaker_close(b, now);
        return was_open ? HEALTH_CLOSED : HEALTH_CLEARED;
    }
    b->good = ok;
    b->state = CELL_OPEN;
    b->due = now + wait;
    if (!ok) {
        breaker_fail(b);
    }
    return was_open ? HEALTH_SAME : HEALTH_OPENED;
}

static void breaker_claim(struct breaker *b, uint64_t now)
{
    b->claimed = true;
    b->due = now + HEALTH_LEASE;
}

/* Local endpoints are probed often enough for mail never to wait on them. At a remote one that has
 * answered a probe the next mail need not go elsewhere for a minute more. */
static bool breaker_takes_mail(struct breaker b, bool local, uint64_t now)
{
    return b.state == CELL_OPEN && !local && (now >= b.due || (b.good && !b.claimed));
}

/* ---- attempts in the last 10 s ---- */

/*
 * One word: five slices of 2 s, the newest lowest, each attempts and failures in 4 bits, below the
 * newest slice's number. So what counts is never older than 10 s, and all of the last 8 s counts.
 * Of a slice only the first 15 attempts are counted: at that rate they stand for the others.
 */
#define SLICE       2000
#define SLICES      5
#define SLICE_BITS  8
#define NUMBER_BITS 24

static uint64_t attempts_add(uint64_t word, bool ok, uint64_t now)
{
    const uint64_t number = now / SLICE & MASK(NUMBER_BITS);
    uint64_t slices = word & MASK(SLICES * SLICE_BITS);
    uint64_t newest = word >> (SLICES * SLICE_BITS);
    const uint64_t ahead = (number - newest) & MASK(NUMBER_BITS);

    /* Of two clocks one may lag behind: then the number is just below, and the newest slice does.
     */
    if (ahead <= MASK(NUMBER_BITS) / 2) {
        slices = ahead < SLICES ? slices << (ahead * SLICE_BITS) & MASK(SLICES * SLICE_BITS) : 0;
        newest = number;
    }
    if ((slices & 15) < 15) {
        slices += ok ? 1 : 1 + 16;
    }
    return newest << (SLICES * SLICE_BITS) | slices;
}

static bool attempts_half_failed(uint64_t word)
{
    unsigned attempts = 0, failures = 0;

    for (unsigned i = 0; i < SLICES; i++, word >>= SLICE_BITS) {
        attempts += word & 15;
        failures += word >> 4 & 15;
    }
    return attempts >= ATTEMPTS_MIN && failures * 2 > attempts;
}

/* ---- the table ---- */

/*
 * `key` changes only while `control` is BUSY, between two generations. Whoever has read control,
 * then found its key here, and then swaps that same control for another, has swapped its own
 * endpoint's: that is all the safety there is to it. Stores to key are release and loads acquire,
 * so that a reader who sees a new word of it also sees that control has changed. The other words
 * are only ever advice.
 */
struct cell {
    _Atomic uint64_t control;  /* a breaker */
    _Atomic uint64_t attempts; /* in the last 10 s */
    _Atomic uint64_t used;     /* when mail last asked or told */
    _Atomic uint64_t since;    /* when the state last changed */
    _Atomic uint64_t key[KEY_WORDS];
};

struct health {
    struct hash_key secret;
    size_t mask; /* cells - 1, a power of two less one */
    struct cell cells[];
};

struct key {
    uint64_t words[KEY_WORDS];
};

static struct key key_of(const struct health_endpoint *endpoint)
{
    struct key key = {{0}};
    memcpy(key.words, &endpoint->address, sizeof endpoint->address);
    key.words[KEY_WORDS - 1] = endpoint->proxy;
    return key;
}

static uint64_t key_place(const struct health *health, const struct key *key)
{
    return hash_bytes(&health->secret, key->words, sizeof key->words);
}

static uint64_t load(const _Atomic uint64_t *word)
{
    return atomic_load_explicit(word, memory_order_acquire);
}

static void store(_Atomic uint64_t *word, uint64_t value)
{
    atomic_store_explicit(word, value, memory_order_release);
}

static bool swap(_Atomic uint64_t *word, uint64_t from, uint64_t to)
{
    return atomic_compare_exchange_strong_explicit(word, &from, to, memory_order_acq_rel,
                                                   memory_order_acquire);
}

struct health *health_new(size_t endpoints, uint64_t seed)
{
    size_t cells = WINDOW;
    if (endpoints > SIZE_MAX / 8 / sizeof(struct cell)) {
        return NULL;
    }
    while (cells < endpoints * 2) {
        cells *= 2;
    }
    struct health *health = calloc(1, sizeof *health + cells * sizeof health->cells[0]);
    if (health != NULL) {
        health->secret = hash_key_of(seed);
        health->mask = cells - 1;
    }
    return health;
}

void health_free(struct health *health)
{
    free(health);
}

static bool cell_holds(const struct cell *cell, const struct key *key)
{
    for (size_t i = 0; i < KEY_WORDS; i++) {
        if (load(&cell->key[i]) != key->words[i]) {
            return false;
        }
    }
    return true;
}

static bool same_generation(const struct cell *cell, struct breaker b)
{
    struct breaker now = unpack(load(&cell->control));
    return breaker_is_used(now) && now.generation == b.generation;
}

/* The endpoint's cell and what its breaker was, or NULL. */
static struct cell *find(struct health *health, const struct key *key, struct breaker *breaker)
{
    const uint64_t place = key_place(health, key);

    for (size_t i = 0; i < WINDOW; i++) {
        struct cell *cell = &health->cells[(place + i) & health->mask];
        *breaker = unpack(load(&cell->control));
        if (breaker_is_used(*breaker) && cell_holds(cell, key) && same_generation(cell, *breaker)) {
            return cell;
        }
    }
    return NULL;
}

static bool is_past(uint64_t then, uint64_t wait, uint64_t now)
{
    return now > then && now - then > wait;
}

static void cell_touch(struct cell *cell, uint64_t now)
{
    if (is_past(load(&cell->used), TOUCH, now)) {
        store(&cell->used, now);
    }
}

static bool cell_is_stale(const struct cell *cell, struct breaker b, uint64_t now)
{
    const uint64_t idle = b.state == CELL_OK ? HEALTH_IDLE : HEALTH_FORGET;
    return b.state != CELL_BUSY && (b.state == CELL_FREE || is_past(load(&cell->used), idle, now));
}

/* Makes a cell for an endpoint that has none; an owner's before it was idle for longer than its
 * attempts count. Where another thread is about to do likewise nearby,
 * it may be for the same endpoint: then this one does not, and one note is lost. */
static bool insert(struct health *health, const struct key *key, uint64_t now)
{
    const uint64_t place = key_place(health, key);
    struct cell *cell = NULL;
    struct breaker was = {.state = CELL_FREE};

    for (size_t i = 0; i < WINDOW; i++) {
        struct cell *at = &health->cells[(place + i) & health->mask];
        const struct breaker b = unpack(load(&at->control));
        if (b.state == CELL_BUSY) {
            return false;
        }
        if (cell == NULL && cell_is_stale(at, b, now)) {
            cell = at;
            was = b;
        }
    }
    struct breaker next = {.state = CELL_BUSY, .generation = was.generation + 1};
    if (cell == NULL || !swap(&cell->control, pack(was), pack(next))) {
        return false;
    }
    for (size_t i = 0; i < KEY_WORDS; i++) {
        store(&cell->key[i], key->words[i]);
    }
    store(&cell->used, now);
    store(&cell->since, now);
    next.state = CELL_OK;
    store(&cell->control, pack(next));
    return true;
}

static bool cell_count(struct cell *cell, bool ok, uint64_t now)
{
    uint64_t was, next;
    do {
        was = load(&cell->attempts);
        next = attempts_add(was, ok, now);
    } while (!swap(&cell->attempts, was, next));
    return attempts_half_failed(next);
}

/* True: it has become next. False: another thread was quicker, look again. */
static bool cell_change(struct cell *cell, struct breaker was, struct breaker next, uint64_t now)
{
    if (pack(was) != pack(next) && !swap(&cell->control, pack(was), pack(next))) {
        return false;
    }
    if (was.state != next.state) {
        store(&cell->since, now);
    }
    return true;
}

enum health_verdict health_ask(struct health *health, const struct health_endpoint *endpoint,
                               uint64_t now)
{
    const struct key key = key_of(endpoint);
    const bool local = net_address_is_local(&endpoint->address);
    struct breaker was;
    struct cell *cell;

    while ((cell = find(health, &key, &was)) != NULL) {
        struct breaker next = was;
        cell_touch(cell, now);
        if (was.state != CELL_OPEN) {
            break;
        }
        if (!breaker_takes_mail(was, local, now)) {
            return HEALTH_SKIP;
        }
        breaker_claim(&next, now);
        if (cell_change(cell, was, next, now)) {
            return HEALTH_TRY;
        }
    }
    return HEALTH_GO;
}

enum health_change health_note(struct health *health, const struct health_endpoint *endpoint,
                               bool ok, uint64_t now)
{
    const struct key key = key_of(endpoint);
    enum health_change change = HEALTH_SAME;
    bool counted = false, half_failed = false;
    struct breaker was, next;
    struct cell *cell;

    do {
        cell = find(health, &key, &was);
        if (cell == NULL && insert(health, &key, now)) {
            cell = find(health, &key, &was);
        }
        if (cell == NULL) {
            return HEALTH_SAME;
        }
        cell_touch(cell, now);
        if (!counted && was.state == CELL_OK) {
            half_failed = cell_count(cell, ok, now);
            counted = true;
        }
        next = was;
        change = breaker_note(&next, ok, half_failed, now);
    } while (!cell_change(cell, was, next, now));
    return change;
}

uint64_t health_next_probe(const struct health *health)
{
    uint64_t first = UINT64_MAX;

    for (size_t i = 0; i <= health->mask; i++) {
        const struct breaker b = unpack(load(&health->cells[i].control));
        if (breaker_wants_probe(b) && b.due < first) {
            first = b.due;
        }
    }
    return first;
}

static void cell_endpoint(const struct cell *cell, struct health_endpoint *endpoint)
{
    struct key key;
    for (size_t i = 0; i < KEY_WORDS; i++) {
        key.words[i] = load(&cell->key[i]);
    }
    memcpy(&endpoint->address, key.words, sizeof endpoint->address);
    endpoint->proxy = key.words[KEY_WORDS - 1] != 0;
}

bool health_claim_probe(struct health *health, uint64_t now, struct health_endpoint *endpoint)
{
    for (size_t i = 0; i <= health->mask; i++) {
        struct cell *cell = &health->cells[i];
        const struct breaker was = unpack(load(&cell->control));
        struct breaker next = was;
        if (!breaker_wants_probe(was) || now < was.due) {
            continue;
        }
        if (cell_is_stale(cell, was, now)) {
            swap(&cell->control, pack(was),
                 pack((struct breaker){.state = CELL_FREE, .generation = was.generation}));
            continue;
        }
        breaker_claim(&next, now);
        cell_endpoint(cell, endpoint);
        if (swap(&cell->control, pack(was), pack(next))) {
            return true;
        }
    }
    return false;
}

enum health_change health_probed(struct health *health, const struct health_endpoint *endpoint,
                                 bool ok, uint64_t now)
{
    const struct key key = key_of(endpoint);
    uint64_t wait = REMOTE_WAIT;
    enum health_change change;
    struct breaker was, next;
    struct cell *cell;

    if (net_address_is_local(&endpoint->address)) {
        const uint64_t chance[] = {key_place(health, &key), now};
        wait = LOCAL_WAIT + hash_bytes(&health->secret, chance, sizeof chance) % (LOCAL_JITTER + 1);
    }
    do {
        cell = find(health, &key, &was);
        if (cell == NULL) {
            return HEALTH_SAME;
        }
        next = was;
        change = breaker_probed(&next, ok, wait, now);
        if (next.state == CELL_OK && change != HEALTH_SAME) {
            store(&cell->attempts, 0); /* the past is settled */
        }
    } while (!cell_change(cell, was, next, now));
    return change;
}

void health_not_probed(struct health *health, const struct health_endpoint *endpoint, uint64_t now)
{
    const struct key key = key_of(endpoint);
    struct breaker was, next;
    struct cell *cell;

    do {
        cell = find(health, &key, &was);
        if (cell == NULL || !was.claimed) {
            return;
        }
        next = was;
        next.claimed = false;
        next.due = now + HEALTH_AGAIN;
    } while (!cell_change(cell, was, next, now));
}

static enum health_state state_of(enum cell_state state)
{
    switch (state) {
    case CELL_SUSPECT:
        return HEALTH_SUSPECT;
    case CELL_OPEN:
        return HEALTH_OPEN;
    case CELL_FREE:
    case CELL_BUSY:
    case CELL_OK:
        break;
    }
    return HEALTH_OK;
}

bool health_next(const struct health *health, size_t *cursor, struct health_status *status)
{
    while (*cursor <= health->mask) {
        const struct cell *cell = &health->cells[(*cursor)++];
        const struct breaker b = unpack(load(&cell->control));
        if (!breaker_is_used(b)) {
            continue;
        }
        cell_endpoint(cell, &status->endpoint);
        status->state = state_of(b.state);
        status->failures = b.run;
        status->since = load(&cell->since);
        if (same_generation(cell, b)) {
            return true;
        }
    }
    return false;
}

bool health_of(const struct health *health, const struct health_endpoint *endpoint,
               struct health_status *status)
{
    for (size_t cursor = 0; health_next(health, &cursor, status);) {
        if (status->endpoint.proxy == endpoint->proxy &&
            net_address_equal(&status->endpoint.address, &endpoint->address)) {
            return true;
        }
    }
    return false;
}

const char *health_state_text(enum health_state state)
{
    switch (state) {
    case HEALTH_OK:
        return "ok";
    case HEALTH_SUSPECT:
        return "suspect";
    case HEALTH_OPEN:
        return "down";
    }
    return "";
}
