#include "tests/bench/bench_peer.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

/* Ciphertext that the kernel did not take at once. */
struct held {
    uv_write_t write;
    char bytes[];
};

struct peer_loop *peer_loop_new(void)
{
    struct peer_loop *loop = calloc(1, sizeof(*loop));
    const int error = loop ? uv_loop_init(&loop->uv) : UV_ENOMEM;
    if (error != 0) {
        fprintf(stderr, "no event loop: %s\n", uv_strerror(error));
        free(loop);
        return NULL;
    }
    return loop;
}

void peer_loop_free(struct peer_loop *loop)
{
    if (loop) {
        uv_loop_close(&loop->uv);
        free(loop);
    }
}

void peer_raise_descriptors(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/* ---- the end ---- */

static void on_closed(uv_handle_t *handle)
{
    struct peer *peer = handle->data;
    peer->events->closed(peer);
}

void peer_close(struct peer *peer)
{
    if (!peer->closing) {
        peer->closing = true;
        tls_stream_free(peer->tls);
        peer->tls = NULL;
        uv_close(&peer->handle, on_closed);
    }
}

static void lose(struct peer *peer, const char *why)
{
    if (!peer->closing) {
        peer->events->lost(peer, why);
        peer_close(peer);
    }
}

/* Trouble inside a call is told by the loop's next turn, as the end of what can be read. */
static void break_off(struct peer *peer)
{
    uv_os_fd_t fd;
    peer->count = 0;
    if (!peer->closing && uv_fileno(&peer->handle, &fd) == 0) {
        shutdown(fd, SHUT_RDWR);
    }
}

/* ---- sending ---- */

/* The first n bytes of the pieces have been sent. */
static void drop(struct peer *peer, size_t n)
{
    unsigned sent = 0;
    while (sent < peer->count && n >= peer->pieces[sent].len) {
        n -= peer->pieces[sent++].len;
    }
    peer->count -= sent;
    memmove(peer->pieces, peer->pieces + sent, peer->count * sizeof(peer->pieces[0]));
    if (n > 0) {
        peer->pieces[0].base += n;
        peer->pieces[0].len -= n;
    }
}

static void on_written(uv_write_t *write, int status)
{
    struct peer *peer = write->handle->data;
    peer->writing--;
    if (status != 0) {
        break_off(peer);
    } else {
        peer_flush(peer);
    }
}

static void on_held_written(uv_write_t *write, int status)
{
    on_written(write, status);
    free(write->data);
}

static void flush_clear(struct peer *peer)
{
    if (peer->writing > 0) {
        return;
    }
    const int n = uv_try_write(&peer->stream, peer->pieces, peer->count);
    if (n < 0 && n != UV_EAGAIN) {
        break_off(peer);
        return;
    }
    drop(peer, n > 0 ? (size_t)n : 0);
    if (peer->count > 0) {
        if (uv_write(&peer->write, &peer->stream, peer->pieces, peer->count, on_written) != 0) {
            break_off(peer);
            return;
        }
        peer->writing++;
        peer->count = 0;
    }
}

static bool hold(struct peer *peer, struct span cipher)
{
    struct held *held = malloc(sizeof(*held) + cipher.len);
    if (!held) {
        return false;
    }
    held->write.data = held;
    memcpy(held->bytes, cipher.ptr, cipher.len);
    const uv_buf_t buffer = uv_buf_init(held->bytes, (unsigned)cipher.len);
    if (uv_write(&held->write, &peer->stream, &buffer, 1, on_held_written) != 0) {
        free(held);
        return false;
    }
    peer->writing++;
    return true;
}

/* Sends the ciphertext that has come out of the stream. */
static void flush_cipher(struct peer *peer)
{
    struct span cipher = span_make(peer->loop->cipher, peer->loop->cipher_len);
    uv_buf_t buffer = uv_buf_init(peer->loop->cipher, (unsigned)cipher.len);

    peer->loop->cipher_len = 0;
    if (cipher.len == 0 || peer->closing) {
        return;
    }
    const int n = uv_try_write(&peer->stream, &buffer, 1);
    cipher = span_skip(cipher, n > 0 ? (size_t)n : 0);
    if ((n < 0 && n != UV_EAGAIN) || (cipher.len > 0 && !hold(peer, cipher))) {
        break_off(peer);
    }
}

/* What is put in small pieces becomes one record. */
static struct span gather(struct peer *peer)
{
    struct text text = text_over(peer->loop->gathered, sizeof(peer->loop->gathered));
    for (unsigned i = 0; i < peer->count; i++) {
        text_put(&text, span_first(span_make(peer->pieces[i].base, peer->pieces[i].len),
                                   text.cap - 1 - text.len));
    }
    drop(peer, text.len);
    return text_span(&text);
}

static void flush_secure(struct peer *peer)
{
    while (peer->writing == 0 && peer->count > 0 && peer->secure) {
        if (!tls_stream_write(peer->tls, gather(peer))) {
            break_off(peer);
        }
        flush_cipher(peer);
    }
    flush_cipher(peer);
}

void peer_flush(struct peer *peer)
{
    if (peer->closing) {
        return;
    }
    if (peer->tls) {
        flush_secure(peer);
    } else if (peer->count > 0) {
        flush_clear(peer);
    }
}

void peer_put(struct peer *peer, struct span bytes)
{
    if (peer->count == PEER_PIECES) {
        break_off(peer);
        return;
    }
    peer->pieces[peer->count++] = (uv_buf_t){(char *)(uintptr_t)bytes.ptr, bytes.len};
}

/* ---- receiving ---- */

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    struct peer *peer = handle->data;
    (void)suggested;
    buffer->base = peer->loop->input;
    buffer->len = peer->budget < PEER_INPUT ? peer->budget : PEER_INPUT;
}

