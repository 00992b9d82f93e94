/*
 * doctor_call: one conversation of `splitmx doctor`, or of `route --probe`, with a mail server:
 * connects as the daemon would, perhaps asks about recipients (MAIL FROM:<>, RCPT, RSET), and
 * leaves. It never says DATA.
 */
#ifndef SPLITMX_PROXY_CLI_DOCTOR_CALL_H
#define SPLITMX_PROXY_CLI_DOCTOR_CALL_H

#include "proxy/session/upstream.h"

#define CALL_TIME       25000 /* milliseconds for all of it, or `timeouts: recipient` if that is less */
#define CALLS_AT_ONCE   32
#define CALL_RECIPIENTS 21

/* Whom we claim to speak for where the identity goes with us: a documentation address (RFC 5737),
 * which no mail server has reason to trust. */
#define CALL_STRANGER "192.0.2.1"

struct doctor;
struct check;

/* Conversations that wait for one under way to end. */
struct call_queue {
    struct call *first, **last;
    struct call *running;
    unsigned count;
    bool closed; /* out of time */
};

struct call_wish {
    struct net_address address;
    enum config_relay_tls tls;
    const char *ca_file; /* may be NULL; as the relay has it */
    const char *tls_name;
    enum config_identity identity;
    const char *const *recipients; /* these two outlive the call */
    size_t recipient_count;
    bool smtputf8; /* MAIL says so */
};

enum call_end {
    CALL_NOT_BEGUN,
    CALL_DONE,        /* a transaction could begin, or did */
    CALL_UNAVAILABLE, /* as are the following: `why` */
    CALL_REFUSED,
    CALL_TURNED_AWAY, /* the stranger, not us */
    CALL_NO_IDENTITY,
    CALL_OUT_OF_TIME, /* ours, which tells nothing of the server */
};

struct call_answer {
    unsigned code;
    char enhanced[REPLY_ENHANCED];
    char words[512]; /* "550 5.1.1 no such user", lines in one */
};

struct call {
    struct check *check; /* held until the end */
    struct call_wish wish;
    struct call *next, **link; /* in the queue, or among those running */
    struct doctor *doctor;
    struct upstream *upstream; /* NULL: none */
    struct timer timer;
    struct client_view stranger;
    bool in_clear; /* TLS failed once, where it need not be */

    /* What came of it. */
    enum call_end end;
    bool tls_at_fault; /* UNAVAILABLE for that alone */
    unsigned code;     /* TURNED_AWAY: of the reply */
    char why[512];     /* also when a conversation that was DONE broke off; else "" */
    char tls_why[512]; /* why it went on in clear text; else "" */
    char tls[64];      /* version and cipher; "" in clear text */
    char name[256];    /* as it calls itself in its answer to EHLO */
    struct client_offer offer;
    bool mail_refused; /* answers[0] is the answer to MAIL */
    size_t answered;
    struct call_answer answers[CALL_RECIPIENTS];
};

void call_queue_init(struct call_queue *queue);
/* The call is zeroed, or over; check_release(check) follows. */
void call_begin(struct call *call, struct check *check, const struct call_wish *wish);
/* No more time: ends all that is under way and all that is begun from now on. */
void call_queue_close(struct call_queue *queue);

#endif
