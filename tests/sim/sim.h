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

#define SIM_RELAYS    4
#define SIM_ENDPOINTS 2 /* of each relay, at most */
#define SIM_DOMAINS   2 /* of each relay */
#define SIM_HOST      "mx.sim.example"
#define SIM_START     1000000 /* milliseconds on the clock when a world begins */

/* How a recipient comes to a relay: those that came in different ways have legs of their own. */
enum way { WAY_HOME, WAY_FALLBACK, WAY_UNKNOWN, WAYS };
/* A relay with one recipient domain a leg may have those of all relays. */
#define LEG_DOMAINS (SIM_RELAYS * SIM_DOMAINS)
#define SIM_LEGS    (WAYS * SIM_RELAYS * LEG_DOMAINS)

struct queue_totals;
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
    struct queue_totals *queues; /* of worlds of that kind */
};

struct sim_filter;

struct sim_config {
    uint64_t seed;
    uint64_t number; /* of the world in its run; seeded by both */
    bool trace;
    unsigned faults; /* of 10,000 pieces that reach an upstream, so many make it go away */
    bool brief;      /* a trace without what the network does */
    bool queues;     /* the other kind of world (queues.h) */
    struct sim_filter *filter; /* of that kind: what of it is left out, and who is told of a failure
                                  (shrink.h); NULL: nothing, and nobody */
};

/* What becomes of new connections to a server that is down. */
enum outage { OUTAGE_REFUSED, OUTAGE_UNREACHED, OUTAGE_SILENT, OUTAGE_BUSY, OUTAGES };

/* What comes of a server's handshakes. */
enum shakes {
    SHAKES_WELL,
    SHAKES_AS_ANOTHER, /* its certificate is for another name */
    SHAKES_REFUSING,
    SHAKES_GOING,     /* it closes, or resets, in the middle */
    SHAKES_NEVER,     /* it is silent */
    SHAKES_WITH_MORE, /* words behind its 220, in clear text */
};

/* Whom a server that is told who the client is sends away, and how. */
enum welcome { WELCOME_ALL, WELCOME_NOT_554, WELCOME_NOT_450, WELCOME_NOT_421 };

/* An upstream server, an endpoint of its relay. What is random here stays so while the world lasts.
 */
struct server {
    struct sim *sim;
    struct net_address address;
    unsigned relay, endpoint;
    bool pipelining, size, eight_bit, helo_only;
    bool other_in_clear; /* what it offers is otherwise before TLS */
    bool greets_no;      /* 554 */
    bool starttls;
    unsigned starttls_code;
    enum shakes shakes;
    bool proxy;            /* connections begin with a PROXY header */
    unsigned xclient;      /* the attributes that it takes: bits in the order of identity.c */
    bool xclient_refused;  /* 550, to everybody */
    enum welcome welcome;  /* of every third client */
    unsigned slow;         /* most milliseconds before an answer */
    uint64_t idle_timeout; /* milliseconds; then 421 and close */
    bool flaky;            /* is down for a while */
    enum outage outage;
    uint64_t down_from, down_to;
    unsigned refused, called; /* while it is down: in all, and when that has to be known */
    uint64_t known_by;
};

struct sim_relay {
    struct relay relay; /* first */
    struct nexthop hops[1 + SIM_ENDPOINTS];
    char name[16];
    unsigned endpoints;
    bool equal;                         /* its endpoints have the same priority */
    bool down;                          /* nobody listens at any of its hops */
    bool no_names;                      /* its next hop does not resolve */
    bool null_mx;                       /* for it takes no mail */
    bool looped;                        /* its next hop is our own listener */
    uint64_t slowed_said, slowed_heard; /* when it last said 421 4.7.28, and a client then knew */
    uint64_t quiet_until;               /* the end of the 10 minutes, as far as clients know */
};

struct link;

struct sim {
    struct world world; /* first: world_ops get it back from there */
    struct sim_config config;
    struct shared shared;
    struct ledger *ledger;
    bool storing, woken; /* its store has something to do; the world is to be woken */
    struct config *settings;
    struct sim_random random;
    struct sim_queue queue;
    struct sim_totals *totals;
    struct server servers[SIM_RELAYS][SIM_ENDPOINTS];
    char hosts[SIM_RELAYS][SIM_ENDPOINTS][64]; /* what TLS knows them by */
    struct sim_relay relays[SIM_RELAYS];
    unsigned relay_count;
    unsigned policies;          /* alive */
    unsigned contexts;          /* of the policy in force: counted */
    struct net_address nowhere; /* an address where connections are refused */
    struct net_address own;     /* where we listen */
    bool draining;              /* world_drain was called */
    bool crowded;               /* max-connections is small: answers that say so are in order */
    bool ptr_slow;
    uint64_t span;  /* milliseconds in which clients come */
    unsigned delay; /* most milliseconds that the network holds a piece */

    struct queues *queues; /* of a world of that kind, else NULL */
    void (*accept)(struct link *link, struct server *server); /* a server has a new connection */
    int64_t wall_shift; /* seconds that the wall clock was set forward */
    bool dead;          /* splitmx has crashed; what it still does in here has no effect */

    struct link *links;
    unsigned links_made, links_open;
    struct client **clients;
    struct identity *identities;         /* of each */
    unsigned client_count, clients_done; /* those before have all ended */
    struct message **messages;
    unsigned message_count;
    unsigned looked_up; /* look-ups under way */
};

/* Runs one world to its end and adds to totals; what is wrong is told and ends the process. */
void sim_run(const struct sim_config *config, struct sim_totals *totals);

/* Does what is next, an event or what is due; false when nothing is left to happen. */
bool sim_step(struct sim *sim);
/* Does what is left to happen when there is no world any more. */
void sim_drain_queue(struct sim *sim);

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

/* world.c: what the world's interfaces do here. */
extern const struct world_ops sim_world_ops;

#endif
