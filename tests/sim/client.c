#include "tests/sim/client.h"

#include <stdio.h>
#include <stdlib.h>

#include "config/text.h"
#include "tests/sim/client_state.h"

static void client_go(struct client *c);
static void client_run(struct sim *sim, void *object, int kind);

/* ---- sending ---- */

void client_leaves(struct client *c, bool reset)
{
    sim_note(c->sim, reset ? "client resets" : "client leaves", c->number, c->answered);
    c->gone = c->done = true;
    if (reset) {
        link_reset(c->link);
    } else {
        link_close(c->link);
    }
}

static void client_says(struct client *c, struct span line)
{
    sim_note_span(c->sim, "client says", c->number, line);
    link_send(c->link, line);
    link_send(c->link, SPAN("\r\n"));
}

static void client_later(struct client *c, uint64_t delay)
{
    c->sending = true;
    sim_at(c->sim, delay, client_run, c, 0);
}

/* A piece of the message, or all of what is left and the end. False: more to come, or gone. */
static bool send_body(struct client *c, struct message *message)
{
    struct sim *sim = c->sim;
    struct span rest = span_skip(buffer_span(&message->body), c->body_at);
    bool cut = message->ending == ENDING_BODY_RESET || message->ending == ENDING_BODY_CLOSE;
    if ((cut && c->body_at == 0) || (rest.len > 1 && sim_chance(sim, 15))) {
        size_t count = (size_t)sim_below(sim, rest.len + 1);
        link_send(c->link, span_first(rest, count));
        c->body_at += count;
        if (!cut) {
            client_later(c, sim_below(sim, 300));
            return false;
        }
    }
    if (cut) {
        client_leaves(c, message->ending == ENDING_BODY_RESET);
        return false;
    }
    link_send(c->link, rest);
    link_send(c->link, SPAN(".\r\n"));
    sim_note(sim, "client ends message", c->number, message->id);
    message->end_sent = true;
    c->body_at = 0;
    if (message->ending == ENDING_END_FIN_RESET) {
        link_half_close(c->link);
    }
    if (message->ending == ENDING_END_RESET || message->ending == ENDING_END_FIN_RESET) {
        c->sending = true;
        sim_at(sim, sim_below(sim, 400), client_run, c, 1);
        return false;
    }
    return true;
}

/* A name of its own, of which it has several. */
static void choose_name(struct client *c, unsigned number)
{
    static const char *const fronts[] = {"c", "client-", "[192.0.2.", "long", ""};
    static const char *const backs[] = {
        ".example", ".client.example", "]",
        ".a-name-that-does-not-want-to-end.and-so-it-goes-on-and-on-until-it-is-too-long."
        "for-a-line.which-is-what-it-was-made-for.so-that-there-have-to-be-two.even-where-the-"
        "other."
        "values-are-short.example",
        ".example"};
    struct text text = TEXT(c->hello.name);
    text_printf(&text, "%s%u%s", fronts[number], c->number, backs[number]);
}

static bool may_start_tls(const struct client *c)
{
    return !c->secure && (c->listen == LISTEN_TLS_MAY || c->listen == LISTEN_TLS_ENCRYPT);
}

static bool send_op(struct client *c, struct op *op)
{
    char line[300];
    char path[256];
    struct text text = TEXT(line);
    switch (op->kind) {
    case OP_HEADER:
        client_send_header(c);
        return true;
    case OP_SHAKE:
        client_begin_shake(c);
        return true;
    case OP_GREETING:
        return true;
    case OP_EHLO:
    case OP_HELO:
        choose_name(c, op->number);
        c->hello.extended = op->kind == OP_EHLO;
        c->hello.secure = c->secure;
        text_printf(&text, "%s %s", op->kind == OP_EHLO ? "EHLO" : "HELO", c->hello.name);
        break;
    case OP_TOO_SOON:
        text_puts(&text, "MAIL FROM:<>");
        break;
    case OP_STARTTLS:
        text_puts(&text, "STARTTLS");
        text_puts(&text, c->trouble == TROUBLE_PIPELINES && may_start_tls(c) ? "\r\nNOOP" : "");
        break;
    case OP_MAIL:
        op->message->hello = c->hello;
        op->message->contexts = c->sim->contexts;
        op->message->must_encrypt = c->listen == LISTEN_TLS_ENCRYPT && !c->secure;
        text_put(&text, message_mail_line(op->message, true, true, path));
        break;
    case OP_RCPT:
        op->message->rcpts[op->number].sent_at = c->sim->world.now;
        text_puts(&text, "RCPT TO:<");
        text_put(&text, message_rcpt_path(op->message, op->number, path));
        text_putc(&text, '>');
        break;
    case OP_DATA:
        text_puts(&text, "DATA");
        break;
    case OP_BODY:
        return send_body(c, op->message);
    case OP_CLEAN:
    case OP_RSET:
        text_puts(&text, "RSET");
        break;
    case OP_NOOP:
        text_puts(&text, "NOOP");
        break;
    case OP_VRFY:
        text_puts(&text, "VRFY somebody");
        break;
    case OP_QUIT:
        text_puts(&text, "QUIT");
        break;
    }
    client_says(c, text_span(&text));
    return true;
}

