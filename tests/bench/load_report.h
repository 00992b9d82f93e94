/*
 * load_report: what came of it all: counted while it runs, printed as one JSON object at the end.
 */
#ifndef SPLITMX_TESTS_BENCH_LOAD_REPORT_H
#define SPLITMX_TESTS_BENCH_LOAD_REPORT_H

#include "tests/bench/histogram.h"
#include "tests/bench/load_session.h"

#define LOAD_FAILURES     20 /* different ones; what is beyond is counted as "others" */
#define LOAD_FAILURE_TEXT 160

struct load_failure {
    char text[LOAD_FAILURE_TEXT];
    uint64_t count;
};

/* All zero is an empty one. Times are nanoseconds (uv_hrtime). */
struct load_report {
    uint64_t accepted, failed;
    uint64_t begun, ended; /* the first message begun, the last one ended */
    struct histogram times;
    struct load_failure failures[LOAD_FAILURES + 1];
};

/* A message that failed, or a session. The first of each kind is said on standard error at once. */
void load_report_fail(struct load_report *report, const char *why);

/* On standard output. False when it could not be. */
bool load_report_print(const struct load_report *report, const struct load_world *world);

#endif
