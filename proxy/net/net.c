#include "proxy/net/net.h"

#include <stdlib.h>

#include "config/random.h"
#include "proxy/session/policy.h"
#include "proxy/session/pool.h"
#include "tls/sessions.h"

/* ---- timers ---- */

static void on_timer(uv_timer_t *timer);

static void net_arm(struct net *net)
{
    uint64_t due = timers_next(&net->world.timers);
    if (due == UINT64_MAX) {
        if (net->timer_due != UINT64_MAX) {
            uv_timer_stop(&net->timer);
            net->timer_due = UINT64_MAX;
        }
    } else if (due < net->timer_due) { /* a timer set too early only looks again */
        uint64_t now = uv_now(net->loop);
        net->timer_due = due;
        uv_timer_start(&net->timer, on_timer, due > now ? due - now : 0, 0);
    }
}

static void on_timer(uv_timer_t *timer)
{
    struct net *net = timer->data;
    net->timer_due = UINT64_MAX;
    net_enter(net);
    timers_run(&net->world.timers, net->world.now);
}

/* Before the loop waits: everything that this turn left to be done. */
static void on_prepare(uv_prepare_t *prepare)
{
    struct net *net = prepare->data;
    while (net->active != NULL || net->world.deferred != NULL) {
        net_flush(net);
        world_settle(&net->world);
    }
    if (net->world.draining && net->world.sessions == NULL && !net->told_drained) {
        net->told_drained = true;
        net->options.on_drained(net->options.drained_context);
    }
    net_arm(net);
}

/* ---- the resolver as a world's ---- */

struct resolution {
    struct net *net;
    struct resolver_query *query;
    void (*on_addresses)(void *, const struct resolver_answer *);
    resolver_ptr_callback *on_name;
    void *context;
};

static void on_addresses(void *context, const struct resolver_answer *answer)
{
    struct resolution *resolution = context;
    net_enter(resolution->net);
    resolution->on_addresses(resolution->context, answer);
    free(resolution);
}

static void on_name(void *context, const struct resolver_name *name)
{
    struct resolution *resolution = context;
    net_enter(resolution->net);
    resolution->on_name(resolution->context, name);
    free(resolution);
}

static struct resolution *net_resolve(struct world *world, const struct nexthop *hop,
                                      struct span domain,
                                      void (*callback)(void *, const struct resolver_answer *),
                                      void *context)
{
    struct net *net = (struct net *)(void *)world;
    struct resolution *resolution = calloc(1, sizeof *resolution);
    if (resolution == NULL) {
        return NULL;
    }
    *resolution = (struct resolution){.net = net, .on_addresses = callback, .context = context};
    resolution->query = resolver_nexthop(net->resolver, hop, domain, on_addresses, resolution);
    if (resolution->query == NULL) {
        free(resolution);
        return NULL;
    }
    return resolution;
}

static struct resolution *net_resolve_ptr(struct world *world, const struct net_address *address,
                                          resolver_ptr_callback *callback, void *context)
{
    struct net *net = (struct net *)(void *)world;
    struct resolution *resolution = calloc(1, sizeof *resolution);
    if (resolution == NULL) {
        return NULL;
    }
    *resolution = (struct resolution){.net = net, .on_name = callback, .context = context};
    resolution->query = resolver_ptr(net->resolver, address, on_name, resolution);
    if (resolution->query == NULL) {
        free(resolution);
        return NULL;
    }
    return resolution;
}

static void net_resolve_doubt(struct world *world, const char *name)
{
    resolver_doubt(((struct net *)(void *)world)->resolver, name);
}

static void net_resolve_cancel(struct world *world, struct resolution *resolution)
{
    (void)world;
    resolver_cancel(resolution->query);
    free(resolution);
}

/* ---- calls of other worlds ---- */

static void on_wake(uv_async_t *wake)
{
    struct net *net = wake->data;
    net_enter(net);
    world_woken(&net->world);
}

static void net_wake(struct world *world)
{
    uv_async_send(&((struct net *)(void *)world)->wake);
}

/* ---- clock, randomness, log ---- */

static time_t net_wall(struct world *world)
{
    (void)world;
    return time(NULL);
}

static uint64_t net_random(struct world *world)
{
    return random_step(&((struct net *)(void *)world)->random);
}

static void net_log(struct world *world, enum config_log_level level, struct span record)
{
    struct net *net = (struct net *)(void *)world;
    net->options.log(net->options.log_context, level, record);
}

/* TLS sessions with upstreams, kept to be resumed. */
#define TLS_SESSIONS 256

static const struct world_ops net_ops = {
    .connect = net_connect,
    .resolve = net_resolve,
    .resolve_ptr = net_resolve_ptr,
    .resolve_cancel = net_resolve_cancel,
    .resolve_doubt = net_resolve_doubt,
    .wake = net_wake,
    .wall = net_wall,
    .random = net_random,
    .log = net_log,
};

/* ---- life ---- */

static void buffers_free(struct net *net)
{
    free(net->read_buffer);
    free(net->cipher_buffer);
    free(net->gather_buffer);
    tls_sessions_free(net->tls_sessions);
    net->read_buffer = net->cipher_buffer = net->gather_buffer = NULL;
    net->tls_sessions = NULL;
}

bool net_init(struct net *net, uv_loop_t *loop, const struct net_options *options)
{
    *net = (struct net){.loop = loop, .options = *options, .random = options->seed};
    net->timer_due = UINT64_MAX;
    net->read_buffer = malloc(NET_READ_BUFFER);
    net->cipher_buffer = malloc(CONN_HELD);
    net->gather_buffer = malloc(NET_GATHER);
    net->tls_sessions = tls_sessions_new(TLS_SESSIONS);
    if (net->read_buffer == NULL || net->cipher_buffer == NULL || net->gather_buffer == NULL ||
        net->tls_sessions == NULL || uv_async_init(loop, &net->wake, on_wake) != 0) {
        buffers_free(net);
        return false;
    }
    net->wake.data = net;
    uv_unref((uv_handle_t *)&net->wake);
    if (!world_init(&net->world, &net_ops, options->policy, options->shared)) {
        uv_close((uv_handle_t *)&net->wake, NULL);
        uv_run(loop, UV_RUN_DEFAULT);
        buffers_free(net);
        return false;
    }
    uv_prepare_init(loop, &net->prepare);
    net->prepare.data = net;
    uv_prepare_start(&net->prepare, on_prepare);
    uv_unref((uv_handle_t *)&net->prepare);
    uv_timer_init(loop, &net->timer);
    net->timer.data = net;
    net->resolver = resolver_new(loop, &options->resolver);
    if (net->resolver == NULL) {
        net_release(net);
        return false;
    }
    net_enter(net);
    return true;
}

void net_close(struct net *net)
{
    net_enter(net);
    pool_close_idle(net->world.pool);
    net_flush(net);
    resolver_close(net->resolver);
    net->resolver = NULL;
    /* From here on connections that say their last words keep the loop alive, and nothing else. */
    uv_unref((uv_handle_t *)&net->timer);
}

void net_release(struct net *net)
{
    uv_close((uv_handle_t *)&net->prepare, NULL);
    uv_close((uv_handle_t *)&net->timer, NULL);
    uv_close((uv_handle_t *)&net->wake, NULL);
    uv_run(net->loop, UV_RUN_DEFAULT);
    world_release(&net->world);
    buffers_free(net);
}

void net_configure(struct net *net, struct policy *policy, const struct resolver_options *resolver)
{
    world_set_policy(&net->world, policy);
    resolver_configure(net->resolver, resolver);
}
