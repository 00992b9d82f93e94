/*
 * shared: what all worlds of the process count together (design: sections 3 and 11). Fixed tables,
 * without locks. Thread: all, but for init and release.
 *
 * What is counted with every message or client each world counts for itself, in memory that no
 * other world writes to, and whoever asks adds up what they have: so workers do not wait for each
 * other's cache lines. Two that count at once may so overrun a limit together, by one a world.
 *
 * Worlds also call each other: one that waits for a place at an endpoint wakes those that may have
 * a connection to it lying idle, one that has given a place back wakes those that wait. Each then
 * looks for itself, in its own thread.
 */
#ifndef SPLITMX_PROXY_SESSION_SHARED_H
#define SPLITMX_PROXY_SESSION_SHARED_H

#include <stdatomic.h>

#include "config/cache_line.h"
#include "proxy/session/ledger.h"
#include "proxy/session/quota.h"
#include "proxy/session/rate.h"
#include "routing/health.h"
#include "routing/pacing.h"

/* Endpoints with a connection at once, at most; in one world with an idle one; those whose health
 * is known; relays that are slowed; clients with unknown recipients in a minute. */
#define SHARED_ENDPOINTS 16384
#define SHARED_SPARE     1024
#define SHARED_HEALTH    4096
#define SHARED_PACED     64
#define SHARED_UNKNOWN   4096
#define SHARED_WORLDS    256

struct world;

/* Counts that every world keeps for itself. */
enum shared_tally {
    TALLY_CLIENTS, /* sessions by client (quota_client_key) */
    TALLY_SPARE,   /* upstream connections by net_address: those that carry no transaction, idle or
                      on their way out */
    TALLIES
};

/* What the others may know of a world. */
struct shared_world {
    _Atomic(struct world *) world; /* NULL: a free entry */
    struct quota *tally[TALLIES];
    atomic_uint sessions;
    atomic_uint idle;    /* connections in its pool */
    atomic_uint waiting; /* legs that wait for one */
    char apart[CACHE_LINE];
};

struct shared {
    struct quota *endpoints; /* upstream connections by net_address */
    struct quota *wanted;    /* legs that wait for a connection, by net_address */
    struct health *health;   /* of endpoints */
    struct pacing *pacing;   /* of relays */
    struct rate *unknown;    /* recipients asked for elsewhere, by client (quota_client_key) */
    struct ledger *ledger;   /* not owned, outlives this; NULL: there are no sessions */
    unsigned connections;
    uint64_t seed;
    atomic_uint worlds_used; /* no entry from here on was ever taken */
    char apart[CACHE_LINE];
    atomic_uint waiting; /* legs that wait for a connection, in all worlds */
    char apart_too[CACHE_LINE];
    struct shared_world worlds[SHARED_WORLDS];
};

/* False when memory is short. `connections`: the most sessions at once. */
bool shared_init(struct shared *shared, unsigned connections, uint64_t seed, struct ledger *ledger);
void shared_release(struct shared *shared);

/* An entry for the world; NULL: all are taken, or memory is short. A world leaves when none of the
 * others runs: what is on its way to wake it would find it gone. */
struct shared_world *shared_enter(struct shared *shared, struct world *world);
void shared_leave(struct shared_world *entry);

/* Wakes the others: those with idle connections, or those that wait. */
void shared_wake_idle(struct shared *shared, const struct shared_world *self);
void shared_wake_waiting(struct shared *shared, const struct shared_world *self);

/* One session more in this world, unless there are `most` in all of them. */
bool shared_add_session(struct shared *shared, struct shared_world *self, unsigned most);
void shared_drop_session(struct shared_world *self);

/* As quota_take, quota_give and quota_count; the limit and the count are of all worlds. */
quota_cell shared_tally_take(struct shared *shared, struct shared_world *self,
                             enum shared_tally tally, const void *key, size_t key_len,
                             unsigned limit);
void shared_tally_give(struct shared_world *self, enum shared_tally tally, quota_cell cell);
unsigned shared_tally_count(const struct shared *shared, enum shared_tally tally, const void *key,
                            size_t key_len);

/* Counts by endpoint. */
quota_cell shared_count(struct quota *quota, const struct net_address *endpoint, unsigned limit);
unsigned shared_counted(const struct quota *quota, const struct net_address *endpoint);
/* TALLY_SPARE, in all worlds. */
unsigned shared_counted_spare(const struct shared *shared, const struct net_address *endpoint);

#endif
