/*
 * upstream_state: what the files of an upstream share, and nobody else includes: upstream.c (its
 * life, commands and replies), upstream_greet.c (from the connection to the first transaction) and
 * upstream_why.c (what went wrong, in words).
 */
#ifndef SPLITMX_PROXY_SESSION_UPSTREAM_STATE_H
#define SPLITMX_PROXY_SESSION_UPSTREAM_STATE_H

#include "proxy/session/policy.h"
#include "proxy/session/upstream.h"

struct upstream {
    struct world *world;
    struct conn *conn; /* NULL once closed */
    struct policy *policy;
    struct upstream_key key;
    quota_cell cell;
    enum client_state state;
    struct client_offer offer;
    struct reply_parser parser;
    struct reply reply;
    struct reply kept;     /* MAIL's refusal while the void RCPT's answer is awaited */
    struct span recipient; /* of the RCPT that waits for its MAIL */
    unsigned messages;
    const struct client_view *client; /* whom it speaks for, until it is ready; NULL: ourselves */
    char *lines;                      /* XCLIENT's, while they are sent; owned */
    size_t lines_sent;
    bool secure;       /* under TLS */
    bool tls_refused;  /* and will not be */
    bool tls_at_fault; /* for that reason it never became ready */
    bool introduced;   /* by XCLIENT */
    bool reused;
    bool spoke; /* unasked: the connection ends */
    struct timer timer;
    upstream_handler *on_event;
    void *owner;
    struct upstream_links links;
    struct deferred deferred;
};

/* The only place that changes the state; the time a state may last belongs to it. */
void upstream_set_state(struct upstream *up, enum client_state next);
void upstream_say(struct upstream *up, struct span bytes);
/* upstream_is_silent; else the connection is lost, and the owner has been told. */
bool upstream_may_speak(struct upstream *up);
/* Tells the owner, if it has one still. The owner may give the connection away meanwhile. */
void upstream_tell(struct upstream *up, struct upstream_event event);
/* The connection's last event; it is closed. */
void upstream_end_with(struct upstream *up, enum upstream_event_kind kind, enum conn_close how,
                       const char *why);

/* upstream_greet.c */
void upstream_introduce(struct upstream *up); /* the PROXY header */
void upstream_greet(struct upstream *up, const char *verb);
void upstream_next(struct upstream *up); /* what comes before READY */
void upstream_start_tls(struct upstream *up);
void upstream_go_clear(struct upstream *up);
void upstream_xclient(struct upstream *up); /* the next line */
/* What identity makes of an answer, beyond the table: whether it ends the connection, and how. */
bool upstream_identity_ends(const struct upstream *up, enum client_state was,
                            enum client_event event, enum upstream_event_kind *end);

/* upstream_why.c: before the connection is closed. */
void upstream_put_why(struct upstream *up, enum client_state was, enum client_event event,
                      struct text *out);
/* Whether the upstream owes something in this state. */
bool upstream_owes_in(enum client_state state);

#endif
