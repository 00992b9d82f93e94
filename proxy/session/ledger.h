/*
 * ledger: what is known of splits that did not settle at once (design: section 5, "What did not
 * settle").
 *
 * A set is a sender and recipients, in legs that take turns; a leg may have on record which
 * messages were accepted for all its members. Everything here is in memory and answers at once; a
 * store behind it (proxy/net, the simulator) makes it durable: it is told that something has
 * changed, takes the changed sets as bytes, and says when they are safe.
 *
 * Thread: any, but for new, restore and free; no call holds the lock for longer than it takes to
 * look at one set. Senders and recipients are paths as on the wire, of which the domain is folded.
 * `now` is wall-clock time in seconds. Nothing here logs.
 */
#ifndef SPLITMX_PROXY_SESSION_LEDGER_H
#define SPLITMX_PROXY_SESSION_LEDGER_H

#include <stdint.h>
#include <time.h>

#include "config/span.h"
#include "proxy/wire/identity.h"

/* Sets are forgotten so long after the last transaction that touched them, seconds. */
#define LEDGER_SET_LIFE (24 * 60 * 60)

struct ledger;
struct world;

struct ledger_options {
    uint64_t seed;
    uint64_t retry_window; /* seconds: the life of a record */
    size_t max_size;       /* octets of memory, and so the bound of what is written */
    /* Something waits to be taken (ledger_take); `soon`: somebody waits for it to be durable. From
     * any thread, with the lock held: only wakes. */
    void (*changed)(void *store, bool soon);
    void *store;
};

/* NULL: no memory. Not usable until the store says so. */
struct ledger *ledger_new(const struct ledger_options *options);
/* No world uses it any more, nor does a store. */
void ledger_free(struct ledger *ledger);
void ledger_configure(struct ledger *ledger, uint64_t retry_window, size_t max_size);

/* Nobody is bound by anything that is known. */
bool ledger_is_empty(const struct ledger *ledger);

/* Whether an unsettled split could be recorded now: where not, no transaction may split. */
bool ledger_usable(const struct ledger *ledger);

/* ---- RCPT ---- */

/* The set that a transaction is bound to; zeroed at first, a value of the transaction's. */
struct ledger_turn {
    bool bound; /* it has touched a set, and takes one leg only */
    uint64_t set;
    unsigned leg;     /* of the set; 0: none, as others were there first */
    unsigned records; /* messages that leg had on record: where it had, nobody else shares it */
};

/* Whom the transaction has accepted recipients of already. */
enum ledger_company {
    LEDGER_ALONE, /* nobody */
    LEDGER_SAME,  /* the leg that this recipient would join */
    LEDGER_OTHERS,
};

enum ledger_verdict {
    LEDGER_FREE, /* the ledger has nothing to say */
    LEDGER_GO,   /* it is its leg's turn */
    LEDGER_WAIT, /* it is not: 452 4.5.3 */
};

struct ledger_question {
    struct span sender, recipient;
    struct span label; /* of the leg that the recipient goes to by its route */
    enum ledger_company company;
};

/*
 * May this recipient come along? The first one of a set binds the transaction to the leg whose turn
 * it is, and the turn moves on. Who has to wait for others joins their set. When the transaction
 * becomes bound in company, those who were there first have to be given to ledger_join.
 */
enum ledger_verdict ledger_turn(struct ledger *ledger, struct ledger_turn *turn,
                                const struct ledger_question *question, time_t now);

/* A recipient that has to do with the set that the transaction is bound to, and is in none yet, is
 * from now on one of it, last in turn. One of the leg that the transaction is bound to leaves it
 * for a leg of this label. */
void ledger_join(struct ledger *ledger, const struct ledger_turn *turn, struct span sender,
                 struct span recipient, struct span label, time_t now);

/* ---- the outcome ---- */

/* A wait for what was recorded to be durable. Embedded in its owner. */
struct ledger_ticket {
    struct ledger_ticket *next;
    struct world *world;                        /* in whose thread on_done is called */
    void (*on_done)(void *owner, bool durable); /* not durable: it cannot be, now */
    void *owner;
    uint64_t sequence; /* 0: none is under way */
    bool durable;
};

