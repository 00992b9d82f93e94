/*
 * log_ring: bytes on their way from one thread to another, without a lock: one thread puts, one
 * takes. Each has a cache line of its own, so a worker that logs shares nothing with other workers,
 * and with the taking thread only what that has already read.
 */
#ifndef SPLITMX_PROXY_DAEMON_LOG_RING_H
#define SPLITMX_PROXY_DAEMON_LOG_RING_H

#include <stdalign.h>
#include <stdatomic.h>

#include "config/cache_line.h"
#include "config/span.h"

#define LOG_RING_SIZE ((size_t)256 * 1024)

struct log_ring {
    /* Positions count bytes since the beginning; the place in `bytes` is the remainder. */
    alignas(CACHE_LINE) atomic_size_t put;   /* written by who puts */
    size_t taken_seen;                       /* its own: what it last saw of `taken` */
    alignas(CACHE_LINE) atomic_size_t taken; /* written by who takes */
    alignas(CACHE_LINE) char bytes[LOG_RING_SIZE];
};

/* Puts all the pieces, one behind the other, or nothing: false when there is no room. */
bool log_ring_put(struct log_ring *ring, const struct span *pieces, size_t count);

/* The bytes that can be taken in one piece; empty: none. Valid until log_ring_take. */
struct span log_ring_peek(const struct log_ring *ring);
void log_ring_take(struct log_ring *ring, size_t count);

#endif
