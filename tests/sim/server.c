#include <stdlib.h>

#include "tests/sim/service.h"

enum service_event { SERVICE_ANSWERS, SERVICE_IDLES };

static void service_run(struct sim *sim, void *object, int kind);
static void service_go(struct service *s);

static void service_at(struct service *s, uint64_t delay, enum service_event event)
{
    s->events++;
    sim_at(s->sim, delay, service_run, s, (int)event);
}

static void service_free_when_done(struct service *s)
{
    if (s->closed && s->events == 0) {
        buffer_release(&s->field);
        free(s);
    }
}

/* The transaction is over, whatever became of it. */
void service_forget(struct service *s)
{
    if (s->message != NULL && s->message->legs[s->leg].link == s->link) {
        s->message->legs[s->leg].link = NULL;
    }
    s->message = NULL;
    s->mail = s->mail_refused = s->in_data = s->in_body = s->end_coming = false;
    s->accepted = 0;
    memset(s->rcpts, 0, sizeof s->rcpts);
    buffer_release(&s->field);
}

static void service_over(struct service *s)
{
    service_forget(s);
    s->closed = true;
}

void service_leaves(struct service *s, bool reset)
{
    if (reset) {
        link_reset(s->link);
    } else {
        link_close(s->link);
    }
    service_over(s);
}

/* ---- answers ---- */

void service_answer(struct service *s, struct span reply)
{
    uint64_t delay = sim_below(s->sim, (uint64_t)s->server->slow + 1);
    struct text text = TEXT(s->reply);
    text_put(&text, reply);
    s->busy = true;
    service_at(s, delay, SERVICE_ANSWERS);
}

static void service_says(struct service *s, enum stage stage, unsigned number, enum fate fate)
{
    char reply[2 * REPLY_LINE];
    s->reply_closes = fate == FATE_CLOSING || fate == FATE_SLOWER;
    s->message->slowed[s->server->relay] |= fate == FATE_SLOWER;
    service_answer(s, message_says(s->message, stage, number, fate, reply));
}

static void service_idle(struct service *s)
{
    s->idle_since = s->sim->world.now;
    if (s->used && s->server->idle_timeout != 0 && !s->idle_armed) {
        s->idle_armed = true;
        service_at(s, s->server->idle_timeout, SERVICE_IDLES);
    }
}

static void service_answers(struct service *s)
{
    if (s->closed || s->hung) {
        return;
    }
    s->busy = false;
    if (!s->pipelining && s->link->inbox.len != 0 && !s->in_data) {
        sim_fail(s->sim, "link %u: pipelined to a server that does not offer it", s->link->id);
    }
    sim_note_span(s->sim, "server says", s->link->id, span_of(s->reply));
    link_send(s->link, span_of(s->reply));
    if (span_starts_fold(span_of(s->reply), SPAN("421 4.7.28 "))) {
        s->sim->relays[s->server->relay].slowed_said = s->sim->world.now;
    }
    if (s->answering != NULL) {
        *s->answering = true;
        s->answering = NULL;
    }
    s->shaking = s->shaking || s->reply_shakes;
    s->reply_shakes = false;
    if (s->settling != NULL) {
        s->settling->answered = true;
        s->settling = NULL;
    } else if (s->in_data) {
        s->message->legs[s->leg].go = true;
    }
    if (s->reply_closes) {
        service_leaves(s, false);
        return;
    }
    service_idle(s);
    service_go(s);
}

/* Idle between transactions for too long: 421 and close, as servers do. */
static void service_idles(struct service *s)
{
    uint64_t waited = s->sim->world.now - s->idle_since;
    s->idle_armed = false;
    if (s->closed || s->hung) {
        return;
    }
    if (s->busy || s->mail || s->in_data || s->link->inbox.len != 0 ||
        waited < s->server->idle_timeout) {
        uint64_t rest = waited < s->server->idle_timeout ? s->server->idle_timeout - waited : 1000;
        s->idle_armed = true;
        service_at(s, rest, SERVICE_IDLES);
        return;
    }
    sim_note(s->sim, "server idles out", s->link->id, 0);
    link_send(s->link, SPAN("421 4.4.2 idle for too long\r\n"));
    link_close(s->link);
    service_over(s);
}

