/*
 * burial: what a reload has replaced, freed where waiting for files does no harm: in the loop's
 * pool of threads, since letting go of a table unlinks files.
 *
 * Thread: the main loop's, but for burial_add.
 */
#ifndef SPLITMX_PROXY_DAEMON_BURIAL_H
#define SPLITMX_PROXY_DAEMON_BURIAL_H

#include <stdatomic.h>
#include <uv.h>

#include "proxy/daemon/prepare.h"

struct burial {
    uv_loop_t *loop;
    uv_async_t wake;
    uv_work_t work;
    _Atomic(struct prepared *) waiting; /* a list */
    struct prepared *under_way;         /* in the pool's thread; NULL: none is */
    atomic_bool is_over;                /* the loop ends: anything may block */
};

void burial_init(struct burial *burial, uv_loop_t *loop);

/* A prepared's `bury`, with the burial as context: from any thread. */
void burial_add(struct prepared *prepared, void *burial);

/* Before the loop ends: what comes now is freed at once by whoever brings it. */
void burial_close(struct burial *burial);

/* After the loop has ended, and all other threads: frees what is left. */
void burial_release(struct burial *burial);

#endif
