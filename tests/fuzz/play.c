#include "tests/fuzz/play.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "proxy/session/pool.h"
#include "proxy/session/stats.h"
#include "tests/sim/shrink.h"
#include "tests/sim/store.h"

/* Nothing that one input can ask for takes so many events. */
#define STEPS_MAX 2000000
/* By then all waits are over. */
#define PLAY_END (SIM_START + UINT64_C(8) * 3600 * 1000)

void play_fail(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fputs("session: ", stderr);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    abort();
}

void play_trace(const struct play *play, const char *who, struct span bytes)
{
    if (play->trace) {
        fprintf(stderr, "%s: %.*s", who, SPAN_ARGS(bytes.len != 0 ? bytes : SPAN("closed\n")));
    }
}

/* ---- what the simulator's worlds have and plays do not: they are not thinned out ---- */

bool filter_has(struct sim *sim, enum atom_kind kind, uint64_t number)
{
    (void)sim;
    (void)kind;
    (void)number;
    return true;
}

/* The network has something to say against session code: libFuzzer is to keep the input. */
void filter_report(struct sim *sim, const char *format)
{
    (void)sim;
    play_fail("%s", format);
}

/* ---- the world's interfaces ---- */

struct resolution {
    struct play *play;
    const struct nexthop *hop; /* NULL: of a client's name */
    void (*on_answer)(void *, const struct resolver_answer *);
    resolver_ptr_callback *on_name;
    void *context; /* NULL: cancelled */
};

static struct play *play_of_world(struct world *world)
{
    return play_of((struct sim *)(void *)world);
}

static struct conn *world_connect(struct world *world, const struct net_address *address)
{
    struct play *play = play_of_world(world);
    for (unsigned i = 0; i < PLAY_RELAYS; i++) {
        struct server *server = &play->sim.servers[i][0];
        if (net_address_equal(&server->address, address)) {
            return &link_to_server(&play->sim, play->down[i] ? NULL : server)->conn;
        }
    }
    play_fail("a connection to nobody's address");
}

static void resolution_run(struct sim *sim, void *object, int kind)
{
    struct resolution *resolution = object;
    (void)kind;
    play_of(sim)->lookups--;
    if (resolution->context != NULL && resolution->hop != NULL) {
        const struct resolver_address address = {.address = resolution->hop->address};
        const struct resolver_answer answer = {
            .status = RESOLVER_OK, .addresses = &address, .count = 1, .why = ""};
        resolution->on_answer(resolution->context, &answer);
        sim_settle(sim);
    } else if (resolution->context != NULL) {
        const char *name = resolution->play->has_name ? "client.example" : NULL;
        resolution->on_name(resolution->context, &(struct resolver_name){name, name, false});
        sim_settle(sim);
    }
    free(resolution);
}

static struct resolution *resolution_new(struct world *world, void *context)
{
    struct resolution *resolution = sim_alloc(1, sizeof *resolution);
    resolution->play = play_of_world(world);
    resolution->context = context;
    resolution->play->lookups++;
    sim_at(&resolution->play->sim, 1, resolution_run, resolution, 0);
    return resolution;
}

static struct resolution *world_resolve(struct world *world, const struct nexthop *hop,
                                        struct span domain,
                                        void (*callback)(void *, const struct resolver_answer *),
                                        void *context)
{
    struct resolution *resolution = resolution_new(world, context);
    (void)domain;
    resolution->hop = hop;
    resolution->on_answer = callback;
    return resolution;
}

static struct resolution *world_resolve_ptr(struct world *world, const struct net_address *address,
                                            resolver_ptr_callback *callback, void *context)
{
    struct resolution *resolution = resolution_new(world, context);
    (void)address;
    resolution->on_name = callback;
    return resolution;
}

static void world_resolve_cancel(struct world *world, struct resolution *resolution)
{
    (void)world;
    if (resolution->context == NULL) {
        play_fail("a look-up was cancelled twice");
    }
    resolution->context = NULL;
}

static void world_resolve_doubt(struct world *world, const char *name)
{
    (void)world;
    (void)name;
}

static void world_wake(struct world *world)
{
    play_of_world(world)->sim.woken = true;
}

static time_t world_wall(struct world *world)
{
    return (time_t)(1800000000 + (int64_t)(world->now / 1000));
}

static uint64_t world_random(struct world *world)
{
    return random_next(&play_of_world(world)->sim.random);
}

