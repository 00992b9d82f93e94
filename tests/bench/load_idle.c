#include "tests/bench/load_idle.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#define AT_ONCE 64 /* sessions being opened: no more than any listener's queue has room for */

struct idle {
    struct load_world *world;
    struct held_session *sessions;
    uv_signal_t signal;
    uint64_t begun, ready;
    bool failed;
};

struct held_session {
    struct load_session session; /* first: it is found by the session's address */
    struct idle *idle;
};

static struct idle *idle_of(struct load_session *session)
{
    return ((struct held_session *)session)->idle;
}

static void end(struct idle *idle)
{
    if (uv_is_closing((uv_handle_t *)&idle->signal)) {
        return;
    }
    uv_close((uv_handle_t *)&idle->signal, NULL);
    for (uint64_t i = 0; i < idle->begun; i++) {
        load_session_quit(&idle->sessions[i].session);
    }
}

static void open_next(struct idle *idle)
{
    if (idle->begun < idle->world->options->idle && !idle->failed) {
        load_session_open(&idle->sessions[idle->begun++].session);
    }
}

static void on_ready(struct load_session *session)
{
    struct idle *idle = idle_of(session);
    if (++idle->ready == idle->world->options->idle) {
        printf("{\"idle\":%llu}\n", (unsigned long long)idle->ready);
        fflush(stdout);
    }
    open_next(idle);
}

static void on_failed(struct load_session *session, const char *why)
{
    struct idle *idle = idle_of(session);
    fprintf(stderr, "load: of %llu sessions one is lost: %s\n", (unsigned long long)idle->ready,
            why);
    idle->failed = true;
    end(idle);
}

static void on_closed(struct load_session *session)
{
    (void)session; /* it is not opened again */
}

static void on_signal(uv_signal_t *signal, int number)
{
    (void)number;
    end(signal->data);
}

static const struct load_session_events events = {
    .ready = on_ready, .failed = on_failed, .closed = on_closed};

bool load_idle(struct load_world *world)
{
    struct idle idle = {.world = world};

    world->events = &events;
    idle.sessions = calloc(world->options->idle, sizeof(*idle.sessions));
    if (!idle.sessions) {
        perror("load");
        return false;
    }
    uv_signal_init(&world->loop->uv, &idle.signal);
    idle.signal.data = &idle;
    idle.failed = uv_signal_start(&idle.signal, on_signal, SIGTERM) != 0;
    for (uint64_t i = 0; i < world->options->idle; i++) {
        idle.sessions[i].idle = &idle;
        load_session_init(&idle.sessions[i].session, world);
    }
    for (int i = 0; i < AT_ONCE; i++) {
        open_next(&idle);
    }
    uv_run(&world->loop->uv, UV_RUN_DEFAULT);
    free(idle.sessions);
    return !idle.failed;
}
