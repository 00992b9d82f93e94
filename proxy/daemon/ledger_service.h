/*
 * ledger_service: the ledger in the daemon: started with the configuration, its events logged, and
 * what `splitmx ledger` asks answered (design: section 8). Main thread.
 */
#ifndef SPLITMX_PROXY_DAEMON_LEDGER_SERVICE_H
#define SPLITMX_PROXY_DAEMON_LEDGER_SERVICE_H

#include "proxy/daemon/control.h"
#include "proxy/daemon/log.h"
#include "proxy/net/ledger_store.h"

/* Usable already, unless something is wrong; then it goes on trying. NULL: no memory or thread. */
struct ledger_store *ledger_service_start(const struct config *config, struct log *log);

/* What comes behind the verbs LEDGER_LIST and LEDGER_LIST_JSON is the number of the set to begin
 * with; behind LEDGER_CLEAR that of the set to forget, 0 for all. */
#define LEDGER_LIST      "ledger "
#define LEDGER_LIST_JSON "ledger-json "
#define LEDGER_CLEAR     "ledger-clear "

/*
 * Answers the request, if it is about the ledger. A list is told in parts: the first line of each
 * is the number to go on with, 0 at the end, the second says why the ledger is not usable, if so.
 */
bool ledger_service_answer(struct ledger_store *store, struct control_request *request,
                           struct span verb);

#endif
