/*
 * daemon_view: what the running daemon says of endpoints and relays, for commands that explain;
 * asked once, of control.sock.
 */
#ifndef SPLITMX_PROXY_CLI_DAEMON_VIEW_H
#define SPLITMX_PROXY_CLI_DAEMON_VIEW_H

#include <stdint.h>

#include "config/net_address.h"
#include "config/span.h"

struct daemon_view;

struct daemon_health {
    const char *state; /* "ok", "suspect", "down"; the view's own */
    unsigned failures; /* in a row */
    uint64_t seconds;  /* in this state */
};

/* `config_path`: what it should serve; another one is said by daemon_view_why. NULL: memory is
 * short. */
struct daemon_view *daemon_view_ask(const char *directory, const char *config_path);
/* From an answer that is there already; NULL: from nobody's. */
struct daemon_view *daemon_view_of(struct span status);
void daemon_view_free(struct daemon_view *view); /* NULL is accepted */

/* Whether one runs and has answered. */
bool daemon_view_runs(const struct daemon_view *view);
/* Why it does not, or what is odd about it, in words; else "". */
const char *daemon_view_why(const struct daemon_view *view);

/* Of the address as it is spoken to with a PROXY header, or without one, which are counted apart.
 * False: the daemon does not know it, as it had no mail for it lately, or there is no daemon. */
bool daemon_view_health(const struct daemon_view *view, const struct net_address *address,
                        bool proxy, struct daemon_health *out);
/* How many transactions at once the relay is slowed down to; false: it is not. */
bool daemon_view_slowed(const struct daemon_view *view, const char *relay, unsigned *to);

#endif
