/* The life of a world with queues: begin, crash and run again, faults and clocks, end. */
#include "tests/sim/queues.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "config/config.h"
#include "proxy/session/pool.h"
#include "proxy/session/stats.h"

/* A world that is not over so long after its last fault has somebody in it who waits for ever. */
#define QUEUES_END (60 * DAY)
/* So often at most does a message crash splitmx in the end. */
#define POISON_MOST 1000
/* Room in the ledger, octets: enough for all, or hardly any. */
#define LEDGER_ROOM  ((size_t)1 << 24)
#define LEDGER_TIGHT ((size_t)1200)

uint64_t queues_now(const struct queues *q)
{
    return q->sim->world.now;
}

int64_t queues_wall(const struct queues *q)
{
    return 1700000000 + (int64_t)(q->sim->world.now / 1000) + q->sim->wall_shift;
}

bool queues_is_faulty(const struct queues *q)
{
    return queues_now(q) < q->fault_end;
}

void queues_tell(struct queues *q, const char *format, ...)
{
    char line[400];
    va_list args;
    va_start(args, format);
    int length = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (length > 0) {
        sim_note_span(q->sim, "**", 0, span_of(line));
    }
}

/* ---- chance that does not depend on what else there is ---- */

static uint64_t mix(uint64_t a, uint64_t b)
{
    struct sim_random random = {a * UINT64_C(0xd1342543de82ef95) + b};
    return random_next(&random);
}

struct sim_random queues_random(const struct queues *q, unsigned what, unsigned number)
{
    const struct sim_config *config = &q->sim->config;
    return (struct sim_random){mix(mix(mix(config->seed, config->number), what), number)};
}

bool queues_fault(struct queues *q, unsigned link, uint64_t event, unsigned rate)
{
    uint64_t number = (uint64_t)link << 24 | (event & 0xffffff);
    struct sim_random random = queues_random(q, 8, link);
    random.state ^= event * UINT64_C(0x9e3779b97f4a7c15);
    if (!queues_is_faulty(q) || rate == 0 ||
        random_below(&random, UINT64_C(100000000)) >= (uint64_t)rate * q->per_event ||
        !filter_has(q->sim, ATOM_FAULT, UINT64_C(5) << 48 | number)) {
        return false;
    }
    q->sim->totals->queues->faults++;
    q->calm = false;
    return true;
}

/* ---- splitmx, up and down ---- */

/* Small tables: they are made anew at every crash. */
static void shared_build(struct queues *q)
{
    struct sim_random random = queues_random(q, 9, q->store.life);
    uint64_t seed = random_next(&random);
    q->sim->shared = (struct shared){
        .connections = 64,
        .seed = seed,
        .endpoints = quota_new(64, seed + 1),
        .wanted = quota_new(64, seed + 3),
        .health = health_new(64, seed + 4),
        .pacing = pacing_new(SHARED_PACED),
        .unknown = rate_new(64, seed + 5),
        .ledger = q->store.ledger,
    };
}

static void splitmx_begins(struct queues *q)
{
    struct sim *sim = q->sim;
    uint64_t now = sim->world.now;
    queue_store_open(&q->store, q->tight ? LEDGER_TIGHT : LEDGER_ROOM);
    shared_build(q);
    struct policy *policy = sim_policy_new(sim);
    if (!world_init(&sim->world, &sim_world_ops, policy, &sim->shared)) {
        abort();
    }
    policy_unref(policy);
    sim->world.now = now;
    q->up = true;
    queues_tell(q, "splitmx runs");
}

static void on_restart(struct sim *sim, void *object, int kind)
{
    (void)sim;
    (void)kind;
    splitmx_begins(object);
}

/* Session code frees what it has; nothing of what it does meanwhile is seen by anybody. */
static void splitmx_ends(struct queues *q)
{
    struct sim *sim = q->sim;
    uint64_t now = sim->world.now;
    ledger_failed(q->store.ledger); /* whoever waits for it is let go */
    sim_settle(sim);
    world_woken(&sim->world);
    sim_settle(sim);
    if (sim->world.sessions != NULL) {
        sim_fail(sim, "a session outlives its connections");
    }
    world_release(&sim->world);
    sim->world.now = now;
    sim->shared.ledger = NULL;
    shared_release(&sim->shared);
}

static void splitmx_crashes(struct queues *q)
{
    struct sim *sim = q->sim;
    queues_tell(q, "splitmx crashes%s", q->crash_machine ? ", with its machine" : "");
    sim->totals->queues->crashes++;
    q->calm = false;
    books_crashed(q);
    q->up = false;
    sim->dead = true;
    link_sever_all(sim, q->crash_machine);
    splitmx_ends(q);
    sim->dead = false;
    uint64_t lost = queue_store_crash(&q->store);
    books_lost(q, lost);
    sim_at(sim, q->crash_pause, on_restart, q, 0);
}

void queues_crash_soon(struct queues *q, unsigned steps, uint64_t pause, bool machine)
{
    if (q->crash_in == 0 && q->up) {
        q->crash_in = steps;
        q->crash_pause = pause;
        q->crash_machine = machine;
    }
}

