/*
 * load_session: the client's side of one SMTP session: opened, message after message, ended. Who
 * sends what and when is the owner's affair.
 *
 * Thread: the loop's. Events come from the loop, but `failed` also from load_session_open; they may
 * call everything below.
 */
#ifndef SPLITMX_TESTS_BENCH_LOAD_SESSION_H
#define SPLITMX_TESTS_BENCH_LOAD_SESSION_H

#include "tests/bench/bench_line.h"
#include "tests/bench/bench_peer.h"
#include "tests/bench/load_text.h"

struct load_session;

struct load_session_events {
    void (*ready)(struct load_session *session); /* greeted, EHLO said, encrypted if it is to be */
    void (*accepted)(struct load_session *session); /* the message; ready for the next */
    /* What went wrong, in a line of printable ASCII; gone after the call. The session is not ready
     * any more, and `closed` follows. */
    void (*failed)(struct load_session *session, const char *why);
    void (*closed)(struct load_session *session); /* may be opened again */
};

/* What all sessions have in common; counts what they do. */
struct load_world {
    struct peer_loop *loop;
    const struct load_options *options;
    const struct load_text *text;
    const struct load_session_events *events;
    const struct tls_context *tls; /* NULL without STARTTLS */
    struct tls_sessions *tickets;  /* NULL where handshakes are to be full */
    uint64_t connections, handshakes, resumed;
};

enum load_state { /* what is awaited */
                  LOAD_CLOSED,
                  LOAD_GREETING,
                  LOAD_EHLO,
                  LOAD_STARTTLS,
                  LOAD_HANDSHAKE,
                  LOAD_READY, /* nothing: there is no message */
                  LOAD_MAIL,
                  LOAD_RCPT,
                  LOAD_DATA,
                  LOAD_END, /* the reply to the end of data */
                  LOAD_QUIT,
};

struct load_session {
    struct peer peer;
    struct load_world *world;
    enum load_state state;
    size_t recipient; /* whose reply is awaited */
    bool offers_pipelining;
    bool offers_starttls;
    char number[LOAD_NUMBER];
    struct bench_line kept;
};

void load_session_init(struct load_session *session, struct load_world *world);

/* Of one that is closed. `ready` or `failed` follows. */
void load_session_open(struct load_session *session);

/* Of one that is ready. `accepted` or `failed` follows. */
void load_session_send(struct load_session *session, uint64_t number);

/* Says QUIT where it is ready, else just ends. `closed` follows. */
void load_session_quit(struct load_session *session);

#endif