static void service_run(struct sim *sim, void *object, int kind)
{
    struct service *s = object;
    (void)sim;
    s->events--;
    switch ((enum service_event)kind) {
    case SERVICE_ANSWERS:
        service_answers(s);
        break;
    case SERVICE_IDLES:
        service_idles(s);
        break;
    }
    service_free_when_done(s);
}

/* ---- commands ---- */

static void service_mail(struct service *s, struct span line)
{
    char expected[256];
    struct span path = span_skip(line, sizeof "MAIL FROM:<" - 1);
    path = span_first(path, span_find(path, '>'));
    struct message *message = message_of_sender(s->sim, path);
    if (s->mail || s->hello[0] == '\0' || s->is_probe || (s->server->proxy && s->used)) {
        sim_fail(s->sim,
                 "link %u: MAIL inside a transaction, without EHLO, in a probe, or for the "
                 "second time behind one PROXY header",
                 s->link->id);
    }
    service_check_protection(s);
    if (message == NULL && path.len != 0) {
        sim_fail(s->sim, "link %u: unknown sender %.*s", s->link->id, SPAN_ARGS(path));
    }
    if (message != NULL) {
        struct span said = message_mail_line(message, s->size, s->eight_bit, expected);
        if (!span_equal(said, line)) {
            sim_fail(s->sim, "message %u: upstream got `%.*s` instead of `%.*s`", message->id,
                     SPAN_ARGS(line), SPAN_ARGS(said));
        }
        service_check_client(s, message);
        if (s->secure && s->link->contexts < message->contexts) {
            sim_fail(s->sim, "message %u: under TLS of before the reload", message->id);
        }
        if (s->sim->relays[s->server->relay].relay.paced && message->slowed[s->server->relay] &&
            s->sim->config.faults == 0) {
            sim_fail(s->sim, "message %u: again to who has asked for less", message->id);
        }
    }
    s->mail_refused = message != NULL && !fate_is_yes(message->mail[s->server->relay]);
    s->mail = !s->mail_refused;
    s->used = true;
    s->message = message;
    if (message != NULL) {
        service_says(s, STAGE_MAIL, s->server->relay, message->mail[s->server->relay]);
    } else {
        service_answer(s, SPAN("250 2.1.0 sender ok\r\n"));
    }
}

static void service_rcpt(struct service *s, struct span line)
{
    unsigned number = 0;
    struct span path = span_skip(line, sizeof "RCPT TO:<" - 1);
    path = span_first(path, span_find(path, '>'));
    struct message *message = message_of_rcpt(s->sim, path, &number);
    if (message == NULL || (s->message != NULL && s->message != message)) {
        sim_fail(s->sim, "link %u: a recipient of no message or another: %.*s", s->link->id,
                 SPAN_ARGS(path));
    }
    if (s->mail_refused) {
        s->mail_refused = false;
        s->message = NULL;
        service_answer(s, SPAN("503 5.5.1 need MAIL\r\n"));
        return;
    }
    struct rcpt *rcpt = &message->rcpts[number];
    enum way way = message_came_by(message, number, s->server->relay);
    unsigned leg = message_leg_of(message, rcpt, way);
    if (!s->mail || (s->accepted != 0 && s->leg != leg)) {
        sim_fail(s->sim, "message %u: recipient %u reached the wrong leg", message->id, number);
    }
    if (rcpt->answered[way] && !fate_is_yes(rcpt->fate[way]) && s->sim->config.faults == 0) {
        sim_fail(s->sim, "message %u: recipient %u is asked for again", message->id, number);
    }
    service_check_client(s, message);
    s->message = message;
    s->leg = leg;
    s->answering = &rcpt->answered[way];
    message->identity->unknown += way == WAY_HOME && rcpt->fate[way] == FATE_NO;
    if (fate_is_yes(rcpt->fate[way])) {
        if (s->rcpts[number]) {
            sim_fail(s->sim, "message %u: recipient %u given twice", message->id, number);
        }
        s->rcpts[number] = true;
        s->accepted++;
    }
    service_says(s, STAGE_RCPT, way * 100 + number, rcpt->fate[way]);
}

