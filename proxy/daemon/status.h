/*
 * status: what `splitmx status` shows, gathered from the workers' counters (design: sections 8 and
 * 10). Main thread.
 */
#ifndef SPLITMX_PROXY_DAEMON_STATUS_H
#define SPLITMX_PROXY_DAEMON_STATUS_H

#include "proxy/daemon/confine.h"
#include "proxy/daemon/worker.h"
#include "proxy/net/ledger_store.h"

/* The last reload, or the start. */
struct status_reload {
    time_t at;
    bool ok;
    unsigned long long count; /* reloads since the start, failed ones included */
    unsigned long long failed;
    time_t good_at; /* the last good one, or the start */
    char *errors;   /* lines; NULL when fine; owned by the daemon */
};

struct status {
    const struct prepared *prepared;
    struct worker *const *workers;
    unsigned worker_count;
    const struct confinement *confinement;
    const struct shared *shared;
    struct ledger_store *ledger;
    const struct status_reload *reload;
    time_t started;
    const char *path; /* of the configuration, absolute */
    bool is_broken;   /* the table is damaged: recipients get 451 */
    bool is_serving;  /* takes new sessions: not before the start is over, not while it drains */
};

/* A reload is over. `text` is taken over: its errors, where it was not ok. */
void status_reload_next(struct status_reload *reload, bool ok, char *text);

#define STATUS_HEALTH 320
/* What `healthcheck` says, a line; false: mail is not taken, or put off. */
bool status_health(const struct status *status, char line[STATUS_HEALTH]);

/* How many transactions at once the relay is slowed to (design: section 7); PACE_NO_LIMIT: not. */
unsigned status_paced_to(const struct status *status, const struct relay *relay);

/* A next hop as it is written. */
void status_hop_text(const struct nexthop *hop, char *out, size_t cap);

/* For people, and for programs (JSON, one object). The caller frees; NULL: no memory. */
char *status_text(const struct status *status);
char *status_json(const struct status *status);

#endif
