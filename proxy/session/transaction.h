/*
 * transaction: MAIL to end of data (design: sections 2 and 5): recipients, their legs, the barrier,
 * commit in turn.
 *
 * The session owns it and gives it what the client says; events go up through one callback, which
 * may come from inside the calls below, and never after TRANSACTION_OUTCOME.
 */
#ifndef SPLITMX_PROXY_SESSION_TRANSACTION_H
#define SPLITMX_PROXY_SESSION_TRANSACTION_H

#include "proxy/session/client_view.h"
#include "proxy/session/leg.h"

enum transaction_event_kind {
    TRANSACTION_RECIPIENT, /* `reply` answers the RCPT */
    TRANSACTION_DATA,      /* `reply` answers DATA: 354, or a refusal that ends the transaction */
    TRANSACTION_ROOM,      /* more of the message may be fed */
    TRANSACTION_COMMITS,   /* a commit is about to begin: last chance for transaction_client_gone */
    TRANSACTION_OUTCOME,   /* `reply` answers the end of data; `close`: and then the session ends */
};

struct transaction_event {
    enum transaction_event_kind kind;
    const struct reply *reply;
    bool close;
};

typedef void transaction_handler(void *owner, const struct transaction_event *event);

struct transaction;

/* The sender's path is copied. NULL: no memory. Takes its own reference to the world's policy.
 * `number` counts a session's transactions. */
struct transaction *transaction_new(struct world *world, const struct client_view *client,
                                    const struct envelope *envelope, unsigned number,
                                    transaction_handler *on_event, void *owner);

/* Abandons what is open. The memory goes when the stack has unwound. */
void transaction_free(struct transaction *transaction);

/* One at a time: the next after TRANSACTION_RECIPIENT. The path is copied. */
void transaction_recipient(struct transaction *transaction, struct span path);

bool transaction_has_recipients(const struct transaction *transaction); /* accepted ones */

/* Allowed with recipients only. */
void transaction_data(struct transaction *transaction);

/*
 * Feeds the message as it comes, in wire form, after 354. Returns how many bytes were taken; the
 * rest is presented again with what follows. *ended: the end of data was among them; the outcome
 * follows, perhaps at once.
 */
size_t transaction_feed(struct transaction *transaction, struct span input, bool *ended);
bool transaction_has_room(const struct transaction *transaction);

/* The client is gone: no further commit begins. False when a commit is under way: the outcome will
 * still come. */
bool transaction_client_gone(struct transaction *transaction);

/* Its acceptance is on record: it was answered from the ledger, or the client had closed its side.
 * Then the session keeps it until the client has read that, which it says with transaction_read. */
bool transaction_is_unread(const struct transaction *transaction);
void transaction_read(struct transaction *transaction);

/* The session ends with this reply, and a message that is under way with it: what the log is to
 * say. Accepts NULL; transaction_free follows. */
void transaction_dismiss(struct transaction *transaction, const struct reply *reply);

bool transaction_is_committing(const struct transaction *transaction);

#endif
