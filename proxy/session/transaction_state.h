/*
 * transaction_state: what the files of a transaction share, and nobody else includes: recipients.c
 * (RCPT), transaction.c (DATA, the message, its life), commit.c (the barrier, and commit in turn)
 * and unsettled.c (the ledger).
 */
#ifndef SPLITMX_PROXY_SESSION_TRANSACTION_STATE_H
#define SPLITMX_PROXY_SESSION_TRANSACTION_STATE_H

#include "proxy/session/ledger.h"
#include "proxy/session/policy.h"
#include "proxy/session/transaction.h"
#include "proxy/wire/body.h"
#include "proxy/wire/header.h"

/* More relays than any sane message needs; bounds the memory of one transaction. */
#define LEGS_MAX 32

enum transaction_state {
    TRANSACTION_IS_OPEN,       /* nothing: the next recipient, or DATA */
    TRANSACTION_IS_ASKING,     /* a leg's answer to a recipient */
    TRANSACTION_IS_STARTING,   /* every leg's 354 */
    TRANSACTION_IS_TAKING,     /* the message */
    TRANSACTION_IS_DOOMED,     /* the rest of a message whose outcome is known */
    TRANSACTION_IS_FLUSHING,   /* every leg to have taken the whole body (the barrier) */
    TRANSACTION_IS_COMMITTING, /* one leg's answer to end-of-data */
    TRANSACTION_IS_RECORDING,  /* the ledger to have it that the split has not settled */
    TRANSACTION_IS_SETTLED,
};

/* From DATA on; apart, since most of the time a client holds a transaction it is without. */
struct transaction_message {
    struct leg *turn[LEGS_MAX]; /* the legs that carry it, in the order of commit */
    struct body_scanner scanner;
    struct header_watch header;
    bool has_begun;
    struct message_identity *identity; /* being computed; NULL: not wanted, or there is none */
    bool is_whole;                     /* its end has come */
    bool is_identified;                /* the identity was asked for: */
    bool has_identity;
    unsigned char digest[MESSAGE_IDENTITY_SIZE];
    struct reply outcome;
    struct reply joint;                /* the words of the legs that have accepted */
    enum transaction_event_kind tells; /* what the outcome answers: the end of data, or DATA */
};

/* A recipient that was sent away for others' sake. */
struct unsettled_away {
    struct unsettled_away *next;
    struct span path, label; /* behind the struct */
};

struct transaction {
    struct world *world;
    struct policy *policy;
    const struct client_view *client;
    struct leg_context context;
    transaction_handler *on_event;
    void *owner;
    enum transaction_state state;
    char id[40];
    uint64_t begun_at;
    uint64_t heard_at; /* when the client last had DATA or a piece of the message taken */

    struct recipient *first, *last; /* accepted and discarded */
    struct recipient *asked;
    struct decision decision; /* on it */
    struct span domain;       /* of it */
    uint64_t answer_by;       /* all attempts together */
    unsigned recipient_count;

    struct leg *legs[LEGS_MAX]; /* in the order of their first recipients */
    unsigned leg_count;
    unsigned waiting;                    /* legs that owe their 354 */
    struct transaction_message *message; /* NULL before DATA; owned */
    unsigned turns, committed;           /* of its legs */
    struct ledger_turn set;              /* of the ledger's, that has to do with it */
    struct unsettled_away *away;         /* the last first */
    struct ledger_ticket ticket;

    bool dirty; /* bare CR, bare LF or NUL: the session ends after the true end */
    bool client_gone;
    bool advanced; /* the ledger has something of it in advance */
    bool recorded; /* it has not settled, and that is durable */
    bool told;     /* that it is accepted already */
    bool unread;   /* its acceptance stays on record until the client has read it */
    bool stopped;  /* a leg was lost before its turn: no other commit begins; `outcome` says why */
    uint64_t commit_by;
    struct timer timer;
    struct timer recheck; /* of the barrier: no event tells that a peer has acknowledged */
    struct timer advance; /* when the ledger is to have what legs have accepted so far */
    struct deferred deferred;
    char sender[]; /* the path */
};

/* Tells the session. */
void transaction_tell(struct transaction *tx, enum transaction_event_kind kind,
                      const struct reply *reply);
/* Ends every leg so that its upstream has nothing that was not committed. */
void transaction_abandon(struct transaction *tx);
/* The outcome is known: no leg goes on; a split that has not settled is recorded; the session is
 * told. */
void transaction_conclude(struct transaction *tx, enum transaction_event_kind tells,
                          const struct reply *outcome);

/* recipients.c: a leg has the answer for the recipient asked for. */
void recipient_is_answered(struct transaction *tx, struct leg *leg, const struct leg_event *event);

/* commit.c: the client's end of data has come, and no leg has failed so far. */
void commit_begin(struct transaction *tx);
/* All legs that were asked have answered, or have taken what they had not: the next step. */
void commit_next(struct transaction *tx);
/* What a leg said to its end-of-data, and what is said when it was lost instead. */
void commit_answered(struct transaction *tx, struct leg *leg, const struct reply *reply);
void commit_lost(struct transaction *tx, const struct leg *leg, const struct reply *reply);
/* Legs have accepted, and another takes its time: `owner` is the transaction. */
void commit_advance(void *owner);
/* `end-of-data` is over, for all legs together. */
void commit_is_late(struct transaction *tx);
/* The barrier's timer. */
void commit_recheck(void *owner);
/* One of several upstreams decided for all: its words, and whose they are. */
void commit_joint_refusal(const struct transaction *tx, const struct leg *leg,
                          const struct reply *its, struct reply *out);

#endif
