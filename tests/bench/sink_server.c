#include "tests/bench/sink_server.h"

#include <stdlib.h>

#include "tests/bench/bench_line.h"
#include "tests/bench/data_end.h"

#define BACKLOG      4096
#define TICKS        20          /* a second */
#define SLOW_RECEIVE (64 * 1024) /* what the kernel may take ahead of a slow reader */

struct sink_session {
    struct peer peer;
    struct sink *sink;
    TAILQ_ENTRY(sink_session) place;
    TAILQ_ENTRY(sink_session) turn; /* among those that wait */
    uint64_t due;                   /* the loop's milliseconds */
    unsigned data_end;              /* data_end_take's */
    bool in_data;
    bool waits;
    bool leaves; /* QUIT was said */
    struct bench_line kept;
};

static struct sink_session *session_of(struct peer *peer)
{
    return peer->owner;
}

static void say(struct sink_session *session, struct span reply)
{
    peer_put(&session->peer, reply);
}

/* ---- answers that are put off ---- */

static void on_answering(uv_timer_t *timer);

/* The delay is the same for all: so the first that began to wait is the first that is due. */
static void arm(struct sink *sink)
{
    const struct sink_session *first = TAILQ_FIRST(&sink->waiting);
    if (first) {
        const uint64_t now = uv_now(&sink->loop->uv);
        uv_timer_start(&sink->answering, on_answering, first->due > now ? first->due - now : 0, 0);
    }
}

static void stop_waiting(struct sink_session *session)
{
    if (session->waits) {
        TAILQ_REMOVE(&session->sink->waiting, session, turn);
        session->waits = false;
    }
}

/* Replies to what comes meanwhile queue up behind it: its client pipelines, and will not hear them
 * before. */
static void put_off(struct sink_session *session)
{
    if (!session->waits) {
        session->waits = true;
        session->due = uv_now(&session->sink->loop->uv) + session->sink->options->delay;
        TAILQ_INSERT_TAIL(&session->sink->waiting, session, turn);
        arm(session->sink);
    }
}

static void flush(struct sink_session *session)
{
    if (!session->waits) {
        peer_flush(&session->peer);
        if (session->leaves) {
            peer_close(&session->peer);
        }
    }
}

static void on_answering(uv_timer_t *timer)
{
    struct sink *sink = timer->data;
    struct sink_session *session = TAILQ_FIRST(&sink->waiting);

    while (session && session->due <= uv_now(&sink->loop->uv)) {
        stop_waiting(session);
        flush(session);
        session = TAILQ_FIRST(&sink->waiting);
    }
    arm(sink);
}

/* ---- commands ---- */

static void on_ehlo(struct sink_session *session)
{
    say(session, SPAN("250-sink.example\r\n"));
    if (session->sink->options->pipelining) {
        say(session, SPAN("250-PIPELINING\r\n"));
    }
    if (session->sink->tls && !session->peer.tls) {
        say(session, SPAN("250-STARTTLS\r\n"));
    }
    say(session, SPAN("250 8BITMIME\r\n"));
}

static void on_mail(struct sink_session *session)
{
    say(session, SPAN("250 2.1.0 sender taken\r\n"));
}

static void on_recipient(struct sink_session *session)
{
    session->sink->recipients++;
    say(session, SPAN("250 2.1.5 recipient taken\r\n"));
}

static void on_data(struct sink_session *session)
{
    session->in_data = true;
    session->data_end = DATA_BEGIN;
    say(session, SPAN("354 go on\r\n"));
}

static void on_starttls(struct sink_session *session)
{
    if (!session->sink->tls || session->peer.tls) {
        say(session, SPAN("502 5.5.1 not here\r\n"));
        return;
    }
    say(session, SPAN("220 2.0.0 begin\r\n"));
    peer_secure(&session->peer, session->sink->tls, NULL, NULL);
}

static void on_quit(struct sink_session *session)
{
    session->leaves = true;
    say(session, SPAN("221 2.0.0 until then\r\n"));
}

static void on_any(struct sink_session *session)
{
    say(session, SPAN("250 2.0.0 as you like\r\n"));
}

static const struct verb {
    struct span word;
    void (*serve)(struct sink_session *session);
} verbs[] = {
    {{"MAIL", 4}, on_mail}, {{"RCPT", 4}, on_recipient}, {{"DATA", 4}, on_data},
    {{"EHLO", 4}, on_ehlo}, {{"HELO", 4}, on_any},       {{"QUIT", 4}, on_quit},
    {{"RSET", 4}, on_any},  {{"NOOP", 4}, on_any},       {{"STAR", 4}, on_starttls},
};

