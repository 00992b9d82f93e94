/*
 * repair: when a damaged table is to be built again: at once, and where that does not last, after
 * pauses that grow. Pure: time is an argument.
 */
#ifndef SPLITMX_PROXY_DAEMON_REPAIR_H
#define SPLITMX_PROXY_DAEMON_REPAIR_H

#include <stdint.h>

/* Milliseconds: the first pause, which doubles each time, and the longest. Twice the longest
 * without an attempt, and it begins anew. */
#define REPAIR_PAUSE_FIRST UINT64_C(2000)
#define REPAIR_PAUSE_MOST  UINT64_C(60000)

/* Begins as zeroes. */
struct repair {
    uint64_t last;  /* when the last attempt ended or is due, of the caller's clock */
    uint64_t pause; /* from then to the next; 0: none was made yet */
};

/* How long from now until an attempt may begin, which is counted as made then. */
uint64_t repair_plan(struct repair *repair, uint64_t now);

/* An attempt has ended: the pause is counted from here, for one may take long. */
void repair_ended(struct repair *repair, uint64_t now);

#endif
