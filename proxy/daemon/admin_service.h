/*
 * admin_service: the admin server in the daemon: started, moved and ended with the configuration's
 * `admin:`, and given what it shows, which is gathered when it is asked for (design: section 10).
 * Main thread.
 */
#ifndef SPLITMX_PROXY_DAEMON_ADMIN_SERVICE_H
#define SPLITMX_PROXY_DAEMON_ADMIN_SERVICE_H

#include <uv.h>

#include "proxy/admin/admin.h"
#include "proxy/admin/history.h"
#include "proxy/admin/transactions.h"
#include "proxy/daemon/log.h"
#include "proxy/daemon/sockets.h"
#include "proxy/daemon/status.h"

struct admin_service {
    uv_async_t wanted;
    struct admin_source *source;
    struct admin *server, *next;          /* NULL: none; that of the reload under way */
    struct status (*tell)(void *context); /* how the daemon is */
    void *context;
    /* While there is a server; NULL where memory was short. */
    uv_timer_t step;
    struct log *log;
    struct history *history;
    struct transactions *transactions;
};

/*
 * `sockets`: one socket, or none where there is no `admin:`; it is taken over. False: no memory,
 * threads or descriptors. `service` with source NULL was never started.
 */
bool admin_service_start(struct admin_service *service, uv_loop_t *loop, struct log *log,
                         struct socket_set *sockets, struct status (*tell)(void *context),
                         void *context);

/* The two phases of a reload. False: as at the start, and nothing has changed. The next one serves
 * from here on beside the last; after a good one comes admin_service_switch, which ends that. */
bool admin_service_prepare(struct admin_service *service, struct socket_set *sockets);
void admin_service_switch(struct admin_service *service, const struct socket_set *sockets);

void admin_service_close(struct admin_service *service);

#endif
