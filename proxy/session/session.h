/*
 * session: one client connection, from greeting to close (RFC 5321 3.1; design: sections 5 and 9).
 *
 * Reads commands, answers them in order, and owns at most one transaction. It lives in its world,
 * which frees it when it has ended; nobody else holds it.
 */
#ifndef SPLITMX_PROXY_SESSION_SESSION_H
#define SPLITMX_PROXY_SESSION_SESSION_H

#include "proxy/session/world.h"

struct session_peer {
    struct net_address client; /* who connected */
    struct net_address local;  /* the address it reached */
    enum config_listen_tls tls;
    bool proxied; /* must begin with a PROXY header */
    bool early;   /* bytes have arrived already */
};

/*
 * Takes over an accepted connection and greets it, or answers 421 and closes where limits say so.
 * The connection belongs to the session in any case.
 */
void session_begin(struct world *world, struct conn *conn, const struct session_peer *peer);

/* For world_drain: 421 to an idle session; 421 to any that is not committing; the next in the
 * world's list. */
void session_drain(struct session *session);
void session_cut(struct session *session);
struct session *session_next(struct session *session);

#endif
