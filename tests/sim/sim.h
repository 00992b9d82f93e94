/*
 * sim: one simulated world: session code as it is, over a network, a clock and names made of a
 * seed.
 *
 * Everything that happens is an event of one queue, ordered by (time, sequence); all chance comes
 * from one generator. So the same seed gives the same world, event by event; `hash` proves it.
 */
#ifndef SPLITMX_TESTS_SIM_SIM_H
#define SPLITMX_TESTS_SIM_SIM_H

#include <stdatomic.h>

#include "proxy/session/policy.h"
#include "proxy/session/shared.h"
#include "proxy/session/world.h"
#include "routing/relay.h"
#include "tests/sim/random.h"

#define SIM_RELAYS  4
#define SIM_DOMAINS 2 /* of each relay */
#define SIM_LEGS    (SIM_RELAYS * SIM_DOMAINS)
#define SIM_HOST    "mx.sim.example"
#define SIM_START   1000000 /* milliseconds on the clock when a world begins */

struct sim;
typedef void sim_handler(struct sim *sim, void *object, int kind);

struct sim_event {
    uint64_t at, sequence;
    sim_handler *run;
    void *object;
    int kind;
};

struct sim_queue {
    struct sim_event *heap;
    size_t count, cap;
    uint64_t sequence;
};

/* What all worlds of a run add up to. */
struct sim_totals {
    uint64_t sessions, transactions, splits;
    uint64_t accepted, rejected, deferred, gone;
    uint64_t unsettled; /* splits with a commit before another leg's refusal */
    uint64_t events;
    uint64_t hash;
};

struct sim_config {
    uint64_t seed;
    uint64_t number; /* of the world in its run; seeded by both */
    bool trace;
    unsigned faults; /* of 10,000 pieces that reach an upstream, so many make it go away */
};

/* An upstream server, one for each relay. What is random here stays so while the world lasts. */
struct server {
    struct sim *sim;
    struct net_address address;
    bool pipelining, size, eight_bit, helo_only;
    unsigned slow;         /* most milliseconds before an answer */
    uint64_t idle_timeout; /* milliseconds; then 421 and close */
    unsigned relay;
};

struct sim_relay {
    struct relay relay;
    struct nexthop hops[2];
    char name[16];
    bool down;     /* nobody listens at any of its hops */
    bool no_names; /* its next hop does not resolve */
};

struct sim {
    struct world world; /* first: world_ops get it back from there */
    struct sim_config config;
    struct shared shared;
    struct config *settings;
    struct sim_random random;
    struct sim_queue queue;
    struct sim_totals *totals;
    struct server servers[SIM_RELAYS];
    struct sim_relay relays[SIM_RELAYS];
    unsigned relay_count;
    unsigned policies;          /* alive */
    struct net_address nowhere; /* an address where connections are refused */
    bool draining;              /* world_drain was called */
    bool crowded;               /* max-connections is small: answers that say so are in order */
    bool ptr_slow;
    unsigned delay; /* most milliseconds that the network holds a piece */

    struct link *links;
    unsigned links_made, links_open;
    struct client **clients;
    unsigned client_count, clients_done;
    struct message **messages;
    unsigned message_count;
    unsigned looked_up; /* look-ups under way */
};

/* Runs one world to its end and adds to totals; what is wrong is told and ends the process. */
void sim_run(const struct sim_config *config, struct sim_totals *totals);

/* An event after a delay of milliseconds. */
void sim_at(struct sim *sim, uint64_t delay, sim_handler *run, void *object, int kind);

/* A call into session code is over: frees what it has left to be freed. */
void sim_settle(struct sim *sim);

uint64_t sim_below(struct sim *sim, uint64_t n);
bool sim_chance(struct sim *sim, unsigned percent);

/* Into the hash, and with --trace onto standard output. */
void sim_note(struct sim *sim, const char *what, unsigned id, uint64_t number);
void sim_note_span(struct sim *sim, const char *what, unsigned id, struct span bytes);

/* The oracle's verdict: prints seed, world and what is wrong; exits 1. */
void sim_fail(struct sim *sim, const char *format, ...)
    __attribute__((format(printf, 2, 3), noreturn));

/* setup.c: what a world is made of. */
void sim_build(struct sim *sim);
struct policy *sim_policy_new(struct sim *sim);
void sim_set_max_connections(struct sim *sim, unsigned count);

/* world.c: what the world's interfaces do here. */
extern const struct world_ops sim_world_ops;

#endif
