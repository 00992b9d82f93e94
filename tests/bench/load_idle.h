/*
 * load_idle: sessions that say EHLO and nothing more, held until SIGTERM.
 */
#ifndef SPLITMX_TESTS_BENCH_LOAD_IDLE_H
#define SPLITMX_TESTS_BENCH_LOAD_IDLE_H

#include "tests/bench/load_session.h"

/*
 * Opens options->idle of them, a few at a time, and prints {"idle":N} when all are there.
 * world->events is set here. Ends at SIGTERM, or as soon as one is lost, which is said on standard
 * error; false then, as when memory is short.
 */
bool load_idle(struct load_world *world);

#endif
