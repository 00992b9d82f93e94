#include "tests/fuzz/play.h"

#include <stdio.h>
#include <stdlib.h>

#include "tests/sim/handshake.h"

/* What a connection may hold that it could not send: what it may have had before, and one piece
 * more of all that may be waiting with the client. */
#define UNSENT_MAX (CONN_ROOM + CONN_HELD + 8192)

/* So much of a message may be on its way to the others when the first is asked to commit. */
#define ON_ITS_WAY_MAX (16 * 1024)

/* ---- what it has said, as replies ---- */

static void parse_said(struct upstream_end *end)
{
    while (!end->garbled && end->parsed < end->said.len) {
        const struct span rest = span_skip(buffer_span(&end->said), end->parsed);
        size_t used = 0;
        const enum reply_status status = reply_parse(&end->parser, rest, &end->reply, &used);
        end->parsed += used;
        if (status == REPLY_MORE) {
            return;
        }
        end->garbled = status == REPLY_BAD || end->replies == PLAY_COMMANDS;
        if (!end->garbled) {
            end->codes[end->replies++] = end->reply.code;
        }
        end->parser = (struct reply_parser){0};
        if (end->replies < PLAY_COMMANDS) {
            end->begins[end->replies] = end->parsed;
        }
    }
}

/* Its answer to a command, or 0. */
static unsigned code_of(const struct upstream_end *end, unsigned number)
{
    return number < end->replies ? end->codes[number] : 0;
}

/* A domain is the same however it is written; a sender that comes again may write it otherwise. */
static bool same_path(struct span a, struct span b)
{
    const size_t at = span_rfind(a, '@');
    return a.len == b.len && span_equal(span_first(a, at), span_first(b, at)) &&
           span_equal_fold(span_skip(a, at), span_skip(b, at));
}

static bool is_accepted(const struct upstream_end *end, const struct asked *asked, unsigned count,
                        struct span recipient)
{
    for (unsigned i = 0; i < count; i++) {
        if (same_path(buffer_span(&asked[i].what), recipient) &&
            code_of(end, asked[i].reply) / 100 == 2) {
            return true;
        }
    }
    return false;
}

bool play_recipient_accepted(const struct play *play, struct span sender, struct span recipient)
{
    for (const struct upstream_end *end = play->ends; end != NULL; end = end->next) {
        if (same_path(buffer_span(&end->sender), sender) &&
            is_accepted(end, end->recipients, end->count, recipient)) {
            return true;
        }
    }
    return false;
}

bool play_data_accepted(const struct play *play, struct span sender, struct span recipient)
{
    for (const struct upstream_end *end = play->ends; end != NULL; end = end->next) {
        if (end->stage == OF_DATA && code_of(end, end->data) / 100 == 3 &&
            same_path(buffer_span(&end->sender), sender) &&
            is_accepted(end, end->recipients, end->count, recipient)) {
            return true;
        }
    }
    return false;
}

bool play_has_copy(const struct play *play, struct span sender, struct span recipient,
                   const struct span *message)
{
    for (const struct copy *copy = play->copies; copy != NULL; copy = copy->next) {
        const struct upstream_end *end = copy->end;
        if (code_of(end, copy->reply) / 100 == 2 && end->begins[copy->reply] >= copy->since &&
            same_path(buffer_span(&copy->sender), sender) &&
            is_accepted(end, copy->recipients, copy->count, recipient) &&
            (message == NULL || play_is_message(*message, buffer_span(&copy->message)))) {
            return true;
        }
    }
    return false;
}

/* ---- what it is told: commands ---- */

static void forget_envelope(struct upstream_end *end)
{
    buffer_release(&end->sender);
    for (unsigned i = 0; i < end->count; i++) {
        buffer_release(&end->recipients[i].what);
    }
    end->count = 0;
}

