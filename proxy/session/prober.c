#include "proxy/session/prober.h"

#include <stdlib.h>

#include "proxy/session/policy.h"
#include "proxy/session/shared.h"
#include "proxy/session/summary.h"
#include "proxy/session/upstream.h"

/* Probes under way in one world; what else is due waits for the next look. */
#define PROBES_MAX 64

struct probe {
    struct prober *prober; /* NULL: free */
    struct upstream *upstream;
    struct health_endpoint endpoint;
};

struct prober {
    struct world *world;
    struct timer timer;
    struct probe probes[PROBES_MAX];
};

/* Some probe may be due earlier than we knew. */
static void prober_arm(struct prober *prober)
{
    struct world *world = prober->world;
    uint64_t due = health_next_probe(world->shared->health);
    if (due == UINT64_MAX || world->draining) {
        timer_stop(&world->timers, &prober->timer);
    } else {
        timer_set(&world->timers, &prober->timer, due > world->now ? due : world->now + 1);
    }
}

static void prober_changed(struct prober *prober, const struct health_endpoint *endpoint,
                           enum health_change change, const char *failure)
{
    if (change != HEALTH_SAME) {
        summary_health(prober->world, &endpoint->address, change, failure);
        prober_arm(prober);
    }
}

void prober_note(struct prober *prober, const struct health_endpoint *endpoint,
                 enum health_verdict verdict, const char *failure)
{
    struct health *health = prober->world->shared->health;
    uint64_t now = prober->world->now;
    bool ok = failure == NULL;
    prober_changed(prober, endpoint,
                   verdict == HEALTH_TRY ? health_probed(health, endpoint, ok, now)
                                         : health_note(health, endpoint, ok, now),
                   failure);
}

void prober_give_up(struct prober *prober, const struct health_endpoint *endpoint)
{
    health_not_probed(prober->world->shared->health, endpoint, prober->world->now);
    prober_arm(prober);
}

/* ---- probes ---- */

/* The endpoint has answered (NULL), or not. */
static void probe_end(struct probe *probe, const char *failure)
{
    struct prober *prober = probe->prober;
    struct world *world = prober->world;
    struct health_endpoint endpoint = probe->endpoint;
    *probe = (struct probe){0};
    prober_changed(prober, &endpoint,
                   health_probed(world->shared->health, &endpoint, failure == NULL, world->now),
                   failure);
    prober_arm(prober);
}

/* For want of means of our own: it says nothing about the endpoint. */
static void probe_give_up(struct probe *probe)
{
    struct prober *prober = probe->prober;
    struct health_endpoint endpoint = probe->endpoint;
    *probe = (struct probe){0};
    prober_give_up(prober, &endpoint);
}

/* A server that answers is there, even where it does not want to have us. */
static void on_upstream(void *owner, const struct upstream_event *event)
{
    struct probe *probe = owner;
    switch (event->kind) {
    case UPSTREAM_READY:
        upstream_quit(probe->upstream);
        probe_end(probe, NULL);
        break;
    case UPSTREAM_REFUSED:
    case UPSTREAM_TURNED_AWAY:
    case UPSTREAM_NO_IDENTITY:
        probe_end(probe, NULL);
        break;
    case UPSTREAM_NO_MEANS:
        probe_give_up(probe);
        break;
    case UPSTREAM_UNAVAILABLE:
    case UPSTREAM_LOST:
        probe_end(probe, event->why);
        break;
    case UPSTREAM_ANSWER:
    case UPSTREAM_ROOM:
        break;
    }
}

static void probe_begin(struct prober *prober, struct probe *probe)
{
    struct world *world = prober->world;
    struct upstream_key key = {
        .address = probe->endpoint.address,
        .tls = RELAY_TLS_NONE,
        .identity = probe->endpoint.proxy ? IDENTITY_PROXY : IDENTITY_NONE,
    };
    quota_cell cell = shared_count(world->shared->endpoints, &key.address, UINT32_MAX);
    probe->prober = prober;
    probe->upstream = upstream_open(world, &key, cell, world->policy, NULL, on_upstream, probe);
    if (probe->upstream == NULL) {
        probe_give_up(probe);
    }
}

static void on_due(void *owner)
{
    struct prober *prober = owner;
    struct world *world = prober->world;
    for (size_t i = 0; i < PROBES_MAX; i++) {
        struct probe *probe = &prober->probes[i];
        if (probe->prober != NULL) {
            continue;
        }
        if (!health_claim_probe(world->shared->health, world->now, &probe->endpoint)) {
            break;
        }
        probe_begin(prober, probe);
    }
    prober_arm(prober);
}

/* ---- life ---- */

struct prober *prober_new(struct world *world)
{
    struct prober *prober = calloc(1, sizeof *prober);
    if (prober != NULL) {
        prober->world = world;
        prober->timer.on_due = on_due;
        prober->timer.owner = prober;
    }
    return prober;
}

void prober_stop(struct prober *prober)
{
    timer_stop(&prober->world->timers, &prober->timer);
    for (size_t i = 0; i < PROBES_MAX; i++) {
        if (prober->probes[i].prober != NULL) {
            upstream_reset(prober->probes[i].upstream);
            prober->probes[i] = (struct probe){0};
        }
    }
}

void prober_free(struct prober *prober)
{
    if (prober != NULL) {
        prober_stop(prober);
        free(prober);
    }
}
