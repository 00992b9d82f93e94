#include "proxy/session/policy.h"

#include <stdlib.h>

#include "config/cache_line.h"

/* A world's own count of the references to a policy that others share. */
static void on_own_unused(struct policy *own)
{
    struct policy *shared = own->shared;
    free(own);
    policy_unref(shared);
}

struct policy *policy_own(struct policy *shared)
{
    const size_t size = (sizeof(struct policy) + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
    struct policy *own = aligned_alloc(CACHE_LINE, size);
    if (own == NULL) {
        return policy_ref(shared);
    }
    *own = (struct policy){.shared = policy_ref(shared->shared),
                           .config = shared->config,
                           .tls = shared->tls,
                           .own = shared->own,
                           .own_count = shared->own_count,
                           .decide = shared->decide,
                           .free = on_own_unused};
    atomic_init(&own->references, 1);
    return own;
}

void policy_init(struct policy *policy)
{
    atomic_init(&policy->references, 1);
    policy->shared = policy;
}

bool policy_is_own(const struct policy *policy, const struct net_address *address)
{
    for (size_t i = 0; i < policy->own_count; i++) {
        if (net_address_equal(&policy->own[i], address)) {
            return true;
        }
    }
    return false;
}
