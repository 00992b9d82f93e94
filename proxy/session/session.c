#include "proxy/session/session.h"

#include <stdlib.h>

#include "proxy/session/policy.h"
#include "proxy/session/shared.h"
#include "proxy/session/stats.h"
#include "proxy/session/summary.h"
#include "proxy/session/transaction.h"
#include "proxy/wire/server.h"

/* How long the first RCPT waits for the client's name (design: section 9), milliseconds. */
#define NAME_WAIT 5000

struct session {
    struct world *world;
    struct conn *conn; /* NULL once closed; the session may outlive it for a commit under way */
    enum server_state state;
    struct client_view view; /* what others may know of the client */
    char id[20];
    char *helo;
    char *name;
    struct resolution *lookup; /* of the name, under way */
    struct line_reader lines;
    char *rcpt_path; /* of the RCPT that SERVER_NAME holds back */
    struct transaction *transaction;
    unsigned transactions;
    unsigned errors;
    quota_cell cell;
    bool counted;
    bool eof;
    bool pumping;
    struct timer timer;
    struct session *next, *previous;
    struct deferred deferred;
};

static void session_pump(struct session *s);

/* ---- ending ---- */

static void session_free(struct deferred *deferred)
{
    struct session *s =
        (struct session *)(void *)((char *)deferred - offsetof(struct session, deferred));
    free(s->helo);
    free(s->name);
    free(s->rcpt_path);
    free(s);
}

static void session_unlink(struct session *s)
{
    *(s->previous != NULL ? &s->previous->next : &s->world->sessions) = s->next;
    if (s->next != NULL) {
        s->next->previous = s->previous;
    }
}

static void session_drop_transaction(struct session *s)
{
    transaction_free(s->transaction);
    s->transaction = NULL;
}

/* The session is over but for a commit under way, whose outcome it still waits for. */
static void session_close(struct session *s, enum conn_close how)
{
    struct world *world = s->world;
    if (s->conn == NULL) {
        return;
    }
    s->conn->ops->close(s->conn, how);
    s->conn = NULL;
    s->state = SERVER_CLOSED;
    timer_stop(&world->timers, &s->timer);
    if (s->lookup != NULL) {
        world->ops->resolve_cancel(world, s->lookup);
        s->lookup = NULL;
    }
    if (s->counted) {
        quota_give(world->shared->clients, s->cell);
        atomic_fetch_sub_explicit(&world->shared->sessions, 1, memory_order_relaxed);
        stats_sub(world->stats, STAT_SESSIONS_OPEN, 1);
    }
    if (s->transaction != NULL && !transaction_client_gone(s->transaction)) {
        return;
    }
    session_drop_transaction(s);
    session_unlink(s);
    world_defer(world, &s->deferred);
}

/* ---- replies ---- */

static void session_write(struct session *s, const struct reply *reply, bool plain)
{
    char buffer[8192];
    struct text text = TEXT(buffer);
    if (s->conn == NULL) {
        return;
    }
    if (reply->code >= 500) {
        s->errors++;
    }
    reply_write(reply, plain, &text);
    s->conn->ops->write(s->conn, text_span(&text));
}

static void session_reply(struct session *s, const struct reply *reply)
{
    session_write(s, reply, false);
}

static void session_say(struct session *s, unsigned code, const char *enhanced, const char *text)
{
    struct reply reply;
    reply_set(&reply, code, enhanced, text);
    session_reply(s, &reply);
}

/* The last words of a session that is not going on. */
static void session_dismiss(struct session *s, unsigned code, const char *enhanced,
                            const char *text, const char *event)
{
    if (s->conn == NULL) {
        return;
    }
    session_say(s, code, enhanced, text);
    summary_session(s->world, &s->view, event, text);
    session_close(s, CONN_FLUSH);
}

static void session_wait(struct session *s, uint64_t milliseconds)
{
    timer_set(&s->world->timers, &s->timer, s->world->now + milliseconds);
}