/* All is sent and answered: ends as the script says. */
static void client_ends(struct client *c)
{
    bool halves = c->end == CLIENT_HALF_CLOSES || c->end == CLIENT_FINISHES;
    if (halves && c->sent == c->op_count && !c->link->in.fin) {
        link_half_close(c->link);
    }
    if (c->answered == c->op_count && (c->end == CLIENT_CLOSES || c->end == CLIENT_RESETS)) {
        client_leaves(c, c->end == CLIENT_RESETS);
    }
}

/* Sends what may be sent now. */
static void client_go(struct client *c)
{
    while (!c->gone && !c->sending && !c->dismissed && !c->doomed && c->sent < c->op_count) {
        struct op *op = &c->ops[c->sent];
        bool all_answered = c->answered == c->sent;
        if (op->kind == OP_CLEAN) { /* a message that is on its way ends its transaction */
            op->skipped = !c->ops[c->sent - 1].skipped || !c->refused_data;
        }
        if (op->skipped) {
            /* Answered without an answer, once those before it are. */
            c->sent++;
            if (all_answered) {
                c->answered++;
            }
            continue;
        }
        if (!all_answered && op->wait) {
            return;
        }
        if (!send_op(c, op)) {
            c->sent += !c->gone && c->body_at == 0 && op->message->end_sent;
            return;
        }
        c->sent++;
        c->answered += op->kind == OP_HEADER;
        if (op->wait && sim_chance(c->sim, 3)) {
            client_later(c, sim_below(c->sim, 2000));
        }
    }
    if (!c->gone && !c->sending && !c->dismissed && !c->doomed) {
        client_ends(c);
    }
}

static void client_comes(struct client *c);

static void client_run(struct sim *sim, void *object, int kind)
{
    struct client *c = object;
    (void)sim;
    if (kind == 2) {
        client_comes(c);
        return;
    }
    c->sending = false;
    if (c->gone) {
        return;
    }
    if (kind == 1) {
        client_leaves(c, true);
        return;
    }
    client_go(c);
}

/* ---- answers ---- */

static void expect(struct client *c, struct span reply, struct span expected)
{
    if (!span_equal(reply, expected)) {
        sim_fail(c->sim, "client %u: answered `%.*s` instead of `%.*s`", c->number,
                 SPAN_ARGS(reply), SPAN_ARGS(expected));
    }
}

static void expect_starttls(struct client *c, struct span reply)
{
    if (c->trouble == TROUBLE_PIPELINES && may_start_tls(c)) {
        c->doomed = true;
        if (span_equal(reply, SPAN("554 5.5.1 Nothing may be pipelined behind STARTTLS\r\n"))) {
            return;
        }
    }
    expect(c, reply,
           may_start_tls(c) ? SPAN("220 2.0.0 Ready to start TLS\r\n")
           : c->secure      ? SPAN("503 5.5.1 TLS is in use already\r\n")
                            : SPAN("502 5.5.1 Command not implemented\r\n"));
}

static void expect_hello(struct client *c, struct span reply, bool extended)
{
    char line[300];
    struct text text = TEXT(line);
    text_printf(&text, "250%c" SIM_HOST "\r\n", extended ? '-' : ' ');
    if (extended) {
        text_printf(&text, "250-PIPELINING\r\n250-SIZE %llu\r\n250-8BITMIME\r\n250%s\r\n",
                    (unsigned long long)c->sim->settings->limits.message_size,
                    may_start_tls(c) ? "-ENHANCEDSTATUSCODES\r\n250 STARTTLS"
                                     : " ENHANCEDSTATUSCODES");
    }
    expect(c, reply, text_span(&text));
}

static void expect_op(struct client *c, struct op *op, struct span reply)
{
    switch (op->kind) {
    case OP_HEADER:
    case OP_SHAKE:
        break;
    case OP_TOO_SOON:
        expect(c, reply, SPAN("503 5.5.1 Say EHLO first\r\n"));
        break;
    case OP_STARTTLS:
        expect_starttls(c, reply);
        break;
    case OP_GREETING:
        expect(c, reply, SPAN("220 " SIM_HOST " ESMTP splitmx\r\n"));
        break;
    case OP_EHLO:
    case OP_HELO:
        expect_hello(c, reply, op->kind == OP_EHLO);
        break;
    case OP_MAIL:
        message_expect_mail(op->message, reply);
        break;
    case OP_RCPT:
        op->message->asked_at = op->message->rcpts[op->number].sent_at;
        if (op->message->asked_at < c->heard_at) {
            op->message->asked_at = c->heard_at;
        }
        message_expect_rcpt(op->message, op->number, reply);
        break;
    case OP_DATA:
        message_expect_data(op->message, reply);
        op[1].skipped = !op->message->begun;
        c->refused_data = !op->message->begun && op->message->mail_ok && op->message->accepted == 0;
        break;
    case OP_BODY:
        message_expect_outcome(op->message, reply);
        c->dismissed = op->message->dirty;
        break;
    case OP_CLEAN:
    case OP_RSET:
    case OP_NOOP:
        expect(c, reply, SPAN("250 2.0.0 Ok\r\n"));
        break;
    case OP_VRFY:
        expect(c, reply, SPAN("252 2.5.2 Cannot verify; send mail and see\r\n"));
        break;
    case OP_QUIT:
        expect(c, reply, SPAN("221 2.0.0 Bye\r\n"));
        c->dismissed = true;
        break;
    }
}

