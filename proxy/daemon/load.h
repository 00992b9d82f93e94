/*
 * load: everything that may fail at the start because of what the operator wrote, and the
 * privileges that are given up on the way.
 *
 * Thread: before any other thread starts; blocks on files.
 */
#ifndef SPLITMX_PROXY_DAEMON_LOAD_H
#define SPLITMX_PROXY_DAEMON_LOAD_H

#include "proxy/daemon/confine.h"
#include "proxy/daemon/prepare.h"
#include "proxy/daemon/sockets.h"

/* What the daemon serves with. */
struct in_force {
    struct prepared *prepared;
    struct socket_set *sockets, *admin_sockets;
    int lock; /* of the state directory, until the process ends */
    struct confinement confinement;
    unsigned workers;
    unsigned descriptors; /* the limit */
};

/* The configuration's path, absolute; the caller frees. NULL: no memory. */
char *load_where(const char *path);

/* 0, with warnings in diags; or the exit status: then there is nothing in force, and standard error
 * has been told why. */
int load_all(const char *path, struct in_force *out, struct diag_list *diags);

#endif
