/*
 * server: the SMTP server side as one state table (RFC 5321 3, 4.1.4; design: section 9). Pure.
 *
 * States are waits. In SERVER_HELO, SERVER_READY and SERVER_ENVELOPE the client owes us a command;
 * in the others we owe it a reply (or it owes us the message) and no command is read, so that
 * pipelined commands are answered in order.
 */
#ifndef SPLITMX_PROXY_WIRE_SERVER_H
#define SPLITMX_PROXY_WIRE_SERVER_H

#include "proxy/wire/command.h"
#include "proxy/wire/reply.h"

enum server_state {
    SERVER_PROXY,    /* the header of the PROXY protocol, in front of everything */
    SERVER_TLS,      /* the TLS handshake */
    SERVER_HELO,     /* a command; the client has not said who it is */
    SERVER_READY,    /* a command; no transaction */
    SERVER_ENVELOPE, /* a command; MAIL was given */
    SERVER_NAME,     /* our look-up of the client's name, wanted before its first RCPT */
    SERVER_RCPT,     /* the outcome of a RCPT */
    SERVER_DATA,     /* the legs' 354 */
    SERVER_BODY,     /* the client's message */
    SERVER_OUTCOME,  /* the transaction's outcome */
    SERVER_LEAVING,  /* the client's having read the last answers; all is said */
    SERVER_CLOSED,
    SERVER_STATES
};

enum server_action {
    SERVER_DO_HOLD, /* no command is read in this state */
    SERVER_DO_SAY,  /* the step's fixed reply */
    SERVER_DO_HELO,
    SERVER_DO_EHLO,
    SERVER_DO_STARTTLS,
    SERVER_DO_MAIL,
    SERVER_DO_RCPT,
    SERVER_DO_DATA,
    SERVER_DO_RSET,
    SERVER_DO_QUIT, /* the fixed reply, then close */
    SERVER_DO_DROP, /* likewise, for clients that are no mail clients */
};

struct server_step {
    enum server_action action;
    unsigned code;
    const char *enhanced;
    const char *text;
};

struct server_step server_step(enum server_state state, enum command_verb verb);

const char *server_state_name(enum server_state state);
/* For "timed out while …". */
const char *server_while(enum server_state state);

#endif
