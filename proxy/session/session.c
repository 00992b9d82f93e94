#include "proxy/session/session.h"

#include <stdlib.h>

#include "proxy/session/pool.h"
#include "proxy/session/session_state.h"
#include "proxy/session/shared.h"
#include "proxy/session/stats.h"
#include "proxy/session/summary.h"

/* How long the first RCPT waits for the client's name (design: section 9), milliseconds. */
#define NAME_WAIT 5000
/* How long a proxy may take for its header, and a client for its handshake, milliseconds; both are
 * machines that have it ready. */
#define PROXY_WAIT 10000
#define TLS_WAIT   60000
/* The least that a client must send of a message, octets a second: less than any modem, and more
 * than who means to hold a place with a byte now and then. */
#define DATA_RATE 500

/* ---- ending ---- */

void session_free(struct deferred *deferred)
{
    struct session *s = DEFERRED_OWNER(session, deferred);
    free(s->helo);
    free(s->name);
    free(s->reverse_name);
    free(s->rcpt_path);
    spare_free(s);
}

static void session_unlink(struct session *s)
{
    *(s->previous != NULL ? &s->previous->next : &s->world->sessions) = s->next;
    if (s->next != NULL) {
        s->next->previous = s->previous;
    }
}

void session_drop_transaction(struct session *s)
{
    transaction_free(s->transaction);
    s->transaction = NULL;
}

/* Nothing is left that it would wait for; connections that speak for its client are of no use. */
static void session_go(struct session *s)
{
    session_drop_transaction(s);
    session_told_forget(s);
    session_unlink(s);
    pool_forget(s->world->pool, s->id);
    world_defer(s->world, &s->deferred);
}

void session_close(struct session *s, enum conn_close how)
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
        shared_tally_give(world->entry, TALLY_CLIENTS, s->cell);
        shared_drop_session(world->entry);
        stats_sub(world->stats, STAT_SESSIONS_OPEN, 1);
    }
    if (s->transaction != NULL && !transaction_client_gone(s->transaction)) {
        return;
    }
    session_go(s);
}

/* ---- replies ---- */

void session_write(struct session *s, const struct reply *reply, bool plain)
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

void session_say(struct session *s, unsigned code, const char *enhanced, const char *text)
{
    struct reply reply;
    reply_set(&reply, code, enhanced, text);
    session_reply(s, &reply);
}

void session_dismiss(struct session *s, unsigned code, const char *enhanced, const char *text,
                     const char *event)
{
    if (s->conn == NULL) {
        return;
    }
    struct reply reply;
    reply_set(&reply, code, enhanced, text);
    session_reply(s, &reply);
    summary_session(s->world, &s->view, event, text);
    transaction_dismiss(s->transaction, &reply);
    session_close(s, CONN_FLUSH);
}

void session_wait(struct session *s, uint64_t milliseconds)
{
    timer_set(&s->world->timers, &s->timer, s->world->now + milliseconds);
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* ---- the pace of a message: DATA_RATE in each window of `timeouts: data` ---- */

/* While the client is not read, its time stands still. */
static void begin_window(struct session *s, uint64_t milliseconds)
{
    s->window_octets = 0;
    s->window_left = milliseconds;
    session_wait(s, milliseconds);
}

static void stop_window(struct session *s)
{
    s->window_left = s->timer.due > s->world->now ? s->timer.due - s->world->now : 0;
    timer_stop(&s->world->timers, &s->timer);
}

/* Enough has come in the window that is over. */
static bool keeps_pace(const struct session *s)
{
    return s->window_octets >= s->world->policy->config->timeouts.data * DATA_RATE / 1000;
}

void session_set_state(struct session *s, enum server_state next)
{
    const struct config_timeouts *timeouts = &s->world->policy->config->timeouts;
    s->state = next;
    switch (next) {
    case SERVER_HELO:
    case SERVER_READY:
    case SERVER_ENVELOPE:
        session_wait(s, timeouts->command);
        break;
    case SERVER_PROXY:
        session_wait(s, least(timeouts->command, PROXY_WAIT));
        break;
    case SERVER_TLS:
        session_wait(s, least(timeouts->command, TLS_WAIT));
        break;
    case SERVER_NAME:
        session_wait(s, NAME_WAIT);
        break;
    case SERVER_LEAVING:
        session_wait(s, SESSION_LEAVE_RECHECK);
        break;
    case SERVER_BODY:
        begin_window(s, timeouts->data);
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
        session_go(s);
        return;
    }
    session_reply(s, event->reply);
    if (transaction_is_unread(s->transaction)) {
        session_told_keep(s);
    }
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
        s->idle_commands = 0;
        session_set_state(s, SERVER_BODY);
    } else {
        session_drop_transaction(s);
        session_set_state(s, SERVER_READY);
    }
}