/* The only place that changes the state; the time a state may last belongs to it. */
static void session_set_state(struct session *s, enum server_state next)
{
    const struct config_timeouts *timeouts = &s->world->policy->config->timeouts;
    s->state = next;
    switch (next) {
    case SERVER_HELO:
    case SERVER_READY:
    case SERVER_ENVELOPE:
        session_wait(s, timeouts->command);
        break;
    case SERVER_NAME:
        session_wait(s, NAME_WAIT);
        break;
    case SERVER_BODY:
        session_wait(s, timeouts->data);
        break;
    case SERVER_RCPT: /* the legs and the transaction keep these times */
    case SERVER_DATA:
    case SERVER_OUTCOME:
    case SERVER_CLOSED:
    case SERVER_STATES:
        timer_stop(&s->world->timers, &s->timer);
        break;
    }
}

/* ---- transaction events ---- */

static void on_outcome(struct session *s, const struct transaction_event *event)
{
    if (s->conn == NULL) { /* the client left during the commit: nobody to tell */
        session_drop_transaction(s);
        session_unlink(s);
        world_defer(s->world, &s->deferred);
        return;
    }
    session_reply(s, event->reply);
    session_drop_transaction(s);
    session_set_state(s, SERVER_READY);
    if (event->close) {
        summary_session(s->world, &s->view, "session-dropped", "broken line ends in a message");
        session_close(s, CONN_FLUSH);
    }
}

static void on_data(struct session *s, const struct transaction_event *event)
{
    bool go = reply_is(event->reply, 3);
    session_write(s, event->reply, go);
    if (go) {
        session_set_state(s, SERVER_BODY);
    } else {
        session_drop_transaction(s);
        session_set_state(s, SERVER_READY);
    }
}

static void on_transaction(void *owner, const struct transaction_event *event)
{
    struct session *s = owner;
    switch (event->kind) {
    case TRANSACTION_RECIPIENT:
        session_reply(s, event->reply);
        session_set_state(s, SERVER_ENVELOPE);
        break;
    case TRANSACTION_DATA:
        on_data(s, event);
        break;
    case TRANSACTION_ROOM:
        break;
    case TRANSACTION_OUTCOME:
        on_outcome(s, event);
        break;
    }
    session_pump(s);
}

/* ---- commands ---- */

/* A line an extension, behind the greeting's (RFC 5321 4.1.1.1). */
static void add_offers(struct reply *reply, const struct config *config)
{
    struct text text = {reply->text, reply->text_len, sizeof reply->text, false};
    text_printf(&text, "\nPIPELINING\nSIZE %llu\n8BITMIME\nENHANCEDSTATUSCODES",
                (unsigned long long)config->limits.message_size);
    reply->text_len = (unsigned short)text.len;
}

static void do_ehlo(struct session *s, struct span argument, bool extended)
{
    const struct config *config = s->world->policy->config;
    struct reply reply;
    if (!helo_valid(argument)) {
        session_say(s, 501, "5.5.4", "A host name or address literal is needed");
        return;
    }
    char *helo = span_dup(argument);
    if (helo == NULL) {
        session_say(s, 452, "4.3.1", "Out of memory");
        return;
    }
    free(s->helo);
    s->helo = helo;
    s->view.helo = span_of(helo);
    s->view.protocol = extended ? "ESMTP" : "SMTP";
    session_drop_transaction(s);
    reply_set(&reply, 250, "", config->hostname.text);
    if (extended) {
        add_offers(&reply, config);
    }
    session_write(s, &reply, true);
    session_set_state(s, SERVER_READY);
}

static void say_parse_error(struct session *s, enum parse_status status, const char *what)
{
    if (status == PARSE_PARAMETER) {
        session_say(s, 555, "5.5.4", "Unknown parameter");
    } else {
        session_say(s, 501, "5.5.4", what);
    }
}

