/*
 * generation: the file of a generation of routes, an LMDB environment, and the folder it is in.
 *
 * "routes-N.lmdb" holds five named databases, and behind what is LMDB's a seal (routing/seal).
 * Under "routes-N.lmdb.tmp" it is being written.
 * Numbers are in the machine's byte order: the file does not leave it.
 */
#ifndef SPLITMX_ROUTING_GENERATION_H
#define SPLITMX_ROUTING_GENERATION_H

#include <lmdb.h>
#include <stdint.h>

#include "config/diag.h"
#include "config/span.h"
#include "routing/source.h"

#define GENERATION_FORMAT 2
#define GENERATION_PATH   4096

enum generation_db {
    GENERATION_META,         /* "header", "sources" (stamps, in the order of the files) */
    GENERATION_FILES,        /* number → path */
    GENERATION_DESTINATIONS, /* number → struct destination_places, packed destination */
    GENERATION_DOMAINS,      /* folded domain, or .domain for its subdomains → nothing */
    GENERATION_ROUTES,       /* folded pattern → struct generation_route */
    GENERATION_DBS
};

/* Value of "header". */
struct generation_header {
    uint32_t format;
    uint32_t file_count;
    uint32_t destination_count;
    uint32_t unused; /* 0 */
    uint64_t generation;
    uint64_t routes;
    unsigned char config[SOURCE_DIGEST]; /* source_digest_config */
};

struct generation_route {
    uint32_t destination;
    uint32_t file;
    uint32_t line;
};

/* Opens the databases in a transaction; flags: 0 or MDB_CREATE. An LMDB error code. */
int generation_open_dbs(MDB_txn *txn, unsigned flags, MDB_dbi dbis[GENERATION_DBS]);

/* False when it does not fit. */
bool generation_path(char out[GENERATION_PATH], const char *folder, uint64_t number);

/* The highest number in the folder; 0 when there is none. */
uint64_t generation_newest(const char *folder);

/* Removes every generation but these two, and whatever a build that died has left. */
void generation_clean(const char *folder, uint64_t keep, uint64_t keep_too /* 0: none */);

struct generation_writer;

/* `bytes`: about what will be put, to size the map (the file takes what it needs). NULL: told. */
struct generation_writer *generation_create(const char *path, uint64_t bytes,
                                            struct diag_list *diags);

/* Keys come in order within a database, META apart. After an error nothing more is done. */
bool generation_put(struct generation_writer *writer, enum generation_db db, struct span key,
                    struct span value);

/* Makes it durable under its name and frees the writer; or drops it and the file. False: told.
 * `quiet`: of the work that this belongs to, or NULL. */
bool generation_commit(struct generation_writer *writer, struct quiet *quiet,
                       struct diag_list *diags);
void generation_abort(struct generation_writer *writer); /* NULL is accepted */

#endif
