/*
 * reload: the first of a reload's two phases: everything prepared, or nothing (design: section 8).
 *
 * Thread: blocks on files; runs in libuv's pool. What it reads of the daemon does not change
 * meanwhile.
 */
#ifndef SPLITMX_PROXY_DAEMON_RELOAD_H
#define SPLITMX_PROXY_DAEMON_RELOAD_H

#include "proxy/daemon/confine.h"
#include "proxy/daemon/prepare.h"
#include "proxy/daemon/sockets.h"

struct reload {
    const char *path; /* of the configuration */
    const struct prepared *in_force;
    const struct socket_set *sockets, *admin_sockets; /* in force */
    const struct confinement *confinement;
    unsigned workers;
    unsigned connections_max; /* what the process-wide tables were made for */
    bool refused;             /* diags say why: nothing is prepared */
    /* Outcome: all of it or none. */
    struct prepared *prepared;
    struct socket_set *bound, *admin_bound;
    struct diag_list *diags;
};

void reload_prepare(struct reload *reload);

/* Lets go of what was prepared; the diagnostics stay. */
void reload_let_go(struct reload *reload);

/* Lets go of all of the outcome, whatever it is. */
void reload_drop(struct reload *reload);

/* "fine: 4 routes, generation 7", or the errors, a line each. The caller frees; NULL: no memory. */
char *reload_text(const struct reload *reload);

#endif
