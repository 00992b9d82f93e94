/*
 * Connections, protected: what comes from the kernel goes through a TLS stream into the view, what
 * session code writes goes through it into the output.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "proxy/net/conn_state.h"

/* Read at once outside the loop's own reading; more waits for that. */
#define PENDING_READ 4096

static bool on_cipher(void *owner, struct span bytes)
{
    return conn_queue(owner, bytes);
}

/* Plain bytes behind those of the view; `into` has room for them behind it. */
static enum tls_result decrypt(struct net_conn *c, struct span *cipher, char *into, size_t room)
{
    size_t count = 0;
    enum tls_result result = tls_stream_read(c->tls, cipher, into, room, &count);
    c->view.len += count;
    return result;
}

static void offer_session(struct net_conn *c)
{
    struct sockaddr_storage peer = {0};
    socklen_t size = sizeof peer;
    if (getpeername(conn_fd(c), (struct sockaddr *)&peer, &size) == 0) {
        tls_stream_reuse(c->tls, c->net->tls_sessions, span_make((const char *)&peer, size));
    }
}

static void hand_shake_failed(struct net_conn *c)
{
    c->tell_insecure = true;
    c->conn.lacks_means = c->tls == NULL || tls_stream_lacks_memory(c->tls);
}

static void hand_shake(struct net_conn *c, struct span *cipher)
{
    switch (tls_stream_handshake(c->tls, cipher)) {
    case TLS_DONE:
        c->is_secure = true;
        break;
    case TLS_MORE:
        break;
    case TLS_CLOSED:
    case TLS_FAILED:
        hand_shake_failed(c);
        break;
    }
    conn_activate(c);
}

void conn_start_tls(struct conn *conn, const struct tls_context *context, const char *name)
{
    struct net_conn *c = net_conn_of(conn);
    struct span arrived = c->view; /* with a PROXY header, perhaps; never all of a handshake */
    c->view = (struct span){0};
    c->tls = tls_stream_new(context, name, on_cipher, c);
    if (c->tls == NULL) {
        hand_shake_failed(c);
        conn_activate(c);
        return;
    }
    if (name != NULL) {
        offer_session(c);
    }
    hand_shake(c, &arrived);
}

void conn_tell_tls(struct conn *conn, struct text *out)
{
    tls_stream_describe(net_conn_of(conn)->tls, out);
}

const char *conn_tls_why(const struct net_conn *c)
{
    return c->tls != NULL ? tls_stream_why(c->tls) : "out of memory";
}

/* The stream's end or its ruin behind what could be read. */
static void tell_end(struct net_conn *c, enum tls_result result)
{
    if (result == TLS_CLOSED && !c->eof) {
        c->eof = true;
        c->conn.on_event(c->conn.owner, CONN_EOF);
    } else if (result == TLS_FAILED) {
        conn_lose(c, tls_stream_lacks_memory(c->tls) ? UV_ENOMEM : UV_EPROTO);
    }
}

void conn_tls_input(struct net_conn *c, struct span cipher)
{
    bool was_secure = c->is_secure;
    enum tls_result result;
    size_t before = c->view.len;
    if (!was_secure) {
        hand_shake(c, &cipher);
    }
    if (!c->is_secure) {
        return;
    }
    c->view.ptr = c->net->read_buffer;
    result = decrypt(c, &cipher, c->net->read_buffer + before, NET_READ_BUFFER - before);
    if (!was_secure) {
        c->conn.on_event(c->conn.owner, CONN_SECURE);
    } else if (c->view.len > before) {
        c->conn.on_event(c->conn.owner, CONN_READABLE);
    }
    if (!c->is_closing && !c->is_flushing) {
        tell_end(c, result);
    }
}

static void encrypt(struct net_conn *c, struct span plain)
{
    if (!tls_stream_write(c->tls, plain)) {
        conn_lose(c, UV_ENOMEM);
    }
}

size_t conn_tls_gathered(const struct net_conn *c)
{
    return c->net->gathering == c ? c->net->gathered : 0;
}

void conn_tls_forget(struct net_conn *c)
{
    if (c->net->gathering == c) {
        c->net->gathering = NULL;
    }
}

void conn_tls_seal(struct net_conn *c)
{
    struct net *net = c->net;
    if (net->gathering == c) {
        net->gathering = NULL; /* first: what comes out may be flushed, which comes here again */
        encrypt(c, span_make(net->gather_buffer, net->gathered));
    }
}

/* A reply or a command is written in pieces: each a record of its own would cost more than all it
 * says. What fills a record goes into one from where it is. */
void conn_tls_write(struct net_conn *c, struct span plain)
{
    struct net *net = c->net;
    if (!c->is_secure || plain.len == 0) {
        return;
    }
    if (net->gathering != NULL && (net->gathering != c || plain.len > NET_GATHER - net->gathered)) {
        conn_tls_seal(net->gathering);
    }
    if (plain.len > NET_GATHER) {
        encrypt(c, plain);
        return;
    }
    if (net->gathering == NULL) {
        net->gathering = c;
        net->gathered = 0;
    }
    memcpy(net->gather_buffer + net->gathered, plain.ptr, plain.len);
    net->gathered += plain.len;
    conn_activate(c);
}

void conn_tls_close(struct net_conn *c)
{
    conn_tls_seal(c);
    tls_stream_close(c->tls);
}

/* Keeps what was found out of turn, so that peek shows it. */
static void keep(struct net_conn *c, struct span plain)
{
    char *grown = malloc(c->view.len + plain.len);
    if (grown == NULL) {
        conn_lose(c, UV_ENOMEM);
        return;
    }
    if (c->view.len != 0) {
        memcpy(grown, c->view.ptr, c->view.len);
    }
    memcpy(grown + c->view.len, plain.ptr, plain.len);
    c->view = span_make(grown, c->view.len + plain.len);
    free(c->left);
    c->left = grown;
}

bool conn_tls_pending(struct net_conn *c)
{
    char bytes[PENDING_READ];
    char plain[PENDING_READ + TLS_STREAM_ROOM];
    while (c->is_secure) {
        ssize_t n = recv(conn_fd(c), bytes, sizeof bytes, MSG_DONTWAIT);
        size_t count = 0;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) {
            return false;
        }
        if (n <= 0) {
            return true;
        }
        /* Session tickets and key updates come by themselves and say nothing. */
        struct span cipher = span_make(bytes, (size_t)n);
        enum tls_result result = tls_stream_read(c->tls, &cipher, plain, sizeof plain, &count);
        if (count != 0) {
            keep(c, span_make(plain, count));
        }
        if (result == TLS_FAILED && tls_stream_lacks_memory(c->tls)) {
            conn_lose(c, UV_ENOMEM);
        }
        if (count != 0 || result != TLS_MORE) {
            return true;
        }
    }
    return conn_has_arrived(c);
}