static void world_log(struct world *world, enum config_log_level level, struct span record)
{
    (void)world;
    (void)level;
    for (size_t i = 0; i < record.len; i++) {
        if ((unsigned char)record.ptr[i] < ' ' || record.ptr[i] == 0x7f) {
            play_fail("a log record with a control character");
        }
    }
}

static const struct world_ops ops = {
    .connect = world_connect,
    .resolve = world_resolve,
    .resolve_ptr = world_resolve_ptr,
    .resolve_cancel = world_resolve_cancel,
    .resolve_doubt = world_resolve_doubt,
    .wake = world_wake,
    .wall = world_wall,
    .random = world_random,
    .log = world_log,
};

/* ---- beginning ---- */

static bool has(struct span options, char option)
{
    return span_find(options, option) < options.len;
}

/*
 * Relay 0 is near, 1 and 2 are far away. Letters: f, u: what 0 has no server or no mailbox for goes
 * to 1, to 2; x: it is told who the client is; p: by a PROXY header; t, v: 1 has TLS where it can,
 * must have it, verified; o: 2 takes one domain a message; s: splits are put off; n: clients have
 * names; j: the log is JSON; capitals stand for chances in the network, each another.
 */
static void build_relays(struct play *play, struct span options)
{
    static const char *const addresses[] = {"127.0.0.2", "198.51.100.1", "2001:db8::1"};
    struct sim *sim = &play->sim;
    sim->relay_count = PLAY_RELAYS;
    for (unsigned i = 0; i < PLAY_RELAYS; i++) {
        struct sim_relay *own = &sim->relays[i];
        struct server *server = &sim->servers[i][0];
        *server = (struct server){.sim = sim, .relay = i, .address = sim_address(addresses[i], 25)};
        own->endpoints = 1;
        own->hops[0] =
            (struct nexthop){.kind = NEXTHOP_ADDRESS, .port = 25, .address = server->address};
        snprintf(own->name, sizeof own->name, "r%u", i);
        own->relay = (struct relay){.name = own->name,
                                    .hops = own->hops,
                                    .hop_count = 1,
                                    .identity = IDENTITY_NONE,
                                    .max_connections = 2};
    }
    struct relay *near = &sim->relays[0].relay;
    near->fallback = has(options, 'f') ? &sim->relays[1].relay : NULL;
    near->unknown_recipient = has(options, 'u') ? &sim->relays[2].relay : NULL;
    near->identity = has(options, 'x')   ? IDENTITY_XCLIENT
                     : has(options, 'p') ? IDENTITY_PROXY
                                         : IDENTITY_NONE;
    sim->relays[1].relay.tls = has(options, 'v')   ? RELAY_TLS_VERIFY
                               : has(options, 't') ? RELAY_TLS_MAY
                                                   : RELAY_TLS_NONE;
    sim->relays[2].relay.one_domain = has(options, 'o');
}

static void build_settings(struct play *play, struct span options)
{
    struct config *config = config_defaults(SIM_HOST);
    if (config == NULL) {
        abort();
    }
    config->split = has(options, 's') ? SPLIT_DEFER : SPLIT_TOGETHER;
    config->log_format = has(options, 'j') ? LOG_JSON : LOG_TEXT;
    config->limits.message_size = 65536;
    config->limits.recipients = 5;
    config->limits.received_hops = 3;
    play->sim.settings = config;
    play->has_name = has(options, 'n');
}

/* As shared_init, with tables for a few only: each input has its own. */
static void build_shared(struct play *play)
{
    struct shared *shared = &play->sim.shared;
    *shared = (struct shared){.connections = 16,
                              .seed = 1,
                              .endpoints = quota_new(16, 2),
                              .wanted = quota_new(16, 3),
                              .health = health_new(16, 4),
                              .pacing = pacing_new(4),
                              .unknown = rate_new(16, 5),
                              .ledger = play->sim.ledger};
    if (shared->endpoints == NULL || shared->wanted == NULL || shared->health == NULL ||
        shared->pacing == NULL || shared->unknown == NULL) {
        abort();
    }
}

struct play *play_new(struct span options)
{
    struct play *play = sim_alloc(1, sizeof *play);
    struct sim *sim = &play->sim;
    play->trace = getenv("PLAY_TRACE") != NULL;
    sim->totals = &play->totals;
    sim->accept = upstream_end_accept;
    for (size_t i = 0; i < options.len; i++) {
        if (options.ptr[i] >= 'A' && options.ptr[i] <= 'Z') {
            sim->random.state = sim->random.state * 31 + (unsigned char)options.ptr[i];
        }
    }
    sim->own = sim_address("192.0.2.25", 25);
    build_relays(play, options);
    build_settings(play, options);
    struct policy *policy = sim_policy_new(sim);
    store_open(sim);
    build_shared(play);
    if (!world_init(&sim->world, &ops, policy, &sim->shared)) {
        abort();
    }
    policy_unref(policy);
    sim->world.now = SIM_START;
    return play;
}

