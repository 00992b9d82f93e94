/*
 * shared: what all worlds of the process count together (design: sections 3 and 11). Fixed tables,
 * without locks. Thread: all, but for init and release.
 *
 * Worlds also call each other: one that waits for a place at an endpoint wakes those that may have
 * a connection to it lying idle, one that has given a place back wakes those that wait. Each then
 * looks for itself, in its own thread.
 */
#ifndef SPLITMX_PROXY_SESSION_SHARED_H
#define SPLITMX_PROXY_SESSION_SHARED_H

#include <stdatomic.h>

#include "proxy/session/ledger.h"
#include "proxy/session/quota.h"
#include "proxy/session/rate.h"
#include "routing/health.h"
#include "routing/pacing.h"

/* Endpoints with a connection at once, at most; those whose health is known; relays that are
 * slowed; clients with unknown recipients in a minute. */
#define SHARED_ENDPOINTS 16384
#define SHARED_HEALTH    4096
#define SHARED_PACED     64
#define SHARED_UNKNOWN   4096
#define SHARED_WORLDS    256

struct world;

/* What the others may know of a world. */
struct shared_world {
    _Atomic(struct world *) world; /* NULL: a free entry */
    atomic_uint idle;              /* connections in its pool */
    atomic_uint waiting;           /* legs that wait for one */
};

struct shared {
    struct quota *clients;   /* sessions by client (quota_client_key) */
    struct quota *endpoints; /* upstream connections by net_address */
    struct quota *spare;   /* of these: those that carry no transaction, idle or on their way out */
    struct quota *wanted;  /* legs that wait for a connection, by net_address */
    struct health *health; /* of endpoints */
    struct pacing *pacing; /* of relays */
    struct rate *unknown;  /* recipients asked for elsewhere, by client (quota_client_key) */
    struct ledger *ledger; /* not owned, outlives this; NULL: there are no sessions */
    atomic_uint sessions;
    atomic_uint waiting; /* legs that wait for a connection, in all worlds */
    struct shared_world worlds[SHARED_WORLDS];
    atomic_uint worlds_used; /* no entry from here on was ever taken */
};

/* False when memory is short. `connections`: the most sessions at once. */
bool shared_init(struct shared *shared, unsigned connections, uint64_t seed, struct ledger *ledger);
void shared_release(struct shared *shared);

/* An entry for the world; NULL: all are taken. A world leaves when none of the others runs: what is
 * on its way to wake it would find it gone. */
struct shared_world *shared_enter(struct shared *shared, struct world *world);
void shared_leave(struct shared_world *entry);

/* Wakes the others: those with idle connections, or those that wait. */
void shared_wake_idle(struct shared *shared, const struct shared_world *self);
void shared_wake_waiting(struct shared *shared, const struct shared_world *self);

/* Counts by endpoint. */
quota_cell shared_count(struct quota *quota, const struct net_address *endpoint, unsigned limit);
unsigned shared_counted(const struct quota *quota, const struct net_address *endpoint);

#endif
