#include "proxy/session/world.h"

#include <stdlib.h>

#include "proxy/session/policy.h"
#include "proxy/session/pool.h"
#include "proxy/session/prober.h"
#include "proxy/session/session.h"
#include "proxy/session/shared.h"
#include "proxy/session/stats.h"

bool world_init(struct world *world, const struct world_ops *ops, struct policy *policy,
                struct shared *shared)
{
    *world = (struct world){.ops = ops, .shared = shared, .policy = policy_own(policy)};
    timers_init(&world->timers);
    world->stats = calloc(1, sizeof *world->stats);
    world->pool = pool_new(world);
    world->prober = prober_new(world);
    world->entry = shared_enter(shared, world);
    if (world->stats == NULL || world->pool == NULL || world->prober == NULL ||
        world->entry == NULL) {
        world_release(world);
        return false;
    }
    return true;
}

void world_release(struct world *world)
{
    struct pool *pool = world->pool;
    prober_free(world->prober);
    world->pool = NULL;
    pool_free(pool);
    world_settle(world);
    shared_leave(world->entry);
    timers_release(&world->timers);
    spares_release(&world->spares);
    free(world->stats);
    policy_unref(world->policy);
    *world = (struct world){0};
}

void world_set_policy(struct world *world, struct policy *policy)
{
    struct policy *old = world->policy;
    world->policy = policy_own(policy);
    pool_renew(world->pool, world->policy);
    policy_unref(old);
}

void world_defer(struct world *world, struct deferred *deferred)
{
    deferred->next = world->deferred;
    world->deferred = deferred;
}

void world_settle(struct world *world)
{
    if (world->place_freed) {
        world->place_freed = false;
        pool_freed(world->pool);
    }
    while (world->deferred != NULL) {
        struct deferred *deferred = world->deferred;
        world->deferred = deferred->next;
        deferred->free(deferred);
    }
}

void world_woken(struct world *world)
{
    if (world->shared->ledger != NULL) { /* where there are sessions */
        ledger_collect(world->shared->ledger, world);
    }
    pool_woken(world->pool);
}

static void on_drain_due(void *owner)
{
    struct world *world = owner;
    struct session *next = NULL;
    for (struct session *session = world->sessions; session != NULL; session = next) {
        next = session_next(session);
        session_cut(session);
    }
}

void world_drain(struct world *world, uint64_t deadline)
{
    struct session *next = NULL;
    world->draining = true;
    prober_stop(world->prober);
    for (struct session *session = world->sessions; session != NULL; session = next) {
        next = session_next(session);
        session_drain(session);
    }
    world->drain.on_due = on_drain_due;
    world->drain.owner = world;
    timer_set(&world->timers, &world->drain, deadline);
}
