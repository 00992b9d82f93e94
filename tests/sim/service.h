/*
 * service: one connection to an upstream server. It takes one command at a time, each after a
 * while. server.c has its life and the mail, service_greet.c what comes before that.
 */
#ifndef SPLITMX_TESTS_SIM_SERVICE_H
#define SPLITMX_TESTS_SIM_SERVICE_H

#include "tests/sim/identity.h"
#include "tests/sim/message.h"

struct service {
    struct sim *sim;
    struct server *server;
    struct link *link;
    bool closed, busy, idle_armed;
    bool hung; /* says nothing any more */
    bool used; /* has had a transaction: before that it is patient */
    unsigned events;
    uint64_t idle_since;

    bool awaits_header; /* PROXY */
    bool is_probe;      /* its header says that it comes from ourselves */
    const struct identity *proxied;
    bool shaking; /* in a TLS handshake */
    bool met;     /* its hello was answered */
    bool secure;
    char hello[300];                  /* EHLO's name; "" before, and where it has to be said anew */
    bool pipelining, size, eight_bit; /* as then offered */
    unsigned xclient;
    struct told told;
    bool introduced;               /* by XCLIENT, to the end */
    const struct message *checked; /* whose client it was found to know */

    bool mail, mail_refused;
    struct message *message;
    unsigned leg;
    bool rcpts[MESSAGE_RCPTS]; /* accepted */
    unsigned accepted;
    bool in_data;
    struct buffer field; /* what came in front of the message */
    bool in_body;
    size_t body_at;
    char last;       /* byte that the proxy wrote */
    bool end_coming; /* the proxy has written the end */
    char reply[2 * REPLY_LINE];
    bool reply_closes, reply_shakes;
    struct message_leg *settling; /* the leg whose end-of-data the reply is about */
    bool *answering;              /* set when the reply goes */
};

void service_answer(struct service *s, struct span reply);
void service_forget(struct service *s);
/* It closes, or resets, of its own accord. */
void service_leaves(struct service *s, bool reset);

/* ---- service_greet.c ---- */

void service_begin(struct service *s);
/* Takes what there is of a PROXY header or a handshake; false: commands may be taken. */
bool service_prelude(struct service *s);
/* EHLO, HELO, STARTTLS or XCLIENT; false: it is none of these. */
bool service_greets(struct service *s, struct span line);
/* Whether it may be given mail of this message, and knows whose it is. */
void service_check_client(struct service *s, const struct message *message);
/* With `tls: may` it is, unless its TLS fails. */
void service_check_protection(struct service *s);
/* The proxy is writing this. */
void service_check_clear(struct service *s, struct span bytes);

#endif