static void crash_by_plan(struct queues *q, const struct crash_plan *crash)
{
    queues_crash_soon(q, crash->steps, crash->pause, crash->machine);
}

void queues_trigger(struct queues *q, enum trigger trigger)
{
    unsigned count = q->triggered[trigger]++;
    for (unsigned i = 0; i < QUEUE_CRASHES; i++) {
        const struct crash_plan *crash = &q->crashes[i];
        if (crash->armed && crash->trigger == trigger && crash->count == count &&
            queues_is_faulty(q)) {
            crash_by_plan(q, crash);
        }
    }
}

/* Where a set has the turn, and all of that is durable: each time, until whoever else is in it must
 * have had his turn in spite of that. */
void queues_poison(struct queues *q, const struct attempt *attempt)
{
    if (q->poisoned && attempt->bound && !queues_is_faulty(q) && queue_store_is_clean(&q->store) &&
        q->poisonings < POISON_MOST) {
        q->poisonings++;
        queues_crash_soon(q, 1, 1000, false);
    }
}

static void on_crash(struct sim *sim, void *object, int kind)
{
    struct queues *q = object;
    (void)sim;
    crash_by_plan(q, &q->crashes[kind]);
}

/* ---- the wall clock ---- */

static void on_jump(struct sim *sim, void *object, int kind)
{
    struct queues *q = object;
    books_wall_jumps(q);
    sim->wall_shift += q->jumps[kind].seconds;
    sim->totals->queues->jumps++;
    q->calm = false;
    queues_tell(q, "the wall clock jumps by %" PRId64 " s", q->jumps[kind].seconds);
}

/* ---- begin, go on, end ---- */

static void queues_begin(struct queues *q)
{
    struct sim *sim = q->sim;
    sim->accept = queue_service_accept;
    sim->config.faults = 1; /* what the exact worlds know of a server's absence does not hold */
    sim->world.now = SIM_START;
    queues_build(q);
    splitmx_begins(q);
    for (int i = 0; i < QUEUE_CRASHES; i++) {
        if (q->crashes[i].armed && q->crashes[i].trigger == TRIGGER_TIME) {
            sim_at(sim, q->crashes[i].count - SIM_START, on_crash, q, i);
        }
    }
    for (int i = 0; i < QUEUE_JUMPS; i++) {
        if (q->jumps[i].armed) {
            sim_at(sim, q->jumps[i].at - SIM_START, on_jump, q, i);
        }
    }
    hosts_start(q);
}

static bool queues_are_over(struct queues *q)
{
    const struct world *world = &q->sim->world;
    q->stopped = q->stopped || hosts_are_settled(q);
    return q->stopped && q->up && hosts_are_idle(q) && world->sessions == NULL &&
           stats_get(world->stats, STAT_UPSTREAMS_OPEN) == pool_idle(world->pool);
}

static void queues_go_on(struct queues *q)
{
    struct sim *sim = q->sim;
    do {
        if (sim->world.now > q->fault_end + QUEUES_END) {
            sim_fail(sim, "the world does not end");
        }
        q->step++;
        if (q->crash_in != 0 && --q->crash_in == 0 && q->up) {
            splitmx_crashes(q);
        }
    } while (!queues_are_over(q) && sim_step(sim));
    if (!queues_are_over(q)) {
        sim_fail(sim, "somebody waits for ever");
    }
}

static void queues_end(struct queues *q)
{
    struct sim *sim = q->sim;
    books_check(q);
    uint64_t now = sim->world.now;
    world_release(&sim->world);
    sim->world.now = now;
    q->up = false;
    q->crash_in = 0;
    ledger_free(q->store.ledger);
    q->store.ledger = NULL;
    sim->shared.ledger = NULL;
    sim_drain_queue(sim);
    for (unsigned i = 0; i < sim->relay_count; i++) {
        for (unsigned j = 0; j < SIM_ENDPOINTS; j++) {
            if (shared_counted(sim->shared.endpoints, &sim->servers[i][j].address) != 0) {
                sim_fail(sim, "a place at upstream %u was not given back", i);
            }
        }
    }
    if (sim->links_open != 0 || sim->looked_up != 0 || sim->policies != 0) {
        sim_fail(sim, "left: %u links, %u look-ups, %u policies", sim->links_open, sim->looked_up,
                 sim->policies);
    }
    hosts_release(q);
    books_release(q);
    queues_release(q);
    queue_store_release(&q->store);
    shared_release(&sim->shared);
    config_unref(sim->settings);
    free(sim->identities);
    free(sim->queue.heap);
}

void queues_run(struct sim *sim)
{
    struct queues *q = sim_alloc(1, sizeof *q);
    q->sim = sim;
    q->calm = true;
    q->step = 1; /* 0: never */
    sim->queues = q;
    sim->random = queues_random(q, 10, 0);
    queues_begin(q);
    queues_go_on(q);
    queues_end(q);
    free(q);
}
