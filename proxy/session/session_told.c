/*
 * A client that was told what is on record, from the ledger (design: section 5) or because it had
 * closed its side when its message was accepted: the record is kept until it has read that.
 */
#include "proxy/session/session_state.h"

/* How long such a client may take to close when all is said, milliseconds. */
#define LEAVE_WAIT 1000

void session_told_forget(struct session *s)
{
    transaction_free(s->told);
    s->told = NULL;
}

void session_told_keep(struct session *s)
{
    session_told_forget(s);
    s->told = s->transaction;
    s->transaction = NULL;
    s->told_last = false;
}

static void has_read(struct session *s)
{
    transaction_read(s->told);
    session_told_forget(s);
}

/* One that was sent along with the message, as some do with QUIT, proves nothing. */
void session_told_command(struct session *s)
{
    if (s->told != NULL && s->told_last) {
        has_read(s);
    }
}

void session_told_silence(struct session *s)
{
    s->told_last = s->told_last || (s->told != NULL && !s->conn->ops->pending(s->conn));
}

/*
 * Who has said QUIT already, and perhaps closed its side, will not send another command. But a peer
 * that has acknowledged all we said, has closed and has not reset is one that has read it: a
 * program that ends with unread bytes resets (RFC 2525 2.17).
 */
static bool has_read_and_closed(struct session *s)
{
    const struct conn_ops *ops = s->conn->ops;
    return s->eof && ops->unsent(s->conn) == 0 && ops->in_flight(s->conn) == 0 &&
           !ops->is_reset(s->conn);
}

static void say_bye(struct session *s)
{
    if (s->quit.code != 0) {
        session_say(s, s->quit.code, s->quit.enhanced, s->quit.text);
        s->quit = (struct server_step){0};
    }
}

static void leave(struct session *s)
{
    say_bye(s);
    session_close(s, CONN_FLUSH);
}

static void watch(struct session *s)
{
    s->leave_by = s->world->now + LEAVE_WAIT;
    session_set_state(s, SERVER_LEAVING);
}

/* The answer to QUIT waits at first: some do not wait for it, and their kernels would answer it
 * with a reset, as they do for who has not read the answer before it. */
void session_leave(struct session *s)
{
    if (s->told == NULL) {
        leave(s);
    } else {
        watch(s);
    }
}

void session_look_left(struct session *s)
{
    if (has_read_and_closed(s)) {
        has_read(s);
    }
    if (s->told != NULL && s->world->now < s->leave_by) {
        session_set_state(s, SERVER_LEAVING);
    } else if (s->told != NULL && s->quit.code != 0) { /* one who waits for it */
        say_bye(s);
        watch(s);
    } else {
        leave(s);
    }
}
