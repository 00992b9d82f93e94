/*
 * pool: idle upstream connections of one world, and those who wait for a connection (design:
 * sections 5, 6).
 *
 * `max-connections` counts over all worlds (shared->endpoints), idle connections included; so while
 * anybody waits for an endpoint, in any world, idle connections to it are not kept: who begins to
 * wait wakes the other worlds, and they give theirs up.
 */
#ifndef SPLITMX_PROXY_SESSION_POOL_H
#define SPLITMX_PROXY_SESSION_POOL_H

#include "proxy/session/upstream.h"

struct pool;

struct pool *pool_new(struct world *world);
void pool_close_idle(struct pool *pool);
void pool_free(struct pool *pool); /* closes what is idle; nobody waits any more */

/* A new policy is in force: nothing idle keeps the old one, and what stands under TLS contexts that
 * are no longer it goes. */
void pool_renew(struct pool *pool, struct policy *policy);

/* The session has ended: what speaks for its client, and may for nobody else, is not kept. */
void pool_forget(struct pool *pool, const char *session_id);

/* An idle connection, newest first, or NULL. The caller adopts it. */
struct upstream *pool_take(struct pool *pool, const struct upstream_key *key);

/* Takes a connection that owes nothing: keeps it, after RSET where a transaction is open, or ends
 * it with QUIT. */
void pool_put(struct pool *pool, struct upstream *upstream);

/* A connection has given its place back: those who wait may try, here and in other worlds. */
void pool_freed(struct pool *pool);

/* Another world waits, or has given a place back. */
void pool_woken(struct pool *pool);

/* One who waits: `try` is called from the loop until it returns true or pool_leave. */
struct pool_waiter {
    struct pool_waiter *next, *previous;
    bool (*try)(void *owner);
    void *owner;
    bool waiting;
    quota_cell wanted;
};
void pool_wait(struct pool *pool, struct pool_waiter *waiter, const struct net_address *endpoint);
void pool_leave(struct pool *pool, struct pool_waiter *waiter);

size_t pool_idle(const struct pool *pool);

#endif
