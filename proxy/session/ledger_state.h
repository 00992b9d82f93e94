/*
 * ledger_state: what the files of the ledger share, and nobody else includes: ledger.c (what
 * transactions ask and tell), ledger_keep.c (what the store and the operator ask), ledger_set
 * (the rules) and ledger_format (the bytes).
 */
#ifndef SPLITMX_PROXY_SESSION_LEDGER_STATE_H
#define SPLITMX_PROXY_SESSION_LEDGER_STATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "proxy/session/ledger.h"
#include "proxy/session/ledger_set.h"

struct ledger {
    struct ledger_options options;
    atomic_size_t live_count; /* of sets that bind: looked at without the lock, and mostly 0 */
    size_t set_count;
    atomic_bool usable;
    pthread_mutex_t lock; /* of all below */
    struct ledger_members members;
    struct ledger_set **buckets;          /* sets by number */
    size_t bucket_count;                  /* a power of two */
    struct ledger_set *oldest, *newest;   /* by number */
    struct ledger_set *coldest, *warmest; /* by when they were touched */
    struct ledger_set *dirty;             /* to be taken by the store, in any order */
    uint64_t last_number;
    uint64_t lot;      /* the state of what draws lots */
    uint64_t sequence; /* of changes, from 1: the last one made */
    bool ready;        /* the store can write */
    struct ledger_ticket *waiting, *done;
    atomic_bool any_done;
    char *bytes; /* of the set that is being taken */
    size_t bytes_cap;
};

void ledger_lock(struct ledger *ledger);
void ledger_unlock(struct ledger *ledger); /* and says whether it is usable now */
bool ledger_has_room(const struct ledger *ledger);

struct ledger_set *ledger_set_numbered(const struct ledger *ledger, uint64_t number);
/* With this number, higher than any before, it enters all lists. */
void ledger_set_enter(struct ledger *ledger, struct ledger_set *set, uint64_t number);
/* It is to be written; `soon`: somebody waits for that. */
void ledger_set_changed(struct ledger *ledger, struct ledger_set *set, bool soon);
/* Nothing is to be written any more; of what has gone the last traces go. */
void ledger_sets_are_clean(struct ledger *ledger);
/* After members have come or left: it goes when it is over, else it is to be written. */
void ledger_set_look(struct ledger *ledger, struct ledger_set *set, bool soon);
/* It goes, whoever is in it. */
void ledger_set_remove(struct ledger *ledger, struct ledger_set *set);

/* All that wait hear the same. */
void ledger_answer(struct ledger *ledger, uint64_t up_to, bool durable);

#endif
