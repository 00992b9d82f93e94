/*
 * transactions: the last hundred lines event=transaction of the log, and the last hundred
 * event=recipient (one that was not taken), for the status page. The log's own thread shows it what
 * it writes, so who moves mail has nothing to do with it.
 */
#ifndef SPLITMX_PROXY_ADMIN_TRANSACTIONS_H
#define SPLITMX_PROXY_ADMIN_TRANSACTIONS_H

#include <jansson.h>

#include "config/span.h"

#define TRANSACTIONS_MAX        100
#define TRANSACTIONS_RECIPIENTS 20 /* that are listed of one */

/* Each kind has its own hundred: who guesses at names drives out no mail. */
enum transactions_kind {
    TRANSACTIONS_ALL,
    TRANSACTIONS_REFUSALS, /* of recipients */
    TRANSACTIONS_KINDS
};

struct transactions;

/* NULL: no memory. */
struct transactions *transactions_new(void);
void transactions_free(struct transactions *transactions); /* NULL is accepted */

/* Bytes of the log, in the order of a lane: lines may come in pieces, in both formats. A line for
 * which there is no memory is not kept. One thread at a time. */
void transactions_see(struct transactions *transactions, struct span bytes);

/* The lines kept, the newest first. The caller frees; NULL: no memory. Any thread. */
char *transactions_text(struct transactions *transactions, enum transactions_kind kind);

/* What such lines say, in the order that they have; lines may be NULL. NULL: no memory. */
json_t *transactions_json(const char *lines, enum transactions_kind kind);

#endif
