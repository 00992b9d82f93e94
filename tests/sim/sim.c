#include "tests/sim/sim.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "proxy/session/pool.h"
#include "proxy/session/stats.h"
#include "tests/sim/client.h"
#include "tests/sim/message.h"
#include "tests/sim/queues.h"
#include "tests/sim/store.h"

#define SESSIONS 80 /* in a world: few, so that a world that fails is a short one */
#define MESSAGES (SESSIONS * 5)
/* A world that is not over after this many milliseconds has somebody in it who waits for ever. */
#define SIM_END (SIM_START + UINT64_C(4) * 3600 * 1000)

/* ---- the queue: a heap by (time, sequence) ---- */

static bool event_before(const struct sim_event *a, const struct sim_event *b)
{
    return a->at != b->at ? a->at < b->at : a->sequence < b->sequence;
}

void sim_at(struct sim *sim, uint64_t delay, sim_handler *run, void *object, int kind)
{
    struct sim_queue *queue = &sim->queue;
    struct sim_event event = {sim->world.now + delay, queue->sequence++, run, object, kind};
    if (queue->count == queue->cap) {
        queue->cap = queue->cap == 0 ? 256 : queue->cap * 2;
        queue->heap = realloc(queue->heap, queue->cap * sizeof *queue->heap);
        if (queue->heap == NULL) {
            abort();
        }
    }
    size_t at = queue->count++;
    while (at > 0 && event_before(&event, &queue->heap[(at - 1) / 2])) {
        queue->heap[at] = queue->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    queue->heap[at] = event;
}

static struct sim_event queue_take(struct sim_queue *queue)
{
    struct sim_event first = queue->heap[0];
    struct sim_event last = queue->heap[--queue->count];
    size_t at = 0;
    for (size_t child = 1; child < queue->count; child = 2 * at + 1) {
        if (child + 1 < queue->count &&
            event_before(&queue->heap[child + 1], &queue->heap[child])) {
            child++;
        }
        if (event_before(&last, &queue->heap[child])) {
            break;
        }
        queue->heap[at] = queue->heap[child];
        at = child;
    }
    queue->heap[at] = last;
    return first;
}

/* ---- chance, trace, verdict ---- */

uint64_t sim_below(struct sim *sim, uint64_t n)
{
    return random_below(&sim->random, n);
}

bool sim_chance(struct sim *sim, unsigned percent)
{
    return random_chance(&sim->random, percent);
}

static void mix(struct sim *sim, uint64_t number)
{
    uint64_t hash = (sim->totals->hash ^ number) * UINT64_C(0x9e3779b97f4a7c15);
    sim->totals->hash = hash ^ hash >> 29;
}

void sim_note(struct sim *sim, const char *what, unsigned id, uint64_t number)
{
    mix(sim, sim->world.now);
    mix(sim, (uint64_t)(unsigned char)what[0] << 56 | (uint64_t)id << 24 | number);
    if (sim->config.trace && !sim->config.brief) {
        printf("%9.3f %3u %s %" PRIu64 "\n", (double)(sim->world.now - SIM_START) / 1000, id, what,
               number);
    }
}

void sim_note_span(struct sim *sim, const char *what, unsigned id, struct span bytes)
{
    mix(sim, sim->world.now);
    for (size_t i = 0; i < bytes.len; i += 8) {
        uint64_t word = 0;
        memcpy(&word, bytes.ptr + i, bytes.len - i < 8 ? bytes.len - i : 8);
        mix(sim, word);
    }
    if (sim->config.trace && !(sim->config.brief && sim->dead)) {
        struct span line = bytes;
        while (line.len != 0 && line.ptr[line.len - 1] < ' ') {
            line.len--;
        }
        printf("%9.3f %3u %s: %.*s\n", (double)(sim->world.now - SIM_START) / 1000, id, what,
               SPAN_ARGS(line));
    }
}

void sim_fail(struct sim *sim, const char *format, ...)
{
    va_list args;
    filter_report(sim, format);
    printf("FAILED seed=%" PRIu64 " world=%" PRIu64 " at %.3f s: ", sim->config.seed,
           sim->config.number, (double)(sim->world.now - SIM_START) / 1000);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    printf("\nagain: sim%s --seed %" PRIu64 " --world %" PRIu64 " --trace\n",
           sim->config.queues ? " --queues" : "", sim->config.seed, sim->config.number);
    if (sim->config.queues) {
        printf("after %" PRIu64 " transactions; with --shrink instead of --trace: what of it is "
               "needed\n",
               sim->totals->transactions);
    }
    printf("%" PRIu64 " passed, 1 failed\n",
           sim->config.queues ? sim->totals->transactions : sim->totals->splits);
    fflush(stdout);
    _Exit(1); /* what is left behind is no leak */
}

void sim_settle(struct sim *sim)
{
    world_settle(&sim->world);
}

/* ---- one world ---- */

/* A reload: the same rules in a new snapshot. */
static void on_reload(struct sim *sim, void *object, int kind)
{
    struct policy *policy;
    (void)object;
    (void)kind;
    if (sim->world.ops == NULL) {
        return; /* the world is over already */
    }
    policy = sim_policy_new(sim);
    sim_note(sim, "reload", sim->policies, 0);
    world_set_policy(&sim->world, policy);
    policy_unref(policy);
    sim_settle(sim);
}

/* SIGTERM. */
static void on_drain(struct sim *sim, void *object, int kind)
{
    (void)object;
    (void)kind;
    if (sim->world.ops == NULL) {
        return;
    }
    sim_note(sim, "drain", 0, 0);
    sim->draining = true;
    world_drain(&sim->world, sim->world.now + sim_below(sim, 30000));
    sim_settle(sim);
}

static void sim_begin(struct sim *sim)
{
    struct policy *policy;
    sim->random.state = sim->config.seed * UINT64_C(0xd1342543de82ef95) + sim->config.number;
    random_next(&sim->random);
    sim_build(sim);
    policy = sim_policy_new(sim);
    store_open(sim);
    if (!shared_init(&sim->shared, 1000, sim_below(sim, UINT64_MAX), sim->ledger) ||
        !world_init(&sim->world, &sim_world_ops, policy, &sim->shared)) {
        abort();
    }
    policy_unref(policy);
    sim->world.now = SIM_START;
    sim->messages = sim_alloc(MESSAGES, sizeof *sim->messages);
    sim->clients = sim_alloc(SESSIONS, sizeof *sim->clients);
    sim->identities = sim_alloc(SESSIONS, sizeof *sim->identities);
    while (sim->client_count < SESSIONS) {
        sim->clients[sim->client_count] =
            client_new(sim, sim->client_count, sim_below(sim, sim->span));
        sim->client_count++;
    }
    for (uint64_t reloads = sim_below(sim, 4); reloads > 0; reloads--) {
        sim_at(sim, sim_below(sim, sim->span), on_reload, NULL, 0);
    }
    if (sim_chance(sim, 8)) {
        sim_at(sim, sim_below(sim, 2 * sim->span), on_drain, NULL, 0);
    }
}

bool sim_step(struct sim *sim)
{
    uint64_t due = timers_next(&sim->world.timers);
    bool has_event = sim->queue.count != 0;
    sim->totals->events++;
    if (has_event && sim->queue.heap[0].at <= due) {
        struct sim_event event = queue_take(&sim->queue);
        sim->world.now = event.at;
        event.run(sim, event.object, event.kind);
        return true;
    }
    if (due == UINT64_MAX) {
        return false;
    }
    if (due > sim->world.now) {
        sim->world.now = due;
    }
    sim_note(sim, "timer", 0, 0);
    timers_run(&sim->world.timers, sim->world.now);
    sim_settle(sim);
    return true;
}

void sim_drain_queue(struct sim *sim)
{
    while (sim->queue.count != 0) {
        struct sim_event event = queue_take(&sim->queue);
        sim->world.now = event.at;
        event.run(sim, event.object, event.kind);
    }
}

static bool all_done(struct sim *sim)
{
    while (sim->clients_done < sim->client_count &&
           client_is_done(sim->clients[sim->clients_done])) {
        sim->clients_done++;
    }
    return sim->clients_done == sim->client_count && sim->world.sessions == NULL;
}

/* Nothing may be left but connections in the pool. */
static void sim_check(struct sim *sim)
{
    struct world *world = &sim->world;
    uint64_t open = stats_get(world->stats, STAT_UPSTREAMS_OPEN);
    for (unsigned i = 0; i < sim->message_count; i++) {
        message_check(sim->messages[i]);
    }
    if (!all_done(sim)) {
        sim_fail(sim, "somebody waits for ever");
    }
    if (open != pool_idle(world->pool) || stats_get(world->stats, STAT_SESSIONS_OPEN) != 0 ||
        atomic_load(&world->entry->sessions) != 0 || atomic_load(&sim->shared.waiting) != 0) {
        sim_fail(sim, "left: %" PRIu64 " upstreams, %zu of them idle, %u sessions, %u waiting",
                 open, pool_idle(world->pool), atomic_load(&world->entry->sessions),
                 atomic_load(&sim->shared.waiting));
    }
}

/* Whether no transaction is counted any more: a pace that has just been slowed lets one begin when
 * its silence is over. */
static bool pace_is_free(struct sim *sim, const char *relay)
{
    struct pace *pace = pacing_of(sim->shared.pacing, span_of(relay));
    pace_slow(pace, sim->world.now);
    return pace_begin(pace, 2, sim->world.now + PACING_QUIET);
}

/* After world_release: places are given back, links closed, snapshots gone. */
static void sim_check_released(struct sim *sim)
{
    for (unsigned i = 0; i < sim->relay_count; i++) {
        if (!pace_is_free(sim, sim->relays[i].name)) {
            sim_fail(sim, "a transaction is still counted at relay %u", i);
        }
        for (unsigned j = 0; j < SIM_ENDPOINTS; j++) {
            const struct net_address *address = &sim->servers[i][j].address;
            if (shared_counted(sim->shared.endpoints, address) != 0 ||
                shared_counted_spare(&sim->shared, address) != 0 ||
                shared_counted(sim->shared.wanted, address) != 0) {
                sim_fail(sim, "a place at upstream %u was not given back", i);
            }
        }
    }
    if (sim->links_open != 0 || sim->looked_up != 0 || sim->policies != 0) {
        sim_fail(sim, "left: %u links, %u look-ups, %u policies", sim->links_open, sim->looked_up,
                 sim->policies);
    }
}

static void sim_end(struct sim *sim)
{
    sim->totals->sessions += stats_get(sim->world.stats, STAT_SESSIONS);
    sim_check(sim);
    uint64_t now = sim->world.now;
    world_release(&sim->world);
    sim->world.now = now;
    sim_drain_queue(sim);
    sim_check_released(sim);
    for (unsigned i = 0; i < sim->client_count; i++) {
        client_free(sim->clients[i]);
    }
    for (unsigned i = 0; i < sim->message_count; i++) {
        message_free(sim->messages[i]);
    }
    free(sim->clients);
    free(sim->identities);
    free(sim->messages);
    free(sim->queue.heap);
    shared_release(&sim->shared);
    store_close(sim);
    config_unref(sim->settings);
}

void sim_run(const struct sim_config *config, struct sim_totals *totals)
{
    struct sim *sim = sim_alloc(1, sizeof *sim);
    sim->config = *config;
    sim->totals = totals;
    if (config->queues) {
        queues_run(sim);
        free(sim);
        return;
    }
    sim->accept = service_accept;
    sim_begin(sim);
    /* Some worlds end with connections in the pool, the others when those have gone too. */
    bool short_end = sim_chance(sim, 50);
    while (sim_step(sim)) {
        if (sim->world.now > SIM_END) {
            sim_fail(sim, "somebody waits for ever");
        }
        /* What looks after an endpoint that is down would go on for ever. */
        uint64_t open = stats_get(sim->world.stats, STAT_UPSTREAMS_OPEN);
        if (all_done(sim) && (open == 0 || (short_end && open == pool_idle(sim->world.pool)))) {
            break;
        }
    }
    sim_end(sim);
    free(sim);
}