/* No event tells that a client resets which has told its end, or is not read for what it has sent
 * along. */
static bool may_be_gone_unheard(const struct session *s)
{
    return s->eof || s->conn->ops->peek(s->conn).len != 0;
}

void session_on_transaction(void *owner, const struct transaction_event *event)
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
    case TRANSACTION_COMMITS:
        if (may_be_gone_unheard(s) && s->conn->ops->is_reset(s->conn)) {
            transaction_client_gone(s->transaction);
        }
        return;
    case TRANSACTION_OUTCOME:
        on_outcome(s, event);
        break;
    }
    session_pump(s);
}

/* ---- input ---- */

/* Broken lines count as errors, like what is no command; so any line is one too many then. */
static bool session_has_erred(const struct session *s)
{
    return s->errors >= s->world->policy->config->limits.errors;
}

/* Takes one command; false when there is no whole line yet. */
static bool read_command(struct session *s, struct span input)
{
    struct span line;
    size_t consumed = 0;
    enum line_status status = line_take(&s->lines, input, &line, &consumed);
    session_told_command(s);
    if (status != LINE_MORE && session_has_erred(s)) {
        session_dismiss(s, 421, "4.7.0", "Too many errors", "session-dropped");
        return true;
    }
    switch (status) {
    case LINE_MORE:
        break;
    case LINE_OK:
        session_command(s, line, input.len > consumed);
        break;
    case LINE_TOO_LONG:
        session_say(s, 500, "5.5.2", "Line too long");
        break;
    case LINE_BARE_LF:
        session_say(s, 500, "5.5.2", "Lines end in CR LF");
        break;
    case LINE_NUL:
        session_say(s, 500, "5.5.2", "A NUL in a command");
        break;
    case LINE_TLS:
        session_dismiss(s, 554, "5.5.1", "SMTP begins in clear here, not with TLS",
                        "session-dropped");
        break;
    }
    if (s->conn != NULL) {
        s->conn->ops->consume(s->conn, consumed);
    }
    if (s->state == SERVER_TLS) { /* the line with STARTTLS must be out of the way */
        session_start_tls(s);
    } else if (s->conn != NULL && s->quit.code != 0) { /* and QUIT, for nothing to be unread */
        session_leave(s);
    }
    return consumed != 0;
}

static bool read_message(struct session *s, struct span input)
{
    bool ended = false;
    if (!transaction_has_room(s->transaction)) {
        return false;
    }
    size_t consumed = transaction_feed(s->transaction, input, &ended);
    s->window_octets += consumed;
    if (ended && s->state == SERVER_BODY) { /* the outcome may have come at once */
        session_set_state(s, SERVER_OUTCOME);
    }
    if (s->conn != NULL) {
        s->conn->ops->consume(s->conn, consumed);
    }
    return consumed != 0;
}

static bool is_idle(const struct session *s)
{
    return s->state == SERVER_HELO || s->state == SERVER_READY;
}

/* Does one thing with what has arrived; false when there is nothing to be done now. */
static bool session_turn(struct session *s)
{
    struct span input = s->conn->ops->peek(s->conn);
    if (s->world->draining && is_idle(s)) {
        return false; /* what was sent along behind a transaction finds nobody */
    }
    if (input.len == 0) {
        s->view.has_ended = s->eof;
        session_told_silence(s);
        return false;
    }
    if (!conn_has_room(s->conn)) {
        return false; /* a client that does not read its replies is not read either */
    }
    switch (s->state) {
    case SERVER_PROXY:
        return session_read_proxy(s, input);
    case SERVER_HELO:
    case SERVER_READY:
    case SERVER_ENVELOPE:
        return read_command(s, input);
    case SERVER_BODY:
        return read_message(s, input);
    case SERVER_TLS:
    case SERVER_NAME:
    case SERVER_RCPT:
    case SERVER_DATA:
    case SERVER_OUTCOME:
    case SERVER_LEAVING:
    case SERVER_CLOSED:
    case SERVER_STATES:
        break;
    }
    return false;
}

/* End-of-file only says that the client will send no more: what it sent before is done still, and
 * answered, the outcome of its message too. Over once nothing of that is left. */