static void service_data(struct service *s)
{
    if (s->accepted == 0 || s->message->legs[s->leg].link != NULL) {
        sim_fail(s->sim, "link %u: DATA without recipients, or for the second time", s->link->id);
    }
    enum fate fate = s->message->legs[s->leg].data;
    if (!fate_is_yes(fate)) {
        service_says(s, STAGE_DATA, s->leg, fate);
        return;
    }
    s->message->legs[s->leg].link = s->link;
    s->in_data = true;
    s->in_body = false;
    s->body_at = 0;
    s->last = '\n';
    service_answer(s, SPAN("354 go ahead\r\n"));
}

static void service_command(struct service *s, struct span line)
{
    sim_note_span(s->sim, "proxy says", s->link->id, line);
    if (service_greets(s, line)) {
        return;
    }
    if (span_starts_fold(line, SPAN("MAIL FROM:<"))) {
        service_mail(s, line);
    } else if (span_starts_fold(line, SPAN("RCPT TO:<"))) {
        service_rcpt(s, line);
    } else if (span_equal(line, SPAN("DATA"))) {
        service_data(s);
    } else if (span_equal(line, SPAN("RSET"))) {
        service_forget(s);
        service_answer(s, SPAN("250 2.0.0 forgotten\r\n"));
    } else if (span_equal(line, SPAN("QUIT"))) {
        s->reply_closes = true;
        service_answer(s, SPAN("221 2.0.0 bye\r\n"));
    } else {
        sim_fail(s->sim, "link %u: unknown command `%.*s`", s->link->id, SPAN_ARGS(line));
    }
}

/* ---- the message ---- */

/* Our Received field: up to the first line that does not continue it. */
static void service_take_field(struct service *s)
{
    struct buffer *inbox = &s->link->inbox;
    while (inbox->len != 0 && !s->in_body) {
        struct span field = buffer_span(&s->field);
        char c = buffer_span(inbox).ptr[0];
        if (field.len > 1 && field.ptr[field.len - 1] == '\n' && c != ' ' && c != '\t') {
            message_check_field(s->message, s->leg, field);
            s->in_body = true;
            return;
        }
        size_t line = span_find(buffer_span(inbox), '\n');
        buffer_move(&s->field, inbox, line < inbox->len ? line + 1 : line);
    }
}

static void service_ended(struct service *s)
{
    struct message *message = s->message;
    struct message_leg *leg = &message->legs[s->leg];
    if (!message->end_sent || !leg->end_written) {
        sim_fail(s->sim, "message %u: end-of-data before the client's own", message->id);
    }
    s->settling = leg;
    s->in_data = false;
    if (fate_is_yes(leg->end)) {
        leg->copies++;
        for (unsigned i = 0; i < message->rcpt_count; i++) {
            message->rcpts[i].delivered += s->rcpts[i];
        }
    }
    sim_note(s->sim, "end of data", s->link->id, message->id);
    service_says(s, STAGE_END, s->leg, leg->end);
    service_forget(s);
}

/* The message's own bytes, as the client sent them, then the end. */
static void service_take_body(struct service *s)
{
    struct buffer *inbox = &s->link->inbox;
    const struct buffer *body = &s->message->body;
    struct span input = buffer_span(inbox);
    struct span rest = span_skip(buffer_span(body), s->body_at);
    struct span now = span_first(input, rest.len);
    if (now.len != 0 && memcmp(now.ptr, rest.ptr, now.len) != 0) {
        sim_fail(s->sim, "message %u: altered near byte %zu", s->message->id, s->body_at);
    }
    s->body_at += now.len;
    buffer_drop(inbox, now.len);
    input = buffer_span(inbox);
    if (s->body_at < body->len || input.len < 3) {
        return;
    }
    if (!span_equal(input, SPAN(".\r\n"))) {
        sim_fail(s->sim, "message %u: something behind its last byte", s->message->id);
    }
    buffer_drop(inbox, 3);
    service_ended(s);
}

