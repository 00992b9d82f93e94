/*
 * pacing: slowing down where a receiver asks for it, `421 4.7.28` of Gmail (design: section 7; its
 * advice in Google's sender guidelines). For the whole process, by relay, without locks.
 *
 * After pace_slow no transaction begins for 10 minutes, then one at a time, and one more each
 * minute, until the relay's max-connections are reached and it is forgotten. Transactions stand for
 * connections: each holds one. Idle ones in a pool are not counted; after 10 minutes there are
 * none.
 *
 * Time is an argument: milliseconds, monotonic, less than 2^40, the same clock for all workers.
 * Thread: all, but for new and free. What is counted and since when is one word for each relay,
 * changed by compare-and-swap, so that no race lets one too many begin.
 */
#ifndef SPLITMX_ROUTING_PACING_H
#define SPLITMX_ROUTING_PACING_H

#include <stddef.h>
#include <stdint.h>

#include "config/span.h"

#define PACING_QUIET  (10 * 60 * 1000) /* ms without a new transaction */
#define PACING_STEP   (60 * 1000)      /* ms until one more is allowed */
#define PACE_NO_LIMIT UINT32_MAX

struct pacing;
struct pace; /* a relay's; lives as long as the table, so across reloads */

/* For `relays` names over the life of the process. NULL: no memory. */
struct pacing *pacing_new(size_t relays);
void pacing_free(struct pacing *pacing);

/* NULL: the table is full. The functions below take that for a relay that is never slowed. */
struct pace *pacing_of(struct pacing *pacing, struct span relay);

/* A transaction at the relay begins, and is counted until pace_end. False: not now, 451 4.7.28, and
 * no pace_end. max_connections: at least 1; where the ramp ends. */
bool pace_begin(struct pace *pace, unsigned max_connections, uint64_t now);
void pace_end(struct pace *pace);

/* The receiver has said 421 4.7.28: the 10 minutes begin, also anew. True when it was not already
 * silent, for the log: transactions that were under way may each be told. */
bool pace_slow(struct pace *pace, uint64_t now);

/* How many transactions may be open at once now: 0 in the 10 minutes, PACE_NO_LIMIT when not slowed
 * or no longer. */
unsigned pace_allowed(const struct pace *pace, unsigned max_connections, uint64_t now);

#endif
