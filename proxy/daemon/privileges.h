/*
 * privileges: from root to the configured user, keeping only the right to bind low ports (design:
 * sections 3 and 8).
 *
 * Thread: before any other thread starts.
 */
#ifndef SPLITMX_PROXY_DAEMON_PRIVILEGES_H
#define SPLITMX_PROXY_DAEMON_PRIVILEGES_H

#include "config/config.h"
#include "config/diag.h"

enum privileges_for {
    PRIVILEGES_TO_RUN,
    PRIVILEGES_TO_CHECK, /* by someone who need not be the one who runs */
};

/*
 * Changes nothing: whether the state directory can be used, or made, and is closed to others'
 * writing. As root, too: whether `user` exists (an error that names the fix: useradd --system …)
 * and what a reload reads again (configuration, routes, certificates) will be readable for it; says
 * which chgrp/chmod is missing.
 */
void privileges_check(const struct config *config, enum privileges_for purpose,
                      struct diag_list *diags);

/* Makes the state directory, once checked, if it is missing (0700, owned by the user we run as). */
void privileges_state_directory(const struct config *config, struct diag_list *diags);

/*
 * As root: switches groups and user, keeps CAP_NET_BIND_SERVICE only, sets no-new-privileges. As
 * someone else: sets no-new-privileges. False with an error in diags.
 */
bool privileges_drop(const struct config *config, struct diag_list *diags);

#endif
