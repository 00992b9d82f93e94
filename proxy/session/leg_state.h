/*
 * leg_state: what the files of a leg share, and nobody else includes: leg.c (envelope, data,
 * events), leg_open.c (next hops, addresses, a connection) and leg_count.c (what is counted).
 */
#ifndef SPLITMX_PROXY_SESSION_LEG_STATE_H
#define SPLITMX_PROXY_SESSION_LEG_STATE_H

#include "proxy/session/leg.h"
#include "proxy/session/pool.h"
#include "proxy/session/shared.h"
#include "proxy/session/stats.h"

/* States are waits; what the leg wants next is in `asked` and `data_wanted`. */
enum leg_state {
    LEG_IS_NEW,
    LEG_IS_RESOLVING,  /* the next hop's addresses */
    LEG_IS_QUEUED,     /* a free connection */
    LEG_IS_CONNECTING, /* the upstream's readiness */
    LEG_IS_REPLAYING,  /* answers to MAIL and RCPT that were accepted before */
    LEG_IS_ASKING,     /* the answer to a RCPT (and, at first, to MAIL) */
    LEG_IS_OPEN,       /* nothing: more recipients, or DATA */
    LEG_IS_STARTING,   /* the answer to DATA */
    LEG_IS_TAKING,     /* nothing: the message */
    LEG_IS_COMMITTING, /* the answer to end-of-data */
    LEG_IS_CLOSED,
};

struct leg {
    const struct leg_context *context;
    const struct relay *relay;
    struct relay_stats *stats; /* the relay's, in this world */
    enum leg_kind kind;
    struct span domain;
    enum leg_state state;
    enum leg_fate fate;
    struct upstream *upstream;
    struct resolution *resolution;
    struct resolver_address *addresses; /* of the hop being tried; owned */
    size_t address_count, address_next;
    unsigned char order[NEXTHOPS_MAX]; /* of the relay's hops: by priority, equal ones shuffled */
    size_t hop_next;
    struct recipient *asked;    /* waits for its answer */
    struct recipient *replayed; /* waits for its second acceptance */
    struct recipient *first, *last;
    unsigned count;
    bool data_wanted;
    bool may_wait;
    bool reopened; /* the one replay of section 6 has been used */
    bool no_pool;  /* a pooled connection was found stale */
    bool local;
    bool in_clear;               /* `tls: may`, and a handshake has failed at the address at hand */
    bool tls_at_fault;           /* of the last attempt */
    bool let_go;                 /* abandoned with no recipient accepted: no leg any more */
    bool unavailable;            /* closed because its relay is, before anybody was accepted */
    enum health_verdict verdict; /* on the address at hand */
    struct pace *pace;           /* held: the transaction counts at its relay */
    bool begun;                  /* MAIL was accepted once */
    uint64_t since;              /* the answer that is awaited was asked for */
    uint64_t deadline;           /* of the recipient asked for, all attempts together */
    uint64_t open_by;            /* and of connecting */
    uint64_t written,
        taken; /* bytes of the message: given to the upstream; with the kernel when last looked */
    struct timer timer;
    struct pool_waiter waiter;
    struct reply failure; /* once closed: the answer to whoever asks again */
};

static inline struct world *world_of(const struct leg *leg)
{
    return leg->context->world;
}

/* What the relay was asked for, it is timed from now. */
static inline void leg_ask(struct leg *leg)
{
    leg->since = world_of(leg)->now;
}

static inline void leg_count_time(struct leg *leg, enum relay_time time)
{
    latency_count(&leg->stats->time[time], world_of(leg)->now - leg->since);
}

static inline void leg_arm(struct leg *leg, uint64_t wait)
{
    struct world *world = world_of(leg);
    timer_set(&world->timers, &leg->timer, world->now + wait);
}

/* The leg is over before end-of-data: tells whoever waits, and keeps the reply for who asks later.
 */
void leg_fail_with(struct leg *leg, unsigned code, const char *enhanced, const char *what);

/* leg_open.c: from the relay's first next hop; ends in leg_go_on or leg_fail. */
void leg_open(struct leg *leg);
/* All of the endpoint's places are taken. */
void leg_no_place(struct leg *leg);
/* What came of connecting to the address at hand (design: section 6). */
void leg_available(struct leg *leg);
void leg_unavailable(struct leg *leg, const struct upstream_event *event);
/* Whether the receiver asks to be sent less: 421 4.7.28 (design: section 7). */
bool leg_slow_down(struct leg *leg, const struct reply *reply);

/* Its time is over before it was connected. */
void leg_not_in_time(struct leg *leg, const char *why);

/* It could not be found out whether the endpoint is there, for want of something here. */
void leg_not_tried(struct leg *leg);

/* leg_count.c: what came of connecting, if that is what this event tells, and of the message. */
void leg_count_connection(struct leg *leg, enum upstream_event_kind kind);
void leg_count_message(struct leg *leg, const struct reply *reply);

/* leg.c: a connection is ready. */
void leg_go_on(struct leg *leg);
void leg_on_upstream(void *owner, const struct upstream_event *event);

#endif