/* The answers to a path that cannot be used as a sender. */
static bool sender_is_good(struct session *s, struct span path)
{
    struct address address;
    if (path.len == 0) {
        return true;
    }
    switch (address_parse(path, true, false, &address)) {
    case ADDRESS_OK:
    case ADDRESS_ROUTING:
        return true;
    case ADDRESS_UTF8:
        session_say(s, 553, "5.6.7", "Non-ASCII addresses need SMTPUTF8, which is not offered");
        return false;
    case ADDRESS_SYNTAX:
    case ADDRESS_TOO_LONG:
        break;
    }
    session_say(s, 501, "5.1.7", "Bad sender address");
    return false;
}

static void do_mail(struct session *s, struct span argument)
{
    struct mail_command mail = {0};
    enum parse_status status = mail_parse(argument, &mail);
    if (status != PARSE_OK) {
        say_parse_error(s, status, "Syntax: MAIL FROM:<address>");
    } else if (mail.smtputf8) {
        session_say(s, 555, "5.5.4", "Unknown parameter");
    } else if (mail.size > s->world->policy->config->limits.message_size) {
        session_say(s, 552, "5.3.4", "Message too big");
    } else if (sender_is_good(s, mail.path)) {
        struct envelope envelope = {
            .sender = mail.path, .size = mail.size, .body_8bit = mail.body_8bit};
        s->transaction = transaction_new(s->world, &s->view, &envelope, ++s->transactions,
                                         on_transaction, s);
        if (s->transaction == NULL) {
            session_say(s, 452, "4.3.1", "Out of memory");
            return;
        }
        session_say(s, 250, "2.1.0", "Ok");
        session_set_state(s, SERVER_ENVELOPE);
    }
}

static void ask_recipient(struct session *s, struct span path)
{
    session_set_state(s, SERVER_RCPT);
    transaction_recipient(s->transaction, path);
}

static void do_rcpt(struct session *s, struct span argument)
{
    struct rcpt_command rcpt = {0};
    enum parse_status status = rcpt_parse(argument, &rcpt);
    if (status != PARSE_OK) {
        say_parse_error(s, status, "Syntax: RCPT TO:<address>");
        return;
    }
    if (s->lookup == NULL) {
        ask_recipient(s, rcpt.path);
        return;
    }
    s->rcpt_path = span_dup(rcpt.path);
    if (s->rcpt_path == NULL) {
        session_say(s, 452, "4.3.1", "Out of memory");
        return;
    }
    session_set_state(s, SERVER_NAME);
}

/* The client's name is known, or is not going to be. */
static void name_is_settled(struct session *s)
{
    if (s->state == SERVER_NAME) {
        char *path = s->rcpt_path;
        s->rcpt_path = NULL;
        ask_recipient(s, span_of(path));
        free(path);
        session_pump(s);
    }
}

static void do_data(struct session *s, struct span argument)
{
    if (argument.len != 0) {
        session_say(s, 501, "5.5.4", "DATA takes no argument");
        return;
    }
    if (!transaction_has_recipients(s->transaction)) {
        session_say(s, 554, "5.5.1", "No valid recipients");
        return;
    }
    session_set_state(s, SERVER_DATA);
    transaction_data(s->transaction);
}

static void session_command(struct session *s, struct span line)
{
    struct command command = command_parse(line);
    struct server_step step = server_step(s->state, command.verb);
    if (s->errors >= s->world->policy->config->limits.errors) {
        session_dismiss(s, 421, "4.7.0", "Too many errors", "session-dropped");
        return;
    }
    session_set_state(s, s->state); /* the next command has its own time */
    switch (step.action) {
    case SERVER_DO_HOLD:
        break;
    case SERVER_DO_SAY:
        session_say(s, step.code, step.enhanced, step.text);
        break;
    case SERVER_DO_HELO:
        do_ehlo(s, command.argument, false);
        break;
    case SERVER_DO_EHLO:
        do_ehlo(s, command.argument, true);
        break;
    case SERVER_DO_MAIL:
        do_mail(s, command.argument);
        break;
    case SERVER_DO_RCPT:
        do_rcpt(s, command.argument);
        break;
    case SERVER_DO_DATA:
        do_data(s, command.argument);
        break;
    case SERVER_DO_RSET:
        session_drop_transaction(s);
        session_say(s, 250, "2.0.0", "Ok");
        session_set_state(s, s->state == SERVER_ENVELOPE ? SERVER_READY : s->state);
        break;
    case SERVER_DO_QUIT:
        session_say(s, step.code, step.enhanced, step.text);
        session_close(s, CONN_FLUSH);
        break;
    case SERVER_DO_DROP:
        session_dismiss(s, step.code, step.enhanced, step.text, "session-dropped");
        break;
    }
}