static void check_mail(struct upstream_end *end, struct span argument)
{
    struct mail_command mail;
    const struct play *play = end->play;
    bool known = false;
    if (mail_parse(argument, &mail) != PARSE_OK) {
        play_fail("a bad MAIL: %.*s", SPAN_ARGS(argument));
    }
    for (unsigned i = 0; i < play->caller_count; i++) {
        known |= caller_has_sender(play->callers[i], play_path(mail.path));
    }
    if (!known) {
        play_fail("MAIL that nobody has given: %.*s", SPAN_ARGS(argument));
    }
    forget_envelope(end);
    buffer_put(&end->sender, play_path(mail.path));
}

static void check_rcpt(struct upstream_end *end, struct span argument)
{
    struct rcpt_command rcpt;
    const struct play *play = end->play;
    bool known = false;
    if (rcpt_parse(argument, &rcpt) != PARSE_OK || end->count == PLAY_RECIPIENTS) {
        play_fail("a bad RCPT: %.*s", SPAN_ARGS(argument));
    }
    for (unsigned i = 0; i < play->caller_count; i++) {
        known |= caller_has_recipient(play->callers[i], rcpt.path);
    }
    if (!known) {
        play_fail("RCPT that nobody has given: %.*s", SPAN_ARGS(argument));
    }
    buffer_put(&end->recipients[end->count].what, rcpt.path);
    end->recipients[end->count++].reply = end->commands;
}

static void check_line(struct upstream_end *end, struct span line)
{
    const struct command command = command_parse(line);
    for (size_t i = 0; i < line.len; i++) {
        if ((unsigned char)line.ptr[i] < ' ' || (unsigned char)line.ptr[i] >= 0x7f) {
            play_fail("a command with a byte that is no printable ASCII");
        }
    }
    if (span_starts_fold(line, SPAN("PROXY "))) {
        if (end->commands != 1) {
            play_fail("a PROXY header that is not in front");
        }
        return;
    }
    switch (command.verb) {
    case VERB_MAIL:
        check_mail(end, command.argument);
        break;
    case VERB_RCPT:
        check_rcpt(end, command.argument);
        break;
    case VERB_DATA:
        end->stage = OF_DATA;
        end->data = end->commands;
        break;
    case VERB_RSET:
        forget_envelope(end);
        break;
    case VERB_HELO:
    case VERB_EHLO:
    case VERB_STARTTLS:
    case VERB_QUIT:
        break;
    case VERB_NOOP:
    case VERB_VRFY:
    case VERB_HELP:
    case VERB_UNKNOWN:
    case VERB_HTTP:
    case VERB_COUNT:
        if (!span_starts_fold(line, SPAN("XCLIENT "))) {
            play_fail("a command that nobody needs: %.*s", SPAN_ARGS(line));
        }
        break;
    }
    end->commands++;
}

/* ---- what it is told: messages ---- */

/* Behind our own field. */
static struct span message_of(const struct upstream_end *end)
{
    struct span rest = buffer_span(&end->written);
    do {
        rest = span_skip(rest, span_find(rest, '\n') + 1);
    } while (rest.len > 0 && rest.ptr[0] == '\t');
    return rest;
}

/* Nothing of it may be taken for an end by a server that is not strict. */
static void check_clean(struct upstream_end *end, struct span bytes)
{
    char last = '\n';
    if (end->written.len != 0) {
        last = buffer_span(&end->written).ptr[end->written.len - 1];
    }
    for (size_t i = 0; i < bytes.len; i++) {
        const char c = bytes.ptr[i];
        if (c == '\0' || (c == '\n') != (last == '\r')) {
            play_fail("a bare CR, a bare LF or a NUL in a message");
        }
        last = c;
    }
    if (last == '\r') {
        play_fail("a CR whose LF is not there yet");
    }
}

/* Until its client's own end has come, and while another is asked, no upstream has one. */
static void check_end(const struct upstream_end *end, struct span message)
{
    const struct play *play = end->play;
    bool known = false;
    for (unsigned i = 0; i < play->caller_count; i++) {
        known |= caller_has_message(play->callers[i], message);
    }
    if (!known) {
        play_fail("an end of data that no client has sent");
    }
    for (const struct upstream_end *other = play->ends; other != NULL; other = other->next) {
        if (play->caller_count > 1 || other == end || other->closed) {
            continue;
        }
        if (other->stage == OF_END && code_of(other, other->commands - 1) == 0) {
            play_fail("two upstreams are asked to commit at once");
        }
        if (other->stage == OF_MESSAGE &&
            (!span_equal(message_of(other), message) || link_unsent(other->wire) != 0 ||
             other->wire->out.flight.len > ON_ITS_WAY_MAX)) {
            play_fail("an end of data before another upstream has the whole message");
        }
    }
}

