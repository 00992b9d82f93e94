/*
 * queues: the other kind of world. Sending hosts hold messages in queues and try again, for hours,
 * until every recipient is settled; upstreams change their minds; everything may break at every
 * event: connections of both sides, splitmx itself (crashes, which its store outlives), its store,
 * the wall clock. What the replies have to be word by word is the exact world's matter (message.h);
 * here it is what comes of the mail in the end: nothing that was answered 250 is missing, nothing
 * arrives that was not sent so, every copy too many has a cause that is allowed and did occur, and
 * nobody waits for ever.
 *
 * All of a world that chance settles beforehand comes from generators of its own parts, so that a
 * part left out (shrink.h) leaves the others as they are.
 */
#ifndef SPLITMX_TESTS_SIM_QUEUES_H
#define SPLITMX_TESTS_SIM_QUEUES_H

#include "proxy/session/ledger.h"
#include "tests/sim/message.h"
#include "tests/sim/net.h"
#include "tests/sim/queue_store.h"
#include "tests/sim/shrink.h"

#define QUEUE_HOSTS   4
#define QUEUE_AUTHORS 4
#define QUEUE_BOXES   8 /* of an author, and so the most recipients of a mail */
#define QUEUE_MAILS   12
#define QUEUE_CRASHES 4
#define QUEUE_JUMPS   3

#define MINUTE UINT64_C(60000)
#define HOUR   (60 * MINUTE)
#define DAY    (24 * HOUR)

/* ---- what upstreams will say, and from when on ---- */

enum last_word { LAST_YES, LAST_NO, LAST_NEVER }; /* never: 4xx as long as the world lasts */

struct plan {
    uint64_t until; /* 4xx before */
    enum last_word last;
    bool unknown; /* the NO is 550 5.1.1 */
};

/* Whom an author writes to. */
struct mailbox {
    unsigned author, number, relay, domain;
    enum rcpt_kind kind;
    struct plan rcpt[WAYS];
    int64_t touched_wall; /* when it was last named, by the wall clock then; 0: never */
};

/* An envelope's sender; hosts share them. */
struct author {
    unsigned number;
    bool null;
    struct mailbox boxes[QUEUE_BOXES];
    unsigned box_count;
    struct plan mail[SIM_RELAYS], data[SIM_RELAYS];
    int64_t touched_wall; /* ditto, any of them */
};

/* ---- mail ---- */

enum rcpt_state { RCPT_ABSENT, RCPT_QUEUED, RCPT_DELIVERED, RCPT_BOUNCED };

struct mail_rcpt {
    enum rcpt_state state;
    bool busy;       /* on a connection now */
    bool at_once;    /* was told to come separately, and its host does that at once */
    bool deceived;   /* an upstream said that it has it when it could not have */
    unsigned waited; /* attempts since all faults ended that did not settle it */
};

struct mail {
    struct sim *sim;
    unsigned id, host, author;
    bool identity; /* exactly one Date and one Message-ID */
    bool varies;   /* relays on the way add a field of their own */
    struct buffer body;
    struct mail_rcpt rcpts[QUEUE_BOXES]; /* by mailbox of the author */
    struct plan end[WAYS][SIM_RELAYS];
    unsigned tries;
    bool due; /* an event will try it again */
    struct copy *copies;
};

/* Of splitmx, with one message, for some recipients: one transaction. */
struct attempt {
    struct attempt *next; /* of the world */
    unsigned id;
    struct mail *mail;
    struct queue_client *client;
    unsigned rcpts[QUEUE_BOXES], count; /* in the order in which they are named */
    unsigned said[QUEUE_BOXES];         /* answers to RCPT, as written; 0: none yet */
    char prefix[80];                    /* the field that a relay added */
    uint64_t began,
        over; /* steps; 0: not yet. Over: the answer was written, or nobody is to hear it */
    uint64_t unusable; /* since when the store could not be written when it began; 0: it could */
    bool data_sent, end_sent;
    bool bound;           /* somebody was told to come separately */
    bool closes;          /* QUIT is behind its end of data */
    unsigned code, heard; /* the answer to its end of data or DATA, as written and as read */
    unsigned legs;        /* that carry it */
    struct commit *commits;
    struct queue_service *services[SIM_LEGS];
    bool crashed;     /* splitmx crashed before it was over */
    bool from_record; /* answered that it is accepted already */
    bool odd;         /* one of its upstreams spoke out of turn */
};

