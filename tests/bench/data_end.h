/*
 * data_end: where a message's data ends, CRLF "." CRLF (RFC 5321 4.1.1.4), in any cuts. Pure.
 *
 * A sink's cost is mostly this: it looks for dots by memchr, and at other bytes not at all.
 */
#ifndef SPLITMX_TESTS_BENCH_DATA_END_H
#define SPLITMX_TESTS_BENCH_DATA_END_H

#include "config/span.h"

/* Behind the line DATA: a dot alone may come at once. */
#define DATA_BEGIN 2U

/* *state: how many octets of the end have come, DATA_BEGIN at first. Takes what belongs to the
 * data off the front of *bytes. True: its end has come. */
bool data_end_take(unsigned *state, struct span *bytes);

#endif
