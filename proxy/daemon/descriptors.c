#include "proxy/daemon/descriptors.h"

#include <fcntl.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#define SPARE  64   /* kept free by the listeners */
#define WORKER 16   /* each one's own */
#define OTHER  80   /* log, table, control socket, libraries, admin server and its clients */
#define ROOM   1024 /* beyond two for each connection */

unsigned descriptors_raise(void)
{
    struct rlimit limit = {1024, 1024};
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    return limit.rlim_cur > UINT32_MAX ? UINT32_MAX : (unsigned)limit.rlim_cur;
}

void descriptors_check(const struct config *config, unsigned workers, unsigned have,
                       struct diag_list *diags)
{
    const uint64_t connections = config->limits.connections;
    const uint64_t least = connections + SPARE + OTHER + (uint64_t)workers * WORKER;
    const uint64_t busy = 2 * connections;
    const uint64_t wanted = least > busy ? least : busy;
    if (have < wanted) {
        diag_warning(diags, config_at(config, config->limits.connections_place),
                     "this process may open %u files; `connections: %u`, each with one server "
                     "behind, take %llu: raise the limit (LimitNOFILE=, ulimit -n) or lower "
                     "`connections`",
                     have, config->limits.connections, (unsigned long long)wanted);
    }
}

static void on_event(uv_poll_t *poll, int status, int events)
{
    (void)poll;
    (void)status;
    (void)events;
}

/* Has the loop watch a descriptor of at least this number for a moment. */
static bool watch_once(uv_loop_t *loop, int number)
{
    uv_poll_t poll;
    const int event = eventfd(0, EFD_CLOEXEC);
    const int fd = event >= 0 ? fcntl(event, F_DUPFD_CLOEXEC, number) : -1;
    const bool watched = fd >= 0 && uv_poll_init(loop, &poll, fd) == 0;
    if (watched) {
        uv_poll_start(&poll, UV_READABLE, on_event);
        uv_close((uv_handle_t *)&poll, NULL);
        uv_run(loop, UV_RUN_NOWAIT);
    }
    if (fd >= 0) {
        close(fd);
    }
    if (event >= 0) {
        close(event);
    }
    return watched;
}

bool descriptors_reserve(uv_loop_t *loop, const struct config *config, unsigned have)
{
    const uint64_t wanted = 2 * (uint64_t)config->limits.connections + ROOM;
    return watch_once(loop, (int)(wanted < have ? wanted : have) - 1);
}