/* ---- input ---- */

/* Takes one command; false when there is no whole line yet. */
static bool read_command(struct session *s, struct span input)
{
    struct span line;
    size_t consumed = 0;
    enum line_status status = line_take(&s->lines, input, &line, &consumed);
    switch (status) {
    case LINE_MORE:
        break;
    case LINE_OK:
        session_command(s, line);
        break;
    case LINE_TOO_LONG:
        session_say(s, 500, "5.5.2", "Line too long");
        break;
    case LINE_BARE_LF:
        session_say(s, 500, "5.5.2", "Lines end in CR LF");
        break;
    }
    if (s->conn != NULL) {
        s->conn->ops->consume(s->conn, consumed);
    }
    return consumed != 0;
}

static bool read_message(struct session *s, struct span input)
{
    bool ended = false;
    if (!transaction_has_room(s->transaction)) {
        timer_stop(&s->world->timers, &s->timer); /* not the client's fault: the leg is timed */
        return false;
    }
    session_wait(s, s->world->policy->config->timeouts.data);
    size_t consumed = transaction_feed(s->transaction, input, &ended);
    if (ended && s->state == SERVER_BODY) { /* the outcome may have come at once */
        session_set_state(s, SERVER_OUTCOME);
    }
    if (s->conn != NULL) {
        s->conn->ops->consume(s->conn, consumed);
    }
    return consumed != 0;
}

/* Does one thing with what has arrived; false when there is nothing to be done now. */
static bool session_turn(struct session *s)
{
    struct span input = s->conn->ops->peek(s->conn);
    if (input.len == 0 || s->conn->ops->unsent(s->conn) > CONN_ROOM) {
        return false; /* a client that does not read its replies is not read either */
    }
    switch (s->state) {
    case SERVER_HELO:
    case SERVER_READY:
    case SERVER_ENVELOPE:
        return read_command(s, input);
    case SERVER_BODY:
        return read_message(s, input);
    case SERVER_NAME:
    case SERVER_RCPT:
    case SERVER_DATA:
    case SERVER_OUTCOME:
    case SERVER_CLOSED:
    case SERVER_STATES:
        break;
    }
    return false;
}

static bool is_idle(const struct session *s)
{
    return s->state == SERVER_HELO || s->state == SERVER_READY;
}

/* After end-of-file: over as soon as nothing is left that could be done for the client. What it had sent before, QUIT perhaps, is
 * done still; with nothing behind the end of data it is not there any more to read the outcome. */
static bool has_left(const struct session *s)
{
    return s->eof && s->state != SERVER_NAME && s->state != SERVER_RCPT &&
           s->state != SERVER_DATA &&
           (s->state != SERVER_OUTCOME || s->conn->ops->peek(s->conn).len == 0) &&
           (s->state != SERVER_BODY || transaction_has_room(s->transaction));
}

/* Runs after every event on any side: reads on as far as the state allows (design: section 9). */
static void session_pump(struct session *s)
{
    if (s->pumping || s->conn == NULL) {
        return;
    }
    s->pumping = true;
    while (s->conn != NULL && session_turn(s)) {
        continue;
    }
    s->pumping = false;
    if (s->conn != NULL && has_left(s)) {
        session_close(s, CONN_FLUSH);
    } else if (s->conn != NULL && s->world->draining && is_idle(s)) {
        session_drain(s);
    }
}

static void on_conn(void *owner, enum conn_event event)
{
    struct session *s = owner;
    switch (event) {
    case CONN_OPEN:
        break;
    case CONN_READABLE:
    case CONN_WRITABLE:
        session_pump(s);
        break;
    case CONN_EOF:
        s->eof = true;
        session_pump(s);
        break;
    case CONN_LOST:
        session_close(s, CONN_RESET);
        break;
    }
}