static void on_command(struct sink_session *session, struct span line)
{
    const struct span word = span_first(line, 4);
    for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
        if (span_equal_fold(word, verbs[i].word)) {
            verbs[i].serve(session);
            return;
        }
    }
    say(session, SPAN("500 5.5.2 no such command\r\n"));
}

/* ---- a session's life ---- */

static void take_data(struct sink_session *session, struct span *bytes)
{
    struct sink *sink = session->sink;
    const size_t before = bytes->len;

    session->in_data = !data_end_take(&session->data_end, bytes);
    sink->bytes += before - bytes->len;
    if (!session->in_data) {
        sink->messages++;
        say(session, SPAN("250 2.0.0 message taken\r\n"));
        if (sink->options->delay > 0) {
            put_off(session);
        }
    }
}

static void on_bytes(struct peer *peer, struct span bytes)
{
    struct sink_session *session = session_of(peer);
    const bool was_clear = !peer->tls;
    struct span line;

    while (bytes.len > 0 && !session->leaves) {
        if (session->in_data) {
            take_data(session, &bytes);
        } else if (bench_line_take(&session->kept, &bytes, &line)) {
            on_command(session, line);
        }
        if (peer->tls && was_clear) {
            break; /* what came in clear text behind STARTTLS counts for nothing (RFC 3207 6) */
        }
    }
    flush(session);
}

static void on_secured(struct peer *peer)
{
    session_of(peer)->sink->handshakes++;
}

static void on_lost(struct peer *peer, const char *why)
{
    (void)why;
    stop_waiting(session_of(peer));
}

static void on_closed(struct peer *peer)
{
    struct sink_session *session = session_of(peer);
    stop_waiting(session);
    TAILQ_REMOVE(&session->sink->all, session, place);
    free(session);
}

static const struct peer_events events = {
    .secured = on_secured, .bytes = on_bytes, .lost = on_lost, .closed = on_closed};

/* ---- the server ---- */

static size_t share(const struct sink *sink)
{
    const uint64_t share = sink->options->rate / TICKS;
    return share > 0 ? share : 1;
}

static void on_tick(uv_timer_t *timer)
{
    struct sink *sink = timer->data;
    struct sink_session *session;
    TAILQ_FOREACH(session, &sink->all, place)
    {
        peer_allow(&session->peer, share(sink));
    }
}

static void on_connection(uv_stream_t *listener, int status)
{
    struct sink *sink = listener->data;
    struct sink_session *session = calloc(1, sizeof(*session));

    if (!session || status != 0) {
        free(session);
        return;
    }
    session->sink = sink;
    sink->connections++;
    TAILQ_INSERT_TAIL(&sink->all, session, place);
    if (peer_accept(&session->peer, sink->loop, listener, &events, session) != 0) {
        peer_close(&session->peer);
        return;
    }
    if (sink->options->rate > 0) {
        peer_allow(&session->peer, share(sink));
    }
    say(session, SPAN("220 sink.example ESMTP\r\n"));
    flush(session);
}

/* Options of a listening socket are those of all that it accepts. */
static void set_options(struct sink *sink)
{
    int room = SLOW_RECEIVE;
    uv_tcp_nodelay(&sink->listener, 1);
    if (sink->options->rate > 0) {
        uv_recv_buffer_size((uv_handle_t *)&sink->listener, &room);
    }
}

int sink_begin(struct sink *sink)
{
    uv_loop_t *loop = &sink->loop->uv;

    TAILQ_INIT(&sink->all);
    TAILQ_INIT(&sink->waiting);
    uv_tcp_init(loop, &sink->listener);
    uv_timer_init(loop, &sink->ticking);
    uv_timer_init(loop, &sink->answering);
    sink->listener.data = sink->ticking.data = sink->answering.data = sink;
    if (sink->options->rate > 0) {
        uv_timer_start(&sink->ticking, on_tick, 1000 / TICKS, 1000 / TICKS);
    }
    int error = uv_tcp_bind(&sink->listener, &sink->options->address.any, 0);
    if (error == 0) {
        set_options(sink);
        error = uv_listen((uv_stream_t *)&sink->listener, BACKLOG, on_connection);
    }
    return error;
}

void sink_end(struct sink *sink)
{
    struct sink_session *session;

    uv_close((uv_handle_t *)&sink->listener, NULL);
    uv_close((uv_handle_t *)&sink->ticking, NULL);
    uv_close((uv_handle_t *)&sink->answering, NULL);
    TAILQ_FOREACH(session, &sink->all, place)
    {
        peer_close(&session->peer);
    }
}
