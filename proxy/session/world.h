/*
 * world: what session code sees of everything outside: connection, clock, resolver. (The
 * fourth, the ledger's store, is behind ledger.h.)
 *
 * Session, transaction, leg, upstream and pool reach sockets, time and names only through here, so
 * the very same code runs over libuv (proxy/net) and in the deterministic simulator (tests/sim).
 *
 * Thread: a world belongs to one thread, with all that lives in it. `shared` points to what several
 * worlds share.
 *
 * Order of events: an implementation calls into session code only from its loop, never from inside
 * a call that session code made to it. After each call it runs world_settle(), which frees what was
 * given to world_defer(): so an object may end in the middle of its own callback.
 */
#ifndef SPLITMX_PROXY_SESSION_WORLD_H
#define SPLITMX_PROXY_SESSION_WORLD_H

#include <time.h>

#include "config/spares.h"
#include "proxy/session/timers.h"
#include "proxy/wire/record.h"
#include "routing/answer.h"

/* ---- connection: bytes both ways, in order, without blocking ---- */

enum conn_event {
    CONN_OPEN,     /* an outgoing connection is established (first event of one) */
    CONN_READABLE, /* peek shows more than before */
    CONN_WRITABLE, /* unsent is 0 after it had told more */
    CONN_EOF,      /* the peer will send nothing more; what it sent can still be peeked */
    CONN_LOST,     /* reset, refused or timed out by the kernel: nothing can be sent or read */
    CONN_SECURE,   /* start_tls has done its work: from here on bytes both ways are protected */
    CONN_INSECURE, /* it has failed: nothing can be sent or read */
};

enum conn_close {
    CONN_FLUSH, /* send what is queued, then FIN */
    CONN_RESET, /* RST at once, what is queued is dropped: that peer has nothing that it had not
                   read */
};

struct conn;
struct tls_context;

struct conn_ops {
    /* Bytes arrived and not consumed, contiguous; valid until control returns to the implementation
     * or conn_consume. */
    struct span (*peek)(struct conn *conn);
    void (*consume)(struct conn *conn, size_t count);
    /* Whether more is wanted, as it is at first. Where it is not, an implementation may still read
     * up to CONN_HELD. */
    void (*want)(struct conn *conn, bool more);
    /* Queues bytes (copied where the kernel does not take them at once). Loss is told by an event.
     * Memory trouble counts as loss. */
    void (*write)(struct conn *conn, struct span bytes);
    /* Bytes queued, some of which the kernel might take if it were asked: asks nobody. */
    size_t (*queued)(struct conn *conn);
    /* Bytes queued that the kernel, asked now, does not take. */
    size_t (*unsent)(struct conn *conn);
    /* Bytes that the kernel has taken and the peer's has not acknowledged. */
    size_t (*in_flight)(struct conn *conn);
    /* Whether bytes (or an end) have arrived that peek does not show yet: asks the kernel, no
     * waiting. */
    bool (*pending)(struct conn *conn);
    /* Whether a peer that had told its end has reset the connection since, of which no event tells:
     * asks the kernel. */
    bool (*is_reset)(struct conn *conn);
    /*
     * Begins a TLS handshake, once; until its event nothing is written, and bytes that have arrived
     * are the handshake's. `name`: of the peer whose client we are, for SNI and verification;
     * copied. NULL: we are the server. Memory trouble counts as failure.
     */
    void (*start_tls)(struct conn *conn, const struct tls_context *context, const char *name);
    /* After CONN_SECURE: "TLSv1.3 TLS_AES_256_GCM_SHA384". */
    void (*tell_tls)(struct conn *conn, struct text *out);
    /* Of an end, a loss or a failed handshake that was told, what it was, in words: "connection
     * refused". Valid until close. */
    const char *(*why)(struct conn *conn);
    /* No event will follow; the implementation frees the object in its own time. */
    void (*close)(struct conn *conn, enum conn_close how);
};

