/*
 * bench_line: lines out of bytes that come in any cuts. Pure.
 */
#ifndef SPLITMX_TESTS_BENCH_BENCH_LINE_H
#define SPLITMX_TESTS_BENCH_BENCH_LINE_H

#include "config/span.h"

#define BENCH_LINE                                                                                 \
    512 /* a reply's or command's longest (RFC 5321 4.5.3.1); the rest is left out                 \
         */

/* The beginning of a line whose end has not come. */
struct bench_line {
    size_t len;
    char bytes[BENCH_LINE];
};

/*
 * Takes the next line off the front of *bytes, without its CRLF; it is good until the next call.
 * False: no line ends there; what there is was kept, and *bytes is empty.
 */
bool bench_line_take(struct bench_line *kept, struct span *bytes, struct span *line);

#endif
