#include <stdlib.h>

#include "proxy/session/leg_state.h"
#include "proxy/session/shared.h"
#include "tls/policy.h"

/* How long a leg waits for one of `max-connections` (design: section 6), milliseconds. */
#define SLOT_WAIT 10000
/* And one whose transaction holds another leg, for a connection that carries nothing to end, here
 * or in another world: a matter of a round trip, so that nobody is kept from what is held. */
#define SPARE_WAIT 1000

static void leg_try_next(struct leg *leg);

static struct upstream_key leg_key(const struct leg *leg)
{
    return (struct upstream_key){.address = leg->addresses[leg->address_next].address,
                                 .tls = leg->relay->tls,
                                 .identity = leg->relay->identity};
}

/* Takes a connection to the address at hand: pooled, else a new one. False: all places are taken.
 */
static bool leg_take_connection(struct leg *leg)
{
    struct world *world = world_of(leg);
    struct upstream_key key = leg_key(leg);
    struct upstream *up = leg->no_pool ? NULL : pool_take(world->pool, &key);
    leg->local = net_address_is_local(&key.address);
    timer_set(&world->timers, &leg->timer, leg->deadline);
    if (up != NULL) {
        upstream_adopt(up, leg->context->policy, leg_on_upstream, leg);
        leg->upstream = up;
        leg_go_on(leg);
        return true;
    }
    quota_cell cell =
        shared_count(world->shared->endpoints, &key.address, leg->relay->max_connections);
    if (cell == QUOTA_NONE) {
        return false;
    }
    leg->upstream = upstream_open(world, &key, cell, leg->context->policy, leg_on_upstream, leg);
    if (leg->upstream == NULL) {
        leg_fail_with(leg, 451, "4.3.0", "no connection can be opened now");
        return true;
    }
    leg->state = LEG_IS_CONNECTING;
    return true;
}

/* All places stayed taken for as long as the leg may wait. */
void leg_no_place(struct leg *leg)
{
    if (leg->may_wait) {
        leg_fail_with(leg, 451, "4.3.2", "all connections are in use");
    } else {
        leg_fail_with(leg, 452, "4.5.3", "all connections are in use; send this one separately");
    }
}

/* pool_waiter's view of it. While it waits, the time-out is that of waiting. */
static bool on_place(void *owner)
{
    struct leg *leg = owner;
    uint64_t due = leg->timer.due;
    if (leg_take_connection(leg)) {
        return true;
    }
    timer_set(&world_of(leg)->timers, &leg->timer, due);
    return false;
}

static void leg_wait_for_place(struct leg *leg)
{
    struct world *world = world_of(leg);
    const struct net_address *address = &leg->addresses[leg->address_next].address;
    uint64_t wait = leg->may_wait ? SLOT_WAIT : SPARE_WAIT;
    if (!leg->may_wait && shared_counted(world->shared->spare, address) == 0) {
        leg_no_place(leg);
        return;
    }
    leg->state = LEG_IS_QUEUED;
    leg->no_pool = true; /* none is put there while somebody waits */
    leg->waiter.try = on_place;
    leg->waiter.owner = leg;
    if (world->now + wait < leg->deadline) {
        leg_arm(leg, wait);
    }
    pool_wait(world->pool, &leg->waiter, address);
}

static void leg_connect(struct leg *leg)
{
    for (size_t i = 0; i < leg->context->policy->own_count; i++) {
        if (net_address_equal(&leg->addresses[leg->address_next].address,
                              &leg->context->policy->own[i])) {
            leg_fail_with(leg, 451, "4.4.6", "the next hop is this server itself");
            return;
        }
    }
    if (leg_take_connection(leg)) {
        return;
    }
    leg_wait_for_place(leg);
}

static bool leg_keep_addresses(struct leg *leg, const struct resolver_address *addresses,
                               size_t count)
{
    free(leg->addresses);
    leg->address_next = 0;
    leg->address_count = count;
    leg->addresses = calloc(count, sizeof *addresses);
    if (leg->addresses == NULL) {
        leg_fail_with(leg, 452, "4.3.1", "out of memory");
        return false;
    }
    memcpy(leg->addresses, addresses, count * sizeof *addresses);
    return true;
}

static void on_answer(void *owner, const struct resolver_answer *answer)
{
    struct leg *leg = owner;
    leg->resolution = NULL;
    if (answer->status == RESOLVER_OK) {
        if (leg_keep_addresses(leg, answer->addresses, answer->count)) {
            leg_connect(leg);
        }
        return;
    }
    if (leg->hop_next < leg->relay->hop_count) {
        leg_try_next(leg);
    } else if (answer->status != RESOLVER_NULL_MX) {
        leg_fail_with(leg, 451, "4.4.3", answer->why);
    } else if (leg->relay->hops[leg->hop_next - 1].kind == NEXTHOP_DOMAIN) {
        leg_fail_with(leg, 556, "5.1.10", "the recipient's domain does not take mail (null MX)");
    } else {
        leg_fail_with(leg, 451, "4.4.4", "the next hop does not take mail (null MX)");
    }
}

/* The next hop in order; a literal address needs no look-up. */
static void leg_try_next(struct leg *leg)
{
    struct world *world = world_of(leg);
    const struct nexthop *hop = &leg->relay->hops[leg->hop_next++];
    if (hop->kind == NEXTHOP_ADDRESS) {
        struct resolver_address literal = {.address = hop->address};
        if (leg_keep_addresses(leg, &literal, 1)) {
            leg_connect(leg);
        }
        return;
    }
    leg->state = LEG_IS_RESOLVING;
    leg->resolution = world->ops->resolve(world, hop, leg->domain, on_answer, leg);
    if (leg->resolution == NULL) {
        leg_fail_with(leg, 452, "4.3.1", "out of memory");
    }
}

/* From the relay's first next hop; also for the second opening, "at the same relay". */
void leg_open(struct leg *leg)
{
    if (tls_policy_is_strict(leg->relay->tls)) { /* the configuration refuses it before */
        leg_fail_with(leg, 451, "4.7.5", "TLS is required and not in this version");
        return;
    }
    leg->hop_next = 0;
    leg->address_count = leg->address_next = 0;
    leg_try_next(leg);
}

/* Section 6: the next address, the next next-hop, else 451 4.4.1. */
void leg_unavailable(struct leg *leg, const char *why)
{
    if (leg->address_next + 1 < leg->address_count) {
        leg->address_next++;
        leg_connect(leg);
    } else if (leg->hop_next < leg->relay->hop_count) {
        leg_try_next(leg);
    } else {
        leg_fail_with(leg, 451, "4.4.1", why);
    }
}
