/*
 * table_state: what a table is, for the files of the table only: table.c (building, opening,
 * look-ups) and table_walk.c.
 */
#ifndef SPLITMX_ROUTING_TABLE_STATE_H
#define SPLITMX_ROUTING_TABLE_STATE_H

#include <stdatomic.h>

#include "routing/destination.h"
#include "routing/generation.h"
#include "routing/seal.h"
#include "routing/table.h"

#define SNAPSHOTS                                                                                  \
    64 /* read transactions kept; more look-ups than that at one time open their own */

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
    _Atomic(MDB_txn *) snapshots[SNAPSHOTS];
};

/* A read transaction of the table's, to be given back. NULL: LMDB said no. */
MDB_txn *table_snapshot_take(const struct table *table);
void table_snapshot_give(const struct table *table, MDB_txn *txn);

#endif
