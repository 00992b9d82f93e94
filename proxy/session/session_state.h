/*
 * session_state: what the files of a session share, and nobody else includes: session_begin.c (up
 * to the greeting), session.c (its life, and what it reads), session_command.c (what each command
 * does) and session_told.c (told what is on record).
 */
#ifndef SPLITMX_PROXY_SESSION_SESSION_STATE_H
#define SPLITMX_PROXY_SESSION_SESSION_STATE_H

#include "proxy/session/policy.h"
#include "proxy/session/quota.h"
#include "proxy/session/session.h"
#include "proxy/session/transaction.h"
#include "proxy/wire/server.h"

struct session {
    struct world *world;
    struct conn *conn; /* NULL once closed; the session may outlive it for a commit under way */
    enum server_state state;
    enum config_listen_tls tls; /* what its listener offers */
    struct client_view view;    /* what others may know of the client */
    char id[20];
    char *helo;
    char *name, *reverse_name;
    struct resolution *lookup; /* of the name, under way */
    struct line_reader lines;
    char *rcpt_path; /* of the RCPT that SERVER_NAME holds back */
    struct transaction *transaction;
    struct transaction *told; /* what is on record, and may not have read it yet */
    bool told_last;           /* nothing had arrived behind its message when it was answered */
    uint64_t leave_by;
    bool unwanted;           /* no more of the message is read for now */
    uint64_t window_octets;  /* of the message, in the window under way */
    uint64_t window_left;    /* of it when reading stopped, milliseconds */
    struct server_step quit; /* the answer that QUIT is owed; code 0: none */
    unsigned transactions;
    unsigned errors;
    unsigned idle_commands; /* since the last message: NOOP, RSET and the like */
    quota_cell cell;
    bool counted;
    bool eof;
    bool pumping;
    struct timer timer;
    struct session *next, *previous;
    struct deferred deferred;
};

/* The only place that changes the state; the time a state may last belongs to it. */
void session_set_state(struct session *s, enum server_state next);

/* Replies; `plain`: no enhanced code (RFC 2034: greeting, EHLO, 354). */
void session_write(struct session *s, const struct reply *reply, bool plain);
void session_say(struct session *s, unsigned code, const char *enhanced, const char *text);

void session_drop_transaction(struct session *s);
/* The session is over but for a commit under way, whose outcome it still waits for. */
void session_close(struct session *s, enum conn_close how);
/* All is said: the session ends, once the client may be taken to have read what the ledger told. */
void session_leave(struct session *s);
/* The last words of a session that is not going on. */
void session_dismiss(struct session *s, unsigned code, const char *enhanced, const char *text,
                     const char *event);

void session_wait(struct session *s, uint64_t milliseconds);

/* How often we look whether a client has left, milliseconds. */
#define SESSION_LEAVE_RECHECK 10

/* session_told.c: the transaction's acceptance is on record; a command has come; all that had
 * arrived is read; has it left. */
void session_told_keep(struct session *s);
void session_told_forget(struct session *s);
void session_told_command(struct session *s);
void session_told_silence(struct session *s);
void session_look_left(struct session *s);

/* session_begin.c: takes what there is of the PROXY header; false: more is needed. */
bool session_read_proxy(struct session *s, struct span input);
/* False once a reload has taken the certificates away from a session that was promised TLS. */
bool session_can_tls(const struct session *s);
/* The TLS handshake: as the listener has it from the first byte, or after STARTTLS. */
void session_start_tls(struct session *s);
void session_is_secure(struct session *s);
void session_is_insecure(struct session *s);

/* session.c: events of the connection; the client's name has been looked up; a state's time is
 * over. */
void session_on_conn(void *owner, enum conn_event event);
void session_on_name(void *owner, const struct resolver_name *name);
void session_on_due(void *owner);
/* Frees it, once the stack has unwound. */
void session_free(struct deferred *deferred);
/* Reads on as far as the state allows. */
void session_pump(struct session *s);

/* session.c: what becomes of the transaction. */
void session_on_transaction(void *owner, const struct transaction_event *event);

/* session_command.c: one line, without its end. `pipelined`: more has arrived behind it. */
void session_command(struct session *s, struct span line, bool pipelined);
/* The RCPT that was held back until the client's name was known, or is not going to be. */
void session_ask_held(struct session *s);

#endif
