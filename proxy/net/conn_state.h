/*
 * conn_state: what the files of a connection share, and nobody else includes: conn.c (its life, and
 * what comes in), conn_write.c (what goes out) and conn_tls.c (bytes protected).
 */
#ifndef SPLITMX_PROXY_NET_CONN_STATE_H
#define SPLITMX_PROXY_NET_CONN_STATE_H

#include "proxy/net/net.h"
#include "tls/stream.h"

struct net_conn {
    struct conn conn; /* first: what session code sees */
    struct net *net;
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    };
    union {
        uv_connect_t connect;
        uv_write_t write;
        uv_shutdown_t shutdown;
    };
    struct net_conn *next_active;
    struct span view; /* input not consumed: in the shared buffer during a read, else in `left` */
    char *left;       /* owned */
    char *out;        /* output not yet given to libuv; owned */
    size_t out_len, out_cap;
    char *writing;          /* output that libuv is writing; owned */
    struct tls_stream *tls; /* NULL in clear text; owned */
    size_t lingered;
    struct timer linger;
    bool is_active, is_pipe, is_reading, is_writing, is_connected;
    bool eof;
    bool is_unwanted;   /* what the peer sends, for now */
    bool is_last_read;  /* what a lost peer has left was read */
    int error;          /* libuv's, of the loss */
    bool is_secure;     /* the handshake is done */
    bool is_insecure;   /* it has failed */
    bool tell_lost;     /* CONN_LOST is due */
    bool tell_insecure; /* CONN_INSECURE is due */
    bool is_flushing;   /* closed by session code; ends when all is written */
    bool is_lingering;  /* all is written; the peer may read it */
    bool is_leaving;    /* counted in net->leaving */
    bool is_closing;    /* uv_close was called */
};

static inline struct net_conn *net_conn_of(struct conn *conn)
{
    return (struct net_conn *)(void *)conn;
}

int conn_fd(const struct net_conn *c);
/* There is something to do when the turn is over. */
void conn_activate(struct net_conn *c);
/* CONN_LOST is told when the turn is over. */
void conn_lose(struct net_conn *c, int error);
/* Bytes or an end are with our kernel. */
bool conn_has_arrived(const struct net_conn *c);

/* All is written: ends at once, or listens a while for the peer to read our last words. */
void conn_finish(struct net_conn *c);

/* ---- conn_write.c ---- */

void conn_write(struct conn *conn, struct span bytes);
size_t conn_queued(struct conn *conn);
size_t conn_unsent(struct conn *conn);
size_t conn_in_flight(struct conn *conn);
/* Queues bytes as they go to the kernel. False: no memory. */
bool conn_queue(struct net_conn *c, struct span bytes);
/* Writes what is queued, as far as the kernel takes it. */
void conn_flush(struct net_conn *c);

/* ---- conn_tls.c ---- */

void conn_start_tls(struct conn *conn, const struct tls_context *context, const char *name);
void conn_tell_tls(struct conn *conn, struct text *out);
const char *conn_tls_why(const struct net_conn *c);
/* What was read from the kernel, into the cipher buffer: tells events. Plain bytes go behind those
 * of the view, which is in the shared buffer. */
void conn_tls_input(struct net_conn *c, struct span cipher);
/* Gathered with what else is written in this turn, until conn_tls_seal. */
void conn_tls_write(struct net_conn *c, struct span plain);
/* Encrypts and queues what was gathered. */
void conn_tls_seal(struct net_conn *c);
/* Drops it. */
void conn_tls_forget(struct net_conn *c);
/* After the handshake: behind what was gathered, the stream's end is told to the peer. */
void conn_tls_close(struct net_conn *c);
/* Bytes. */
size_t conn_tls_gathered(const struct net_conn *c);
/* As conn_ops.pending. What comes of the bytes that have arrived is put into the view. */
bool conn_tls_pending(struct net_conn *c);

#endif
