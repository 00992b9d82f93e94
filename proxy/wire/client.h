/*
 * client: the SMTP client side as one state table (RFC 5321 3; design: sections 5 and 6). Pure.
 *
 * States are waits: what the upstream owes us next. The table is total: every state and event have
 * a next step. proxy/session/upstream carries the steps out.
 */
#ifndef SPLITMX_PROXY_WIRE_CLIENT_H
#define SPLITMX_PROXY_WIRE_CLIENT_H

#include "proxy/wire/reply.h"

enum client_state {
    CLIENT_CONNECT, /* the connection itself */
    CLIENT_GREETING,
    CLIENT_EHLO,
    CLIENT_HELO, /* EHLO was not understood */
    CLIENT_STARTTLS,
    CLIENT_TLS,        /* the handshake */
    CLIENT_XCLIENT,    /* reply to a line of XCLIENT */
    CLIENT_READY,      /* owes nothing; no transaction */
    CLIENT_MAIL,       /* reply to MAIL; RCPT is sent after it */
    CLIENT_MAIL_PIPED, /* reply to MAIL; RCPT was sent behind it */
    CLIENT_VOID,       /* reply to a RCPT whose MAIL was refused */
    CLIENT_RCPT,
    CLIENT_OPEN, /* owes nothing; a transaction is open */
    CLIENT_DATA,
    CLIENT_BODY, /* owes nothing; takes the message */
    CLIENT_END,  /* reply to end-of-data */
    CLIENT_RSET,
    CLIENT_QUIT, /* its end, and until then perhaps the reply to QUIT */
    CLIENT_CLOSED,
    CLIENT_STATES
};

enum client_event {
    CLIENT_ON_OPEN,     /* the connection is established */
    CLIENT_ON_SECURE,   /* the TLS handshake is done */
    CLIENT_ON_INSECURE, /* it has failed */
    CLIENT_ON_2XX,
    CLIENT_ON_3XX,
    CLIENT_ON_4XX,
    CLIENT_ON_421,
    CLIENT_ON_5XX,
    CLIENT_ON_BAD,  /* not a reply, or over its limits */
    CLIENT_ON_LOST, /* end of file, reset, refused */
    CLIENT_ON_LATE, /* the wait's time is over */
    CLIENT_EVENTS
};

enum client_action {
    CLIENT_DO_NOTHING,
    CLIENT_DO_INTRODUCE, /* the PROXY header, where the identity goes by it */
    CLIENT_DO_EHLO,      /* send EHLO */
    CLIENT_DO_HELO,      /* send HELO */
    CLIENT_DO_NEXT,      /* what comes before a transaction: STARTTLS, identity, or nothing more */
    CLIENT_DO_TLS,       /* begin the handshake */
    CLIENT_DO_CLEAR,     /* STARTTLS was refused: in clear text then, where the policy has it so */
    CLIENT_DO_XCLIENT,   /* the next line of XCLIENT; behind the last one EHLO anew */
    CLIENT_DO_NO_IDENTITY, /* XCLIENT was refused (design: section 5, identity) */
    CLIENT_DO_READY,       /* tell the owner that a transaction can begin */
    CLIENT_DO_RCPT,        /* send the RCPT that waited for its MAIL */
    CLIENT_DO_KEEP,   /* keep the refusal of MAIL; the answer to the piped RCPT is still to come */
    CLIENT_DO_ANSWER, /* the reply is the answer to what was asked */
    CLIENT_DO_ANSWER_KEPT, /* the kept refusal is */
    CLIENT_DO_ANSWER_LAST, /* as ANSWER; the upstream is closing (421) */
    CLIENT_DO_UNAVAILABLE, /* design: section 6 */
    CLIENT_DO_REFUSED,     /* answered, but not so as to count as unavailable */
    CLIENT_DO_LEAVE,       /* QUIT was said and heard: close in order */
    CLIENT_DO_LOST,        /* lost while something was owed, or out of order */
};

struct client_step {
    enum client_action action;
    enum client_state next;
};

struct client_step client_step(enum client_state state, enum client_event event);

/* The event that a reply is. */
enum client_event client_event_of(const struct reply *reply);

/* "connecting", "the greeting", …: for "lost while waiting for …". */
const char *client_state_name(enum client_state state);
const char *client_waiting_for(enum client_state state);

/* What an EHLO reply offers. */
struct client_offer {
    bool pipelining, size, eight_bit, starttls, smtputf8, enhanced;
    unsigned xclient; /* the attributes that it takes, a set of XCLIENT_BIT; 0: none */
};

/* Takes one line of an EHLO reply (the keyword line behind "250-"). */
void client_offer_line(struct client_offer *offer, struct span line);

#endif
