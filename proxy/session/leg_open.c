#include <stdlib.h>

#include "proxy/session/leg_state.h"
#include "proxy/session/prober.h"
#include "proxy/session/summary.h"

/* How long a leg waits for one of `max-connections` (design: section 6), milliseconds. */
#define SLOT_WAIT 10000
/* And one whose transaction holds another leg, for a connection that carries nothing to end, here
 * or in another world: a matter of a round trip, so that nobody is kept from what is held. */
#define SPARE_WAIT 1000

static void leg_try_next(struct leg *leg);
static void leg_go_elsewhere(struct leg *leg, const char *why);

/* ---- an endpoint ---- */

static const struct net_address *leg_address(const struct leg *leg)
{
    return &leg->addresses[leg->address_next].address;
}

static struct health_endpoint leg_endpoint(const struct leg *leg)
{
    return (struct health_endpoint){.address = *leg_address(leg),
                                    .proxy = leg->relay->identity == IDENTITY_PROXY};
}

/* Whose name TLS is for: the host that was looked for, or what the operator says. */
static void key_add_tls(struct upstream_key *key, const struct leg *leg)
{
    const struct relay *relay = leg->relay;
    struct text host = TEXT(key->host);
    key->tls = leg->in_clear ? RELAY_TLS_NONE : relay->tls;
    if (key->tls != RELAY_TLS_NONE) {
        key->context = tls_client_context(leg->context->policy->tls, key->tls, relay->ca_file);
        text_puts(&host, relay->tls_name != NULL ? relay->tls_name
                                                 : leg->addresses[leg->address_next].host);
    }
}

static struct upstream_key leg_key(const struct leg *leg)
{
    const struct client_view *client = leg->context->client;
    struct upstream_key key = {.address = *leg_address(leg), .identity = leg->relay->identity};
    struct text whom = TEXT(key.client);
    key_add_tls(&key, leg);
    if (key.identity == IDENTITY_XCLIENT || key.identity == IDENTITY_PROXY) {
        text_printf(&whom, "%s-%u", client->session_id, client->version);
    }
    return key;
}

static bool leg_take_pooled(struct leg *leg)
{
    struct world *world = world_of(leg);
    struct upstream_key key = leg_key(leg);
    leg->upstream = leg->no_pool ? NULL : pool_take(world->pool, &key);
    if (leg->upstream == NULL) {
        return false;
    }
    relay_stats_add(leg->stats, RELAY_CONNECTIONS_REUSED, 1);
    upstream_adopt(leg->upstream, leg->context->policy, leg_on_upstream, leg);
    leg_go_on(leg);
    return true;
}

/* False: all places are taken. */
static bool leg_open_new(struct leg *leg)
{
    struct world *world = world_of(leg);
    struct upstream_key key = leg_key(leg);
    quota_cell cell =
        shared_count(world->shared->endpoints, &key.address, leg->relay->max_connections);
    if (cell == QUOTA_NONE) {
        return false;
    }
    timer_set(&world->timers, &leg->timer, leg->open_by);
    leg->upstream = upstream_open(world, &key, cell, leg->context->policy, leg->context->client,
                                  leg_on_upstream, leg);
    if (leg->upstream == NULL) {
        leg_not_tried(leg);
        leg_fail_with(leg, 451, "4.3.0", "no connection can be opened now");
        return true;
    }
    leg->state = LEG_IS_CONNECTING;
    leg_ask(leg);
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
    if (leg_open_new(leg)) {
        return true;
    }
    timer_set(&world_of(leg)->timers, &leg->timer, due);
    return false;
}

static void leg_wait_for_place(struct leg *leg)
{
    struct world *world = world_of(leg);
    const struct net_address *address = leg_address(leg);
    uint64_t wait = leg->may_wait ? SLOT_WAIT : SPARE_WAIT;
    if (!leg->may_wait && shared_counted_spare(world->shared, address) == 0) {
        leg_no_place(leg);
        return;
    }
    leg->state = LEG_IS_QUEUED;
    leg->no_pool = true; /* none is put there while somebody waits */
    leg->waiter.try = on_place;
    leg->waiter.owner = leg;
    if (world->now + wait < leg->open_by) {
        leg_arm(leg, wait);
    }
    pool_wait(world->pool, &leg->waiter, address);
}

