#include "tests/bench/load_session.h"

#include "config/text.h"

#define WHY_MAX 160

/* What a reply is to, in words, and what it begins with when it is good. */
static const struct expectation {
    const char *name;
    char digit;
} expectations[] = {
    [LOAD_CLOSED] = {"nothing", 0},     [LOAD_GREETING] = {"connecting", '2'},
    [LOAD_EHLO] = {"EHLO", '2'},        [LOAD_STARTTLS] = {"STARTTLS", '2'},
    [LOAD_HANDSHAKE] = {"STARTTLS", 0}, [LOAD_READY] = {"nothing", 0},
    [LOAD_MAIL] = {"MAIL", '2'},        [LOAD_RCPT] = {"RCPT", '2'},
    [LOAD_DATA] = {"DATA", '3'},        [LOAD_END] = {"the end of data", '2'},
    [LOAD_QUIT] = {"QUIT", '2'},
};

static struct load_session *session_of(struct peer *peer)
{
    return peer->owner;
}

/* ---- the end ---- */

static void fail(struct load_session *session, const char *what, struct span detail)
{
    char buffer[WHY_MAX];
    struct text why = TEXT(buffer);

    if (session->state != LOAD_CLOSED) {
        text_puts(&why, what);
        text_puts(&why, expectations[session->state].name);
        text_puts(&why, ": ");
        text_put(&why, span_first(detail, why.cap - 1 - why.len));
        for (size_t i = 0; i < why.len; i++) {
            buffer[i] = buffer[i] >= ' ' && buffer[i] <= '~' ? buffer[i] : '?';
        }
        session->state = LOAD_CLOSED;
        session->world->events->failed(session, buffer);
    }
    peer_close(&session->peer);
}

static void on_lost(struct peer *peer, const char *why)
{
    struct load_session *session = session_of(peer);
    if (session->state == LOAD_QUIT) {
        session->state = LOAD_CLOSED; /* it is what was asked for */
    }
    fail(session, "no reply to ", span_of(why));
}

static void on_closed(struct peer *peer)
{
    struct load_session *session = session_of(peer);
    session->world->events->closed(session);
}

/* ---- what is said ---- */

static void await(struct load_session *session, enum load_state state)
{
    session->state = state;
}

static void say(struct load_session *session, struct span words, enum load_state state)
{
    peer_put(&session->peer, words);
    await(session, state);
}

static bool pipelines(const struct load_session *session)
{
    return session->world->options->pipelining && session->offers_pipelining;
}

static void say_body(struct load_session *session)
{
    const struct load_text *text = session->world->text;
    peer_put(&session->peer, text->before);
    peer_put(&session->peer, span_make(session->number, sizeof(session->number)));
    say(session, text->after, LOAD_END);
}

/* After MAIL or a recipient: the next recipient or DATA; where all was said at once it is only
 * awaited. */
static void go_on(struct load_session *session, size_t recipient)
{
    const struct load_text *text = session->world->text;
    const bool last = recipient == text->recipient_count;

    session->recipient = recipient;
    await(session, last ? LOAD_DATA : LOAD_RCPT);
    if (!pipelines(session)) {
        peer_put(&session->peer, last ? SPAN("DATA\r\n") : text->recipients[recipient]);
    }
}

static void be_greeted(struct load_session *session)
{
    session->offers_pipelining = session->offers_starttls = false;
    say(session, SPAN("EHLO load.example\r\n"), LOAD_EHLO);
}

static void be_known(struct load_session *session)
{
    if (!session->world->tls || session->peer.secure) {
        await(session, LOAD_READY);
        session->world->events->ready(session);
    } else if (session->offers_starttls) {
        say(session, SPAN("STARTTLS\r\n"), LOAD_STARTTLS);
    } else {
        fail(session, "reply to ", SPAN("STARTTLS is not offered"));
    }
}

/* ---- what is heard ---- */

static void on_good_reply(struct load_session *session)
{
    switch (session->state) {
    case LOAD_GREETING:
        be_greeted(session);
        break;
    case LOAD_EHLO:
        be_known(session);
        break;
    case LOAD_STARTTLS:
        await(session, LOAD_HANDSHAKE);
        peer_secure(&session->peer, session->world->tls, "", session->world->tickets);
        break;
    case LOAD_MAIL:
        go_on(session, 0);
        break;
    case LOAD_RCPT:
        go_on(session, session->recipient + 1);
        break;
    case LOAD_DATA:
        say_body(session);
        break;
    case LOAD_END:
        await(session, LOAD_READY);
        session->world->events->accepted(session);
        break;
    case LOAD_QUIT:
        await(session, LOAD_CLOSED);
        peer_close(&session->peer);
        break;
    case LOAD_CLOSED:
    case LOAD_HANDSHAKE:
    case LOAD_READY:
        break;
    }
}

/* RFC 5321 4.2: the lines but the last have a hyphen behind the code. */
static void on_line(struct load_session *session, struct span line)
{
    const bool more = line.len > 3 && line.ptr[3] == '-';

    if (line.len < 3 || line.ptr[0] != expectations[session->state].digit) {
        fail(session, "reply to ", line);
        return;
    }
    if (session->state == LOAD_EHLO) {
        const struct span keyword = span_skip(line, 4);
        session->offers_pipelining |= span_equal_fold(keyword, SPAN("PIPELINING"));
        session->offers_starttls |= span_equal_fold(keyword, SPAN("STARTTLS"));
    }
    if (!more) {
        on_good_reply(session);
    }
}

static void on_bytes(struct peer *peer, struct span bytes)
{
    struct load_session *session = session_of(peer);
    struct span line;

    /* What comes in clear text behind the reply to STARTTLS counts for nothing (RFC 3207 5). */
    while (session->state != LOAD_CLOSED && session->state != LOAD_HANDSHAKE &&
           bench_line_take(&session->kept, &bytes, &line)) {
        on_line(session, line);
    }
    peer_flush(peer);
}

static void on_secured(struct peer *peer)
{
    struct load_session *session = session_of(peer);
    session->world->handshakes++;
    session->world->resumed += tls_stream_is_resumed(peer->tls);
    be_greeted(session);
}

/* ---- what the owner asks for ---- */

static const struct peer_events events = {
    .secured = on_secured, .bytes = on_bytes, .lost = on_lost, .closed = on_closed};

void load_session_init(struct load_session *session, struct load_world *world)
{
    *session = (struct load_session){.world = world, .state = LOAD_CLOSED};
}

void load_session_open(struct load_session *session)
{
    session->kept.len = 0;
    session->world->connections++;
    await(session, LOAD_GREETING);
    const int error = peer_connect(&session->peer, session->world->loop,
                                   &session->world->options->address, &events, session);
    if (error != 0) {
        fail(session, "no reply to ", span_of(uv_strerror(error)));
    }
}

void load_session_send(struct load_session *session, uint64_t number)
{
    const struct load_text *text = session->world->text;
    load_text_number(session->number, number);
    say(session, pipelines(session) ? text->envelope : text->mail, LOAD_MAIL);
    peer_flush(&session->peer);
}

void load_session_quit(struct load_session *session)
{
    if (session->state == LOAD_READY) {
        say(session, SPAN("QUIT\r\n"), LOAD_QUIT);
        peer_flush(&session->peer);
    } else if (session->state != LOAD_CLOSED) {
        session->state = LOAD_CLOSED;
        peer_close(&session->peer);
    }
}