static void on_end_of_data(struct upstream_end *end)
{
    struct copy *copy = sim_alloc(1, sizeof *copy);
    const struct span message = message_of(end);
    const struct span whole = span_first(message, message.len - 3);
    check_end(end, whole);
    copy->end = end;
    copy->next = end->play->copies;
    end->play->copies = copy;
    buffer_put(&copy->sender, buffer_span(&end->sender));
    buffer_put(&copy->message, whole);
    for (unsigned i = 0; i < end->count; i++) {
        buffer_put(&copy->recipients[i].what, buffer_span(&end->recipients[i].what));
        copy->recipients[i].reply = end->recipients[i].reply;
    }
    copy->count = end->count;
    copy->reply = end->commands++;
    /* What has arrived when the end is sent cannot be the answer to it. */
    copy->since = end->said.len - end->wire->in.flight.len;
    buffer_release(&end->written);
    forget_envelope(end);
    end->stage = OF_END;
}

static void take_message(struct upstream_end *end, struct span bytes)
{
    check_clean(end, bytes);
    buffer_put(&end->written, bytes);
    const struct span message = message_of(end);
    const bool empty = span_equal(message, SPAN(".\r\n"));
    const size_t at = empty || message.len < 5 ? 0 : message.len - 5;
    if (empty || span_equal(span_skip(message, at), SPAN("\r\n.\r\n"))) {
        on_end_of_data(end);
    }
}

static void take_commands(struct upstream_end *end, struct span bytes)
{
    if (end->stage == OF_END && code_of(end, end->commands - 1) == 0) {
        play_fail("a command before the answer to end of data");
    }
    end->stage = OF_COMMANDS;
    buffer_put(&end->written, bytes);
    while (end->written.len != 0 && end->stage == OF_COMMANDS) {
        const struct span all = buffer_span(&end->written);
        const size_t len = span_find(all, '\n');
        if (len == all.len) {
            return;
        }
        if (len == 0 || all.ptr[len - 1] != '\r') {
            play_fail("a command without its CR");
        }
        check_line(end, span_first(all, len - 1));
        buffer_drop(&end->written, len + 1);
    }
    if (end->written.len != 0) {
        play_fail("something behind DATA");
    }
}

/* Session code writes, or closes: no bytes. */
static void on_told(void *self, struct span bytes)
{
    struct upstream_end *end = self;
    play_trace(end->play, "upstream", bytes);
    if (bytes.len == 0) {
        end->closed = true;
        return;
    }
    if (link_unsent(end->wire) > UNSENT_MAX) {
        play_fail("%zu bytes wait for an upstream", link_unsent(end->wire));
    }
    if (end->stage == OF_DATA && span_starts_fold(bytes, SPAN("Received: "))) {
        if (code_of(end, end->data) / 100 != 3) {
            play_fail("a message without 354");
        }
        end->stage = OF_MESSAGE;
    }
    if (end->stage == OF_MESSAGE) {
        take_message(end, bytes);
    } else {
        take_commands(end, bytes);
    }
}

/* ---- its end of the link ---- */

static void leave(struct upstream_end *end, bool reset)
{
    struct link *link = end->link;
    end->link = NULL;
    end->silent = true;
    if (link != NULL && reset) {
        link_reset(link);
    } else if (link != NULL) {
        link_close(link);
    }
}

void upstream_end_closes(struct upstream_end *end, bool reset)
{
    leave(end, reset);
}

void upstream_end_says(struct upstream_end *end, struct span bytes)
{
    if (end->link != NULL && bytes.len != 0) {
        buffer_put(&end->said, bytes);
        link_send(end->link, bytes);
        parse_said(end);
    }
}

