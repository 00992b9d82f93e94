#include "proxy/daemon/descriptors.h"

#include <stdint.h>
#include <sys/resource.h>

#define SPARE  64 /* kept free by the listeners */
#define WORKER 16 /* each one's own */
#define OTHER  32 /* log, table, control socket, libraries */

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
