/*
 * prober: looks after endpoints that fail (design: section 6, health). Tells the process's health
 * table what came of connecting, and runs the probes that this world has claimed: connect,
 * greeting, EHLO, QUIT.
 *
 * One in each world; it is idle, without a timer, while nothing fails.
 */
#ifndef SPLITMX_PROXY_SESSION_PROBER_H
#define SPLITMX_PROXY_SESSION_PROBER_H

#include "proxy/session/world.h"
#include "routing/health.h"

struct prober;

struct prober *prober_new(struct world *world); /* NULL: no memory */
void prober_free(struct prober *prober);        /* ends its probes */

/* Ends the probes under way; begins no more while the world drains. */
void prober_stop(struct prober *prober);

/* A connection for mail has come as far as EHLO (NULL), or what its failure was; `verdict` was
 * health_ask's. */
void prober_note(struct prober *prober, const struct health_endpoint *endpoint,
                 enum health_verdict verdict, const char *failure);

/* A mail that was to be the probe (HEALTH_TRY) did not come to connecting. */
void prober_give_up(struct prober *prober, const struct health_endpoint *endpoint);

#endif
