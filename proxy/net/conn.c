/*
 * Connections over uv_tcp and uv_pipe: the `connection` of proxy/session/world.h.
 *
 * Input: every read of a loop goes into one shared buffer, behind what a connection had left over;
 * what is left after the event is kept in a block of its own. An idle connection so holds no buffer
 * at all. Output is conn_write's.
 */
#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "proxy/net/conn_state.h"

/* Beyond this a leftover is no half line but something that session code does not want now: reading
 * pauses. */
#define LEFTOVER_PAUSE 4096
/* After our last word the client is listened to this long, so that it can read it (RFC
 * 1122 4.2.2.13: a close with unread input is an RST, which may take our words with it).
 * Milliseconds and bytes. */
#define LINGER_TIME  2000
#define LINGER_BYTES (256 * 1024)
/* And this long it may take to read what is queued for it. */
#define FLUSH_TIME 10000
/* A connection that session code has closed is in no limit's count. So many of a loop are waited
 * for at once; more would be what somebody does who wants our descriptors and our memory. */
#define LEAVING_MAX 64

/* So often a connection that has more than there is room for is read before others are. */
#define READS_A_TURN 32

static const struct conn_ops conn_ops;

void conn_activate(struct net_conn *c)
{
    if (!c->is_active) {
        c->is_active = true;
        c->next_active = c->net->active;
        c->net->active = c;
    }
}

/* ---- closing ---- */

static void on_closed(uv_handle_t *handle)
{
    struct net_conn *c = handle->data;
    free(c->left);
    spare_free(c->out);
    spare_free(c->writing);
    tls_stream_free(c->tls);
    spare_free(c);
}

static void conn_end(struct net_conn *c, bool reset)
{
    if (c->is_closing) {
        return;
    }
    c->is_closing = true;
    conn_tls_forget(c);
    c->net->leaving -= c->is_leaving ? 1 : 0;
    timer_stop(&c->net->world.timers, &c->linger);
    if (c->is_active) { /* freed only after the active list has been walked: take it out now */
        struct net_conn **link = &c->net->active;
        while (*link != c) {
            link = &(*link)->next_active;
        }
        *link = c->next_active;
        c->is_active = false;
    }
    if (!reset || c->is_pipe || uv_tcp_close_reset(&c->tcp, on_closed) != 0) {
        uv_close(&c->handle, on_closed);
    }
}

static void on_linger_due(void *owner)
{
    conn_end(owner, true);
}

int conn_fd(const struct net_conn *c)
{
    uv_os_fd_t fd = -1;
    return uv_fileno(&c->handle, &fd) == 0 ? fd : -1;
}

