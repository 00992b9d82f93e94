#include "proxy/session/pool.h"

#include <stdlib.h>

#include "proxy/session/policy.h"
#include "proxy/session/shared.h"
#include "proxy/session/stats.h"

#define POOL_BUCKETS 256
/* Idle connections kept by one world; beyond it the one just given is ended instead. */
#define POOL_IDLE_MAX 512
/* Milliseconds: how often waiting legs look for a place at the latest, though others call them; how
 * long at least between two looks for what has been idle too long. */
#define POOL_RETRY 50
#define POOL_SWEEP 100

struct pool {
    struct world *world;
    struct upstream *buckets[POOL_BUCKETS];
    struct upstream *leaving; /* have said QUIT */
    size_t idle;
    size_t personal; /* of these: those that speak for one client */
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
    return a->tls == b->tls && a->context == b->context && strcmp(a->host, b->host) == 0 &&
           a->identity == b->identity && strcmp(a->client, b->client) == 0 &&
           net_address_equal(&a->address, &b->address);
}

static void pool_count_idle(struct pool *pool, size_t idle)
{
    pool->idle = idle;
    atomic_store(&pool->world->entry->idle, (unsigned)idle);
}

static void pool_link(struct upstream **head, struct upstream *up)
{
    struct upstream_links *links = upstream_links(up);
    links->head = head;
    links->previous = NULL;
    links->next = *head;
    if (*head != NULL) {
        upstream_links(*head)->previous = up;
    }
    *head = up;
}

static void pool_unlink(struct upstream *up)
{
    struct upstream_links *links = upstream_links(up);
    *(links->previous != NULL ? &upstream_links(links->previous)->next : links->head) = links->next;
    if (links->next != NULL) {
        upstream_links(links->next)->previous = links->previous;
    }
    links->head = NULL;
}

/* Carries nothing from here on, until pool_carries. */
static void pool_is_spare(struct pool *pool, struct upstream *up)
{
    const struct net_address *address = &upstream_key(up)->address;
    upstream_links(up)->spare =
        shared_tally_take(pool->world->shared, pool->world->entry, TALLY_SPARE, address,
                          (size_t)net_address_length(address), UINT32_MAX);
}

static void pool_carries(struct pool *pool, struct upstream *up)
{
    shared_tally_give(pool->world->entry, TALLY_SPARE, upstream_links(up)->spare);
}

static bool is_personal(struct upstream *up)
{
    return upstream_key(up)->client[0] != '\0';
}

static void pool_take_out(struct pool *pool, struct upstream *up)
{
    pool_unlink(up);
    pool->personal -= is_personal(up);
    pool_carries(pool, up);
    pool_count_idle(pool, pool->idle - 1);
}

/* The pool as owner of a connection that is leaving: it has left. */
static void on_leave_event(void *owner, const struct upstream_event *event)
{
    struct upstream *up = owner;
    if (event->kind == UPSTREAM_LOST) {
        pool_unlink(up);
        pool_carries(upstream_world(up)->pool, up);
    }
}

static void pool_dismiss(struct pool *pool, struct upstream *up)
{
    if (pool->world->draining) { /* nobody wants its place any more */
        upstream_quit(up);
        return;
    }
    pool_is_spare(pool, up);
    pool_link(&pool->leaving, up);
    upstream_adopt(up, pool->world->policy, on_leave_event, up);
    upstream_leave(up);
}

/* One that lies idle here. */
static void pool_let_go(struct pool *pool, struct upstream *up)
{
    pool_take_out(pool, up);
    pool_dismiss(pool, up);
}

static bool is_anyone_waiting(const struct pool *pool)
{
    return atomic_load(&pool->world->shared->waiting) != 0;
}

/* How many wait, in all worlds, for a connection to where this one leads. */
static unsigned pool_wanted(const struct pool *pool, const struct upstream *up)
{
    return is_anyone_waiting(pool)
               ? shared_counted(pool->world->shared->wanted, &upstream_key(up)->address)
               : 0;
}

static uint64_t idle_until(struct upstream *up)
{
    return upstream_links(up)->since + upstream_policy(up)->config->timeouts.pool_idle;
}

/* Ends what has been idle too long, and of each endpoint that is waited for as many as wait. Tells
 * when the next is due. */
static uint64_t pool_sweep(struct pool *pool)
{
    uint64_t due = UINT64_MAX;
    for (size_t i = 0; i < POOL_BUCKETS && pool->idle != 0; i++) {
        struct upstream *next = NULL;
        unsigned given = 0; /* in this bucket: one that holds several endpoints may give too few */
        for (struct upstream *up = pool->buckets[i]; up != NULL; up = next) {
            bool wanted = pool_wanted(pool, up) > given;
            next = upstream_links(up)->next;
            if (wanted || idle_until(up) <= pool->world->now) {
                given += wanted;
                pool_let_go(pool, up);
            } else if (idle_until(up) < due) {
                due = idle_until(up);
            }
        }
    }
    return due;
}

static void pool_try(struct pool *pool)
{
    struct pool_waiter *next = NULL;
    for (struct pool_waiter *waiter = pool->first; waiter != NULL; waiter = next) {
        next = waiter->next;
        if (waiter->try(waiter->owner)) {
            pool_leave(pool, waiter);
        }
    }
}

void pool_woken(struct pool *pool)
{
    struct timers *timers = &pool->world->timers;
    uint64_t now = pool->world->now;
    uint64_t due = pool_sweep(pool);
    pool_try(pool);
    if (pool->first != NULL) {
        timer_set(timers, &pool->timer, now + POOL_RETRY);
    } else if (pool->idle != 0) {
        timer_set(timers, &pool->timer, due > now + POOL_SWEEP ? due : now + POOL_SWEEP);
    } else {
        timer_stop(timers, &pool->timer);
    }
}