/* An end of data that splitmx has written, and what it knows of the answer. */
struct commit {
    struct commit *next; /* of the attempt's */
    struct attempt *attempt;
    struct copy *copy; /* NULL: it was not accepted */
    bool done;         /* it has an answer, or will never have one */
};

/* One that an upstream has accepted. */
struct copy {
    struct copy *next; /* of the mail's, older ones behind */
    struct attempt *attempt;
    unsigned rcpts;      /* bits, by mailbox */
    uint64_t step, told; /* when: accepted, and known to splitmx, in steps; 0: not known */
    uint64_t kept;       /* by then the ledger has been told; 0: not yet */
    int64_t wall;
    bool odd;         /* its upstream spoke out of turn */
    bool lost;        /* a crash came before what splitmx knew of it was durable */
    unsigned expired; /* recipients' bits: more time has passed since than the ledger remembers */
};

/* ---- causes of copies too many ---- */

enum cause {
    CAUSE_NO_ANSWER,     /* the upstream's answer never reached splitmx */
    CAUSE_OUT_OF_TURN,   /* it was mixed with words out of turn */
    CAUSE_LOST_ANSWER,   /* all had accepted, and the client did not hear of it */
    CAUSE_CRASH_ANSWER,  /* ditto, as splitmx crashed */
    CAUSE_CRASH_DURABLE, /* splitmx crashed before the record was durable */
    CAUSE_NO_IDENTITY,
    CAUSE_EXPIRED, /* more than a day passed, or the record's life, on the wall clock */
    CAUSE_AT_ONCE, /* it was sent again while the first attempt was under way */
    CAUSE_UNREAD,  /* splitmx had not yet read what it had kept, when it was sent again */
    CAUSE_FULL,    /* the ledger is at its size */
    CAUSES
};

/* ---- the world ---- */

enum trigger { TRIGGER_TIME, TRIGGER_COPY, TRIGGER_TAKE, TRIGGER_WRITE, TRIGGER_OUTCOME, TRIGGERS };

struct crash_plan {
    bool armed;
    bool machine; /* not only the process */
    enum trigger trigger;
    uint64_t count; /* so many of these; or when */
    unsigned steps; /* and then so many more */
    uint64_t pause; /* milliseconds until it runs again */
};

struct jump {
    bool armed;
    uint64_t at;
    int64_t seconds;
};

struct queues {
    struct sim *sim;
    struct queue_store store;
    struct author authors[QUEUE_AUTHORS];
    unsigned author_count;
    struct queue_host *hosts;
    unsigned host_count;
    struct mail *mails[QUEUE_MAILS];
    unsigned mail_count;
    struct attempt *attempts;
    unsigned attempt_count;
    struct queue_client **clients;
    size_t client_count, client_cap;

    bool up;            /* splitmx runs */
    bool calm;          /* nothing has broken so far */
    uint64_t step;      /* events so far */
    uint64_t fault_end; /* milliseconds: from here on nothing breaks any more */
    bool stopped;       /* hosts begin nothing any more */
    bool tight;         /* the ledger has room for little */
    bool crowded;       /* few connections to upstreams */
    bool poisoned;      /* in the end, an attempt at whom never accepts crashes splitmx */
    unsigned per_event; /* faults in 100,000 events of a connection */
    struct crash_plan crashes[QUEUE_CRASHES];
    unsigned triggered[TRIGGERS];
    unsigned crash_in; /* steps; 0: not soon */
    bool crash_machine;
    uint64_t crash_pause;
    struct jump jumps[QUEUE_JUMPS];
    uint64_t poisonings;
};

/* What all worlds of this kind in a run add up to. */
struct queue_totals {
    uint64_t attempts, outcomes, unsettled, from_record, copies;
    uint64_t faults, crashes, jumps;
    uint64_t causes[CAUSES];
    uint64_t given_up; /* where there are too few places at upstreams */
    uint64_t untold;   /* 451 though not durable, as the store was failing */
};