/* What the kernel holds: 1, 0 at the end, or less with errno. */
static ssize_t look_ahead(const struct net_conn *c)
{
    char byte;
    return recv(conn_fd(c), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
}

bool conn_has_arrived(const struct net_conn *c)
{
    ssize_t n = look_ahead(c);
    return n >= 0 || (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR);
}

static bool conn_pending(struct conn *conn)
{
    struct net_conn *c = net_conn_of(conn);
    return c->tls != NULL ? conn_tls_pending(c) : conn_has_arrived(c);
}

/* libuv watches a descriptor no more that has told its end. */
static bool conn_is_reset(struct conn *conn)
{
    struct net_conn *c = net_conn_of(conn);
    struct tcp_info info;
    socklen_t size = sizeof info;
    return c->tell_lost ||
           (!c->is_pipe && getsockopt(conn_fd(c), IPPROTO_TCP, TCP_INFO, &info, &size) == 0 &&
            info.tcpi_state == TCP_CLOSE);
}

static const char *conn_why(struct conn *conn)
{
    const struct net_conn *c = net_conn_of(conn);
    if (c->error != 0) {
        return uv_strerror(c->error);
    }
    return c->is_insecure ? conn_tls_why(c) : "connection closed";
}

static void conn_read_start(struct net_conn *c);

static void on_shutdown(uv_shutdown_t *req, int status)
{
    (void)req;
    (void)status;
}

/* Bytes that nobody will read: closed over them, the kernel sends an RST. */
static bool conn_has_unread(const struct net_conn *c)
{
    return c->view.len != 0 || look_ahead(c) > 0;
}

/* False: it ends at once, whatever becomes of its last words. */
static bool conn_may_leave(struct net_conn *c)
{
    struct net *net = c->net;
    if (!c->is_leaving && net->leaving < LEAVING_MAX &&
        (unsigned)conn_fd(c) + NET_DESCRIPTORS_SPARE < net->options.descriptors) {
        c->is_leaving = true;
        net->leaving++;
    }
    return c->is_leaving;
}

void conn_finish(struct net_conn *c)
{
    if (c->is_closing || c->is_lingering) {
        return;
    }
    if (c->eof || !conn_has_unread(c) || !conn_may_leave(c)) {
        conn_end(c, false);
        return;
    }
    c->view = (struct span){0};
    if (uv_shutdown(&c->shutdown, &c->stream, on_shutdown) != 0) {
        conn_end(c, false);
        return;
    }
    c->is_lingering = true;
    timer_set(&c->net->world.timers, &c->linger, c->net->world.now + LINGER_TIME);
    conn_read_start(c);
}

/* ---- loss ---- */

/* Ours, and no fault of whom we talk to. */
static bool is_shortage(int error)
{
    return error == UV_EMFILE || error == UV_ENFILE || error == UV_ENOBUFS || error == UV_ENOMEM;
}

void conn_lose(struct net_conn *c, int error)
{
    c->error = error;
    c->conn.lacks_means = is_shortage(error);
    c->out_len = 0;
    conn_tls_forget(c);
    c->tell_lost = true;
    conn_activate(c);
}

/* ---- input ---- */

/* No room for libuv, which so says only that there is something to read (UV_ENOBUFS): the recv(2)
 * of conn_receive() costs less than the read(2) that libuv has for all that is a file. */
static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    (void)handle;
    (void)suggested;
    *buffer = uv_buf_init(NULL, 0);
}

static void conn_read_stop(struct net_conn *c)
{
    if (c->is_reading) {
        c->is_reading = false;
        uv_read_stop(&c->stream);
    }
}

/* After an event: what was not consumed moves out of the shared buffer; reading goes on or pauses.
 */
static void conn_keep_left(struct net_conn *c)
{
    char *old = c->left;
    if (c->is_closing) {
        return;
    }
    if (c->view.len == 0) {
        c->left = NULL;
        c->view = (struct span){0};
    } else {
        c->left = malloc(c->view.len);
        if (c->left == NULL) {
            c->view = (struct span){0};
            conn_lose(c, UV_ENOMEM);
        } else {
            memcpy(c->left, c->view.ptr, c->view.len);
            c->view.ptr = c->left;
        }
    }
    free(old);
    if (c->is_unwanted || c->view.len >= LEFTOVER_PAUSE) {
        conn_read_stop(c);
    }
}

static void conn_discard(struct net_conn *c, ssize_t n)
{
    if (n < 0 || (c->lingered += (size_t)n) > LINGER_BYTES) {
        conn_end(c, n >= 0);
    }
}

/* The end, or an error of libuv's. */
static void conn_input_ends(struct net_conn *c, int error)
{
    c->is_reading = false;
    uv_read_stop(&c->stream);
    c->eof = error == UV_EOF;
    c->error = c->eof ? 0 : error;
    c->conn.on_event(c->conn.owner, c->eof ? CONN_EOF : CONN_LOST);
}

static void conn_input(struct net_conn *c, struct span bytes)
{
    if (c->tls != NULL) {
        conn_tls_input(c, bytes);
    } else {
        c->view = span_make(c->net->read_buffer, c->view.len + bytes.len);
        c->conn.on_event(c->conn.owner, CONN_READABLE);
    }
    conn_keep_left(c);
}

