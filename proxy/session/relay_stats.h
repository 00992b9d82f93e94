/*
 * relay_stats: what one world has counted of each relay. Written by its own thread only, read by
 * any.
 *
 * By name: relays come and go with reloads, counts stay. Those that find no room any more, or whose
 * name is longer than any, are counted together.
 */
#ifndef SPLITMX_PROXY_SESSION_RELAY_STATS_H
#define SPLITMX_PROXY_SESSION_RELAY_STATS_H

#include "config/cache_line.h"
#include "config/span.h"
#include "proxy/session/latency.h"

enum relay_counter {
    RELAY_RECIPIENTS_ACCEPTED, /* answers to RCPT, as the client heard them */
    RELAY_RECIPIENTS_DEFERRED,
    RELAY_RECIPIENTS_REJECTED,
    RELAY_MESSAGES_ACCEPTED, /* answers to end-of-data, as the client would have heard them alone */
    RELAY_MESSAGES_DEFERRED,
    RELAY_MESSAGES_REJECTED,
    RELAY_MESSAGES_UNANSWERED, /* nobody knows what became of them */
    RELAY_BYTES,               /* of messages accepted, as they were sent */
    RELAY_CONNECTIONS_READY,   /* opened and greeted */
    RELAY_CONNECTIONS_FAILED,
    RELAY_CONNECTIONS_REUSED, /* taken from the pool */
    RELAY_COUNTERS
};

enum relay_time {
    RELAY_TIME_CONNECT,     /* from the attempt until it could be sent mail: TCP, TLS, greeting */
    RELAY_TIME_RECIPIENT,   /* its answer to RCPT (and, at first, to MAIL) */
    RELAY_TIME_END_OF_DATA, /* its answer to the message */
    RELAY_TIMES
};

#define RELAY_STATS_NAME 280 /* a direct transport's text with the longest host name fits */

struct relay_stats {
    uint64_t hash;
    char name[RELAY_STATS_NAME];
    _Atomic uint64_t value[RELAY_COUNTERS];
    struct latency time[RELAY_TIMES];
};

#define RELAY_STATS_MAX                                                                            \
    128                      /* relays with counts of their own, and the two that are always there \
                              */
#define RELAY_STATS_SLOT 512 /* a power of two, several times as many */

/* What was answered without any relay; the relays that have no counts of their own. */
enum { RELAY_STATS_NONE, RELAY_STATS_OTHERS, RELAY_STATS_FIRST };

struct relay_table {
    char apart[CACHE_LINE];
    _Atomic unsigned count; /* entries that are named, besides the first two */
    unsigned char slot[RELAY_STATS_SLOT];
    struct relay_stats entry[RELAY_STATS_MAX];
    char apart_too[CACHE_LINE];
};

/* Where this relay is counted; stays as long as the table. The world's own thread. */
struct relay_stats *relay_stats_of(struct relay_table *table, struct span name);

static inline struct relay_stats *relay_stats_none(struct relay_table *table)
{
    return &table->entry[RELAY_STATS_NONE];
}

static inline void relay_stats_add(struct relay_stats *stats, enum relay_counter counter,
                                   uint64_t n)
{
    count_add(&stats->value[counter], n);
}

static inline uint64_t relay_stats_get(const struct relay_stats *stats, enum relay_counter counter)
{
    return count_get(&stats->value[counter]);
}

/* How many entries there are to read, the first two among them; any thread. */
static inline unsigned relay_stats_count(const struct relay_table *table)
{
    return RELAY_STATS_FIRST + atomic_load_explicit(&table->count, memory_order_acquire);
}

#endif
