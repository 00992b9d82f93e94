/*
 * Connections, what goes out: collected during a turn of the loop and tried by one send; what the
 * kernel does not take waits in a block until libuv has written it.
 */
#include <errno.h>
#include <linux/sockios.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "proxy/net/conn_state.h"

/* Writes from this size on are tried at once, without being copied first. Less than that is cheaper
 * to copy than to write by itself: most messages leave in one piece with what ends them. */
#define WRITE_THROUGH (16 * 1024)

static void on_written(uv_write_t *req, int status)
{
    struct net_conn *c = req->handle->data;
    spare_free(c->writing);
    c->writing = NULL;
    c->is_writing = false;
    if (c->is_closing) {
        return;
    }
    net_enter(c->net);
    if (status < 0) {
        conn_lose(c, status);
        return;
    }
    conn_flush(c);
    if (c->is_writing || c->tell_lost) {
        return;
    }
    if (c->is_flushing) {
        conn_finish(c);
    } else {
        c->conn.on_event(c->conn.owner, CONN_WRITABLE);
    }
}

/* What the kernel did not take is handed to libuv as it is; a new block begins. */
static void conn_write_rest(struct net_conn *c, size_t taken)
{
    uv_buf_t rest = uv_buf_init(c->out + taken, (unsigned)(c->out_len - taken));
    c->writing = c->out;
    c->out = NULL;
    c->out_len = c->out_cap = 0;
    c->is_writing = true;
    int error = uv_write(&c->write, &c->stream, &rest, 1, on_written);
    if (error != 0) {
        c->is_writing = false;
        conn_lose(c, error);
    }
}

/*
 * What the kernel takes now, or an error of libuv's. `more` follows at once: so the kernel may hold
 * it to send both in one segment. (uv_try_write cannot say that, and write(2) costs more.)
 */
static ssize_t conn_send(const struct net_conn *c, struct span bytes, bool more)
{
    int flags = MSG_DONTWAIT | MSG_NOSIGNAL | (more ? MSG_MORE : 0);
    ssize_t n = send(conn_fd(c), bytes.ptr, bytes.len, flags);
    return n >= 0 ? n : uv_translate_sys_error(errno);
}

/* All of it is taken: an idle connection holds no block. */
static void out_release(struct net_conn *c)
{
    spare_free(c->out);
    c->out = NULL;
    c->out_len = c->out_cap = 0;
}

void conn_flush(struct net_conn *c)
{
    conn_tls_seal(c);
    if (c->out_len == 0 || c->is_writing || !c->is_connected || c->is_closing || c->tell_lost) {
        return;
    }
    /* Our last words leave with the FIN. */
    ssize_t n = conn_send(c, span_make(c->out, c->out_len), c->is_flushing);
    if (n < 0 && n != UV_EAGAIN) {
        conn_lose(c, (int)n);
        return;
    }
    size_t taken = n > 0 ? (size_t)n : 0;
    if (taken < c->out_len) {
        conn_write_rest(c, taken);
        return;
    }
    out_release(c);
}

/* Room for so many more bytes; false when memory is short. */
static bool conn_grow(struct net_conn *c, size_t more)
{
    const size_t wanted = c->out_len + more;
    size_t cap = c->out_cap < 512 ? 512 : c->out_cap;
    if (wanted <= c->out_cap) {
        return true;
    }
    while (cap < wanted) { /* by doubling, but for what waits for a slow peer */
        cap = cap < WRITE_THROUGH ? cap * 2 : wanted;
    }
    char *grown = spare_take(&c->net->world.spares, cap);
    if (grown == NULL) {
        return false;
    }
    if (c->out_len != 0) {
        memcpy(grown, c->out, c->out_len);
    }
    spare_free(c->out);
    c->out = grown;
    c->out_cap = cap;
    return true;
}

/* Without memory to keep them in: whether the kernel takes all of them at once, as it takes most
 * words. An answer that is owed does not get lost for want of memory. */
static bool conn_write_now(struct net_conn *c, struct span bytes)
{
    conn_flush(c);
    return c->is_connected && !c->is_writing && !c->tell_lost &&
           conn_send(c, bytes, false) == (ssize_t)bytes.len;
}

bool conn_queue(struct net_conn *c, struct span bytes)
{
    conn_activate(c);
    if (!conn_grow(c, bytes.len)) {
        return conn_write_now(c, bytes);
    }
    memcpy(c->out + c->out_len, bytes.ptr, bytes.len);
    c->out_len += bytes.len;
    return true;
}

/* Large writes, behind what is collected: without a copy of what is taken. Returns what is left. */
static struct span conn_write_through(struct net_conn *c, struct span bytes)
{
    if (c->out_len != 0) {
        ssize_t n = conn_send(c, span_make(c->out, c->out_len), true);
        size_t taken = n > 0 ? (size_t)n : 0;
        c->out_len -= taken;
        if (c->out_len != 0) { /* other errors come back at the flush */
            memmove(c->out, c->out + taken, c->out_len);
            return bytes;
        }
        out_release(c);
    }
    ssize_t n = conn_send(c, bytes, false);
    return n > 0 ? span_skip(bytes, (size_t)n) : bytes;
}

void conn_write(struct conn *conn, struct span bytes)
{
    struct net_conn *c = net_conn_of(conn);
    if (c->tell_lost || c->is_closing) {
        return;
    }
    if (c->tls != NULL) {
        conn_tls_write(c, bytes);
        return;
    }
    if (bytes.len >= WRITE_THROUGH && !c->is_writing && c->is_connected) {
        bytes = conn_write_through(c, bytes);
    }
    if (bytes.len != 0 && !conn_queue(c, bytes)) {
        conn_lose(c, UV_ENOMEM);
    }
}

size_t conn_in_flight(struct conn *conn)
{
    int bytes = 0;
    if (ioctl(conn_fd(net_conn_of(conn)), SIOCOUTQ, &bytes) != 0) {
        return 0;
    }
    return (size_t)bytes;
}

size_t conn_queued(struct conn *conn)
{
    const struct net_conn *c = net_conn_of(conn);
    return conn_tls_gathered(c) + c->out_len + uv_stream_get_write_queue_size(&c->stream);
}

size_t conn_unsent(struct conn *conn)
{
    struct net_conn *c = net_conn_of(conn);
    conn_flush(c);
    if (c->tell_lost) {
        return 1; /* what was dropped was not taken, so nobody may think that all was */
    }
    return conn_queued(conn);
}
