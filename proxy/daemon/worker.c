#include "proxy/daemon/worker.h"

#include <signal.h>
#include <stdlib.h>

#include "proxy/daemon/descriptors.h"
#include "proxy/net/net.h"

enum order { ORDER_NONE, ORDER_SWITCH, ORDER_DRAIN };

struct worker_listener {
    struct worker_listener *next;
    struct listener *listener;
    unsigned id;
};

struct worker {
    struct worker_options options;
    struct log_lane *lane; /* the log's */
    uv_thread_t thread;
    uv_loop_t loop;
    uv_async_t wake;
    struct net net;
    struct worker_listener *listeners;
    /* The order given: written by the main thread, then announced by `wake`. */
    _Atomic enum order order;
    struct prepared *prepared;
    struct socket_set *sockets;
    uint64_t drain_wait;
};

/* ---- listeners ---- */

static struct worker_listener *listener_find(struct worker *worker, unsigned id)
{
    struct worker_listener *listener = worker->listeners;
    while (listener != NULL && listener->id != id) {
        listener = listener->next;
    }
    return listener;
}

static bool set_has(const struct socket_set *set, unsigned id)
{
    for (size_t i = 0; set != NULL && i < set->count; i++) {
        if (set->groups[i].id == id) {
            return true;
        }
    }
    return false;
}

/* Closes what `set` does not have; NULL: all. */
static void close_listeners(struct worker *worker, const struct socket_set *set)
{
    struct worker_listener **link = &worker->listeners;
    while (*link != NULL) {
        struct worker_listener *listener = *link;
        if (set_has(set, listener->id)) {
            link = &listener->next;
            continue;
        }
        *link = listener->next;
        listener_close(listener->listener);
        free(listener);
    }
}

static void open_listener(struct worker *worker, struct socket_group *group,
                          const struct config_listener *config)
{
    int error = UV_ENOMEM;
    struct worker_listener *listener = calloc(1, sizeof *listener);
    if (listener != NULL) {
        int fd = group->fds[worker->options.index];
        group->fds[worker->options.index] = -1;
        listener->id = group->id;
        listener->listener = listener_open(&worker->net, fd, config, &error);
    }
    if (listener == NULL || listener->listener == NULL) {
        char name[NET_ADDRESS_TEXT];
        net_address_text_port(&group->address, name, sizeof name);
        log_event(worker->options.log, LOG_ERROR, "listen-failed", "address", name, "why",
                  uv_strerror(error), NULL);
        free(listener);
        return;
    }
    listener->next = worker->listeners;
    worker->listeners = listener;
}

/* ---- orders ---- */

static void do_switch(struct worker *worker)
{
    struct resolver_options resolver = prepared_resolver(worker->prepared);
    net_configure(&worker->net, &worker->prepared->policy, &resolver);
    for (size_t i = 0; i < worker->sockets->count; i++) { /* in the configuration's order */
        const struct config_listener *config = &worker->prepared->config->listeners[i];
        struct worker_listener *found = listener_find(worker, worker->sockets->groups[i].id);
        if (found == NULL) {
            open_listener(worker, &worker->sockets->groups[i], config);
        } else {
            listener_configure(found->listener, config);
        }
    }
    close_listeners(worker, worker->sockets);
    worker->options.on_done(worker->options.context);
}

static void do_drain(struct worker *worker)
{
    close_listeners(worker, NULL);
    world_drain(&worker->net.world, worker->net.world.now + worker->drain_wait);
}

static void on_wake(uv_async_t *wake)
{
    struct worker *worker = wake->data;
    enum order order = atomic_exchange(&worker->order, ORDER_NONE);
    net_enter(&worker->net);
    switch (order) {
    case ORDER_NONE:
        break;
    case ORDER_SWITCH:
        do_switch(worker);
        break;
    case ORDER_DRAIN:
        do_drain(worker);
        break;
    }
}

static void on_drained(void *context)
{
    struct worker *worker = context;
    net_close(&worker->net);
    uv_close((uv_handle_t *)&worker->wake, NULL);
}

static void on_log(void *context, enum config_log_level level, struct span record)
{
    log_write(context, level, record);
}

static void run(void *context)
{
    struct worker *worker = context;
    sigset_t all;
    sigfillset(&all); /* signals are the main thread's */
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    uv_run(&worker->loop, UV_RUN_DEFAULT);
    worker->options.on_done(worker->options.context);
}

/* ---- life ---- */

static bool worker_init_net(struct worker *worker, struct prepared *prepared)
{
    struct net_options options = {
        .policy = &prepared->policy,
        .shared = worker->options.shared,
        .resolver = prepared_resolver(prepared),
        .log = on_log,
        .log_context = worker->lane,
        .seed = worker->options.seed,
        .descriptors = worker->options.descriptors,
        .on_drained = on_drained,
        .drained_context = worker,
    };
    options.resolver.seed = worker->options.seed;
    return net_init(&worker->net, &worker->loop, &options);
}

struct worker *worker_start(const struct worker_options *options, struct prepared *prepared)
{
    struct worker *worker = calloc(1, sizeof *worker);
    if (worker == NULL) {
        return NULL;
    }
    worker->options = *options;
    worker->lane = log_lane_open(options->log);
    if (worker->lane == NULL || uv_loop_init(&worker->loop) != 0) {
        free(worker);
        return NULL;
    }
    if (!descriptors_reserve(&worker->loop, prepared->config, options->descriptors) ||
        !worker_init_net(worker, prepared)) {
        uv_loop_close(&worker->loop);
        free(worker);
        return NULL;
    }
    uv_async_init(&worker->loop, &worker->wake, on_wake);
    worker->wake.data = worker;
    if (uv_thread_create(&worker->thread, run, worker) != 0) {
        uv_close((uv_handle_t *)&worker->wake, NULL);
        net_close(&worker->net);
        net_release(&worker->net);
        uv_loop_close(&worker->loop);
        free(worker);
        return NULL;
    }
    return worker;
}

static void worker_order(struct worker *worker, enum order order)
{
    atomic_store(&worker->order, order);
    uv_async_send(&worker->wake);
}

void worker_switch(struct worker *worker, struct prepared *prepared, struct socket_set *sockets)
{
    worker->prepared = prepared;
    worker->sockets = sockets;
    worker_order(worker, ORDER_SWITCH);
}

void worker_drain(struct worker *worker, uint64_t wait)
{
    worker->drain_wait = wait;
    worker_order(worker, ORDER_DRAIN);
}

void worker_free(struct worker *worker)
{
    if (worker == NULL) {
        return;
    }
    uv_thread_join(&worker->thread);
    net_release(&worker->net);
    uv_loop_close(&worker->loop);
    free(worker);
}

const struct stats *worker_stats(const struct worker *worker)
{
    return worker->net.world.stats;
}
