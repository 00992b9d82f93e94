#include "proxy/session/shared.h"

#include "proxy/session/world.h"

bool shared_init(struct shared *shared, unsigned connections, uint64_t seed, struct ledger *ledger)
{
    *shared = (struct shared){
        .clients = quota_new(connections, seed),
        .endpoints = quota_new(SHARED_ENDPOINTS, seed + 1),
        .spare = quota_new(SHARED_ENDPOINTS, seed + 2),
        .wanted = quota_new(SHARED_ENDPOINTS, seed + 3),
        .health = health_new(SHARED_HEALTH, seed + 4),
        .pacing = pacing_new(SHARED_PACED),
        .unknown = rate_new(SHARED_UNKNOWN, seed + 5),
        .ledger = ledger,
    };
    if (shared->clients == NULL || shared->endpoints == NULL || shared->spare == NULL ||
        shared->wanted == NULL || shared->health == NULL || shared->pacing == NULL ||
        shared->unknown == NULL) {
        shared_release(shared);
        return false;
    }
    return true;
}

void shared_release(struct shared *shared)
{
    quota_free(shared->clients);
    quota_free(shared->endpoints);
    quota_free(shared->spare);
    quota_free(shared->wanted);
    health_free(shared->health);
    pacing_free(shared->pacing);
    rate_free(shared->unknown);
    *shared = (struct shared){0};
}

struct shared_world *shared_enter(struct shared *shared, struct world *world)
{
    for (unsigned i = 0; i < SHARED_WORLDS; i++) {
        struct world *none = NULL;
        if (atomic_compare_exchange_strong(&shared->worlds[i].world, &none, world)) {
            unsigned used = atomic_load(&shared->worlds_used);
            while (used <= i && !atomic_compare_exchange_weak(&shared->worlds_used, &used, i + 1)) {
            }
            return &shared->worlds[i];
        }
    }
    return NULL;
}

void shared_leave(struct shared_world *entry)
{
    if (entry != NULL) {
        atomic_store(&entry->world, NULL);
    }
}

static void wake(const struct shared_world *entry)
{
    struct world *world = atomic_load(&entry->world);
    if (world != NULL) {
        world->ops->wake(world);
    }
}

/*
 * The fence pairs with the other side's, who first announces what it has or wants and then looks at
 * what we did: one of the two sees the other.
 */
void shared_wake_idle(struct shared *shared, const struct shared_world *self)
{
    atomic_thread_fence(memory_order_seq_cst);
    for (unsigned i = 0; i < atomic_load(&shared->worlds_used); i++) {
        struct shared_world *entry = &shared->worlds[i];
        if (entry != self && atomic_load(&entry->idle) != 0) {
            wake(entry);
        }
    }
}

void shared_wake_waiting(struct shared *shared, const struct shared_world *self)
{
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load(&shared->waiting) == 0) {
        return;
    }
    for (unsigned i = 0; i < atomic_load(&shared->worlds_used); i++) {
        struct shared_world *entry = &shared->worlds[i];
        if (entry != self && atomic_load(&entry->waiting) != 0) {
            wake(entry);
        }
    }
}

quota_cell shared_count(struct quota *quota, const struct net_address *endpoint, unsigned limit)
{
    return quota_take(quota, endpoint, (size_t)net_address_length(endpoint), limit);
}

unsigned shared_counted(const struct quota *quota, const struct net_address *endpoint)
{
    return quota_count(quota, endpoint, (size_t)net_address_length(endpoint));
}
