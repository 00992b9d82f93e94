/*
 * stats: what one world has counted. Written by its own thread only, read by any.
 */
#ifndef SPLITMX_PROXY_SESSION_STATS_H
#define SPLITMX_PROXY_SESSION_STATS_H

#include <stdatomic.h>
#include <stdint.h>

#include "proxy/session/relay_stats.h"

enum counter {
    STAT_SESSIONS, /* begun */
    STAT_SESSIONS_OPEN,
    STAT_SESSIONS_REFUSED,      /* by limits, early talkers */
    STAT_TRANSACTIONS_ACCEPTED, /* 2xx to end-of-data */
    STAT_TRANSACTIONS_DEFERRED, /* 4xx */
    STAT_TRANSACTIONS_REJECTED, /* 5xx */
    STAT_TRANSACTIONS_LOST,     /* the client went away first */
    STAT_RECIPIENTS_ACCEPTED,
    STAT_RECIPIENTS_DEFERRED,
    STAT_RECIPIENTS_REJECTED,
    STAT_RECIPIENTS_DISCARDED,
    STAT_BYTES, /* of messages, as received */
    STAT_UPSTREAMS_OPENED,
    STAT_UPSTREAMS_REUSED,
    STAT_UPSTREAMS_OPEN,
    STAT_TLS_CLIENTS_1_2, /* handshakes, by version */
    STAT_TLS_CLIENTS_1_3,
    STAT_TLS_CLIENTS_FAILED,
    STAT_TLS_UPSTREAMS_1_2,
    STAT_TLS_UPSTREAMS_1_3,
    STAT_TLS_UPSTREAMS_FAILED,
    STAT_COUNT
};

struct stats {
    _Atomic uint64_t value[STAT_COUNT];
    struct relay_table relays;
};

static inline void stats_add(struct stats *stats, enum counter stat, uint64_t n)
{
    count_add(&stats->value[stat], n);
}

static inline void stats_sub(struct stats *stats, enum counter stat, uint64_t n)
{
    stats_add(stats, stat, (uint64_t)0 - n);
}

static inline uint64_t stats_get(const struct stats *stats, enum counter stat)
{
    return count_get(&stats->value[stat]);
}

/* By what a connection's tell_tls says; no version below 1.2 is spoken. */
static inline bool stats_tls_is_1_3(struct span told)
{
    return span_starts(told, SPAN("TLSv1.3"));
}

#endif
