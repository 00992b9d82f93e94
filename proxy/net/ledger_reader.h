/*
 * ledger_reader: what is in a ledger's file, whatever has become of that.
 *
 * LMDB believes every page that it maps: a damaged one is a crash. So the file is read by a child
 * process, which hands what it finds through a pipe; if it dies, only it does.
 *
 * Thread: any that may block; others may run. The caller holds the ledger's lock (ledger_file.h).
 */
#ifndef SPLITMX_PROXY_NET_LEDGER_READER_H
#define SPLITMX_PROXY_NET_LEDGER_READER_H

#include <stdint.h>

#include "config/text.h"

enum ledger_read {
    LEDGER_READ_FINE,
    LEDGER_READ_NONE,      /* there is no file */
    LEDGER_READ_BROKEN,    /* not all of it could be read, and never will */
    LEDGER_READ_NOT_NOW,   /* the file is not to blame: no right to read it, no descriptor, … */
    LEDGER_READ_NO_MEMORY, /* for this time, or for a length in it that is damaged */
};

/* A set that was found, whole or not. False: the record is not understood. */
typedef bool ledger_read_set(void *context, uint64_t set, struct span record);

/* Calls `take` for each set, from the lowest number where the file is whole. *why: in words, where
 * it is neither fine nor absent. */
enum ledger_read ledger_read(const char *path, ledger_read_set *take, void *context,
                             struct text *why);

/*
 * How a set is kept: its number, big-endian, is the key, and once more in front of the record, so
 * that one whose key was damaged is known. Number 0 is the head: a few letters that say what the
 * file is, and how many sets it holds.
 */
#define LEDGER_KEY  8
#define LEDGER_HEAD 24

void ledger_key(unsigned char key[LEDGER_KEY], uint64_t set);
void ledger_head(unsigned char head[LEDGER_HEAD], uint64_t sets);

#endif
