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

/* Makes the state directory if missing (0700, owned by the user we run as); an error when it cannot
 * be used. */
void privileges_state_directory(const struct config *config, struct diag_list *diags);

/*
 * As root: checks that `user` exists (an error that names the fix: adduser --system …) and that
 * what a reload reads again (configuration, routes, certificates) will be readable for it; says
 * which chgrp/chmod is missing. Otherwise: nothing.
 */
void privileges_check(const struct config *config, struct diag_list *diags);

/*
 * As root: switches groups and user, keeps CAP_NET_BIND_SERVICE only, sets no-new-privileges. As
 * someone else: sets no-new-privileges. False with an error in diags.
 */
bool privileges_drop(const struct config *config, struct diag_list *diags);

#endif