/* The head of every connection; the implementation puts its own fields behind. */
struct conn {
    const struct conn_ops *ops;
    void (*on_event)(void *owner, enum conn_event event);
    void *owner;
    /* With CONN_LOST and CONN_INSECURE: memory or descriptors are short here, through no fault of
     * the peer's. */
    bool lacks_means;
};

/* The most bytes held that arrived and were not consumed; there an implementation stops reading,
 * and goes on as they are consumed. */
#define CONN_HELD (128 * 1024)

/* A connection that holds so many unsent bytes has no room for more. The kernel is asked only when
 * it matters, for that writes what a turn has collected so far, apart from the rest. */
#define CONN_ROOM (16 * 1024)

static inline bool conn_has_room(struct conn *conn)
{
    return conn->ops->queued(conn) < CONN_ROOM || conn->ops->unsent(conn) < CONN_ROOM;
}

/* ---- the world ---- */

struct world;
struct resolution; /* a look-up under way */

struct world_ops {
    /* Begins to connect. NULL: at once impossible (no descriptor, no memory). Time-outs are the
     * caller's. */
    struct conn *(*connect)(struct world *world, const struct net_address *address);

    /* See resolver_nexthop; never calls back from inside. NULL when memory is short. */
    struct resolution *(*resolve)(struct world *world, const struct nexthop *hop,
                                  struct span domain,
                                  void (*callback)(void *, const struct resolver_answer *),
                                  void *context);
    struct resolution *(*resolve_ptr)(struct world *world, const struct net_address *address,
                                      resolver_ptr_callback *callback, void *context);
    void (*resolve_cancel)(struct world *world, struct resolution *resolution);
    void (*resolve_doubt)(struct world *world, const char *name); /* see resolver_doubt */

    /* From any thread: has world_woken run in the world's own, soon. */
    void (*wake)(struct world *world);

    time_t (*wall)(struct world *world);
    uint64_t (*random)(struct world *world);

    /* One finished record. Never blocks. */
    void (*log)(struct world *world, enum config_log_level level, struct span record);
};

/* Embedded in objects that are freed when the stack has unwound. */
struct deferred {
    struct deferred *next;
    void (*free)(struct deferred *deferred);
};

/* The object of this type whose member `deferred` it is. */
#define DEFERRED_OWNER(type, pointer)                                                              \
    ((struct type *)(void *)((char *)(pointer)-offsetof(struct type, deferred)))

struct policy;
struct shared;
struct shared_world;
struct pool;
struct prober;
struct stats;
struct session;

struct world {
    const struct world_ops *ops;
    uint64_t now; /* milliseconds, monotonic; the implementation sets it before each event */
    struct timers timers; /* the implementation runs them */
    struct spares spares; /* memory for what comes and goes with every message */
    struct policy
        *policy; /* in force for new transactions; one reference held (world_set_policy) */
    struct shared *shared;
    struct shared_world *entry; /* its own in `shared` */
    struct pool *pool;
    struct prober *prober;
    struct stats *stats;
    struct session *sessions; /* all of them, linked */
    struct deferred *deferred;
    bool draining;
    bool place_freed;   /* an upstream connection has ended: legs that wait for one may try */
    struct timer drain; /* when sessions are cut */
};

/* False when memory is short, or `shared` has no room for another. `shared` must outlive the world.
 */
bool world_init(struct world *world, const struct world_ops *ops, struct policy *policy,
                struct shared *shared);
/* When no session is left, and no other world of `shared` runs: closes the pool, runs world_settle
 * and lets the policy go. */
void world_release(struct world *world);

void world_set_policy(struct world *world, struct policy *policy);
void world_defer(struct world *world, struct deferred *deferred);
void world_settle(struct world *world);
/* Another world wants a connection that may lie idle here, or has given back what is awaited here,
 * or what was to be recorded is durable. */
void world_woken(struct world *world);

/* Stops taking work: idle sessions get 421 4.3.2 now, the others when their transaction ends; at
 * `deadline` (milliseconds, as now) those not yet committing are cut with 421. */
void world_drain(struct world *world, uint64_t deadline);

#endif