static void on_name(void *owner, const char *name)
{
    struct session *s = owner;
    s->lookup = NULL;
    if (name != NULL) {
        s->name = span_dup(span_of(name));
        s->view.name = s->name;
    }
    name_is_settled(s);
}

static void on_due(void *owner)
{
    struct session *s = owner;
    if (s->state == SERVER_NAME) {
        s->world->ops->resolve_cancel(s->world, s->lookup);
        on_name(s, NULL);
        return;
    }
    char text[80];
    struct text why = TEXT(text);
    text_printf(&why, "Timed out while %s", server_while(s->state));
    session_dismiss(s, 421, "4.4.2", text, "session-timed-out");
}

/* ---- draining ---- */

void session_drain(struct session *s)
{
    if (is_idle(s)) {
        session_dismiss(s, 421, "4.3.2", "Shutting down", "session-drained");
    }
}

void session_cut(struct session *s)
{
    if (s->transaction == NULL || !transaction_is_committing(s->transaction)) {
        session_dismiss(s, 421, "4.3.2", "Shutting down", "session-cut");
    }
}

struct session *session_next(struct session *s)
{
    return s->next;
}

/* ---- beginning ---- */

/* Answers 421 or 554 where the client may not come in. */
static bool session_admit(struct session *s, const struct session_peer *peer)
{
    struct world *world = s->world;
    const struct config_limits *limits = &world->policy->config->limits;
    unsigned char key[16];
    size_t length = quota_client_key(&peer->client, key);
    if (world->draining || atomic_load_explicit(&world->shared->sessions, memory_order_relaxed) >=
                               limits->connections) {
        session_dismiss(s, 421, "4.3.2", "No more connections now", "session-refused");
        return false;
    }
    s->cell = quota_take(world->shared->clients, key, length, limits->connections_per_client);
    if (s->cell == QUOTA_NONE) {
        session_dismiss(s, 421, "4.7.0", "Too many connections from you", "session-refused");
        return false;
    }
    atomic_fetch_add_explicit(&world->shared->sessions, 1, memory_order_relaxed);
    s->counted = true;
    stats_add(world->stats, STAT_SESSIONS_OPEN, 1);
    if (peer->early) {
        session_dismiss(s, 554, "5.5.1", "You spoke before the greeting", "session-refused");
        return false;
    }
    return true;
}

static void session_name(struct session *s)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz234567";
    uint64_t random = s->world->ops->random(s->world);
    for (size_t i = 0; i < 12; i++) {
        s->id[i] = letters[random % 32];
        random /= 32;
    }
    s->view.session_id = s->id;
}

void session_begin(struct world *world, struct conn *conn, const struct session_peer *peer)
{
    struct session *s = calloc(1, sizeof *s);
    if (s == NULL) {
        conn->ops->close(conn, CONN_RESET);
        return;
    }
    s->world = world;
    s->conn = conn;
    s->cell = QUOTA_NONE;
    s->timer.on_due = on_due;
    s->timer.owner = s;
    s->deferred.free = session_free;
    s->view.protocol = "SMTP";
    net_address_text(&peer->client, s->view.ip, sizeof s->view.ip);
    session_name(s);
    conn->on_event = on_conn;
    conn->owner = s;
    s->next = world->sessions;
    if (s->next != NULL) {
        s->next->previous = s;
    }
    world->sessions = s;
    stats_add(world->stats, STAT_SESSIONS, 1);
    if (!session_admit(s, peer)) {
        stats_add(world->stats, STAT_SESSIONS_REFUSED, 1);
        return;
    }
    struct reply greeting;
    reply_setf(&greeting, 220, "", "%s ESMTP splitmx", world->policy->config->hostname.text);
    session_write(s, &greeting, true);
    session_set_state(s, SERVER_HELO);
    s->lookup = world->ops->resolve_ptr(world, &peer->client, on_name, s);
}
