/*
 * notify: the service manager's small protocols: readiness by NOTIFY_SOCKET (sd_notify(3)) and
 * sockets passed by LISTEN_FDS (sd_listen_fds(3)). Without a service manager every function does
 * nothing.
 *
 * Thread: the main thread; the environment is read.
 */
#ifndef SPLITMX_PROXY_DAEMON_NOTIFY_H
#define SPLITMX_PROXY_DAEMON_NOTIFY_H

#include <stddef.h>

#define NOTIFY_FIRST_FD 3 /* the first passed socket; the others follow */

void notify_ready(void);     /* READY=1, at start and when a reload is over */
void notify_reloading(void); /* RELOADING=1 with the time, which Type=notify-reload wants */
void notify_stopping(void);

/* How many sockets were passed to this very process; 0 without any. They are made close-on-exec. */
size_t notify_sockets(void);

#endif