static void leg_connect(struct leg *leg)
{
    if (policy_is_own(leg->context->policy, leg_address(leg))) {
        leg_fail_with(leg, 451, "4.4.6", "the next hop is this server itself");
        return;
    }
    leg->local = net_address_is_local(leg_address(leg));
    if (leg_take_pooled(leg)) {
        return;
    }
    struct health_endpoint endpoint = leg_endpoint(leg);
    if (!leg->in_clear) { /* a second try in clear text is the same attempt still */
        leg->verdict = health_ask(world_of(leg)->shared->health, &endpoint, world_of(leg)->now);
    }
    if (leg->verdict == HEALTH_SKIP) {
        leg_go_elsewhere(leg, "is down, and is looked after");
    } else if (!leg_open_new(leg)) {
        leg_wait_for_place(leg);
    }
}

/* ---- the next hops ---- */

static bool leg_keep_addresses(struct leg *leg, const struct resolver_address *addresses,
                               size_t count)
{
    spare_free(leg->addresses);
    leg->address_next = 0;
    leg->address_count = count;
    leg->addresses = spare_take(&world_of(leg)->spares, count * sizeof *addresses);
    if (leg->addresses == NULL) {
        leg_fail_with(leg, 452, "4.3.1", "out of memory");
        return false;
    }
    memcpy(leg->addresses, addresses, count * sizeof *addresses);
    return true;
}

/* The next hop at hand. */
static const struct nexthop *leg_hop(const struct leg *leg)
{
    return &leg->relay->hops[leg->order[leg->hop_next - 1]];
}

/* Nothing more to try: the relay is unavailable. A leg that lost its connection had somebody
 * accepted, who cannot be taken elsewhere. */
static void leg_give_up(struct leg *leg, const char *enhanced, const char *why)
{
    leg->unavailable = leg->first == NULL;
    leg_fail_with(leg, 451, enhanced, why);
}

/* What the names of the next hop at hand led to was of no use. */
static void leg_doubt_names(struct leg *leg)
{
    struct world *world = world_of(leg);
    world->ops->resolve_doubt(world, leg_hop(leg)->host);
    for (size_t i = 0; i < leg->address_count; i++) {
        world->ops->resolve_doubt(world, leg->addresses[i].host);
    }
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
    if (answer->ours) {
        leg_fail_with(leg, 452, "4.3.1", answer->why);
        return;
    }
    bool null_mx = answer->status == RESOLVER_NULL_MX;
    leg->address_count = 0; /* of the hop before */
    leg_doubt_names(leg);
    if (leg->hop_next < leg->relay->hop_count) {
        leg_try_next(leg);
    } else if (answer->status == RESOLVER_LOOP) {
        leg_fail_with(leg, 451, "4.4.6", answer->why);
    } else if (null_mx && leg_hop(leg)->kind == NEXTHOP_DOMAIN) {
        leg_fail_with(leg, 556, "5.1.10", "the recipient's domain does not take mail (null MX)");
    } else if (null_mx) {
        leg_give_up(leg, "4.4.4", "the next hop does not take mail (null MX)");
    } else {
        leg_give_up(leg, "4.4.3", answer->why);
    }
}

/* The next hop in order; a literal address needs no look-up. */
static void leg_try_next(struct leg *leg)
{
    struct world *world = world_of(leg);
    leg->hop_next++;
    const struct nexthop *hop = leg_hop(leg);
    leg->in_clear = false;
    if (hop->kind == NEXTHOP_ADDRESS) {
        struct resolver_address literal = {.address = hop->address};
        if (leg_keep_addresses(leg, &literal, 1)) {
            leg_connect(leg);
        }
        return;
    }
    leg->state = LEG_IS_RESOLVING;
    timer_set(&world->timers, &leg->timer, leg->open_by);
    leg->resolution = world->ops->resolve(world, hop, leg->domain, on_answer, leg);
    if (leg->resolution == NULL) {
        leg_fail_with(leg, 452, "4.3.1", "out of memory");
    }
}