/* queues.c: life */
void queues_run(struct sim *sim);
bool queues_is_faulty(const struct queues *q); /* now */
uint64_t queues_now(const struct queues *q);
int64_t queues_wall(const struct queues *q);
/* Something happened that a crash may be waiting for. */
void queues_trigger(struct queues *q, enum trigger trigger);
/* An upstream that never accepts has been given an attempt; perhaps that is splitmx's end. */
void queues_poison(struct queues *q, const struct attempt *attempt);
void queues_crash_soon(struct queues *q, unsigned steps, uint64_t pause, bool machine);
/* Into the hash, and the trace. */
void queues_tell(struct queues *q, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Whether a connection has a fault now, of so many in 100,000 times the world's own rate. */
bool queues_fault(struct queues *q, unsigned link, uint64_t event, unsigned rate);
struct sim_random queues_random(const struct queues *q, unsigned what, unsigned number);

/* queue_plan.c: what the world is made of */
void queues_build(struct queues *q);
void queues_release(struct queues *q);
bool plan_says_later(const struct plan *plan, uint64_t now);
struct span mailbox_path(const struct queues *q, const struct mailbox *box, char *out);
struct span author_path(const struct author *author, char *out);
struct mailbox *mailbox_of_path(struct queues *q, struct span path);
/* Whether, once nothing breaks any more, it must get a final answer. */
bool mail_rcpt_must_settle(const struct queues *q, const struct mail *mail, unsigned box);
/* How a recipient comes to this relay; WAYS: not at all. */
enum way mailbox_way(const struct queues *q, const struct mailbox *box, unsigned relay);

/* queue_host.c: hosts and their queues */
void hosts_start(struct queues *q);
void hosts_release(struct queues *q);
/* The connection wants the next attempt; NULL: none. */
struct attempt *host_next(struct queue_client *client);
/* What became of an attempt, as its client knows. */
void host_attempt_ended(struct attempt *attempt, const unsigned *heard, unsigned outcome);
void host_client_ended(struct queue_client *client);
/* All have their answers that must get one. */
bool hosts_are_settled(struct queues *q);
bool hosts_are_idle(const struct queues *q); /* no connection of theirs is open */

/* queue_client.c: one connection of a host */
struct client_manner {
    unsigned host;
    struct mail *mail; /* to begin with */
    unsigned boxes;    /* bits: what is left to be sent of it */
    bool lockstep;
    bool quits_behind; /* QUIT goes with the last end of data */
    bool hurries;      /* and nobody waits for its answer */
    uint64_t patience; /* milliseconds for an answer to end of data; half of it elsewhere */
    uint64_t seed;
};
struct queue_client *queue_client_new(struct queues *q, const struct client_manner *manner);
void queue_client_free(struct queue_client *client);
struct client_manner *queue_client_manner(struct queue_client *client);
/* The attempt whose message is under way on this connection. */
struct attempt *queue_client_attempt(struct queue_client *client);
/* Whether splitmx has closed its end, or could know that the client has gone. */
bool queue_client_is_closed(const struct queue_client *client);

/* queue_server.c: upstreams */
void queue_service_accept(struct link *link, struct server *server);
struct queue_service_view {
    struct link *link;
    bool end_written;
    bool odd;
};
struct queue_service_view queue_service_look(const struct queue_service *service);

/* queue_books.c: the oracle */
struct attempt *books_begin(struct queues *q, struct queue_client *client, struct mail *mail,
                            unsigned boxes);
void books_rcpt_said(struct attempt *attempt, unsigned index, unsigned code, struct span reply);
void books_outcome(struct attempt *attempt, unsigned code, struct span reply, bool of_data);
void books_over(struct attempt *attempt); /* nobody will hear of it */
void books_leg(struct attempt *attempt, struct queue_service *service);
struct commit *books_end_written(struct attempt *attempt, struct queue_service *service);
/* splitmx has been shown the whole answer to an end of data (a struct commit). */
void books_answered(void *commit);
/* There will be none. */
void books_unanswered(struct commit *commit);
struct copy *books_copy(struct attempt *attempt, unsigned boxes, bool odd);
/* A crash, and what it has lost: changes from this step on (UINT64_MAX: none). */
void books_crashed(struct queues *q);
void books_lost(struct queues *q, uint64_t lost);
void books_wall_jumps(struct queues *q); /* is about to */
void books_check(struct queues *q);
void books_release(struct queues *q);
const char *books_cause(enum cause cause);

#endif
