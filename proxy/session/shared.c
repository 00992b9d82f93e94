#include "proxy/session/shared.h"

#include "proxy/session/world.h"

bool shared_init(struct shared *shared, unsigned connections, uint64_t seed, struct ledger *ledger)
{
    *shared = (struct shared){
        .connections = connections,
        .seed = seed,
        .endpoints = quota_new(SHARED_ENDPOINTS, seed + 1),
        .wanted = quota_new(SHARED_ENDPOINTS, seed + 3),
        .health = health_new(SHARED_HEALTH, seed + 4),
        .pacing = pacing_new(SHARED_PACED),
        .unknown = rate_new(SHARED_UNKNOWN, seed + 5),
        .ledger = ledger,
    };
    if (shared->endpoints == NULL || shared->wanted == NULL || shared->health == NULL ||
        shared->pacing == NULL || shared->unknown == NULL) {
        shared_release(shared);
        return false;
    }
    return true;
}

void shared_release(struct shared *shared)
{
    for (unsigned i = 0; i < SHARED_WORLDS; i++) {
        quota_free(shared->worlds[i].tally[TALLY_CLIENTS]);
        quota_free(shared->worlds[i].tally[TALLY_SPARE]);
    }
    quota_free(shared->endpoints);
    quota_free(shared->wanted);
    health_free(shared->health);
    pacing_free(shared->pacing);
    rate_free(shared->unknown);
    *shared = (struct shared){0};
}

/* They stay when the world leaves, for the next one and for who is looking. */
static bool has_tallies(const struct shared *shared, struct shared_world *entry)
{
    struct quota **tally = entry->tally;
    if (tally[TALLY_CLIENTS] == NULL) {
        tally[TALLY_CLIENTS] = quota_new(shared->connections, shared->seed);
    }
    if (tally[TALLY_SPARE] == NULL) {
        tally[TALLY_SPARE] = quota_new(SHARED_SPARE, shared->seed + 2);
    }
    return tally[TALLY_CLIENTS] != NULL && tally[TALLY_SPARE] != NULL;
}

struct shared_world *shared_enter(struct shared *shared, struct world *world)
{
    for (unsigned i = 0; i < SHARED_WORLDS; i++) {
        struct world *none = NULL;
        if (atomic_compare_exchange_strong(&shared->worlds[i].world, &none, world)) {
            if (!has_tallies(shared, &shared->worlds[i])) {
                shared_leave(&shared->worlds[i]);
                return NULL;
            }
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

static unsigned add_up_sessions(const struct shared *shared)
{
    unsigned sum = 0;
    for (unsigned i = 0; i < atomic_load_explicit(&shared->worlds_used, memory_order_acquire);
         i++) {
        sum += atomic_load_explicit(&shared->worlds[i].sessions, memory_order_relaxed);
    }
    return sum;
}

/* One writer: a plain load and store is enough. */
static void count_sessions(struct shared_world *self, unsigned more)
{
    unsigned count = atomic_load_explicit(&self->sessions, memory_order_relaxed);
    atomic_store_explicit(&self->sessions, count + more, memory_order_relaxed);
}

bool shared_add_session(struct shared *shared, struct shared_world *self, unsigned most)
{
    if (add_up_sessions(shared) >= most) {
        return false;
    }
    count_sessions(self, 1);
    return true;
}

void shared_drop_session(struct shared_world *self)
{
    count_sessions(self, (unsigned)-1);
}

unsigned shared_tally_count(const struct shared *shared, enum shared_tally tally, const void *key,
                            size_t key_len)
{
    unsigned sum = 0;
    for (unsigned i = 0; i < atomic_load_explicit(&shared->worlds_used, memory_order_acquire);
         i++) {
        sum += quota_count(shared->worlds[i].tally[tally], key, key_len);
    }
    return sum;
}

quota_cell shared_tally_take(struct shared *shared, struct shared_world *self,
                             enum shared_tally tally, const void *key, size_t key_len,
                             unsigned limit)
{
    if (limit != UINT32_MAX && shared_tally_count(shared, tally, key, key_len) >= limit) {
        return QUOTA_NONE;
    }
    return quota_take(self->tally[tally], key, key_len, limit);
}

void shared_tally_give(struct shared_world *self, enum shared_tally tally, quota_cell cell)
{
    quota_give(self->tally[tally], cell);
}

quota_cell shared_count(struct quota *quota, const struct net_address *endpoint, unsigned limit)
{
    return quota_take(quota, endpoint, (size_t)net_address_length(endpoint), limit);
}

unsigned shared_counted(const struct quota *quota, const struct net_address *endpoint)
{
    return quota_count(quota, endpoint, (size_t)net_address_length(endpoint));
}

unsigned shared_counted_spare(const struct shared *shared, const struct net_address *endpoint)
{
    return shared_tally_count(shared, TALLY_SPARE, endpoint, (size_t)net_address_length(endpoint));
}