/* By priority; those of the same priority in an order of their own each time. */
static void leg_order_hops(struct leg *leg)
{
    struct world *world = world_of(leg);
    const struct relay *relay = leg->relay;
    unsigned char *order = leg->order;
    for (size_t i = 0; i < relay->hop_count; i++) { /* shuffled, each into a random place */
        size_t at = (size_t)(world->ops->random(world) % (i + 1));
        order[i] = order[at];
        order[at] = (unsigned char)i;
    }
    for (size_t i = 1; i < relay->hop_count; i++) { /* and sorted, which keeps that among equals */
        unsigned char moved = order[i];
        size_t at = i;
        for (; at > 0 && relay->hops[order[at - 1]].priority > relay->hops[moved].priority; at--) {
            order[at] = order[at - 1];
        }
        order[at] = moved;
    }
}

/* A relay that has asked for less: whether the transaction may begin there, or, its connection
 * lost, begin again. */
static bool leg_keeps_pace(struct leg *leg)
{
    struct world *world = world_of(leg);
    unsigned most = leg->relay->max_connections;
    if (!leg->relay->paced) {
        return true;
    }
    if (leg->pace != NULL) {
        return pace_allowed(leg->pace, most, world->now) != 0;
    }
    struct pace *pace = pacing_of(world->shared->pacing, span_of(leg->relay->name));
    if (!pace_begin(pace, most, world->now)) {
        return false;
    }
    leg->pace = pace;
    return true;
}

/* From the relay's first next hop; also for the second opening, "at the same relay". */
void leg_open(struct leg *leg)
{
    if (!leg_keeps_pace(leg)) {
        leg_fail_with(leg, 451, "4.7.28", "asked us to send less for a while");
        return;
    }
    leg->hop_next = 0;
    leg->address_count = leg->address_next = 0;
    leg_order_hops(leg);
    leg_try_next(leg);
}

/* ---- availability ---- */

/* The next address, the next next-hop, else 451. */
static void leg_go_elsewhere(struct leg *leg, const char *why)
{
    leg->in_clear = false;
    if (leg->address_next + 1 < leg->address_count) {
        leg->address_next++;
        leg_connect(leg);
        return;
    }
    leg_doubt_names(leg);
    if (leg->hop_next < leg->relay->hop_count) {
        leg_try_next(leg);
    } else {
        leg_give_up(leg, leg->tls_at_fault ? "4.7.5" : "4.4.1", why);
    }
}

static void leg_note_health(struct leg *leg, const char *failure)
{
    struct health_endpoint endpoint = leg_endpoint(leg);
    prober_note(world_of(leg)->prober, &endpoint, leg->verdict, failure);
}

void leg_not_tried(struct leg *leg)
{
    struct health_endpoint endpoint = leg_endpoint(leg);
    if (leg->verdict == HEALTH_TRY) {
        prober_give_up(world_of(leg)->prober, &endpoint);
    }
}

void leg_not_in_time(struct leg *leg, const char *why)
{
    if (leg->state == LEG_IS_CONNECTING) {
        leg_note_health(leg, why);
        relay_stats_add(leg->stats, RELAY_CONNECTIONS_FAILED, 1);
    }
    leg_give_up(leg, "4.4.1", why);
}

void leg_available(struct leg *leg)
{
    if (leg->state == LEG_IS_CONNECTING) {
        leg_note_health(leg, NULL);
    }
}

bool leg_slow_down(struct leg *leg, const struct reply *reply)
{
    if (leg->pace == NULL || reply->code != 421 || strcmp(reply->enhanced, "4.7.28") != 0) {
        return false;
    }
    if (pace_slow(leg->pace, world_of(leg)->now)) {
        summary_slowed(world_of(leg), leg->context->policy, leg->relay, reply);
    }
    return true;
}

void leg_unavailable(struct leg *leg, const struct upstream_event *event)
{
    if (leg_slow_down(leg, event->reply)) {
        leg_fail_with(leg, 451, "4.7.28", event->why);
        return;
    }
    if (event->tls && leg->relay->tls == RELAY_TLS_MAY && !leg->in_clear) {
        leg->in_clear = true; /* the peer speaks, but not TLS that we understand */
        leg_connect(leg);
        return;
    }
    leg->tls_at_fault = event->tls;
    leg_note_health(leg, event->why);
    leg_go_elsewhere(leg, event->why);
}
