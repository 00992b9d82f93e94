/*
 * descriptors: how many files and sockets this process may open, and whether that is enough for
 * what is configured. Main thread.
 */
#ifndef SPLITMX_PROXY_DAEMON_DESCRIPTORS_H
#define SPLITMX_PROXY_DAEMON_DESCRIPTORS_H

#include <uv.h>

#include "config/config.h"

/* Raises the soft limit to the hard one; returns what there is now. */
unsigned descriptors_raise(void);

/* Warns, with figures, when `have` is too few for the configured connections. */
void descriptors_check(const struct config *config, unsigned workers, unsigned have,
                       struct diag_list *diags);

/*
 * libuv has a table by descriptor in each loop, and ends the process when there is no memory for a
 * larger one: makes it as large as this configuration wants, before the loop serves. `have`: the
 * limit. False: no descriptor for that.
 */
bool descriptors_reserve(uv_loop_t *loop, const struct config *config, unsigned have);

#endif
