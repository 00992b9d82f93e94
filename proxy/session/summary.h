/*
 * summary: what session code puts into the log; the one place that builds a session's prefix
 * (design: section 10).
 */
#ifndef SPLITMX_PROXY_SESSION_SUMMARY_H
#define SPLITMX_PROXY_SESSION_SUMMARY_H

#include "proxy/session/client_view.h"
#include "proxy/session/leg.h"
#include "routing/health.h"

struct summary {
    const char *id;
    const struct envelope *envelope;
    const struct recipient *recipients;
    uint64_t size;
    uint64_t milliseconds;
    const struct reply *reply;
    bool client_gone;
    bool several;       /* legs that carried the message */
    const char *ledger; /* what it had to do with it; NULL: nothing */
};

/* event=transaction: the one line that tells what became of a message. */
void summary_transaction(struct world *world, const struct policy *policy,
                         const struct client_view *client, const struct summary *summary);

/* event=recipient: one that was not accepted. */
void summary_refused(struct world *world, const struct policy *policy,
                     const struct client_view *client, const char *id,
                     const struct recipient *recipient, const struct reply *reply);

/* event=fallback, event=unknown-recipient: a recipient is asked for elsewhere, and why. */
void summary_elsewhere(struct world *world, const struct policy *policy,
                       const struct client_view *client, const char *id, const char *event,
                       const struct recipient *recipient, const struct relay *to,
                       const struct reply *why);

/* event=relay-slowed: the receiver asks to be sent less (design: section 7). */
void summary_slowed(struct world *world, const struct policy *policy, const struct relay *relay,
                    const struct reply *reply);

/* event=endpoint-…: what the health of an endpoint has become (design: section 6), and by what
 * failure; NULL: it has answered. */
void summary_health(struct world *world, const struct net_address *address,
                    enum health_change change, const char *failure);

/* event=may-be-delivered-twice: an upstream did not answer our end-of-data (RFC 1047). */
void summary_may_repeat(struct world *world, const struct policy *policy,
                        const struct client_view *client, const char *id,
                        const struct reply *reply);

/* event=session-…: refused, timed out, dropped. */
void summary_session(struct world *world, const struct client_view *client, const char *event,
                     const char *why);

#endif
