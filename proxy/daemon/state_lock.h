/*
 * state_lock: one splitmx to a state directory: a lock of the folder itself, which outlives
 * whatever is removed from it, and goes with the process.
 */
#ifndef SPLITMX_PROXY_DAEMON_STATE_LOCK_H
#define SPLITMX_PROXY_DAEMON_STATE_LOCK_H

#include <stdbool.h>

#include "config/config.h"

/* A descriptor that holds the directory until it is closed; -1 with errno: EWOULDBLOCK when another
 * process holds it. Does not wait. */
int state_lock(const char *directory);

/* Another folder may stand where ours did: it becomes ours, unless somebody else has it: false,
 * with an error in diags. One that is gone, or out of reach, changes nothing. */
bool state_lock_keep(int *lock, const struct config *config, struct diag_list *diags);

#endif
