/*
 * question: where mail for one address goes, from the table alone, and the members of the answer's
 * JSON that this fills: for `splitmx route`, which finds out more, and for the running daemon,
 * which asks nobody (design: section 8). Any thread that may look into the table.
 */
#ifndef SPLITMX_PROXY_DAEMON_QUESTION_H
#define SPLITMX_PROXY_DAEMON_QUESTION_H

#include <stdio.h>

#include "routing/health.h"
#include "routing/route.h"

/* A key of the look-up order that was looked for. */
struct trail_key {
    char *key; /* owned */
    enum table_found found;
};

struct trail {
    struct trail_key *keys;
    size_t count;
    bool broken; /* memory was short */
};

struct question {
    struct span asked; /* without angle brackets; outlives it */
    bool is_address;   /* else decision.text says what is wrong with it */
    struct address parsed;
    struct decision decision;
    struct trail trail;
};

/* False: memory is short, and there is nothing to release. Relays and table outlive it. */
bool question_ask(struct question *question, const struct config *config,
                  const struct relay_set *relays, const struct table *table, struct span asked);
void question_release(struct question *question);

/* The beginning of the object: what the table says. */
void question_begin(const struct question *question, FILE *out);

struct question_endpoint {
    size_t hop;       /* its place in next_hops, from 0 */
    const char *host; /* "": none */
    const struct net_address *address;
    const char *state; /* "ok", "suspect", "down"; NULL: not known, and so is the rest */
    unsigned failures;
    uint64_t seconds;
};

void question_put_endpoint(const struct question_endpoint *endpoint, FILE *out);

/* ,"key":"value"; NULL: null. */
void question_put_member(FILE *out, const char *key, const char *value);

/* Whose MX records a next hop means; empty for one that is the host itself. */
struct span question_mx_domain(const struct nexthop *hop, const struct address *parsed);

/* The whole object, a line, as the daemon knows it at `now`, milliseconds of the loops' clock:
 * endpoints are those that are written as addresses, null where all next hops are names. */
void question_answer(const struct question *question, const struct health *health, uint64_t now,
                     FILE *out);

#endif