static void on_due(void *owner)
{
    pool_woken(owner);
}

/* At the latest then. */
static void pool_arm(struct pool *pool, uint64_t due)
{
    if (!timer_is_set(&pool->timer) || pool->timer.due > due) {
        timer_set(&pool->world->timers, &pool->timer, due);
    }
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
            pool_take_out(pool, up);
            upstream_quit(up);
        }
    }
    while (pool->leaving != NULL) {
        struct upstream *up = pool->leaving;
        pool_unlink(up);
        pool_carries(pool, up);
        upstream_quit(up);
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

/* Whom it was found trustworthy by is in force no more. */
static bool is_outdated(struct upstream *up, const struct policy *policy)
{
    const struct tls_context *context = upstream_key(up)->context;
    return context != NULL && !tls_contexts_have(policy->tls, context);
}

/* The pool as owner of an idle connection, which owes nothing: only its end is of interest. */
static void on_idle_event(void *owner, const struct upstream_event *event)
{
    struct upstream *up = owner;
    if (event->kind != UPSTREAM_ROOM) {
        pool_take_out(upstream_world(up)->pool, up);
    }
}

void pool_renew(struct pool *pool, struct policy *policy)
{
    for (size_t i = 0; i < POOL_BUCKETS && pool->idle != 0; i++) {
        struct upstream *next = NULL;
        for (struct upstream *up = pool->buckets[i]; up != NULL; up = next) {
            next = upstream_links(up)->next;
            if (is_outdated(up, policy)) {
                pool_let_go(pool, up);
            } else {
                upstream_adopt(up, policy, on_idle_event, up);
            }
        }
    }
}

/* Whether the key's client, "session-version", is of this session. */
static bool is_of(struct upstream *up, const char *session_id)
{
    struct span client = span_of(upstream_key(up)->client);
    return is_personal(up) &&
           span_equal(span_first(client, span_find(client, '-')), span_of(session_id));
}

void pool_forget(struct pool *pool, const char *session_id)
{
    for (size_t i = 0; i < POOL_BUCKETS && pool->personal != 0; i++) {
        struct upstream *next = NULL;
        for (struct upstream *up = pool->buckets[i]; up != NULL; up = next) {
            next = upstream_links(up)->next;
            if (is_of(up, session_id)) {
                pool_let_go(pool, up);
            }
        }
    }
}

struct upstream *pool_take(struct pool *pool, const struct upstream_key *key)
{
    for (struct upstream *up = *bucket_of(pool, key); up != NULL; up = upstream_links(up)->next) {
        if (key_equal(upstream_key(up), key)) {
            pool_take_out(pool, up);
            stats_add(pool->world->stats, STAT_UPSTREAMS_REUSED, 1);
            return up;
        }
    }
    return NULL;
}

static void pool_keep(struct pool *pool, struct upstream *up)
{
    struct policy *policy = pool->world->policy;
    if (upstream_worn(up) || is_outdated(up, policy) || pool->world->draining ||
        pool->idle >= POOL_IDLE_MAX || policy->config->timeouts.pool_idle == 0) {
        pool_dismiss(pool, up);
        return;
    }
    upstream_adopt(up, policy, on_idle_event, up);
    upstream_links(up)->since = pool->world->now;
    pool_link(bucket_of(pool, upstream_key(up)), up);
    pool_is_spare(pool, up);
    pool_count_idle(pool, pool->idle + 1);
    pool->personal += is_personal(up);
    atomic_thread_fence(memory_order_seq_cst); /* see shared_wake_idle */
    if (pool_wanted(pool, up) != 0) {
        pool_let_go(pool, up);
        return;
    }
    pool_arm(pool, idle_until(up));
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
    if (pool == NULL) {
        return;
    }
    if (pool->first != NULL) {
        pool_arm(pool, pool->world->now);
    }
    shared_wake_waiting(pool->world->shared, pool->world->entry);
}

void pool_wait(struct pool *pool, struct pool_waiter *waiter, const struct net_address *endpoint)
{
    struct shared *shared = pool->world->shared;
    waiter->waiting = true;
    waiter->next = NULL;
    waiter->previous = pool->last;
    if (pool->last != NULL) {
        pool->last->next = waiter;
    } else {
        pool->first = waiter;
    }
    pool->last = waiter;
    waiter->wanted = shared_count(shared->wanted, endpoint, UINT32_MAX);
    atomic_fetch_add(&shared->waiting, 1);
    atomic_fetch_add(&pool->world->entry->waiting, 1);
    if (shared_counted_spare(shared, endpoint) != 0) {
        shared_wake_idle(shared, pool->world->entry);
    }
    /* At once: one that lies idle here is given up, and a place may have been given back meanwhile.
     */
    pool_arm(pool, pool->world->now);
}

void pool_leave(struct pool *pool, struct pool_waiter *waiter)
{
    if (!waiter->waiting) {
        return;
    }
    *(waiter->previous != NULL ? &waiter->previous->next : &pool->first) = waiter->next;
    *(waiter->next != NULL ? &waiter->next->previous : &pool->last) = waiter->previous;
    waiter->waiting = false;
    quota_give(pool->world->shared->wanted, waiter->wanted);
    atomic_fetch_sub(&pool->world->shared->waiting, 1);
    atomic_fetch_sub(&pool->world->entry->waiting, 1);
}

size_t pool_idle(const struct pool *pool)
{
    return pool->idle;
}
