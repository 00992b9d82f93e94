/*
 * net: a world over libuv: one loop, its connections, timers and resolver.
 *
 * Thread: the loop's. What session code queues during one turn of the loop is written, and what it
 * deferred is freed, just before the loop waits again; so the replies to a client's pipelined
 * commands go out in one write.
 */
#ifndef SPLITMX_PROXY_NET_NET_H
#define SPLITMX_PROXY_NET_NET_H

#include <uv.h>

#include "proxy/session/world.h"
#include "routing/resolver.h"
#include "tls/stream.h"

struct net_conn;

/* Kept free for what must go on when clients use up all descriptors (design: section 9). */
#define NET_DESCRIPTORS_SPARE 64
/* Of protected connections a read may complete a record that was held, and so be more. */
#define NET_READ_BUFFER (CONN_HELD + TLS_STREAM_ROOM)
/* What a record can hold (RFC 8446 5.1). */
#define NET_GATHER ((size_t)16 * 1024)

struct net_options {
    struct policy *policy;
    struct shared *shared;
    struct resolver_options resolver;
    /* The log's sink: from any loop, never blocking. */
    void (*log)(void *context, enum config_log_level level, struct span record);
    void *log_context;
    uint64_t seed;
    unsigned descriptors; /* RLIMIT_NOFILE */
    /* Once, when the world drains and its last session has ended: time for net_close. */
    void (*on_drained)(void *context);
    void *drained_context;
};

struct net {
    struct world world; /* first: a net is a world */
    uv_loop_t *loop;
    uv_prepare_t prepare;
    uv_timer_t timer;
    uv_async_t wake;
    uint64_t timer_due;
    char *read_buffer;                 /* NET_READ_BUFFER */
    char *cipher_buffer;               /* CONN_HELD: what is read of protected connections */
    char *gather_buffer;               /* NET_GATHER: what is yet to be encrypted */
    struct net_conn *gathering;        /* whose it is; NULL: nobody's */
    size_t gathered;                   /* bytes, when it is somebody's */
    struct tls_sessions *tls_sessions; /* with upstreams, to be resumed */
    struct net_conn *active;           /* have output to flush or an event to be told */
    unsigned leaving;                  /* connections that are waited for, see conn.c */
    struct resolver *resolver;
    struct net_options options;
    uint64_t random;
    bool told_drained;
};

/* False when memory or descriptors are short. */
bool net_init(struct net *net, uv_loop_t *loop, const struct net_options *options);

/* When no session is left: ends what is idle; uv_run returns when all has been said. */
void net_close(struct net *net);
/* After uv_run has returned, here and for every other net of the same `shared`: closes the last
 * handles and frees everything. */
void net_release(struct net *net);

/* A new policy and resolver configuration, after a reload. */
void net_configure(struct net *net, struct policy *policy, const struct resolver_options *resolver);

/* Sets the world's clock; at the head of each callback of the loop that enters session code. */
static inline void net_enter(struct net *net)
{
    net->world.now = uv_now(net->loop);
}

/* ---- listeners ---- */

struct listener;

/* Listens on a bound socket (ownership is taken) and begins a session for each client. *error:
 * negative errno. `config` belongs to the policy in force, and is changed with it. */
struct listener *listener_open(struct net *net, int fd, const struct config_listener *config,
                               int *error);
void listener_configure(struct listener *listener, const struct config_listener *config);
void listener_close(struct listener *listener);

/* ---- for proxy/net itself ---- */

struct conn *net_connect(struct world *world, const struct net_address *address);
void net_flush(struct net *net);
/* Accepts one client from the stream. NULL: memory is short, and the client still to be accepted;
 * or there is none. */
struct conn *net_accept(struct net *net, uv_stream_t *server, int *fd);

#endif
