#include "proxy/session/upstream.h"

#include <stdlib.h>

#include "proxy/session/shared.h"
#include "proxy/session/stats.h"
#include "proxy/session/upstream_state.h"

/* What of our own may be on its way behind an end-of-data that has been answered: a key update of
 * TLS that the peer has asked for (RFC 8446 4.6.3), octets. */
#define OWN_WORDS 64

static void upstream_free(struct deferred *deferred)
{
    struct upstream *up = DEFERRED_OWNER(upstream, deferred);
    policy_unref(up->policy);
    free(up->lines);
    free(up);
}

/* The one way out: whatever ends a connection comes through here, once. */
static void upstream_close(struct upstream *up, enum conn_close how)
{
    if (up->conn == NULL) {
        return;
    }
    up->conn->ops->close(up->conn, how);
    up->conn = NULL;
    up->state = CLIENT_CLOSED;
    timer_stop(&up->world->timers, &up->timer);
    quota_give(up->world->shared->endpoints, up->cell);
    stats_sub(up->world->stats, STAT_UPSTREAMS_OPEN, 1);
    up->world->place_freed = true;
    world_defer(up->world, &up->deferred);
}

/* Tells the owner, if it has one still. The owner may give the connection away meanwhile. */
void upstream_tell(struct upstream *up, struct upstream_event event)
{
    event.reused = up->reused;
    if (event.kind == UPSTREAM_ANSWER) {
        up->reused = false;
    }
    if (up->on_event != NULL) {
        up->on_event(up->owner, &event);
    }
}

void upstream_say(struct upstream *up, struct span bytes)
{
    up->conn->ops->write(up->conn, bytes);
}

static void send_rcpt(struct upstream *up, struct span recipient)
{
    upstream_say(up, SPAN("RCPT TO:<"));
    upstream_say(up, recipient);
    upstream_say(up, SPAN(">\r\n"));
}

/* What the answer just read was the answer to: a matter of the state it was awaited in. */
static enum upstream_command command_of(enum client_state state)
{
    switch (state) {
    case CLIENT_MAIL:
    case CLIENT_MAIL_PIPED:
    case CLIENT_VOID:
        return UPSTREAM_MAIL;
    case CLIENT_RCPT:
        return UPSTREAM_RCPT;
    case CLIENT_DATA:
        return UPSTREAM_DATA;
    case CLIENT_CONNECT:
    case CLIENT_GREETING:
    case CLIENT_EHLO:
    case CLIENT_HELO:
    case CLIENT_STARTTLS:
    case CLIENT_TLS:
    case CLIENT_XCLIENT:
    case CLIENT_READY:
    case CLIENT_OPEN:
    case CLIENT_BODY:
    case CLIENT_END:
    case CLIENT_RSET:
    case CLIENT_QUIT:
    case CLIENT_CLOSED:
    case CLIENT_STATES:
        break;
    }
    return UPSTREAM_END;
}

static void on_offer(void *context, struct span line)
{
    client_offer_line(context, line);
}

/* How long the new state may last; those not named here are timed by the leg or the transaction. */
static void upstream_set_deadline(struct upstream *up)
{
    const struct config_timeouts *timeouts = &up->policy->config->timeouts;
    uint64_t wait = 0;
    switch (up->state) {
    case CLIENT_CONNECT:
        wait = timeouts->connect;
        break;
    case CLIENT_GREETING:
    case CLIENT_EHLO:
    case CLIENT_HELO:
    case CLIENT_STARTTLS:
    case CLIENT_TLS:
    case CLIENT_XCLIENT:
        wait = timeouts->greeting;
        break;
    case CLIENT_RSET:
        wait = timeouts->connect;
        break;
    case CLIENT_QUIT:
        if (timer_is_set(&up->timer)) {
            return; /* words do not prolong it */
        }
        wait = UPSTREAM_LEAVE;
        break;
    case CLIENT_READY:
    case CLIENT_MAIL:
    case CLIENT_MAIL_PIPED:
    case CLIENT_VOID:
    case CLIENT_RCPT:
    case CLIENT_OPEN:
    case CLIENT_DATA:
    case CLIENT_BODY:
    case CLIENT_END:
    case CLIENT_CLOSED:
    case CLIENT_STATES:
        break;
    }
    if (wait != 0) {
        timer_set(&up->world->timers, &up->timer, up->world->now + wait);
    } else {
        timer_stop(&up->world->timers, &up->timer);
    }
}

void upstream_set_state(struct upstream *up, enum client_state next)
{
    up->state = next;
    up->parser = (struct reply_parser){0};
    if (next == CLIENT_EHLO) {
        up->parser.on_line = on_offer;
        up->parser.context = &up->offer;
    }
    upstream_set_deadline(up);
}