static bool is_through(const struct session *s)
{
    if (!s->eof || (s->conn->ops->peek(s->conn).len != 0 && !conn_has_room(s->conn))) {
        return false;
    }
    switch (s->state) {
    case SERVER_PROXY:
    case SERVER_TLS:
    case SERVER_HELO:
    case SERVER_READY:
    case SERVER_ENVELOPE:
        return true;
    case SERVER_BODY:
        return transaction_has_room(s->transaction);
    case SERVER_NAME:
    case SERVER_RCPT:
    case SERVER_DATA:
    case SERVER_OUTCOME:
    case SERVER_LEAVING:
    case SERVER_CLOSED:
    case SERVER_STATES:
        break;
    }
    return false;
}

/* What the legs have no room for stays with the client, not with us. That is not its fault, so its
 * time stands still: the leg is timed. */
static void session_want(struct session *s)
{
    bool unwanted = s->state == SERVER_BODY && !transaction_has_room(s->transaction);
    if (unwanted == s->unwanted) {
        return;
    }
    s->unwanted = unwanted;
    s->conn->ops->want(s->conn, !unwanted);
    if (unwanted) {
        stop_window(s);
    } else if (s->state == SERVER_BODY) {
        session_wait(s, s->window_left);
    }
}

/* Runs after every event on any side: reads on as far as the state allows (design: section 9). */
void session_pump(struct session *s)
{
    if (s->pumping || s->conn == NULL) {
        return;
    }
    s->pumping = true;
    while (s->conn != NULL && session_turn(s)) {
        continue;
    }
    s->pumping = false;
    if (s->conn != NULL) {
        session_want(s);
    }
    if (s->conn != NULL && s->world->draining && is_idle(s)) {
        session_drain(s);
    } else if (s->conn != NULL && is_through(s)) {
        session_leave(s);
    }
}

void session_on_conn(void *owner, enum conn_event event)
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
    case CONN_SECURE:
        session_is_secure(s);
        session_pump(s);
        break;
    case CONN_INSECURE:
        session_is_insecure(s);
        break;
    }
}

/* Without memory it has no name for now. */
static char *dup_name(struct session *s, const char *name)
{
    char *own = name != NULL ? span_dup(span_of(name)) : NULL;
    s->view.names_later |= name != NULL && own == NULL;
    return own;
}

void session_on_name(void *owner, const struct resolver_name *name)
{
    struct session *s = owner;
    s->lookup = NULL;
    s->view.names_later = name->later;
    s->view.name = s->name = dup_name(s, name->confirmed);
    s->view.reverse_name = s->reverse_name = dup_name(s, name->reverse);
    s->view.version++;
    if (s->state == SERVER_NAME) {
        session_ask_held(s);
        session_pump(s);
    }
}

/* Before its PROXY header a peer is nobody that we talk to; during a handshake words would be taken
 * for a part of it. */
static bool cannot_be_told(const struct session *s)
{
    return s->state == SERVER_PROXY || s->state == SERVER_TLS;
}

void session_on_due(void *owner)
{
    struct session *s = owner;
    if (s->state == SERVER_NAME) {
        static const struct resolver_name late = {.later = true};
        s->world->ops->resolve_cancel(s->world, s->lookup);
        session_on_name(s, &late);
        return;
    }
    if (s->state == SERVER_LEAVING) {
        session_look_left(s);
        return;
    }
    if (s->state == SERVER_BODY && keeps_pace(s)) {
        begin_window(s, s->world->policy->config->timeouts.data);
        return;
    }
    char text[80];
    struct text why = TEXT(text);
    text_printf(&why, "%s while %s",
                s->state == SERVER_BODY && s->window_octets != 0 ? "Too slow" : "Timed out",
                server_while(s->state));
    if (cannot_be_told(s)) {
        summary_session(s->world, &s->view, "session-timed-out", text);
        session_close(s, CONN_RESET);
        return;
    }
    session_dismiss(s, 421, "4.4.2", text, "session-timed-out");
}

/* ---- draining ---- */

void session_drain(struct session *s)
{
    if (cannot_be_told(s)) {
        session_close(s, CONN_RESET);
    } else if (is_idle(s)) {
        session_dismiss(s, 421, "4.3.2", "Shutting down", "session-drained");
    }
}

void session_cut(struct session *s)
{
    if (cannot_be_told(s)) {
        session_close(s, CONN_RESET);
    } else if (s->state == SERVER_LEAVING) {
        s->leave_by = s->world->now;
        session_look_left(s);
    } else if (s->transaction == NULL || !transaction_is_committing(s->transaction)) {
        session_dismiss(s, 421, "4.3.2", "Shutting down", "session-cut");
    }
}

struct session *session_next(struct session *s)
{
    return s->next;
}