/* Takes what there is to take, until an answer is due. */
static void service_go(struct service *s)
{
    if (s->closed || s->busy) {
        return;
    }
    if (service_prelude(s)) {
        return;
    }
    if (s->in_data) {
        service_take_field(s);
        if (s->in_body) {
            service_take_body(s);
        }
        return;
    }
    struct span input = buffer_span(&s->link->inbox);
    size_t end = span_find(input, '\n');
    if (end == input.len) {
        return;
    }
    char line[600];
    struct text text = TEXT(line);
    text_put(&text, span_first(input, end - 1));
    buffer_drop(&s->link->inbox, end + 1);
    service_command(s, text_span(&text));
}

/* ---- the link's events ---- */

/* A fault: the server goes away, in order or not, whatever it was about to say, or is silent from
 * now on. */
static bool service_breaks(struct service *s)
{
    if (s->hung) {
        return true;
    }
    if (s->sim->config.faults == 0 || sim_below(s->sim, 10000) >= s->sim->config.faults) {
        return false;
    }
    sim_note(s->sim, "server breaks", s->link->id, 0);
    uint64_t how = sim_below(s->sim, 5);
    if (how == 0) {
        s->hung = true;
        return true;
    }
    service_leaves(s, how < 3);
    return true;
}

static void on_bytes(void *self)
{
    struct service *s = self;
    if (!service_breaks(s)) {
        service_go(s);
    }
    service_free_when_done(s);
}

static void on_end(void *self)
{
    struct service *s = self;
    if (s->in_data) {
        sim_fail(s->sim, "link %u: closed in order in mid-message", s->link->id);
    }
    link_close(s->link);
    service_over(s);
    service_free_when_done(s);
}

static void on_reset(void *self)
{
    struct service *s = self;
    sim_note(s->sim, "server is reset", s->link->id, s->in_data);
    service_over(s);
    service_free_when_done(s);
}

/* The moment when the proxy commits: nothing but its end-of-data is ".CRLF" at the front of a line,
 * as the message has its dots stuffed. */
static void on_written(void *self, struct span bytes)
{
    struct service *s = self;
    service_check_clear(s, bytes);
    if (!s->in_data || bytes.len == 0) {
        return;
    }
    if (s->end_coming) {
        sim_fail(s->sim, "message %u: more behind its end", s->message->id);
    }
    if (s->last == '\n' && span_equal(bytes, SPAN(".\r\n"))) {
        s->end_coming = true;
        message_end_written(s->message, s->leg);
    }
    s->last = bytes.ptr[bytes.len - 1];
}

static const struct link_actor actor = {
    .on_bytes = on_bytes,
    .on_end = on_end,
    .on_reset = on_reset,
    .on_written = on_written,
};

/* Who is asked second is asked only where the first may be down. */
static void check_order(struct service *s)
{
    const struct sim_relay *relay = &s->sim->relays[s->server->relay];
    const struct server *first = s->sim->servers[s->server->relay];
    bool sound = !first->flaky || s->sim->world.now < first->down_from;
    if (s->server->endpoint != 0 && !relay->equal && sound && s->sim->config.faults == 0 &&
        !server_is_hopeless(first)) {
        sim_fail(s->sim, "link %u: to the second of two, though the first is up", s->link->id);
    }
}

void service_accept(struct link *link, struct server *server)
{
    struct service *s = sim_alloc(1, sizeof *s);
    s->sim = link->sim;
    s->server = server;
    s->link = link;
    link->actor = &actor;
    link->self = s;
    check_order(s);
    service_begin(s);
}
