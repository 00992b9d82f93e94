/*
 * shared: what all worlds of the process count together (design: sections 3 and 11). Without locks.
 */
#ifndef SPLITMX_PROXY_SESSION_SHARED_H
#define SPLITMX_PROXY_SESSION_SHARED_H

#include <stdatomic.h>

#include "proxy/session/quota.h"

/* Endpoints with a connection at once, at most. */
#define SHARED_ENDPOINTS 16384

struct shared {
    struct quota *clients;   /* sessions by client (quota_client_key) */
    struct quota *endpoints; /* upstream connections by net_address */
    atomic_uint sessions;
    atomic_uint waiting; /* legs that wait for a connection, in all worlds */
};

/* False when memory is short. `connections`: the most sessions at once. */
bool shared_init(struct shared *shared, unsigned connections, uint64_t seed);
void shared_release(struct shared *shared);

#endif
