/*
 * snapshot: all that the admin pages show, as it was at one moment. The main thread makes it, the
 * admin thread has it for itself from then on: it sees nothing else of what the loops do.
 */
#ifndef SPLITMX_PROXY_ADMIN_SNAPSHOT_H
#define SPLITMX_PROXY_ADMIN_SNAPSHOT_H

#include <time.h>

#include "config/net_address.h"
#include "proxy/session/ledger.h"
#include "proxy/session/relay_stats.h"
#include "proxy/session/stats.h"
#include "routing/address.h"
#include "routing/health.h"
#include "routing/nexthop.h"

/* What somebody waits for: the less, the less there is to gather. */
struct snapshot_wish {
    bool page;                     /* what only the status page shows, too */
    char address[ADDRESS_MAX + 1]; /* where mail for it goes, and nothing else; "": not asked */
};

/* What all workers have counted of a relay; without a name: of no relay. */
struct snapshot_relay {
    char name[RELAY_STATS_NAME];
    uint64_t value[RELAY_COUNTERS];
    struct latency_sum time[RELAY_TIMES];
};

/* A next hop, as it is written. Of names it is not known here what they lead to. */
struct snapshot_hop {
    char text[NEXTHOP_HOST_MAX + 48]; /* "192.0.2.1:25", "[mail.example.com]:25" */
    bool proxy;
    bool is_known; /* mail went there lately: the rest says how that was */
    enum health_state state;
    unsigned failures; /* in a row */
};

/* A relay of the configuration in force. */
struct snapshot_limit {
    char name[RELAY_STATS_NAME];
    struct snapshot_hop *hops; /* for the page */
    size_t hop_count;
    unsigned connections_max; /* at each endpoint */
    bool paced;
    bool slowed; /* the receiver has asked to be sent less */
};

struct snapshot_endpoint {
    char address[NET_ADDRESS_TEXT];
    bool proxy; /* it is told the client by a PROXY header; without, it is another endpoint */
    enum health_state state;
    unsigned failures; /* in a row */
};

struct history;

struct snapshot {
    struct snapshot_wish wish; /* that it answers */
    const char *version;       /* lives for ever */
    time_t now, started;
    unsigned workers;
    bool is_serving;  /* as `splitmx healthcheck` sees it */
    bool is_ready;    /* it takes new sessions */
    char health[320]; /* the same, in words */
    uint64_t counters[STAT_COUNT];
    struct snapshot_relay *relays;
    size_t relay_count, relay_room;
    struct snapshot_limit *limits;
    size_t limit_count;
    struct snapshot_endpoint *endpoints;
    size_t endpoint_count;
    uint64_t pool_idle, pool_waiting; /* connections; legs that wait for one */
    struct ledger_state ledger;
    uint64_t ledger_max_size;
    uint64_t routes, generation;
    bool is_damaged; /* the routing table */
    struct {
        uint64_t good, failed;
        time_t last, last_good; /* the start is a good one */
        bool last_is_good;
    } reload;
    char *status; /* JSON */

    /* For the page; NULL where memory was short. */
    char *hostname;
    char *reload_errors; /* lines; NULL: there were none */
    struct history *history;
    char *transactions; /* lines of the log, the newest first */
    char *refusals;     /* the same, of recipients that were not taken */

    /* For an address. */
    bool is_address;
    char *route; /* JSON; where it is no address, words */
};

/* Empty. NULL: no memory. */
struct snapshot *snapshot_new(void);
void snapshot_free(struct snapshot *snapshot); /* NULL is accepted */

/* A relay that has not counted anything yet has a row, too. False: no memory. */
bool snapshot_name(struct snapshot *snapshot, const char *relay);

/* Adds what one worker has counted. False: no memory. */
bool snapshot_add(struct snapshot *snapshot, const struct stats *stats);

/* One more. False: no memory. */
bool snapshot_add_endpoint(struct snapshot *snapshot, const struct snapshot_endpoint *endpoint);

#endif