/* In the shared buffer, behind what was left over. */
static uv_buf_t conn_room(struct net_conn *c)
{
    if (c->view.len != 0) {
        memcpy(c->net->read_buffer, c->view.ptr, c->view.len);
    }
    char *room = c->tls != NULL ? c->net->cipher_buffer : c->net->read_buffer + c->view.len;
    return uv_buf_init(room, (unsigned)(CONN_HELD - c->view.len));
}

/* The length, 0 if nothing has come, or an error of libuv's. */
static ssize_t conn_receive(const struct net_conn *c, uv_buf_t room)
{
    ssize_t n = recv(conn_fd(c), room.base, room.len, MSG_DONTWAIT);
    if (n >= 0) {
        return n > 0 ? n : UV_EOF;
    }
    return errno == EAGAIN || errno == EINTR ? 0 : uv_translate_sys_error(errno);
}

/* True: as much has come as there was room for, so more may be there. */
static bool conn_read(struct net_conn *c)
{
    const uv_buf_t room = conn_room(c);
    ssize_t n = conn_receive(c, room);
    if (n == 0) {
        return false;
    }
    net_enter(c->net);
    if (c->is_flushing) {
        conn_discard(c, n);
    } else if (n < 0) {
        conn_input_ends(c, (int)n);
    } else {
        conn_input(c, span_make(room.base, (size_t)n));
    }
    return n == (ssize_t)room.len;
}

static void on_readable(uv_stream_t *stream, ssize_t n, const uv_buf_t *none)
{
    struct net_conn *c = stream->data;
    (void)n; /* UV_ENOBUFS, for want of room: all that libuv has to say before it has read */
    (void)none;
    for (unsigned i = 0; i < READS_A_TURN && c->is_reading && !c->is_closing; i++) {
        if (!conn_read(c)) {
            break;
        }
    }
}

static void conn_read_start(struct net_conn *c)
{
    if (!c->is_reading && !c->eof && !c->is_closing) {
        int error = uv_read_start(&c->stream, on_alloc, on_readable);
        c->is_reading = error == 0;
        if (error != 0) {
            conn_lose(c, error);
        }
    }
}

static struct span conn_peek(struct conn *conn)
{
    return net_conn_of(conn)->view;
}

static void conn_consume(struct conn *conn, size_t count)
{
    struct net_conn *c = net_conn_of(conn);
    c->view = span_skip(c->view, count);
    if ((c->view.len == 0 && c->left != NULL) || !c->is_reading) {
        conn_activate(c); /* the block goes, or reading goes on, when the turn is over */
    }
}

static void conn_want(struct conn *conn, bool more)
{
    struct net_conn *c = net_conn_of(conn);
    c->is_unwanted = !more;
    if (more) {
        conn_activate(c); /* reading goes on when the turn is over */
    } else {
        conn_read_stop(c);
    }
}

static void conn_close(struct conn *conn, enum conn_close how)
{
    struct net_conn *c = net_conn_of(conn);
    if (c->is_secure && how == CONN_FLUSH && !c->tell_lost) {
        conn_tls_close(c);
    }
    c->is_flushing = true;
    if (how == CONN_RESET || c->tell_lost || !c->is_connected) {
        conn_end(c, how == CONN_RESET);
    } else {
        c->linger.on_due = on_linger_due;
        c->linger.owner = c;
        timer_set(&c->net->world.timers, &c->linger, c->net->world.now + FLUSH_TIME);
        conn_activate(c);
    }
}

static const struct conn_ops conn_ops = {
    .peek = conn_peek,
    .consume = conn_consume,
    .want = conn_want,
    .write = conn_write,
    .queued = conn_queued,
    .unsent = conn_unsent,
    .in_flight = conn_in_flight,
    .pending = conn_pending,
    .is_reset = conn_is_reset,
    .start_tls = conn_start_tls,
    .tell_tls = conn_tell_tls,
    .why = conn_why,
    .close = conn_close,
};

/* ---- a turn's end ---- */