struct ledger_entry {
    struct span recipient, label;
    bool accepted; /* its leg has accepted the message */
};

struct ledger_split {
    struct span sender;
    const struct ledger_entry *entries; /* in the order in which their legs are to have turns */
    size_t count;
    const unsigned char *identity; /* the message's; NULL: it has none, nothing is put on record */
    bool
        in_advance; /* others are asked still: it is kept, lest it be forgotten, but binds nobody */
};

/*
 * A split that has not settled, or not yet: its recipients are a set. Wakes the ticket's world when
 * that is durable, or cannot be; NULL: nobody waits, and the store may take its time. False: it
 * will not be durable, for lack of memory or room or as the store cannot write, and the ticket is
 * not called. A split that was recorded in advance is recorded again, or settled for each
 * recipient.
 */
bool ledger_record(struct ledger *ledger, const struct ledger_split *split, time_t now,
                   struct ledger_ticket *ticket);

/* The ticket's owner ends first. Harmless when none is under way. */
void ledger_forget(struct ledger *ledger, struct ledger_ticket *ticket);

/* In the thread of `world`, when it was woken: calls the tickets that are done. */
void ledger_collect(struct ledger *ledger, struct world *world);

/* Whether this very message is on record as accepted for the recipient. */
bool ledger_accepted(struct ledger *ledger, struct span sender, struct span recipient,
                     const unsigned char *identity, time_t now);

/* Whether a message that was on record when the transaction was bound to its leg is so no more for
 * the recipient: another connection has read its answer. It may have been this very message. */
bool ledger_overtaken(struct ledger *ledger, const struct ledger_turn *turn, struct span sender,
                      struct span recipient, time_t now);

/* The recipient has its final answer for this message (NULL: one without identity): that is taken
 * off the record, and a recipient without others leaves its set. */
void ledger_settle(struct ledger *ledger, struct span sender, struct span recipient,
                   const unsigned char *identity);

/* ---- the store ---- */

/* A set as it is kept. An empty record: the set is gone. */
typedef void ledger_put(void *store, uint64_t set, struct span record);

/*
 * Gives what has changed since it was taken last, `most` octets or a little more at a time. Returns
 * what ledger_written is to be told once all of it is durable; 0: there is more to be taken first,
 * or, when nothing was given, memory is short.
 */
uint64_t ledger_take(struct ledger *ledger, size_t most, ledger_put *put, void *store);
/* All that was taken up to here is durable. */
void ledger_written(struct ledger *ledger, uint64_t taken);
/* Nothing can be written: until the next ledger_written the ledger is not usable, and nobody waits
 * in vain. All sets count as changed: the store begins anew with an empty file. */
void ledger_failed(struct ledger *ledger);
/* The store is ready: usable from now on. */
void ledger_ready(struct ledger *ledger);

/* A set as it was kept, before the store is ready; it has another number where this was given
 * meanwhile. False: it is not one, somebody of it is in another by now, or there is no room. */
bool ledger_restore(struct ledger *ledger, uint64_t set, struct span record);

/* ---- for the operator ---- */

struct ledger_state {
    bool usable;
    uint64_t sets, recipients, records; /* recipients that are in a set; legs' records */
    uint64_t size;                      /* octets of memory */
};
void ledger_tell(struct ledger *ledger, struct ledger_state *out);

struct ledger_listed {
    uint64_t set;
    time_t touched;
    struct span sender, recipient, label;
    unsigned leg;     /* of the set, in order of turn from 1 */
    unsigned records; /* messages that are on record for the recipient */
};
typedef void ledger_list_row(void *context, const struct ledger_listed *row);
/* The rows of the first set whose number is at least `from`, in order of turn. False: none. *next:
 * from where to go on. */
bool ledger_list(struct ledger *ledger, uint64_t from, ledger_list_row *row, void *context,
                 uint64_t *next);
/* Forgets a set, or with 0 all. Returns how many. */
uint64_t ledger_clear(struct ledger *ledger, uint64_t set);

#endif