static void client_answered(struct client *c, struct span reply)
{
    sim_note_span(c->sim, "client hears", c->number, reply);
    c->heard = true;
    if (c->answered == c->sent && c->sent < c->op_count && c->ops[c->sent].kind == OP_GREETING) {
        c->sent++; /* it comes while the client does nothing */
    }
    if (c->sim->draining && !c->dismissed && span_starts_fold(reply, SPAN("421 4.3.2 "))) {
        c->dismissed = true;
        return;
    }
    if (c->dismissed || c->doomed || c->answered >= c->sent) {
        sim_fail(c->sim, "client %u: an answer to nothing: `%.*s`", c->number, SPAN_ARGS(reply));
    }
    struct op *op = &c->ops[c->answered];
    if (c->errors >= c->sim->settings->limits.errors && op->kind != OP_BODY) {
        expect(c, reply, SPAN("421 4.7.0 Too many errors\r\n"));
        c->dismissed = true;
        return;
    }
    c->errors += reply.ptr[0] == '5';
    expect_op(c, op, reply);
    c->heard_at = c->sim->world.now;
    c->answered++;
    while (c->answered < c->sent && c->ops[c->answered].skipped) {
        c->answered++;
    }
}

static void on_bytes(void *self)
{
    struct client *c = self;
    size_t length;
    while (!client_shake(c) && !c->gone &&
           (length = buffer_reply(buffer_span(&c->link->inbox))) != 0) {
        client_answered(c, span_first(buffer_span(&c->link->inbox), length));
        buffer_drop(&c->link->inbox, length);
    }
    client_go(c);
}

static void on_end(void *self)
{
    struct client *c = self;
    bool through = c->link->in.fin && c->answered == c->sent;
    if (!c->dismissed && !c->doomed && !through) {
        sim_fail(c->sim, "client %u: closed without a word", c->number);
    }
    client_leaves(c, false);
}

static void on_reset(void *self)
{
    struct client *c = self;
    /* Nobody is told anything before the PROXY header, or in a handshake. */
    bool silent = ((c->header != HEADER_NONE || c->secure) && !c->heard) || c->shaking ||
                  (c->answered != 0 && (c->ops[c->answered].kind == OP_STARTTLS ||
                                        c->ops[c->answered].kind == OP_SHAKE));
    bool late = c->trouble == TROUBLE_NO_HEADER || c->trouble == TROUBLE_BAD_HEADER ||
                c->trouble == TROUBLE_SILENT;
    if (!(c->doomed && late) && !(c->sim->draining && silent)) {
        sim_fail(c->sim, "client %u: was sent RST", c->number);
    }
    c->gone = c->done = true;
}

/* 354 is checked when it is written: later the legs' own may have caught up. */
static void on_written(void *self, struct span bytes)
{
    struct client *c = self;
    if (span_starts_fold(bytes, SPAN("354 ")) && c->sent != 0) {
        const struct op *op = &c->ops[c->sent - 1];
        if (op->kind != OP_DATA) {
            sim_fail(c->sim, "client %u: 354 to no DATA", c->number);
        }
        message_may_begin(op->message);
    }
}

/* ---- life ---- */

static const struct link_actor actor = {
    .on_bytes = on_bytes,
    .on_end = on_end,
    .on_reset = on_reset,
    .on_written = on_written,
};

static void client_comes(struct client *c)
{
    struct session_peer peer;
    struct sim *sim = c->sim;
    client_peer(c, &peer);
    c->link = link_from_client(sim, &actor, c);
    c->link->closed = &c->closed;
    sim_note(sim, "client comes", c->number, c->link->id);
    session_begin(&sim->world, &c->link->conn, &peer);
    sim_settle(sim);
    client_go(c);
}

struct client *client_new(struct sim *sim, unsigned number, uint64_t delay)
{
    struct client *c = sim_alloc(1, sizeof *c);
    c->sim = sim;
    c->number = number;
    c->identity = &sim->identities[number];
    identity_make(sim, number, c->identity);
    client_write_script(c);
    sim_at(sim, delay, client_run, c, 2);
    return c;
}

void client_free(struct client *client)
{
    free(client);
}

bool client_is_done(const struct client *client)
{
    return client->done;
}
