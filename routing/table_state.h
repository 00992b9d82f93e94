/*
 * table_state: what a table is, for the files of the table only: table.c (opening, look-ups),
 * table_load.c (which generation is taken, or built) and table_walk.c.
 */
#ifndef SPLITMX_ROUTING_TABLE_STATE_H
#define SPLITMX_ROUTING_TABLE_STATE_H

#include <stdatomic.h>

#include "config/cache_line.h"
#include "routing/destination.h"
#include "routing/generation.h"
#include "routing/seal.h"
#include "routing/table.h"

#define SNAPSHOTS                                                                                  \
    64 /* read transactions kept; more look-ups than that at one time open their own */

/* So far apart that threads which use different ones share no line of a cache. */
struct snapshot {
    _Atomic(MDB_txn *) txn;
    char apart[CACHE_LINE - sizeof(MDB_txn *)];
};

struct table {
    atomic_uint references;
    atomic_bool superseded;
    char *folder; /* NULL: private, the file is gone already */
    char path[GENERATION_PATH];
    MDB_env *env;
    mdb_filehandle_t fd; /* the environment's */
    struct seal_mark mark;
    MDB_dbi dbis[GENERATION_DBS];
    struct generation_header header;
    const char *stamps; /* struct source_stamp of each file, in the map, perhaps unaligned */
    char **files;
    struct destinations *destinations;
    /* The file never changes, so a read transaction serves for ever; one look-up at a time has it.
     */
    struct snapshot snapshots[SNAPSHOTS];
};

/* The file as it is, its destinations not yet compiled. NULL when it is not whole. */
struct table *table_open(const char *path);
void table_free(struct table *table);

/* Of the databases whose keys are numbers: false when there is no such number. */
bool table_get_number(const struct table *table, MDB_txn *txn, enum generation_db db,
                      uint32_t number, struct span *value);

/* A read transaction of the table's, to be given back. NULL: LMDB said no. */
MDB_txn *table_snapshot_take(const struct table *table);
void table_snapshot_give(const struct table *table, MDB_txn *txn);

#endif
