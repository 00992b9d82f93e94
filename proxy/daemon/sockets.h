/*
 * sockets: the listening sockets: bound while preparing, kept across reloads, handed to the workers
 * at the switch (design: sections 8, 11).
 *
 * Each listener has one socket a worker (SO_REUSEPORT). Thread: binding may block on a host name;
 * off the event loops.
 */
#ifndef SPLITMX_PROXY_DAEMON_SOCKETS_H
#define SPLITMX_PROXY_DAEMON_SOCKETS_H

#include "config/config.h"
#include "config/net_address.h"

#define SOCKETS_WORKERS_MAX 256

/* The sockets of one listener. */
struct socket_group {
    struct net_address address;
    unsigned id; /* rises; names the group towards workers */
    int *fds;    /* one a worker; -1 once handed over */
    bool kept;   /* taken over from the set in force: the workers have it */
};

struct socket_set {
    struct socket_group *groups; /* in the order of the configuration's listeners */
    size_t count;
    unsigned workers;
};

/* `admin: listen` as a listener; only where the configuration has it. */
struct config_listener sockets_admin(const struct config *config);

/* A listener's address; host names are looked up. False with an error in diags. */
bool sockets_address(const struct config *config, const struct config_listener *listener,
                     struct net_address *out, struct diag_list *diags);

/*
 * Binds what the configuration lists and `current` (may be NULL) does not have. Sockets that the
 * service manager passed are used where their address fits. NULL with errors in diags: nothing is
 * bound then.
 */
struct socket_set *sockets_bind(const struct config *config, const struct socket_set *current,
                                unsigned workers, struct diag_list *diags);
/* The same for `admin: listen`, if there is one: a set of one group or of none, with one socket. */
struct socket_set *sockets_bind_admin(const struct config *config, const struct socket_set *current,
                                      struct diag_list *diags);
/* Closes what the service manager passed and none of these sets (may be NULL) listens on, with a
 * warning each; at the start, once. */
void sockets_drop_unused(const struct socket_set *set, const struct socket_set *admin,
                         struct diag_list *diags);
void sockets_free(struct socket_set *set); /* closes what was not handed over */

#endif
