/*
 * load_run: messages over sessions: closed loop (each session sends its next message when the last
 * one has ended) or open loop (messages are due at fixed intervals, whatever became of the earlier
 * ones; one that finds no session free waits, and its time counts from when it was due, so that a
 * stall of the server is seen in all messages that it held up).
 */
#ifndef SPLITMX_TESTS_BENCH_LOAD_RUN_H
#define SPLITMX_TESTS_BENCH_LOAD_RUN_H

#include "tests/bench/load_report.h"

/* Sends all that the world's options ask for, and returns when all is over and closed.
 * world->events is set here. False, said on standard error, when memory or descriptors are short.
 */
bool load_run(struct load_world *world, struct load_report *report);

#endif
