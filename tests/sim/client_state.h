/*
 * client_state: what the files of a client share, and nobody else includes: client.c (its life,
 * sending, answers), script.c (what it is going to do) and client_begin.c (the PROXY header and
 * TLS).
 */
#ifndef SPLITMX_TESTS_SIM_CLIENT_STATE_H
#define SPLITMX_TESTS_SIM_CLIENT_STATE_H

#include "config/config.h"
#include "proxy/session/session.h"
#include "tests/sim/client.h"
#include "tests/sim/message.h"

enum op_kind {
    OP_HEADER,   /* PROXY's: no answer */
    OP_SHAKE,    /* a TLS handshake: done is answered */
    OP_GREETING, /* nothing is sent */
    OP_EHLO,
    OP_HELO,
    OP_STARTTLS,
    OP_TOO_SOON, /* MAIL before EHLO */
    OP_MAIL,
    OP_RCPT,
    OP_DATA,
    OP_BODY,  /* left out where DATA was refused */
    OP_CLEAN, /* RSET, left out unless DATA was refused with the transaction still open */
    OP_RSET,
    OP_NOOP,
    OP_VRFY,
    OP_QUIT,
};

struct op {
    enum op_kind kind;
    bool wait; /* for all answers before it is sent */
    bool skipped;
    struct message *message;
    unsigned number; /* of the recipient; of the name that EHLO says */
};

#define OPS_MAX 160

enum client_end {
    CLIENT_QUITS,
    CLIENT_CLOSES,
    CLIENT_RESETS,
    CLIENT_HALF_CLOSES, /* behind QUIT */
    CLIENT_FINISHES,    /* half-closes without QUIT, mostly behind an end of data */
};

/* How the connection begins at a listener that wants a PROXY header. */
enum header { HEADER_NONE, HEADER_V1, HEADER_V2, HEADER_UNKNOWN, HEADER_LOCAL };

/* What it does wrong before it is a client like others; it hears no more then. */
enum trouble {
    TROUBLE_NONE,
    TROUBLE_BAD_HEADER,
    TROUBLE_NO_HEADER,
    TROUBLE_ALERT, /* in the handshake, as are the next ones */
    TROUBLE_GOES,
    TROUBLE_SILENT,
    TROUBLE_IN_CLEAR,
    TROUBLE_PIPELINES, /* behind STARTTLS */
};

struct client {
    struct sim *sim;
    unsigned number;
    struct link *link;
    struct identity *identity;
    enum config_listen_tls listen;
    enum header header;
    enum trouble trouble;
    struct op ops[OPS_MAX];
    unsigned op_count, sent, answered;
    struct hello hello;
    bool secure;
    bool shaking;
    bool lockstep;
    enum client_end end;
    unsigned errors;   /* 5xx answers so far */
    bool heard;        /* the proxy has said something since it could */
    uint64_t heard_at; /* last */
    bool refused_data; /* the last DATA, 554: the transaction is open still */
    size_t body_at;    /* of the message that is being sent */
    bool sending;      /* a piece of a message, or the next group, is due */
    bool closed;       /* the proxy has closed its end */
    bool doomed;       /* it has done its wrong: the proxy says no more */
    bool dismissed;    /* the proxy has said that it closes */
    bool gone;
    bool done;
};

/* client.c */
void client_leaves(struct client *c, bool reset);

/* script.c */
void client_write_script(struct client *c);

/* client_begin.c */
void client_peer(const struct client *c, struct session_peer *peer);
void client_send_header(struct client *c);
void client_begin_shake(struct client *c);
/* Takes what there is of the handshake; false: no more of it is to come. */
bool client_shake(struct client *c);

#endif
