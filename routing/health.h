/*
 * health: which endpoints are worth a connection, for the whole process (design: sections 6 and
 * 11). A breaker for each endpoint, in a fixed table without locks.
 *
 *             3 failures in a row, or                    probe bad
 *     OK ------ over half of at least 10 ----> SUSPECT ------------> OPEN
 *     ^         attempts in 10 s                  |                  | two good probes running
 *     +--------------- probe good ----------------+------------------+
 *
 * Closed (OK, SUSPECT) lets mail try; open spares it the time-out. Real outcomes lead to suspicion
 * and no further: only a probe (connect, greeting, EHLO, QUIT) opens or closes. Nothing here does
 * I/O: the caller asks before it connects, tells what came of it, and runs the probes:
 *
 *   - before a new connection (a pooled one needs no asking): health_ask;
 *   - after it: health_note, or health_probed where the verdict was HEALTH_TRY;
 *   - a timer in each worker, set anew to health_next_probe after every call that returned anything
 *     but HEALTH_SAME, after health_probed, and when it runs out, where health_claim_probe is
 *     called until it says false. That leaves no probe without a worker, though no worker wakes
 *     another: a probe becomes due earlier only by a call that tells its caller so.
 *
 * Time is an argument: milliseconds, monotonic, less than 2^40, the same clock for all workers.
 * Workers may lag behind each other. Thread: all, but for new and free.
 *
 * What races may cost: two notes of an endpoint that nobody has noted before may become one, or (by
 * a third that comes between) two entries, of which the second is never found again and idles out;
 * a note that meets a probe's verdict may not be counted. All of that is a probe more or less.
 * A transition, a claim and the reuse of an entry are each one compare-and-swap: they happen once.
 */
#ifndef SPLITMX_ROUTING_HEALTH_H
#define SPLITMX_ROUTING_HEALTH_H

#include <stddef.h>
#include <stdint.h>

#include "config/net_address.h"

#define HEALTH_LEASE  60000 /* ms: a claimed probe without outcome may be claimed again */
#define HEALTH_IDLE   (10 * 60 * 1000) /* ms: a sound entry that is not used gives way to others */
#define HEALTH_FORGET (24 * 3600 * 1000) /* ms: an open one that no mail asks for is forgotten */

struct health;

/* An endpoint that is spoken to with a PROXY header is another one than the same without: what
 * greets the one hangs up on the other, and a relay that has it wrong must not close the other's.
 */
struct health_endpoint {
    struct net_address address;
    bool proxy; /* its probe begins with PROXY UNKNOWN */
};

enum health_verdict {
    HEALTH_GO,   /* connect; tell health_note */
    HEALTH_SKIP, /* it is down: the next address, next hop, fallback, or 451 4.4.1 at once */
    HEALTH_TRY,  /* it is down as far as is known, and this mail may be the probe; tell
                    health_probed. Given to one caller at a time, and only at remote endpoints: when
                    the minute is over, or once a first probe was good. A mail that goes away
                    without an outcome costs nothing but HEALTH_LEASE */
};

/* What a call has changed. Each change is told to one caller, so it can be logged. */
enum health_change {
    HEALTH_SAME,
    HEALTH_SUSPECTED, /* a probe is due, or will be within seconds */
    HEALTH_CLEARED,   /* the probe was good: it never opened */
    HEALTH_OPENED,
    HEALTH_CLOSED,
};

/* For `endpoints` endpoints at once. seed: for jitter, and against endpoints that aim at one place
 * of the table. NULL: no memory. */
struct health *health_new(size_t endpoints, uint64_t seed);
void health_free(struct health *health);

/* An endpoint that is not known, or has no place in a full table, is always HEALTH_GO. */
enum health_verdict health_ask(struct health *health, const struct health_endpoint *endpoint,
                               uint64_t now);

/*
 * The outcome of a real attempt: ok when EHLO was answered as it should be, not ok when it was
 * unavailable in the sense of section 6. What is neither (a greeting 5xx, a connect that failed for
 * want of descriptors) is not told.
 */
enum health_change health_note(struct health *health, const struct health_endpoint *endpoint,
                               bool ok, uint64_t now);

/* When the next probe is due (perhaps already), UINT64_MAX for none. Looks at the whole
 * table: some microseconds for a thousand endpoints. */
uint64_t health_next_probe(const struct health *health);

/* Takes a probe that is due: true to one caller for each. It is to end within HEALTH_LEASE, after
 * which it may be claimed again, and is told to health_probed. Looks at the whole table. */
bool health_claim_probe(struct health *health, uint64_t now, struct health_endpoint *endpoint);

/* The outcome of a claimed probe, or of a mail that got HEALTH_TRY. */
enum health_change health_probed(struct health *health, const struct health_endpoint *endpoint,
                                 bool ok, uint64_t now);

/* A claim comes to nothing, for want of something here: it is due again after HEALTH_AGAIN. */
#define HEALTH_AGAIN 1000
void health_not_probed(struct health *health, const struct health_endpoint *endpoint, uint64_t now);

enum health_state { HEALTH_OK, HEALTH_SUSPECT, HEALTH_OPEN };

struct health_status {
    struct health_endpoint endpoint;
    enum health_state state;
    unsigned failures; /* in a row, of mail and probes, counted to 255 */
    uint64_t since; /* when it came into this state (for a moment after a change: into the last) */
};

/* Goes through the table: *cursor begins as 0; false at the end. Endpoints that were never noted
 * are not in it. */
bool health_next(const struct health *health, size_t *cursor, struct health_status *status);

/* Of one of them, by the same walk; false: it was never noted. */
bool health_of(const struct health *health, const struct health_endpoint *endpoint,
               struct health_status *status);

/* "ok", "suspect", "down" */
const char *health_state_text(enum health_state state);

#endif
