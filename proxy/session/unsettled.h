/*
 * unsettled: what a transaction asks the ledger, and what it tells it (design: section 5, "What did
 * not settle"). For the files of a transaction only.
 */
#ifndef SPLITMX_PROXY_SESSION_UNSETTLED_H
#define SPLITMX_PROXY_SESSION_UNSETTLED_H

#include "proxy/session/transaction_state.h"

/*
 * Whether the ledger lets the recipient asked for come along, on this leg, or, where that is NULL,
 * on a new one; `relay` is that of its route. False: 452 4.5.3; its turn will come.
 */
bool unsettled_lets(struct transaction *tx, const struct leg *leg, const struct relay *relay,
                    struct span domain);

/* Whom the transaction has accepted recipients of, beside this leg (NULL: a new one). */
enum ledger_company unsettled_company(const struct transaction *tx, const struct leg *leg);

/* The recipient asked for was sent away, as it would have needed another leg. */
void unsettled_sent_away(struct transaction *tx, const struct relay *relay, enum leg_kind kind,
                         struct span domain);

/* No second leg: by configuration, by the set that the transaction is bound to, or as an unsettled
 * split could not be recorded now. */
bool unsettled_takes_one_leg(const struct transaction *tx);

/* The recipient has been accepted: on a detour he has other company than by his route, and is of
 * that leg from now on. */
void unsettled_came_along(struct transaction *tx, const struct recipient *recipient);

/* The recipient asked for was refused for good by its relay. */
void unsettled_refused(struct transaction *tx);

/* From DATA on: another leg is or was concerned, so the ledger may have to know the message. */
bool unsettled_concerns(const struct transaction *tx);
/* DATA: the message's identity may be wanted. */
void unsettled_watch(struct transaction *tx);

/* Whether all recipients are on record as having this very message. */
bool unsettled_is_known(const struct transaction *tx);

/* Whether this may be a message that was on record at RCPT and was answered elsewhere since. */
bool unsettled_is_overtaken(const struct transaction *tx);

/* A leg has accepted while others are to come: the ledger has it as soon as may be. */
void unsettled_accepted(struct transaction *tx);

/* The split has not settled. True: `ticket` will tell when that is recorded, or cannot be (NULL:
 * nobody waits); false: it cannot be recorded. */
bool unsettled_record(struct transaction *tx, struct ledger_ticket *ticket);

/* Where no second leg is taken whatever the ledger says, and the one that there was has put the
 * message off, it would do so for ever before the others, who were sent away: they are a set too,
 * and have the first turns. */
void unsettled_took_turns(struct transaction *tx);

/* All recipients have their final answer. */
void unsettled_settle(struct transaction *tx);

/* Frees what was kept for the outcome. */
void unsettled_release(struct transaction *tx);

#endif
