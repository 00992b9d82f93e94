/*
 * ledger_store: what makes the ledger durable: its file, and one thread that writes it.
 *
 * What has changed is written in groups: at once where somebody waits for it, and all that comes
 * meanwhile with the next; else after a moment, so that what is recorded and settled in passing
 * never reaches the disk.
 *
 * The file that is written is always one that this process made: what was there at the start is
 * read in a child process (ledger_reader.h), and written anew. What of it cannot be read is set
 * aside, and mail goes on with the rest. When the file cannot be written, or somebody has laid
 * hands on it, the ledger is not usable, and all of it is written to a new file every second, until
 * that succeeds. So with the lock: while another process has it, this one has no ledger.
 *
 * Thread: any, but for new, load, start and free, which are one thread's, and block.
 */
#ifndef SPLITMX_PROXY_NET_LEDGER_STORE_H
#define SPLITMX_PROXY_NET_LEDGER_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "config/config.h"
#include "proxy/session/ledger.h"

struct ledger_store;

/* What an operator should hear; what does not apply is NULL. */
struct ledger_event {
    enum config_log_level level;
    const char *name; /* ledger-broken, ledger-unusable, ledger-usable, ledger-full */
    const char *file, *kept_as, *why;
};

struct ledger_store_options {
    const char *directory; /* the state directory; copied */
    uint64_t seed;
    uint64_t retry_window; /* milliseconds */
    uint64_t max_size;     /* octets */
    /* From the store's thread, or that of load. */
    void (*on_event)(void *context, const struct ledger_event *event);
    void *context;
};

/* With its ledger, which is not usable yet. NULL: no memory, or a path that is too long. */
struct ledger_store *ledger_store_new(const struct ledger_store_options *options);
struct ledger *ledger_store_ledger(const struct ledger_store *store);

/* Takes the lock, reads what there is and writes it anew. False: not now; the thread goes on
 * trying. */
bool ledger_store_load(struct ledger_store *store);

/* From now on the thread writes. False: there is none to be had. */
bool ledger_store_start(struct ledger_store *store);

/* When no world uses the ledger any more: writes what is not written yet, ends the thread, frees
 * both. False: not all of it is on the disk. NULL is accepted. */
bool ledger_store_free(struct ledger_store *store);

/* After a reload. */
void ledger_store_configure(struct ledger_store *store, uint64_t retry_window, uint64_t max_size);

struct ledger_store_state {
    struct ledger_state ledger;
    uint64_t max_size;
    char why[200]; /* it is not usable; empty: it is */
};
void ledger_store_tell(struct ledger_store *store, struct ledger_store_state *out);

#endif
