/*
 * ledger_print: the ledger for its operator: for people, and one JSON object a line (design:
 * section 8). Thread: any.
 */
#ifndef SPLITMX_PROXY_DAEMON_LEDGER_PRINT_H
#define SPLITMX_PROXY_DAEMON_LEDGER_PRINT_H

#include <stdio.h>

#include "proxy/session/ledger.h"

/*
 * Prints the sets whose number is at least `from`, about `most` octets of them, and always one.
 * Returns from where to go on; 0: these were the last. No lock is held for longer than a set.
 */
uint64_t ledger_print(struct ledger *ledger, uint64_t from, bool json, time_t now, size_t most,
                      FILE *out);

#endif