/* Takes what the handshake needs off the front. False: there is no more to be done. */
static bool shake_hands(struct peer *peer, struct span *cipher)
{
    switch (tls_stream_handshake(peer->tls, cipher)) {
    case TLS_MORE:
        flush_cipher(peer);
        return false;
    case TLS_DONE:
        peer->secure = true;
        peer->events->secured(peer); /* what is put there goes with the handshake's last flight */
        peer_flush(peer);
        return !peer->closing && cipher->len > 0;
    case TLS_CLOSED:
    case TLS_FAILED:
        break;
    }
    flush_cipher(peer);
    lose(peer, tls_stream_why(peer->tls));
    return false;
}

static void receive_cipher(struct peer *peer, struct span cipher)
{
    size_t len;
    if (!peer->secure && !shake_hands(peer, &cipher)) {
        return;
    }
    const enum tls_result result =
        tls_stream_read(peer->tls, &cipher, peer->loop->plain, sizeof(peer->loop->plain), &len);
    if (len > 0) {
        peer->events->bytes(peer, span_make(peer->loop->plain, len));
    }
    if (peer->closing) {
        return;
    }
    flush_cipher(peer);
    if (result == TLS_CLOSED) {
        lose(peer, uv_strerror(UV_EOF));
    } else if (result == TLS_FAILED) {
        lose(peer, tls_stream_why(peer->tls));
    }
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buffer)
{
    struct peer *peer = stream->data;
    if (n < 0) {
        lose(peer, uv_strerror((int)n));
        return;
    }
    peer->budget -= peer->budget == SIZE_MAX ? 0 : (size_t)n;
    if (peer->budget == 0) {
        uv_read_stop(stream);
    }
    if (n > 0 && peer->tls) {
        receive_cipher(peer, span_make(buffer->base, (size_t)n));
    } else if (n > 0) {
        peer->events->bytes(peer, span_make(buffer->base, (size_t)n));
    }
}

void peer_allow(struct peer *peer, size_t bytes)
{
    peer->budget = bytes;
    if (!peer->closing && bytes > 0) {
        uv_read_start(&peer->stream, on_alloc, on_read); /* no harm where it reads already */
    }
}

/* ---- the beginning ---- */

static void on_connected(uv_connect_t *connecting, int status)
{
    struct peer *peer = connecting->handle->data;
    if (peer->closing) {
        return;
    }
    if (status == 0) {
        status = uv_read_start(&peer->stream, on_alloc, on_read);
    }
    if (status != 0) {
        lose(peer, uv_strerror(status));
    } else if (peer->events->opened) {
        peer->events->opened(peer);
    }
}

static void init(struct peer *peer, struct peer_loop *loop, const struct peer_events *events,
                 void *owner)
{
    *peer = (struct peer){.loop = loop, .events = events, .owner = owner, .budget = SIZE_MAX};
    uv_tcp_init(&loop->uv, &peer->tcp);
    peer->handle.data = peer;
}

int peer_connect(struct peer *peer, struct peer_loop *loop, const struct net_address *address,
                 const struct peer_events *events, void *owner)
{
    init(peer, loop, events, owner);
    uv_tcp_nodelay(&peer->tcp, 1); /* kept for the socket that is to come */
    return uv_tcp_connect(&peer->connecting, &peer->tcp, &address->any, on_connected);
}

int peer_accept(struct peer *peer, struct peer_loop *loop, uv_stream_t *listener,
                const struct peer_events *events, void *owner)
{
    init(peer, loop, events, owner);
    const int error = uv_accept(listener, &peer->stream);
    return error != 0 ? error : uv_read_start(&peer->stream, on_alloc, on_read);
}

/* ---- TLS ---- */

static bool take_cipher(void *owner, struct span cipher)
{
    struct peer_loop *loop = owner;
    if (cipher.len > sizeof(loop->cipher) - loop->cipher_len) {
        return false;
    }
    memcpy(loop->cipher + loop->cipher_len, cipher.ptr, cipher.len);
    loop->cipher_len += cipher.len;
    return true;
}

void peer_secure(struct peer *peer, const struct tls_context *context, const char *name,
                 struct tls_sessions *sessions)
{
    struct span nothing = {0};

    peer_flush(peer); /* the last words in clear text */
    peer->tls = tls_stream_new(context, name, take_cipher, peer->loop);
    if (!peer->tls) {
        break_off(peer);
        return;
    }
    if (sessions) {
        /* Few are kept of one key: so each peer has a key of its own, its place in memory. */
        tls_stream_reuse(peer->tls, sessions, span_make((const char *)&peer, sizeof(peer)));
    }
    if (name) { /* a client begins; a failure here shows when more is read */
        tls_stream_handshake(peer->tls, &nothing);
        flush_cipher(peer);
    }
}
