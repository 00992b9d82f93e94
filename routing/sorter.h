/*
 * sorter: puts any number of records in the order of their keys, in bounded memory.
 *
 * Records are added, then read back sorted by key (bytes, the shorter first where one begins the
 * other: LMDB's order); records with equal keys come in the order in which they were added. What
 * goes beyond `run_bytes` is sorted and spilled, run by run, to one unnamed temporary file in
 * `folder`, and merged when read. Records that come in order already are only looked at.
 *
 * Not thread-safe; blocks on files.
 */
#ifndef SPLITMX_ROUTING_SORTER_H
#define SPLITMX_ROUTING_SORTER_H

#include "config/span.h"

#define SORTER_RUN_BYTES  ((size_t)128 << 20) /* a million addresses, however they come */
#define SORTER_RECORD_MAX 8192                /* key and value together */

struct sorter;

enum sorter_status { SORTER_OK, SORTER_END, SORTER_FAILED /* errno says why */ };

struct sorter_record {
    struct span key; /* both valid until the next call */
    struct span value;
};

/* NULL when memory is short. `folder` is used when the first run is spilled. */
struct sorter *sorter_new(const char *folder, size_t run_bytes);
void sorter_free(struct sorter *sorter); /* NULL is accepted; the temporary file goes too */

/* SORTER_OK or SORTER_FAILED. Not after sorter_next. */
enum sorter_status sorter_add(struct sorter *sorter, struct span key, struct span value);

/* The next record in order; SORTER_END behind the last. */
enum sorter_status sorter_next(struct sorter *sorter, struct sorter_record *record);

size_t sorter_runs(const struct sorter *sorter); /* spilled so far */

#endif