static void upstream_answer(struct upstream *up, enum upstream_command command,
                            const struct reply *reply, bool last)
{
    struct upstream_event event = {.kind = UPSTREAM_ANSWER,
                                   .command = command,
                                   .reply = reply,
                                   .last = last || up->state == CLIENT_CLOSED};
    if (event.last) {
        upstream_close(up, CONN_FLUSH);
    }
    upstream_tell(up, event);
}

void upstream_end_with(struct upstream *up, enum upstream_event_kind kind, enum conn_close how,
                       const char *why)
{
    upstream_close(up, how);
    upstream_tell(up, (struct upstream_event){
                          .kind = kind, .why = why, .reply = &up->reply, .tls = up->tls_at_fault});
}

static void upstream_fail(struct upstream *up, enum upstream_event_kind kind, enum conn_close how,
                          enum client_state was, enum client_event event)
{
    char why[REPLY_TEXT];
    struct text text = TEXT(why);
    upstream_put_why(up, was, event, &text);
    up->tls_at_fault = was == CLIENT_TLS;
    upstream_end_with(up, kind, how, why);
}

static void upstream_step(struct upstream *up, enum client_event event)
{
    enum client_state was = up->state;
    struct client_step step = client_step(was, event);
    enum upstream_event_kind end;
    upstream_set_state(up, step.next);
    if (upstream_identity_ends(up, was, event, &end)) {
        upstream_fail(up, end, end == UPSTREAM_TURNED_AWAY ? CONN_FLUSH : CONN_RESET, was, event);
        return;
    }
    switch (step.action) {
    case CLIENT_DO_NOTHING:
        up->reused = false; /* MAIL was answered well: what comes now is no sign of staleness */
        break;
    case CLIENT_DO_INTRODUCE:
        upstream_introduce(up);
        break;
    case CLIENT_DO_EHLO:
        upstream_greet(up, "EHLO");
        break;
    case CLIENT_DO_HELO:
        upstream_greet(up, "HELO");
        break;
    case CLIENT_DO_NEXT:
        upstream_next(up);
        break;
    case CLIENT_DO_TLS:
        upstream_start_tls(up);
        break;
    case CLIENT_DO_CLEAR:
        upstream_go_clear(up);
        break;
    case CLIENT_DO_XCLIENT:
        upstream_xclient(up);
        break;
    case CLIENT_DO_NO_IDENTITY:
        upstream_fail(up, UPSTREAM_NO_IDENTITY, CONN_FLUSH, was, event);
        break;
    case CLIENT_DO_READY:
        upstream_tell(up, (struct upstream_event){.kind = UPSTREAM_READY, .reply = &up->reply});
        break;
    case CLIENT_DO_RCPT:
        up->reused = false;
        if (upstream_may_speak(up)) {
            send_rcpt(up, up->recipient);
        }
        break;
    case CLIENT_DO_KEEP:
        up->kept = up->reply;
        break;
    case CLIENT_DO_ANSWER:
        upstream_answer(up, command_of(was), &up->reply, false);
        break;
    case CLIENT_DO_ANSWER_KEPT:
        upstream_answer(up, command_of(was), &up->kept, false);
        break;
    case CLIENT_DO_ANSWER_LAST:
        upstream_answer(up, command_of(was), &up->reply, true);
        break;
    case CLIENT_DO_UNAVAILABLE:
        upstream_fail(up, UPSTREAM_UNAVAILABLE, CONN_RESET, was, event);
        break;
    case CLIENT_DO_REFUSED:
        upstream_fail(up, UPSTREAM_REFUSED, CONN_FLUSH, was, event);
        break;
    case CLIENT_DO_LEAVE:
        upstream_fail(up, UPSTREAM_LOST, CONN_FLUSH, was, event);
        break;
    case CLIENT_DO_LOST:
        upstream_fail(up, UPSTREAM_LOST, CONN_RESET, was, event);
        break;
    }
}

/* Something came that nothing asked for: its words are told, if words they are. */
static void upstream_spoke(struct upstream *up, struct span input)
{
    struct reply_parser parser = {0};
    size_t used = 0;
    up->spoke = true;
    if (reply_parse(&parser, input, &up->reply, &used) != REPLY_DONE) {
        up->reply.code = 0;
    }
    if (up->state > CLIENT_GREETING && up->state < CLIENT_READY) {
        /* It is there, so this is no absence (design: section 6), but of no use. */
        upstream_fail(up, UPSTREAM_REFUSED, CONN_RESET, up->state, CLIENT_ON_BAD);
        return;
    }
    upstream_step(up, CLIENT_ON_BAD);
}

/* Whether our end-of-data has reached the peer: who has not acknowledged it has not answered it
 * either, and what comes then is no acceptance. */
