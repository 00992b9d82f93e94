/*
 * policy: one consistent set of configuration, relays and routes; what a reload switches.
 *
 * A transaction keeps the policy it began with. Immutable but for the reference count, which is
 * atomic.
 */
#ifndef SPLITMX_PROXY_SESSION_POLICY_H
#define SPLITMX_PROXY_SESSION_POLICY_H

#include <stdatomic.h>

#include "config/config.h"
#include "routing/route.h"
#include "tls/context.h"

struct policy {
    atomic_uint references;
    const struct config *config;
    const struct tls_contexts *tls;
    const struct net_address *own; /* where this process listens: no next hop of ours */
    size_t own_count;
    /* What to do with a recipient: route_decide over the table, or the simulator's own. */
    void (*decide)(const struct policy *policy, struct span path, struct address *address,
                   struct decision *decision);
    void (*free)(struct policy *policy); /* at the last unref */
};

static inline struct policy *policy_ref(struct policy *policy)
{
    atomic_fetch_add_explicit(&policy->references, 1, memory_order_relaxed);
    return policy;
}

static inline void policy_unref(struct policy *policy)
{
    if (policy != NULL &&
        atomic_fetch_sub_explicit(&policy->references, 1, memory_order_acq_rel) == 1) {
        policy->free(policy);
    }
}

#endif
