/*
 * thread_check: whether this process may have the threads that it is going to start. libuv ends the
 * process when one of its own cannot be made; so it is asked before.
 *
 * Thread: before any other is started.
 */
#ifndef SPLITMX_PROXY_DAEMON_THREAD_CHECK_H
#define SPLITMX_PROXY_DAEMON_THREAD_CHECK_H

#include "config/diag.h"

/* Starts so many beside libuv's pool and the log's and ledger's own, all at once, and ends them.
 * False where that fails, with an error that names the limits. */
bool thread_check(unsigned workers, struct diag_list *diags);

#endif