static bool upstream_has_end(const struct upstream *up)
{
    return up->conn->ops->unsent(up->conn) == 0 && up->conn->ops->in_flight(up->conn) <= OWN_WORDS;
}

static void upstream_read(struct upstream *up)
{
    while (up->conn != NULL) {
        struct span input = up->conn->ops->peek(up->conn);
        size_t used = 0;
        if (input.len == 0) {
            return;
        }
        if (up->state == CLIENT_TLS) { /* the handshake has not begun */
            up->tls_at_fault = true;   /* as if it had, and met these words */
            upstream_end_with(up, UPSTREAM_UNAVAILABLE, CONN_RESET,
                              "spoke between STARTTLS and the handshake");
            return;
        }
        if (!upstream_owes(up) || (up->state == CLIENT_END && !upstream_has_end(up))) {
            upstream_spoke(up, input);
            return;
        }
        enum reply_status status = reply_parse(&up->parser, input, &up->reply, &used);
        up->conn->ops->consume(up->conn, used);
        if (status == REPLY_MORE) {
            return;
        }
        upstream_step(up, status == REPLY_BAD ? CLIENT_ON_BAD : client_event_of(&up->reply));
    }
}

/* It is lost, or TLS has failed. While it was being opened it matters whose fault that is: what we
 * lack makes no relay unavailable (design: section 6). */
static void upstream_is_lost(struct upstream *up, enum client_event event)
{
    char why[REPLY_TEXT];
    struct text text = TEXT(why);
    if (up->conn->lacks_means && up->state < CLIENT_READY) {
        text_puts(&text, up->conn->ops->why(up->conn));
        upstream_end_with(up, UPSTREAM_NO_MEANS, CONN_RESET, why);
    } else {
        upstream_step(up, event);
    }
}

static void count_tls(const struct upstream *up)
{
    char words[128];
    struct text text = TEXT(words);
    up->conn->ops->tell_tls(up->conn, &text);
    stats_add(up->world->stats,
              stats_tls_is_1_3(text_span(&text)) ? STAT_TLS_UPSTREAMS_1_3 : STAT_TLS_UPSTREAMS_1_2,
              1);
}

static void on_conn(void *owner, enum conn_event event)
{
    struct upstream *up = owner;
    switch (event) {
    case CONN_OPEN:
        upstream_step(up, CLIENT_ON_OPEN);
        break;
    case CONN_READABLE:
        upstream_read(up);
        break;
    case CONN_WRITABLE:
        upstream_tell(up, (struct upstream_event){.kind = UPSTREAM_ROOM});
        break;
    case CONN_EOF:
        upstream_read(up);
        if (up->conn != NULL) {
            upstream_step(up, CLIENT_ON_LOST);
        }
        break;
    case CONN_LOST:
        upstream_is_lost(up, CLIENT_ON_LOST);
        break;
    case CONN_SECURE:
        up->secure = true;
        count_tls(up);
        upstream_step(up, CLIENT_ON_SECURE);
        break;
    case CONN_INSECURE:
        stats_add(up->world->stats, STAT_TLS_UPSTREAMS_FAILED, 1);
        upstream_is_lost(up, CLIENT_ON_INSECURE);
        break;
    }
}

static void on_due(void *owner)
{
    upstream_step(owner, CLIENT_ON_LATE);
}

struct upstream *upstream_open(struct world *world, const struct upstream_key *key, quota_cell cell,
                               struct policy *policy, const struct client_view *client,
                               upstream_handler *on_event, void *owner)
{
    struct upstream *up = calloc(1, sizeof *up);
    struct conn *conn = up != NULL ? world->ops->connect(world, &key->address) : NULL;
    if (conn == NULL) {
        free(up);
        quota_give(world->shared->endpoints, cell);
        return NULL;
    }
    up->world = world;
    up->conn = conn;
    up->policy = policy_ref(policy);
    up->key = *key;
    up->client = client;
    up->cell = cell;
    up->timer.on_due = on_due;
    up->timer.owner = up;
    up->on_event = on_event;
    up->owner = owner;
    up->deferred.free = upstream_free;
    conn->on_event = on_conn;
    conn->owner = up;
    upstream_set_state(up, CLIENT_CONNECT);
    stats_add(world->stats, STAT_UPSTREAMS_OPENED, 1);
    stats_add(world->stats, STAT_UPSTREAMS_OPEN, 1);
    return up;
}

void upstream_adopt(struct upstream *up, struct policy *policy, upstream_handler *on_event,
                    void *owner)
{
    struct policy *old = up->policy;
    up->policy = policy_ref(policy);
    policy_unref(old);
    up->on_event = on_event;
    up->owner = owner;
    up->reused = true;
}

bool upstream_is_silent(struct upstream *up)
{
    return up->conn->ops->peek(up->conn).len == 0 && !up->conn->ops->pending(up->conn);
}

