/*
 * policy: one consistent set of configuration, relays and routes; what a reload switches.
 *
 * A transaction keeps the policy it began with. Immutable but for the reference count, which is
 * atomic. Every transaction counts: so each world has a policy of its own, that holds one reference
 * to the one they share, and its transactions are counted there.
 */
#ifndef SPLITMX_PROXY_SESSION_POLICY_H
#define SPLITMX_PROXY_SESSION_POLICY_H

#include <stdatomic.h>

#include "config/config.h"
#include "routing/route.h"
#include "tls/context.h"

struct policy {
    atomic_uint references;
    struct policy *shared; /* what this is a world's own of, or itself */
    const struct config *config;
    const struct tls_contexts *tls;
    const struct net_address *own; /* where this process listens: no next hop of ours */
    size_t own_count;
    /* What to do with a recipient: route_decide over the table, or the simulator's own. Called with
     * the shared one. */
    void (*decide)(const struct policy *policy, struct span path, struct address *address,
                   struct decision *decision);
    void (*free)(struct policy *policy); /* at the last unref */
};

/* With one reference, shared. The rest is the caller's to fill in. */
void policy_init(struct policy *policy);
/* A world's own of it, which holds a reference to it, with one reference; itself, with one more,
 * when memory is short. */
struct policy *policy_own(struct policy *policy);

/* Whether this process listens there, so that mail would go in circles (design: section 6). */
bool policy_is_own(const struct policy *policy, const struct net_address *address);

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
