/*
 * history: what has happened in each of the last steps of ten seconds, for the status page:
 * sessions opened and, by relay, messages and times. Made of the counters' differences.
 *
 * Bounded: a ring of an hour for the process and one for each relay, allocated when a relay is seen
 * for the first time. Pure; thread: its owner's.
 */
#ifndef SPLITMX_PROXY_ADMIN_HISTORY_H
#define SPLITMX_PROXY_ADMIN_HISTORY_H

#include "proxy/admin/snapshot.h"

#define HISTORY_STEP    10 /* seconds */
#define HISTORY_STEPS   360
#define HISTORY_RELAYS  (RELAY_STATS_MAX - 1) /* those with counts of their own, and the others */
#define HISTORY_NOTHING UINT32_MAX            /* nothing is known: no message had a time then */

enum history_series {
    HISTORY_ACCEPTED, /* messages */
    HISTORY_FAILED,   /* recipients and messages put off or refused, and messages unanswered */
    HISTORY_P50,      /* of the answers to end-of-data, milliseconds, within their bucket */
    HISTORY_P99,
    HISTORY_SERIES
};

struct history;

/* NULL: no memory. */
struct history *history_new(void);
void history_free(struct history *history); /* NULL is accepted */
/* NULL: no memory. */
struct history *history_copy(const struct history *history);

/* Ends a step with the counters as they are now. The first call ends none: it is the beginning. A
 * relay for which there is no memory is left out of this step and tried again at the next. */
void history_sample(struct history *history, const struct snapshot *counts, time_t now);

/* Steps are numbered from the oldest, 0, to the last. */
unsigned history_steps(const struct history *history);
time_t history_end(const struct history *history); /* of the last step; 0: there is none */
uint32_t history_sessions(const struct history *history, unsigned step);

unsigned history_relays(const struct history *history);
const char *history_name(const struct history *history, unsigned relay);
uint32_t history_value(const struct history *history, unsigned relay, enum history_series series,
                       unsigned step);

#endif
