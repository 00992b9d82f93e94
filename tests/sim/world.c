/* The world's interfaces: connections of the simulated network, names made up, a clock that jumps.
 */
#include <stdio.h>
#include <stdlib.h>

#include "tests/sim/message.h"

static struct sim *sim_of(struct world *world)
{
    return (struct sim *)(void *)world;
}

static struct conn *world_connect(struct world *world, const struct net_address *address)
{
    struct sim *sim = sim_of(world);
    if (world->draining && world->sessions == NULL) {
        sim_fail(sim, "a connection for nobody, while draining");
    }
    return &link_to_server(sim, sim_server_at(sim, address))->conn;
}

/* ---- names ---- */

struct resolution {
    struct sim *sim;
    const struct nexthop *hop; /* NULL: of a client's name */
    struct identity *identity; /* the client's */
    void (*on_answer)(void *, const struct resolver_answer *);
    resolver_ptr_callback *on_name;
    void *context; /* NULL: cancelled */
    unsigned chance;
};

/* An address that refuses in front of the one that answers, or not; or none at all. */
static void resolution_answer(struct resolution *resolution)
{
    struct sim *sim = resolution->sim;
    struct resolver_address addresses[2] = {{.address = sim->nowhere},
                                            {.address = resolution->hop->address}};
    struct resolver_answer answer = {.status = RESOLVER_OK, .why = ""};
    for (unsigned i = 0; i < 2; i++) {
        snprintf(addresses[i].host, sizeof addresses[i].host, "%s", resolution->hop->host);
    }
    unsigned first = resolution->chance % 4 != 0;
    answer.addresses = addresses + first;
    answer.count = 2 - first;
    for (unsigned i = 0; i < sim->relay_count; i++) {
        const struct sim_relay *relay = &sim->relays[i];
        if (relay->no_names && resolution->hop >= relay->hops &&
            resolution->hop < relay->hops + relay->relay.hop_count) {
            answer = (struct resolver_answer){
                .status = relay->null_mx ? RESOLVER_NULL_MX : RESOLVER_FAIL, .why = "no answer"};
        }
    }
    resolution->on_answer(resolution->context, &answer);
}

static void resolution_run(struct sim *sim, void *object, int kind)
{
    struct resolution *resolution = object;
    (void)kind;
    sim_note(sim, "resolved", resolution->chance % 8, resolution->context != NULL);
    if (resolution->context == NULL) {
        free(resolution);
        sim->looked_up--;
        return;
    }
    if (resolution->hop != NULL) {
        resolution_answer(resolution);
    } else {
        struct identity *identity = resolution->identity;
        const char *name = resolution->chance % 2 != 0 ? identity->name : NULL;
        identity->name_state = name != NULL ? NAME_KNOWN : NAME_NONE;
        resolution->on_name(resolution->context, &(struct resolver_name){name, name, false});
    }
    free(resolution);
    sim->looked_up--;
    sim_settle(sim);
}

static struct resolution *resolution_new(struct sim *sim, void *context, uint64_t delay)
{
    struct resolution *resolution = sim_alloc(1, sizeof *resolution);
    resolution->sim = sim;
    resolution->context = context;
    resolution->chance = (unsigned)sim_below(sim, 256);
    sim->looked_up++;
    sim_at(sim, delay, resolution_run, resolution, 0);
    return resolution;
}

static struct resolution *world_resolve(struct world *world, const struct nexthop *hop,
                                        struct span domain,
                                        void (*callback)(void *, const struct resolver_answer *),
                                        void *context)
{
    struct sim *sim = sim_of(world);
    struct resolution *resolution = resolution_new(sim, context, sim_below(sim, 50));
    (void)domain;
    resolution->hop = hop;
    resolution->on_answer = callback;
    return resolution;
}

static struct resolution *world_resolve_ptr(struct world *world, const struct net_address *address,
                                            resolver_ptr_callback *callback, void *context)
{
    struct sim *sim = sim_of(world);
    uint64_t delay = sim_below(sim, sim->ptr_slow ? 9000 : 20);
    struct resolution *resolution = resolution_new(sim, context, delay);
    char ip[NET_ADDRESS_TEXT];
    net_address_text(address, ip, sizeof ip);
    resolution->identity = identity_of_ip(sim, span_of(ip));
    if (resolution->identity == NULL) {
        sim_fail(sim, "whose is %s?", ip);
    }
    resolution->on_name = callback;
    return resolution;
}

static void world_resolve_cancel(struct world *world, struct resolution *resolution)
{
    if (resolution->context == NULL) {
        sim_fail(sim_of(world), "a look-up was cancelled twice");
    }
    resolution->context = NULL;
    if (resolution->identity != NULL) {
        resolution->identity->name_state = NAME_TOO_LATE;
    }
}

/* ---- the rest ---- */

/* There is one world only: by the ledger's store. */
static void world_wake(struct world *world)
{
    sim_of(world)->woken = true;
}

static time_t world_wall(struct world *world)
{
    return (time_t)(1700000000 + (int64_t)(world->now / 1000) + sim_of(world)->wall_shift);
}

static uint64_t world_random(struct world *world)
{
    return random_next(&sim_of(world)->random);
}

static void world_log(struct world *world, enum config_log_level level, struct span record)
{
    struct sim *sim = sim_of(world);
    for (size_t i = 0; i < record.len; i++) {
        if ((unsigned char)record.ptr[i] < ' ') {
            sim_fail(sim, "a log record with a control character");
        }
    }
    sim_note_span(sim, "log", (unsigned)level, record);
}

/* Names do not change here. */
static void world_resolve_doubt(struct world *world, const char *name)
{
    (void)world;
    (void)name;
}

const struct world_ops sim_world_ops = {
    .resolve_doubt = world_resolve_doubt,
    .connect = world_connect,
    .resolve = world_resolve,
    .resolve_ptr = world_resolve_ptr,
    .resolve_cancel = world_resolve_cancel,
    .wake = world_wake,
    .wall = world_wall,
    .random = world_random,
    .log = world_log,
};
