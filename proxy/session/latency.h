/*
 * latency: a histogram of times. Written by one thread, read by any; what a reader sees of it only
 * ever grows.
 */
#ifndef SPLITMX_PROXY_SESSION_LATENCY_H
#define SPLITMX_PROXY_SESSION_LATENCY_H

#include "proxy/session/count.h"

/* The bounds of all buckets but the last, which has none; milliseconds, each of its bucket still.
 */
#define LATENCY_BOUNDS 16
extern const uint32_t latency_bounds[LATENCY_BOUNDS];

struct latency {
    _Atomic uint64_t bucket[LATENCY_BOUNDS + 1]; /* those within its own bounds, not below */
    _Atomic uint64_t sum;                        /* milliseconds */
};

/* As it was at one moment, or several of them added up. */
struct latency_sum {
    uint64_t bucket[LATENCY_BOUNDS + 1];
    uint64_t sum;
};

void latency_count(struct latency *latency, uint64_t milliseconds);

/* Adds what has been counted; any thread. */
void latency_add_up(const struct latency *latency, struct latency_sum *to);

#endif