bool upstream_may_speak(struct upstream *up)
{
    struct span said = up->conn->ops->peek(up->conn);
    if (upstream_is_silent(up)) {
        return true;
    }
    if (said.len != 0) {
        upstream_spoke(up, said);
    } else { /* with the kernel still, words or an end */
        up->spoke = true;
        upstream_is_lost(up, CLIENT_ON_LOST);
    }
    return false;
}

bool upstream_takes(const struct upstream *up, const struct envelope *envelope)
{
    return up->offer.smtputf8 || !envelope->smtputf8;
}

void upstream_mail(struct upstream *up, const struct envelope *envelope, struct span recipient)
{
    char parameters[64];
    struct text text = TEXT(parameters);
    if (up->offer.size && envelope->size != 0) {
        text_puts(&text, " SIZE=");
        text_number(&text, envelope->size);
    }
    if (up->offer.eight_bit && envelope->body_8bit) {
        text_puts(&text, " BODY=8BITMIME");
    }
    if (envelope->smtputf8) {
        text_puts(&text, " SMTPUTF8");
    }
    text_puts(&text, "\r\n");
    if (!upstream_may_speak(up)) {
        return;
    }
    upstream_say(up, SPAN("MAIL FROM:<"));
    upstream_say(up, envelope->sender);
    upstream_say(up, SPAN(">"));
    upstream_say(up, text_span(&text));
    up->recipient = recipient;
    if (up->offer.pipelining) {
        send_rcpt(up, recipient);
    }
    upstream_set_state(up, up->offer.pipelining ? CLIENT_MAIL_PIPED : CLIENT_MAIL);
}

void upstream_rcpt(struct upstream *up, struct span recipient)
{
    if (!upstream_may_speak(up)) {
        return;
    }
    send_rcpt(up, recipient);
    upstream_set_state(up, CLIENT_RCPT);
}

void upstream_data(struct upstream *up)
{
    if (!upstream_may_speak(up)) {
        return;
    }
    upstream_say(up, SPAN("DATA\r\n"));
    upstream_set_state(up, CLIENT_DATA);
}

void upstream_body(struct upstream *up, struct span bytes)
{
    upstream_say(up, bytes);
}

size_t upstream_in_flight(const struct upstream *up)
{
    return up->conn != NULL ? up->conn->ops->in_flight(up->conn) : 0;
}

size_t upstream_unsent(const struct upstream *up)
{
    return up->conn != NULL ? up->conn->ops->unsent(up->conn) : 0;
}

size_t upstream_queued(const struct upstream *up)
{
    return up->conn != NULL ? up->conn->ops->queued(up->conn) : 0;
}

bool upstream_has_room(const struct upstream *up)
{
    return up->conn == NULL || conn_has_room(up->conn);
}

bool upstream_end(struct upstream *up)
{
    if (!upstream_is_silent(up)) {
        return false;
    }
    upstream_say(up, SPAN(".\r\n"));
    up->messages++;
    upstream_set_state(up, CLIENT_END);
    return true;
}

bool upstream_is_ready(const struct upstream *up)
{
    return up->state == CLIENT_READY;
}

void upstream_rset(struct upstream *up)
{
    if (!upstream_may_speak(up)) {
        return;
    }
    upstream_say(up, SPAN("RSET\r\n"));
    upstream_set_state(up, CLIENT_RSET);
}

void upstream_reset(struct upstream *up)
{
    upstream_close(up, CONN_RESET);
}

void upstream_leave(struct upstream *up)
{
    upstream_say(up, SPAN("QUIT\r\n"));
    upstream_set_state(up, CLIENT_QUIT);
}

void upstream_quit(struct upstream *up)
{
    if (up->state != CLIENT_QUIT) {
        upstream_say(up, SPAN("QUIT\r\n"));
    }
    upstream_close(up, CONN_FLUSH);
}

bool upstream_owes(const struct upstream *up)
{
    return upstream_owes_in(up->state);
}

bool upstream_worn(const struct upstream *up)
{
    return up->messages >= UPSTREAM_MESSAGES_MAX || up->key.identity == IDENTITY_PROXY;
}

struct policy *upstream_policy(const struct upstream *up)
{
    return up->policy;
}

const struct upstream_key *upstream_key(const struct upstream *up)
{
    return &up->key;
}

const struct client_offer *upstream_offer(const struct upstream *up)
{
    return &up->offer;
}

void upstream_tell_tls(const struct upstream *up, struct text *out)
{
    if (up->secure && up->conn != NULL) {
        up->conn->ops->tell_tls(up->conn, out);
    }
}

struct upstream_links *upstream_links(struct upstream *up)
{
    return &up->links;
}

struct world *upstream_world(const struct upstream *up)
{
    return up->world;
}
