/*
 * state_lock: one splitmx to a state directory: a lock of the folder itself, which outlives
 * whatever is removed from it, and goes with the process.
 */
#ifndef SPLITMX_PROXY_DAEMON_STATE_LOCK_H
#define SPLITMX_PROXY_DAEMON_STATE_LOCK_H

#include <stdbool.h>

/* A descriptor that holds the directory until it is closed; -1 with errno: EWOULDBLOCK when another
 * process holds it. Does not wait. */
int state_lock(const char *directory);

#endif