/* A peer that closes on us in the middle of what we send may have said why: what has arrived of it
 * is read before the loss is told. */
static void conn_read_last(struct net_conn *c)
{
    if (!c->is_reading || c->is_last_read) {
        return;
    }
    c->is_last_read = true;
    const uv_buf_t room = conn_room(c);
    ssize_t n = conn_receive(c, room);
    if (n > 0) {
        conn_input(c, span_make(room.base, (size_t)n));
    }
}

static void conn_settle(struct net_conn *c)
{
    if (c->tell_lost && !c->is_flushing) {
        conn_read_last(c);
    }
    if (c->tell_lost) {
        if (c->is_flushing) {
            conn_end(c, true);
        } else {
            c->conn.on_event(c->conn.owner, CONN_LOST);
        }
        return;
    }
    conn_flush(c);
    if (c->tell_insecure && !c->is_flushing) {
        c->tell_insecure = false;
        c->is_insecure = true;
        c->conn.on_event(c->conn.owner, CONN_INSECURE);
        return;
    }
    if (c->is_flushing && c->is_writing && !conn_may_leave(c)) {
        conn_end(c, true);
        return;
    }
    if (c->is_active || c->is_writing) {
        return;
    }
    if (c->is_flushing) {
        conn_finish(c);
        return;
    }
    if (c->view.len == 0) {
        free(c->left);
        c->left = NULL;
    }
    if (c->is_connected && !c->is_unwanted && c->view.len < LEFTOVER_PAUSE) {
        conn_read_start(c);
    }
}

void net_flush(struct net *net)
{
    while (net->active != NULL) {
        struct net_conn *c = net->active;
        net->active = c->next_active;
        c->is_active = false;
        conn_settle(c);
    }
}

/* ---- beginning ---- */

static struct net_conn *conn_new(struct net *net, bool is_pipe)
{
    struct net_conn *c = spare_new(&net->world.spares, sizeof *c);
    if (c == NULL) {
        return NULL;
    }
    c->conn.ops = &conn_ops;
    c->net = net;
    c->is_pipe = is_pipe;
    if ((is_pipe ? uv_pipe_init(net->loop, &c->pipe, 0) : uv_tcp_init(net->loop, &c->tcp)) != 0) {
        spare_free(c);
        return NULL;
    }
    c->handle.data = c;
    return c;
}

static void on_connected(uv_connect_t *req, int status)
{
    struct net_conn *c = req->handle->data;
    if (c->is_closing || status == UV_ECANCELED) {
        return;
    }
    net_enter(c->net);
    if (status < 0) {
        conn_lose(c, status);
        return;
    }
    c->is_connected = true;
    if (!c->is_pipe) {
        uv_tcp_nodelay(&c->tcp, 1);
    }
    conn_read_start(c);
    c->conn.on_event(c->conn.owner, CONN_OPEN);
}

struct conn *net_connect(struct world *world, const struct net_address *address)
{
    struct net *net = (struct net *)(void *)world;
    struct net_conn *c = conn_new(net, address->any.sa_family == AF_UNIX);
    if (c == NULL) {
        return NULL;
    }
    if (c->is_pipe) {
        uv_pipe_connect(&c->connect, &c->pipe, address->local.sun_path, on_connected);
    } else {
        int error = uv_tcp_connect(&c->connect, &c->tcp, &address->any, on_connected);
        if (is_shortage(error)) {
            conn_end(c, false);
            return NULL;
        }
        if (error != 0) {
            conn_lose(c, error); /* told when the turn is over */
        }
    }
    return &c->conn;
}

struct conn *net_accept(struct net *net, uv_stream_t *server, int *fd)
{
    struct net_conn *c = conn_new(net, false);
    if (c == NULL) {
        return NULL;
    }
    if (uv_accept(server, &c->stream) != 0) {
        conn_end(c, false);
        return NULL;
    }
    c->is_connected = true;
    *fd = conn_fd(c);
    conn_activate(c); /* reading begins when the turn is over */
    return &c->conn;
}
