/*
 * routes_plan: a table of any size, made of nothing but its number of routes and of domains, so
 * that who writes it and who asks about it need not tell each other.
 *
 * Route n is u%08n@dNNNN.example.net, whose domain is drawn by n: neighbours in the table are of
 * different domains, as in a table sorted by mailbox. With the separator a line has 52 bytes.
 */
#ifndef SPLITMX_TESTS_BENCH_ROUTES_PLAN_H
#define SPLITMX_TESTS_BENCH_ROUTES_PLAN_H

#include <stdint.h>
#include <stdio.h>

#include "config/span.h"

#define PLAN_TEXT  64 /* more than any address or destination here has */
#define PLAN_HOPS  8
#define PLAN_MOST  100000000u
#define PLAN_ZONES 10000u

struct routes_plan {
    uint32_t routes;  /* at most PLAN_MOST */
    uint32_t domains; /* at most PLAN_ZONES */
};

enum plan_form { PLAN_YAML, PLAN_MAP };

/* The address of route n; out holds PLAN_TEXT. */
struct span plan_hit(const struct routes_plan *plan, uint32_t n, char *out);

/* One of a domain that has routes, but none for this mailbox, the domain, its parents or `*`. */
struct span plan_miss(const struct routes_plan *plan, uint32_t n, char *out);

/* Writes all routes, in the order of their keys or shuffled (the same way each time). False: memory
 * is short, or the file cannot be written. */
bool plan_write(const struct routes_plan *plan, enum plan_form form, bool shuffled, FILE *out);

#endif
