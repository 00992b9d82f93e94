/*
 * doctor_hops: the addresses that a relay's next hops lead to, found as the daemon finds them.
 */
#ifndef SPLITMX_PROXY_CLI_DOCTOR_HOPS_H
#define SPLITMX_PROXY_CLI_DOCTOR_HOPS_H

#include "proxy/session/world.h"
#include "routing/relay.h"

struct check;

/* A next hop and what became of its look-up. */
struct hop {
    struct check *check;
    struct resolution *resolution; /* under way, or NULL */
    const struct nexthop *hop;
    enum resolver_status status;
    char why[256]; /* "" when status is OK */
    struct resolver_address *addresses;
    size_t count;
};

struct hops {
    struct hop items[NEXTHOPS_MAX];
    size_t count;
};

/* `domain` stands in for NEXTHOP_DOMAIN; where it is empty such a next hop is left without
 * addresses. The check is held until all are there. */
void hops_begin(struct hops *hops, struct check *check, const struct relay *relay,
                struct span domain);
/* No more time: what is not there has failed. */
void hops_cut(struct hops *hops);
void hops_release(struct hops *hops); /* zeroed ones are accepted */

/* "kingmailer.org 192.0.2.30:25", or "192.0.2.30:25" alone. */
void hop_address_put(const struct resolver_address *at, struct text *out);

#endif
