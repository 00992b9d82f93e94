/*
 * message: the oracle. One message is one transaction of a client; what each upstream will say to
 * it is settled when it is made, so what has to come of it is known, and every reply, every copy
 * and every end-of-data is held against that.
 */
#ifndef SPLITMX_TESTS_SIM_MESSAGE_H
#define SPLITMX_TESTS_SIM_MESSAGE_H

#include "tests/sim/identity.h"
#include "tests/sim/net.h"
#include "tests/sim/upstreams.h"

#define MESSAGE_RCPTS 14
#define REPLY_LINE    600

/* What an upstream says at one stage. */
enum fate {
    FATE_YES,
    FATE_YES_PLAIN, /* without an enhanced code */
    FATE_YES_LINES, /* in two lines */
    FATE_LATER,     /* 4xx */
    FATE_LATER_PLAIN,
    FATE_NO, /* 5xx */
    FATE_NO_PLAIN,
    FATE_NO_LINES,
    FATE_BLAME,   /* 503: we are wrong, it says */
    FATE_FULL,    /* 552 */
    FATE_CLOSING, /* 421, and it closes */
    FATE_SLOWER,  /* 421 4.7.28, and it closes */
    FATES
};

enum stage { STAGE_MAIL, STAGE_RCPT, STAGE_DATA, STAGE_END };

enum rcpt_kind { RCPT_RELAY, RCPT_ERROR, RCPT_RETRY, RCPT_DISCARD };

struct rcpt {
    enum rcpt_kind kind;
    unsigned relay, domain;
    enum fate fate[WAYS];
    bool answered[WAYS]; /* by an upstream */
    uint64_t sent_at;    /* by the client */
    bool accepted;       /* the client has its 2xx */
    enum way way;        /* how it came to who accepted it */
    unsigned delivered;  /* copies that an upstream has answered 2xx for */
};

/* A leg as it has to be. */
struct message_leg {
    bool made, open;
    bool asked;        /* something has come of opening it */
    bool broken;       /* its connection ended with a 421 to a recipient */
    bool absent;       /* it was not opened, as its relay is unavailable */
    bool final;        /* and that is the answer to those who ask it again */
    bool busy;         /* or that its relay is too busy */
    bool slowed;       /* not opened, or not again, as its relay wants less */
    bool hushed;       /* it was told so itself */
    unsigned accepted; /* recipients */
    enum fate data, end;
    struct link *link; /* that carries the message; NULL before DATA and after the end */
    bool go;           /* its 354 was sent */
    bool end_written;  /* the proxy has written end-of-data */
    bool answered;     /* and its upstream has answered */
    unsigned copies;   /* answered 2xx */
    bool wanted;       /* the outcome says that there is a copy */
};

enum ending {
    ENDING_DATA,       /* the whole message */
    ENDING_RSET,       /* given up before DATA */
    ENDING_BODY_RESET, /* the client goes in mid-body */
    ENDING_BODY_CLOSE,
    ENDING_END_RESET,     /* the client goes behind its end of data */
    ENDING_END_FIN_RESET, /* it half-closes behind it, and goes then */
};

struct message {
    struct sim *sim;
    unsigned id;
    const bool *client_closed; /* the proxy has closed its client's connection, or could know that
                                  the client has reset it */
    struct identity *identity; /* of its client */
    struct hello hello;        /* when it said MAIL */
    uint64_t asked_at;         /* when the recipient at hand was asked for, at the latest */
    unsigned contexts;         /* that were in force then */
    bool must_encrypt;         /* its client is to be told so */
    bool marked;               /* it carries our own mark of a detour */
    bool circles;              /* and more hops than are allowed */
    bool null_sender, says_size, says_8bit;
    enum ending ending;
    size_t size;        /* unstuffed */
    bool dirty;         /* a bare LF in it */
    struct buffer body; /* wire form, without the terminator */
    struct rcpt rcpts[MESSAGE_RCPTS];
    unsigned rcpt_count;
    enum fate mail[SIM_RELAYS];
    bool slowed[SIM_RELAYS]; /* an upstream has said 421 4.7.28 to it */
    struct message_leg legs[SIM_LEGS];
    unsigned order[SIM_LEGS], leg_count; /* in the order of their first recipients */
    unsigned accepted;                   /* recipients, discarded ones among them */
    bool mail_ok;                        /* the proxy took MAIL */
    bool end_sent;                       /* the client has sent its end of data */
    bool begun;                          /* the client had 354 */
    bool cut;      /* settled by the loss of an upstream: the first commits may stand */
    bool settled;  /* and the outcome */
    unsigned code; /* of the outcome */
};

