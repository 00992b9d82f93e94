#include "proxy/session/pool.h"

#include <stdlib.h>

#include "proxy/session/policy.h"
#include "proxy/session/shared.h"
#include "proxy/session/stats.h"

#define POOL_BUCKETS 256
/* Idle connections kept by one world; beyond it the one just given is ended instead. */
#define POOL_IDLE_MAX 512
/* Milliseconds: how often waiting legs of this world look for a place that another world freed. */
#define POOL_RETRY 50
#define POOL_SWEEP 1000

struct pool {
    struct world *world;
    struct upstream *buckets[POOL_BUCKETS];
    size_t idle;
    struct pool_waiter *first, *last;
    struct timer timer;
};

static struct upstream **bucket_of(struct pool *pool, const struct upstream_key *key)
{
    const unsigned char *bytes = (const unsigned char *)&key->address;
    size_t length = net_address_length(&key->address);
    uint32_t hash = 2166136261u; /* FNV-1a: the keys are next hops of the operator's */
    for (size_t i = 0; i < length; i++) {
        hash = (hash ^ bytes[i]) * 16777619u;
    }
    return &pool->buckets[hash % POOL_BUCKETS];
}

static bool key_equal(const struct upstream_key *a, const struct upstream_key *b)
{
    return a->tls == b->tls && a->identity == b->identity &&
           net_address_equal(&a->address, &b->address);
}

static void pool_unlink(struct pool *pool, struct upstream *up)
{
    struct upstream_links *links = upstream_links(up);
    if (links->previous != NULL) {
        upstream_links(links->previous)->next = links->next;
    } else {
        *bucket_of(pool, upstream_key(up)) = links->next;
    }
    if (links->next != NULL) {
        upstream_links(links->next)->previous = links->previous;
    }
    *links = (struct upstream_links){0};
    pool->idle--;
}

static void pool_arm(struct pool *pool)
{
    struct timers *timers = &pool->world->timers;
    if (pool->first != NULL) {
        timer_set(timers, &pool->timer, pool->world->now + POOL_RETRY);
    } else if (pool->idle != 0) {
        /* Someone in another world may wait for the place that an idle connection takes here. */
        timer_set(timers, &pool->timer, pool->world->now + POOL_SWEEP);
    } else {
        timer_stop(timers, &pool->timer);
    }
}

static void pool_sweep(struct pool *pool)
{
    bool wanted = atomic_load_explicit(&pool->world->shared->waiting, memory_order_relaxed) != 0;
    for (size_t i = 0; i < POOL_BUCKETS && pool->idle != 0; i++) {
        struct upstream *next = NULL;
        for (struct upstream *up = pool->buckets[i]; up != NULL; up = next) {
            struct upstream_links *links = upstream_links(up);
            uint64_t keep = upstream_policy(up)->config->timeouts.pool_idle;
            next = links->next;
            if (wanted || pool->world->now - links->since >= keep) {
                pool_unlink(pool, up);
                upstream_quit(up);
            }
        }
    }
}

static void on_due(void *owner)
{
    struct pool *pool = owner;
    struct pool_waiter *next = NULL;
    pool_sweep(pool);
    for (struct pool_waiter *waiter = pool->first; waiter != NULL; waiter = next) {
        next = waiter->next;
        if (waiter->try(waiter->owner)) {
            pool_leave(pool, waiter);
        }
    }
    pool_arm(pool);
}

struct pool *pool_new(struct world *world)
{
    struct pool *pool = calloc(1, sizeof *pool);
    if (pool != NULL) {
        pool->world = world;
        pool->timer.on_due = on_due;
        pool->timer.owner = pool;
    }
    return pool;
}

void pool_close_idle(struct pool *pool)
{
    for (size_t i = 0; i < POOL_BUCKETS; i++) {
        while (pool->buckets[i] != NULL) {
            struct upstream *up = pool->buckets[i];
            pool_unlink(pool, up);
            upstream_quit(up);
        }
    }
}

void pool_free(struct pool *pool)
{
    if (pool != NULL) {
        pool_close_idle(pool);
        timer_stop(&pool->world->timers, &pool->timer);
        free(pool);
    }
}

struct upstream *pool_take(struct pool *pool, const struct upstream_key *key)
{
    for (struct upstream *up = *bucket_of(pool, key); up != NULL; up = upstream_links(up)->next) {
        if (key_equal(upstream_key(up), key)) {
            pool_unlink(pool, up);
            stats_add(pool->world->stats, STAT_UPSTREAMS_REUSED, 1);
            return up;
        }
    }
    return NULL;
}

/* The pool as owner of an idle connection, which owes nothing: only its end is of interest. */
static void on_idle_event(void *owner, const struct upstream_event *event)
{
    struct upstream *up = owner;
    if (event->kind != UPSTREAM_ROOM) {
        pool_unlink(upstream_world(up)->pool, up);
    }
}

static void pool_keep(struct pool *pool, struct upstream *up)
{
    bool wanted = atomic_load_explicit(&pool->world->shared->waiting, memory_order_relaxed) != 0;
    if (upstream_worn(up) || wanted || pool->world->draining || pool->idle >= POOL_IDLE_MAX) {
        upstream_quit(up);
        return;
    }
    struct upstream **bucket = bucket_of(pool, upstream_key(up));
    struct upstream_links *links = upstream_links(up);
    *links = (struct upstream_links){.next = *bucket, .since = pool->world->now};
    if (*bucket != NULL) {
        upstream_links(*bucket)->previous = up;
    }
    *bucket = up;
    pool->idle++;
    upstream_adopt(up, upstream_policy(up), on_idle_event, up);
    if (!timer_is_set(&pool->timer)) {
        pool_arm(pool);
    }
}

/* The pool as owner of a connection that is being reset: kept once it is clean; lost, it is gone.
 */
static void on_reset_event(void *owner, const struct upstream_event *event)
{
    struct upstream *up = owner;
    if (event->kind == UPSTREAM_READY) {
        pool_keep(upstream_world(up)->pool, up);
    }
}

void pool_put(struct pool *pool, struct upstream *up)
{
    if (upstream_is_ready(up)) {
        pool_keep(pool, up);
        return;
    }
    upstream_adopt(up, upstream_policy(up), on_reset_event, up);
    upstream_rset(up);
}

void pool_freed(struct pool *pool)
{
    if (pool != NULL && pool->first != NULL) {
        timer_set(&pool->world->timers, &pool->timer, pool->world->now);
    }
}

void pool_wait(struct pool *pool, struct pool_waiter *waiter)
{
    waiter->waiting = true;
    waiter->next = NULL;
    waiter->previous = pool->last;
    if (pool->last != NULL) {
        pool->last->next = waiter;
    } else {
        pool->first = waiter;
    }
    pool->last = waiter;
    atomic_fetch_add_explicit(&pool->world->shared->waiting, 1, memory_order_relaxed);
    pool_arm(pool);
}

void pool_leave(struct pool *pool, struct pool_waiter *waiter)
{
    if (!waiter->waiting) {
        return;
    }
    *(waiter->previous != NULL ? &waiter->previous->next : &pool->first) = waiter->next;
    *(waiter->next != NULL ? &waiter->next->previous : &pool->last) = waiter->previous;
    waiter->waiting = false;
    atomic_fetch_sub_explicit(&pool->world->shared->waiting, 1, memory_order_relaxed);
}

size_t pool_idle(const struct pool *pool)
{
    return pool->idle;
}