/* What is usual, or what the input has for it. Returns whether it is a 3xx. */
static bool answer(struct upstream_end *end, char stage, struct span usual)
{
    struct buffer line = {0};
    if (end->silent) {
        return false;
    }
    if (!play_take_line(end->play, end->relay, stage, &line)) {
        buffer_put(&line, usual);
    }
    const bool go = line.len != 0 && buffer_span(&line).ptr[0] == '3';
    end->silent |= line.len == 0;
    upstream_end_says(end, buffer_span(&line));
    buffer_release(&line);
    return go;
}

static void hear_line(struct upstream_end *end, struct span line)
{
    static const char ehlo[] = "250-upstream.example\r\n250-PIPELINING\r\n250-STARTTLS\r\n"
                               "250-XCLIENT NAME ADDR PROTO HELO\r\n250 8BITMIME\r\n";
    switch (command_parse(line).verb) {
    case VERB_EHLO:
    case VERB_HELO:
        answer(end, 'E', span_of(ehlo));
        break;
    case VERB_STARTTLS:
        answer(end, 'T', SPAN("220 2.0.0 go\r\n"));
        break;
    case VERB_MAIL:
        answer(end, 'M', SPAN("250 2.1.0 Ok\r\n"));
        break;
    case VERB_RCPT:
        answer(end, 'R', SPAN("250 2.1.5 Ok\r\n"));
        break;
    case VERB_DATA:
        end->in_message = answer(end, 'D', SPAN("354 go\r\n"));
        break;
    case VERB_RSET:
        answer(end, 'S', SPAN("250 2.0.0 Ok\r\n"));
        break;
    case VERB_QUIT:
        answer(end, 'Q', SPAN("221 2.0.0 Bye\r\n"));
        leave(end, false);
        break;
    case VERB_NOOP:
    case VERB_VRFY:
    case VERB_HELP:
    case VERB_UNKNOWN:
    case VERB_HTTP:
    case VERB_COUNT:
        if (!span_starts_fold(line, SPAN("PROXY "))) {
            answer(end, 'X', SPAN("220 upstream.example\r\n"));
        }
        break;
    }
}

/* A line of a handshake: answered as it has to be. */
static void shake(struct upstream_end *end, struct span line)
{
    if (span_starts_fold(line, SPAN(HANDSHAKE_HELLO))) {
        link_send(end->link, SPAN(HANDSHAKE_HELLO "\n"));
    }
}

static void on_bytes(void *self)
{
    struct upstream_end *end = self;
    while (end->link != NULL) {
        struct buffer *inbox = &end->link->inbox;
        const struct span all = buffer_span(inbox);
        const size_t len = span_find(all, '\n');
        if (len == all.len) {
            return;
        }
        struct buffer line = {0};
        buffer_move(&line, inbox, len + 1);
        const struct span text = buffer_span(&line);
        if (end->in_message) {
            end->in_message = !span_equal(text, SPAN(".\r\n"));
            if (!end->in_message) {
                answer(end, 'B', SPAN("250 2.0.0 queued\r\n"));
            }
        } else if (text.ptr[0] == HANDSHAKE_HELLO[0]) {
            shake(end, text);
        } else {
            hear_line(end, span_first(text, len > 0 ? len - 1 : 0));
        }
        buffer_release(&line);
    }
}

static void on_end(void *self)
{
    leave(self, false);
}

static void on_reset(void *self)
{
    struct upstream_end *end = self;
    end->link = NULL;
    end->silent = true;
}

static const struct link_actor actor = {on_bytes, on_end, on_reset, NULL};

void upstream_end_accept(struct link *link, struct server *server)
{
    struct upstream_end *end = sim_alloc(1, sizeof *end);
    struct play *play = play_of(link->sim);
    end->play = play;
    end->link = end->wire = link;
    end->relay = server->relay;
    end->commands = 1; /* the greeting */
    end->next = play->ends;
    play->ends = end;
    link->actor = &actor;
    link->self = end;
    link->witness = on_told;
    answer(end, 'G', SPAN("220 upstream.example ESMTP\r\n"));
}

void upstream_end_free(struct upstream_end *end)
{
    forget_envelope(end);
    buffer_release(&end->written);
    buffer_release(&end->said);
    free(end);
}