struct message *message_new(struct sim *sim, unsigned id, struct identity *identity,
                            const bool *client_closed);
void message_free(struct message *message);

/* ---- what upstreams say ---- */

#define SAYS_BUSY       "421 4.3.2 too busy"
#define SAYS_NO_SERVICE "554 5.3.2 no service here"

bool fate_is_yes(enum fate fate);
/* The reply as the upstream sends it; `number` is that of the recipient (and its way, in hundreds),
 * of the relay, or of the leg. */
struct span message_says(const struct message *message, enum stage stage, unsigned number,
                         enum fate fate, char *out);
/* And as it reaches the client. */
struct span message_passes(const struct message *message, enum stage stage, enum way way,
                           unsigned number, enum fate fate, char *out);
/* Any line of an upstream's with an enhanced code, as it reaches the client. */
struct span line_passes(enum way way, const char *line, char *out);

/* As one of several upstreams that decided for all: 451 4.3.0 with its words. */
struct span message_passes_joint(const struct message *message, enum stage stage, unsigned leg,
                                 enum fate fate, char *out);
/* All of several accepted: the words of each, in the order of commit. */
struct span message_accepts_joint(const struct message *message, const unsigned *turn,
                                  unsigned count, char *out);

/* ---- legs ---- */

/* Where a recipient goes that goes this way. */
unsigned message_relay_of(const struct message *message, const struct rcpt *rcpt, enum way way);
unsigned message_leg_of(const struct message *message, const struct rcpt *rcpt, enum way way);
static inline unsigned leg_relay_number(unsigned leg)
{
    return leg / LEG_DOMAINS % SIM_RELAYS;
}
static inline enum way leg_way(unsigned leg)
{
    return (enum way)(leg / LEG_DOMAINS / SIM_RELAYS);
}
/* Those that carry the message, in the order of commit: those nearby last. */
unsigned message_turns(const struct message *message, unsigned *turn);

/* ---- reach.c: whether a relay can be used ---- */

enum reach { REACH_YES, REACH_NO, REACH_PERHAPS };

/* Between when the recipient was sent and now. */
enum reach message_reach(const struct message *message, const struct rcpt *rcpt, unsigned relay);
/* The proxy's answer that it cannot be. */
bool message_says_absent(const struct message *message, unsigned relay, enum way way,
                         struct span reply);
/* The proxy's answer that it wants less, which it had said. */
bool message_says_slowed(const struct message *message, unsigned relay, struct span reply);
/* At DATA: of a leg that has to be opened again. */
bool message_says_gone(const struct message *message, unsigned leg, struct span reply);
/* A server that is too busy, and was spoken to in a client's name, has said so to that client. */
bool message_says_busy(const struct message *message, unsigned relay, enum way way, uint64_t since,
                       struct span reply);
/* Whether it took so long that there was no time for another. */
bool message_is_late(const struct message *message, const struct rcpt *rcpt, unsigned relay);
/* Answers of the proxy that every place at an upstream is taken, and that say an upstream was lost:
 * right where few are allowed, or some are. */
bool message_names(const struct message *message, unsigned relay, struct span reply);
bool is_crowded(const struct message *message, struct span reply);
bool is_loss(const struct message *message, struct span reply);

/* How a recipient that has come to this relay came there; it must have been right. */
enum way message_came_by(struct message *message, unsigned number, unsigned relay);

/* ---- what the client sends, and what it has to be answered ---- */

struct span message_mail_line(const struct message *message, bool size, bool eight_bit, char *out);
struct span message_rcpt_path(const struct message *message, unsigned number, char *out);
void message_expect_mail(struct message *message, struct span reply);
void message_expect_rcpt(struct message *message, unsigned number, struct span reply);
void message_expect_data(struct message *message, struct span reply);
void message_expect_outcome(struct message *message, struct span reply);
/* Whether it is sent to nobody, whatever the upstreams would say: dirty, too big, in circles. */
bool message_is_refused(const struct message *message);
bool message_is_split(const struct message *message);

/* ---- what upstreams see ---- */

struct message *message_of_sender(struct sim *sim, struct span path);
struct message *message_of_rcpt(struct sim *sim, struct span path, unsigned *number);
void message_may_begin(struct message *message); /* 354 is being written to its client */
void message_end_written(struct message *message, unsigned leg);
void message_check_field(struct message *message, unsigned leg, struct span field);

void message_expect(const struct message *message, const char *what, struct span reply,
                    struct span expected);

/* When all is over: every copy there has to be is there, and no other. */
void message_check(struct message *message);

#endif
