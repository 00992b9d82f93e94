/*
 * bench_peer: one connection of the load generator or of the sink, over libuv, in clear text or
 * TLS.
 *
 * Made to cost little, for it shares the processors with what is measured: all read into one
 * buffer, what is sent is not copied, and is written at once where the kernel takes it.
 *
 * Everything belongs to the loop's one thread. No event comes from inside a call of this header.
 */
#ifndef SPLITMX_TESTS_BENCH_PEER_H
#define SPLITMX_TESTS_BENCH_PEER_H

#include <uv.h>

#include "config/net_address.h"
#include "tls/sessions.h"
#include "tls/stream.h"

#define PEER_INPUT  ((size_t)64 * 1024) /* read at once at most */
#define PEER_PIECES 16                  /* put and not yet taken by the kernel */

/* The loop, and the buffers of whichever connection has its turn. */
struct peer_loop {
    uv_loop_t uv;
    size_t cipher_len;
    char input[PEER_INPUT];
    char plain[PEER_INPUT + TLS_STREAM_ROOM];
    char gathered[PEER_INPUT];
    char cipher[2 * PEER_INPUT];
};

struct peer;

struct peer_events {
    void (*opened)(struct peer *peer);  /* of peer_connect; may be NULL */
    void (*secured)(struct peer *peer); /* the handshake that peer_secure began is complete */
    void (*bytes)(struct peer *peer, struct span bytes); /* clear text; gone after the call */
    /* The connection is no use any more; it closes itself. `why` is gone after the call. */
    void (*lost)(struct peer *peer, const char *why);
    void (*closed)(struct peer *peer); /* the last: its memory is the owner's again */
};

struct peer {
    union {
        uv_tcp_t tcp;
        uv_stream_t stream;
        uv_handle_t handle;
    };
    uv_connect_t connecting;
    uv_write_t write;
    struct peer_loop *loop;
    const struct peer_events *events;
    void *owner;
    struct tls_stream *tls; /* NULL: clear text */
    size_t budget;          /* bytes that may be read until more are allowed */
    unsigned writing;       /* writes that the loop has yet to end */
    bool secure;            /* the handshake is complete */
    bool closing;
    unsigned count; /* of the pieces */
    uv_buf_t pieces[PEER_PIECES];
};

/* NULL, said on standard error, when memory or descriptors are short. */
struct peer_loop *peer_loop_new(void);
/* After all that was opened on it has been closed, and uv_run has returned. */
void peer_loop_free(struct peer_loop *loop);

/* As many descriptors as the system lets this process have. */
void peer_raise_descriptors(void);

/* Both give 0, or an error of libuv's; then nothing but `closed` follows, of peer_close. */
int peer_connect(struct peer *peer, struct peer_loop *loop, const struct net_address *address,
                 const struct peer_events *events, void *owner);
int peer_accept(struct peer *peer, struct peer_loop *loop, uv_stream_t *listener,
                const struct peer_events *events, void *owner);

/* Anew after `closed` only. Unsent bytes are lost. Again: nothing happens. */
void peer_close(struct peer *peer);

/*
 * Puts bytes to be sent, by reference: they must stay as they are until the peer has answered them
 * or is closed. When there are too many pieces the connection breaks, as for any trouble with
 * sending: `lost` follows from the loop.
 */
void peer_put(struct peer *peer, struct span bytes);
/* Sends what was put; once at the end of an event's handling is cheapest. */
void peer_flush(struct peer *peer);

/* At most so many bytes are read until the next call; without any call, all. */
void peer_allow(struct peer *peer, size_t bytes);

/* Begins TLS on what comes next. `name` and `sessions` are for clients (tls/stream.h); `sessions`
 * may be NULL, then each handshake is a full one. */
void peer_secure(struct peer *peer, const struct tls_context *context, const char *name,
                 struct tls_sessions *sessions);

#endif
