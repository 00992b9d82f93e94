/*
 * load: many SMTP clients in one thread, and how long each of their messages took. What it can be
 * asked for is in load_options.c; what it prints, in load_report.c. 0: every message was accepted;
 * 1: not; 64: wrong options.
 */
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include "tests/bench/bench_tls.h"
#include "tests/bench/load_idle.h"
#include "tests/bench/load_run.h"

/* Other numbers in each run. */
static uint64_t run_number(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec << 32 ^ (uint64_t)now.tv_nsec << 2 ^ (uint64_t)getpid();
}

static bool run(struct load_world *world)
{
    struct load_report report = {0};
    if (world->options->idle > 0) {
        return load_idle(world);
    }
    return load_run(world, &report) && load_report_print(&report, world) && report.failed == 0;
}

int main(int argc, char **argv)
{
    struct load_options options;
    struct load_text text = {0};
    struct load_world world = {.options = &options, .text = &text};
    struct tls_contexts *contexts = NULL;
    bool good = false;

    if (!load_options_take(&options, argc, argv)) {
        return 64;
    }
    signal(SIGPIPE, SIG_IGN);
    peer_raise_descriptors();
    if (options.starttls) {
        contexts = bench_tls_new(NULL, NULL);
        world.tls = contexts ? tls_client_context(contexts, RELAY_TLS_ENCRYPT, NULL) : NULL;
        world.tickets = options.resume ? tls_sessions_new(2 * options.sessions) : NULL;
    }
    world.loop = peer_loop_new();
    if (world.loop && load_text_init(&text, &options, run_number()) &&
        (world.tls || !options.starttls)) {
        good = run(&world);
    }
    peer_loop_free(world.loop);
    tls_sessions_free(world.tickets);
    tls_contexts_unref(contexts);
    load_text_release(&text);
    return good ? 0 : 1;
}
