/*
 * worker: one event loop in a thread of its own, with its world (design: section 11).
 *
 * The main thread gives it orders, one at a time; it answers each by the callback it was given,
 * from its own thread.
 */
#ifndef SPLITMX_PROXY_DAEMON_WORKER_H
#define SPLITMX_PROXY_DAEMON_WORKER_H

#include "proxy/daemon/log.h"
#include "proxy/daemon/prepare.h"
#include "proxy/daemon/sockets.h"
#include "proxy/session/shared.h"
#include "proxy/session/stats.h"

struct worker;

struct worker_options {
    unsigned index; /* which of a socket group's descriptors is its own */
    struct log *log;
    struct shared *shared;
    unsigned descriptors;
    uint64_t seed;
    void (*on_done)(void *context); /* from the worker's thread: an order was carried out, or (after
                                       a drain) it has ended */
    void *context;
};

/* Starts serving nothing yet. NULL: no thread, descriptors or memory. */
struct worker *worker_start(const struct worker_options *options, struct prepared *prepared);

/*
 * Orders; the next only after on_done. The socket set must stay until then; its descriptors are
 * taken over, and listeners that are not in it are closed.
 */
void worker_switch(struct worker *worker, struct prepared *prepared, struct socket_set *sockets);
/* Stops listening and drains; `wait` milliseconds until sessions are cut. on_done when the loop has
 * ended. */
void worker_drain(struct worker *worker, uint64_t wait);

/* Joins the thread; after a drain is done. */
void worker_free(struct worker *worker);

/* Its counters: any thread. */
const struct stats *worker_stats(const struct worker *worker);

#endif
