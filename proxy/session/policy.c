#include "proxy/session/policy.h"

#include <stdlib.h>

/* A cache line: on its own nobody else writes. */
#define LINE 64

/* A world's own count of the references to a policy that others share. */
static void on_own_unused(struct policy *own)
{
    struct policy *shared = own->shared;
    free(own);
    policy_unref(shared);
}

struct policy *policy_own(struct policy *shared)
{
    const size_t size = (sizeof(struct policy) + LINE - 1) / LINE * LINE;
    struct policy *own = aligned_alloc(LINE, size);
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
