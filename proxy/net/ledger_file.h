/*
 * ledger_file: the ledger's file as it is written: always one that this process has made, in an
 * LMDB environment that nobody else has open.
 *
 * `ledger.mdb` in the state directory. A new one is written beside it, made durable, and takes its
 * name. Before each transaction one look says whether it still stands there as it was left: LMDB
 * believes what it maps, and behind the end of a file that was cut is a SIGBUS.
 *
 * `ledger.lock` beside it is locked by the one process that may write or read: an empty file that
 * is never removed, as the ledger itself is replaced.
 *
 * Thread: blocks on the disk; one at a time. What fails says why in words (`why` of the file).
 */
#ifndef SPLITMX_PROXY_NET_LEDGER_FILE_H
#define SPLITMX_PROXY_NET_LEDGER_FILE_H

#include <lmdb.h>
#include <stdint.h>
#include <sys/stat.h>

#include "config/text.h"

#define LEDGER_NAME     "ledger.mdb"
#define LEDGER_LOCK     "ledger.lock"
#define LEDGER_WHY      200 /* octets of a reason, its NUL included */
#define LEDGER_SPARE    3   /* broken files that are kept */
#define LEDGER_PATH_MAX 4200

struct ledger_file {
    char directory[LEDGER_PATH_MAX - 100];
    char path[LEDGER_PATH_MAX]; /* the name it has or will have */
    char new_path[LEDGER_PATH_MAX];
    MDB_env *env; /* NULL: none is open */
    MDB_txn *txn;
    MDB_dbi dbi;
    uint64_t map;     /* octets of address space */
    size_t batch;     /* octets put in txn */
    bool is_changed;  /* txn has something to write */
    bool is_new;      /* it has not got its name yet */
    int error;        /* of puts, the first: LMDB's or an errno */
    struct stat left; /* as it was left */
    char why[LEDGER_WHY];
};

/* False: the path is too long. Opens nothing. */
bool ledger_file_init(struct ledger_file *file, const char *directory);

/* Begins an empty one with room for so many octets of sets. */
bool ledger_file_create(struct ledger_file *file, uint64_t max_size);
/* Before changes are put: it is still there and ours, and has room. */
bool ledger_file_begin(struct ledger_file *file, uint64_t max_size);
/* A set as it is from now on; an empty record: it is gone. What fails is told by the commit. */
void ledger_file_put(struct ledger_file *file, uint64_t set, struct span record);
/* Durable when it returns true; a new one has its name then. */
bool ledger_file_commit(struct ledger_file *file);
/* Lets go of it, whatever its state; a new one without its name is removed. */
void ledger_file_close(struct ledger_file *file);

/* Gives a file that cannot be used another name, which is returned in `kept`, and removes the
 * oldest of those that were set aside before. */
bool ledger_file_set_aside(struct ledger_file *file, struct text *kept);

/* A descriptor that holds the lock until it is closed; -1 with errno: EWOULDBLOCK when another
 * process holds it. Does not wait. */
int ledger_file_lock(const struct ledger_file *file);
/* Whether what the descriptor holds is still the lock of this directory. */
bool ledger_file_locked(const struct ledger_file *file, int fd);

#endif