/* ---- time ---- */

static uint64_t next_at(const struct sim *sim)
{
    const uint64_t due = timers_next(&sim->world.timers);
    return sim->queue.count != 0 && sim->queue.heap[0].at < due ? sim->queue.heap[0].at : due;
}

static void step(struct play *play)
{
    sim_step(&play->sim);
    if (++play->steps > STEPS_MAX) {
        play_fail("it goes on for ever");
    }
}

void play_run(struct play *play, uint64_t milliseconds)
{
    struct sim *sim = &play->sim;
    const uint64_t until = sim->world.now + milliseconds;
    while (next_at(sim) <= until) {
        step(play);
    }
    sim->world.now = until;
}

bool play_take_line(struct play *play, unsigned relay, char stage, struct buffer *out)
{
    for (struct line_of_play **at = &play->lines; *at != NULL; at = &(*at)->next) {
        struct line_of_play *line = *at;
        if (line->relay == relay && line->stage == stage) {
            *at = line->next;
            *out = line->bytes;
            free(line);
            return true;
        }
    }
    return false;
}

/* ---- the end ---- */

/* What looks after an endpoint that is down would go on for ever. */
static void wait_for_all(struct play *play)
{
    struct world *world = &play->sim.world;
    while (world->sessions != NULL ||
           stats_get(world->stats, STAT_UPSTREAMS_OPEN) != pool_idle(world->pool)) {
        if (next_at(&play->sim) > PLAY_END) {
            play_fail("somebody waits for ever");
        }
        step(play);
    }
}

static void check_counts(struct play *play)
{
    struct sim *sim = &play->sim;
    if (stats_get(sim->world.stats, STAT_SESSIONS_OPEN) != 0 ||
        atomic_load(&sim->world.entry->sessions) != 0 || atomic_load(&sim->shared.waiting) != 0) {
        play_fail("sessions or legs that wait are still counted");
    }
}

static void check_released(struct play *play)
{
    struct sim *sim = &play->sim;
    for (unsigned i = 0; i < PLAY_RELAYS; i++) {
        const struct net_address *address = &sim->servers[i][0].address;
        if (shared_counted(sim->shared.endpoints, address) != 0 ||
            shared_counted_spare(&sim->shared, address) != 0 ||
            shared_counted(sim->shared.wanted, address) != 0) {
            play_fail("a place at upstream %u was not given back", i);
        }
    }
    if (sim->links_open != 0 || play->lookups != 0 || sim->policies != 0) {
        play_fail("left: %u links, %u look-ups, %u policies", sim->links_open, play->lookups,
                  sim->policies);
    }
}

static void free_copies(struct play *play)
{
    while (play->copies != NULL) {
        struct copy *copy = play->copies;
        play->copies = copy->next;
        buffer_release(&copy->sender);
        buffer_release(&copy->message);
        for (unsigned i = 0; i < copy->count; i++) {
            buffer_release(&copy->recipients[i].what);
        }
        free(copy);
    }
}

static void free_actors(struct play *play)
{
    struct buffer line;
    for (unsigned i = 0; i < play->caller_count; i++) {
        caller_free(play->callers[i]);
    }
    while (play->ends != NULL) {
        struct upstream_end *end = play->ends;
        play->ends = end->next;
        upstream_end_free(end);
    }
    free_copies(play);
    while (play->lines != NULL) {
        play_take_line(play, play->lines->relay, play->lines->stage, &line);
        buffer_release(&line);
    }
}

void play_free(struct play *play)
{
    struct sim *sim = &play->sim;
    for (unsigned i = 0; i < play->caller_count; i++) {
        caller_half_closes(play->callers[i]);
    }
    wait_for_all(play);
    for (unsigned i = 0; i < play->caller_count; i++) {
        caller_check(play->callers[i]);
    }
    check_counts(play);
    const uint64_t now = sim->world.now;
    world_release(&sim->world);
    sim->world.now = now;
    sim_drain_queue(sim);
    check_released(play);
    free_actors(play);
    free(sim->queue.heap);
    shared_release(&sim->shared);
    store_close(sim);
    config_unref(sim->settings);
    free(play);
}
