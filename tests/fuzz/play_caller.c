#include "tests/fuzz/play.h"

#include <stdlib.h>

#include "proxy/session/session.h"
#include "proxy/wire/proxy_header.h"
#include "tests/sim/handshake.h"

/* ---- what it has asked ---- */

/* Where its message ends, without the end: at the first line that is a dot, line ends being CRLF
 * and nothing else (RFC 5321 4.1.1.4). SIZE_MAX: it has not ended. */
static size_t message_length(struct span said)
{
    if (span_starts_fold(said, SPAN(".\r\n"))) {
        return 0;
    }
    for (size_t i = 0; i + 5 <= said.len; i++) {
        if (memcmp(said.ptr + i, "\r\n.\r\n", 5) == 0) {
            return i + 2;
        }
    }
    return SIZE_MAX;
}

/* One that begins with a blank is no part of the field in front of it. */
static bool begins_with_blank(struct span message)
{
    const struct span line = span_skip(message, span_starts_fold(message, SPAN(".")) ? 1 : 0);
    return line.len != 0 && (line.ptr[0] == ' ' || line.ptr[0] == '\t');
}

bool play_is_message(struct span sent, struct span taken)
{
    const bool parted = begins_with_blank(sent);
    return span_equal(sent, span_skip(taken, parted ? 2 : 0)) &&
           (!parted || span_starts_fold(taken, SPAN("\r\n")));
}

bool caller_has_message(const struct caller *caller, struct span message)
{
    const struct span said = buffer_span(&caller->said);
    const size_t len = caller->in_message ? message_length(said) : SIZE_MAX;
    return caller->blind ||
           (!caller->closed && len != SIZE_MAX && play_is_message(span_first(said, len), message));
}

bool caller_has_sender(const struct caller *caller, struct span path)
{
    return caller->blind || (caller->in_envelope && !caller->closed &&
                             span_equal(buffer_span(&caller->sender), path));
}

/* The RCPT at hand, if it is one. */
static bool asks_recipient(const struct caller *caller, struct span path)
{
    struct line_reader lines = caller->lines;
    struct rcpt_command rcpt;
    struct span line;
    size_t used;
    if (line_take(&lines, buffer_span(&caller->said), &line, &used) != LINE_OK) {
        return false;
    }
    const struct command command = command_parse(line);
    return command.verb == VERB_RCPT && rcpt_parse(command.argument, &rcpt) == PARSE_OK &&
           span_equal(play_path(rcpt.path), path);
}

bool caller_has_recipient(const struct caller *caller, struct span path)
{
    for (unsigned i = 0; i < caller->count; i++) {
        if (span_equal(buffer_span(&caller->recipients[i]), path)) {
            return true;
        }
    }
    return caller->blind ||
           (!caller->in_message && !caller->closed && asks_recipient(caller, path));
}

static void forget_envelope(struct caller *caller)
{
    caller->in_envelope = false;
    buffer_release(&caller->sender);
    for (unsigned i = 0; i < caller->count; i++) {
        buffer_release(&caller->recipients[i]);
    }
    caller->count = 0;
}

/* ---- what it is answered ---- */

static bool is_discarded(struct span path)
{
    struct address address;
    return address_parse(path, false, false, &address) == ADDRESS_OK &&
           span_equal_fold(address.domain, SPAN("discard.example"));
}

static void check_outcome(struct caller *caller, const struct reply *reply, struct span message)
{
    const struct span sender = buffer_span(&caller->sender);
    const bool from_ledger = strstr(reply->text, "already accepted") != NULL;
    for (unsigned i = 0; reply->code / 100 == 2 && i < caller->count; i++) {
        const struct span recipient = buffer_span(&caller->recipients[i]);
        if (!is_discarded(recipient) &&
            !play_has_copy(caller->play, sender, recipient, from_ledger ? NULL : &message)) {
            play_fail("%u, but nobody has it for %.*s", reply->code, SPAN_ARGS(recipient));
        }
    }
}

static void on_outcome(struct caller *caller, const struct reply *reply)
{
    const struct span said = buffer_span(&caller->said);
    const size_t len = message_length(said);
    if (len == SIZE_MAX) {
        play_fail("%u before the end of its message", reply->code);
    }
    const struct span message = span_first(said, len);
    check_outcome(caller, reply, message);
    buffer_drop(&caller->said, len + 3);
    caller->in_message = false;
    forget_envelope(caller);
}

static void on_rcpt(struct caller *caller, const struct reply *reply, struct span argument)
{
    struct rcpt_command rcpt;
    if (reply->code / 100 != 2) {
        return;
    }
    if (rcpt_parse(argument, &rcpt) != PARSE_OK || caller->count == PLAY_RECIPIENTS) {
        play_fail("%u to a bad RCPT, or to too many", reply->code);
    }
    const struct span path = play_path(rcpt.path);
    if (!is_discarded(path) &&
        !play_recipient_accepted(caller->play, buffer_span(&caller->sender), path)) {
        play_fail("%u to a RCPT that no upstream has accepted", reply->code);
    }
    buffer_put(&caller->recipients[caller->count++], path);
}

static void on_data(struct caller *caller, const struct reply *reply)
{
    if (reply->code != 354) {
        /* An upstream's refusal ends the transaction; ours of the command does not. */
        if (caller->count != 0 && reply->code != 501) {
            forget_envelope(caller);
        }
        return;
    }
    if (caller->count == 0) {
        play_fail("354 without a recipient");
    }
    for (unsigned i = 0; i < caller->count; i++) {
        const struct span recipient = buffer_span(&caller->recipients[i]);
        if (!is_discarded(recipient) &&
            !play_data_accepted(caller->play, buffer_span(&caller->sender), recipient)) {
            play_fail("354, and the upstream of %.*s has not said so", SPAN_ARGS(recipient));
        }
    }
    caller->in_message = true;
}

static void on_mail(struct caller *caller, const struct reply *reply, struct span argument)
{
    struct mail_command mail;
    if (reply->code / 100 == 2) {
        if (mail_parse(argument, &mail) != PARSE_OK || caller->in_envelope) {
            play_fail("%u to a bad MAIL, or to a second one", reply->code);
        }
        caller->in_envelope = true;
        buffer_put(&caller->sender, play_path(mail.path));
    }
}

/* What it has said behind STARTTLS was not there yet, or it would have been told so: it spoils the
 * handshake. */
static void begin_tls(struct caller *caller)
{
    caller->blind |= caller->said.len != 0 || caller->link == NULL;
    if (caller->blind) {
        return;
    }
    link_send(caller->link, SPAN(HANDSHAKE_HELLO "\n" HANDSHAKE_FINISHED));
    forget_envelope(caller);
}

/* `line` is in `said` still. */
static void on_command(struct caller *caller, const struct reply *reply, struct span line)
{
    const struct command command = command_parse(line);
    if (reply->code / 100 == 3 && command.verb != VERB_DATA) {
        play_fail("%u to what is no DATA", reply->code);
    }
    switch (command.verb) {
    case VERB_MAIL:
        on_mail(caller, reply, command.argument);
        break;
    case VERB_RCPT:
        on_rcpt(caller, reply, command.argument);
        break;
    case VERB_DATA:
        on_data(caller, reply);
        break;
    case VERB_HELO:
    case VERB_EHLO:
    case VERB_RSET:
        if (reply->code / 100 == 2) {
            forget_envelope(caller);
        }
        break;
    case VERB_QUIT:
        caller->dismissed = reply->code == 221;
        break;
    case VERB_STARTTLS:
        caller->shaking = reply->code == 220;
        break;
    case VERB_NOOP:
    case VERB_VRFY:
    case VERB_HELP:
    case VERB_UNKNOWN:
    case VERB_HTTP:
    case VERB_COUNT:
        break;
    }
}

/* To the next thing that it has asked: in order, and to nothing that it has not. */
static void on_answer(struct caller *caller, const struct reply *reply)
{
    struct span line = SPAN("");
    size_t used = 0;
    const struct span said = buffer_span(&caller->said);
    const enum line_status status = line_take(&caller->lines, said, &line, &used);
    if (status == LINE_MORE) {
        play_fail("%u to nothing", reply->code);
    }
    if (status != LINE_OK && reply->code / 100 != 5) {
        play_fail("%u to a broken line", reply->code);
    }
    if (status == LINE_OK) {
        on_command(caller, reply, line);
    }
    buffer_drop(&caller->said, used);
    if (caller->shaking) {
        begin_tls(caller);
    }
}

static void on_reply(struct caller *caller, const struct reply *reply)
{
    if (caller->dismissed) {
        play_fail("%u behind the last words", reply->code);
    }
    caller->last = reply->code;
    caller->shaking = false;
    if (!caller->greeted) {
        caller->greeted = reply->code == 220;
        caller->dismissed = !caller->greeted;
    } else if (reply->code == 421) {
        caller->dismissed = true;
    } else if (caller->in_message) {
        on_outcome(caller, reply);
    } else if (!caller->blind) {
        on_answer(caller, reply);
    }
}

/* Session code writes, or closes: no bytes. */
static void on_told(void *self, struct span bytes)
{
    struct caller *caller = self;
    struct reply_parser parser = {0};
    struct reply reply;
    play_trace(caller->play, "client", bytes);
    if (bytes.len == 0) { /* behind a drop, or a message with broken line ends */
        caller->closed = true;
        caller->dismissed |= caller->last == 554 || caller->last == 550;
    }
    while (bytes.len > 0) {
        size_t used = 0;
        if (reply_parse(&parser, bytes, &reply, &used) != REPLY_DONE) {
            play_fail("no reply: %.*s", SPAN_ARGS(bytes));
        }
        bytes = span_skip(bytes, used);
        on_reply(caller, &reply);
        parser = (struct reply_parser){0};
    }
}

/* ---- its end of the link ---- */

static void drop_inbox(void *self)
{
    struct caller *caller = self;
    buffer_drop(&caller->link->inbox, caller->link->inbox.len);
}

static void on_end(void *self)
{
    struct caller *caller = self;
    struct link *link = caller->link;
    caller->ended = true;
    caller->link = NULL;
    link_close(link);
}

static void on_reset(void *self)
{
    struct caller *caller = self;
    caller->ended = true;
    caller->link = NULL;
}

static const struct link_actor actor = {drop_inbox, on_end, on_reset, NULL};

struct caller *caller_new(struct play *play, enum config_listen_tls tls, bool proxied)
{
    struct caller *caller = sim_alloc(1, sizeof *caller);
    struct sim *sim = &play->sim;
    const struct session_peer peer = {
        .client = sim_address("192.0.2.77", 40000),
        .local = sim->own,
        .tls = tls,
        .proxied = proxied,
    };
    caller->play = play;
    caller->link = link_from_client(sim, &actor, caller);
    caller->link->witness = on_told;
    session_begin(&sim->world, &caller->link->conn, &peer);
    sim_settle(sim);
    return caller;
}

void caller_free(struct caller *caller)
{
    forget_envelope(caller);
    buffer_release(&caller->said);
    free(caller);
}

void caller_says(struct caller *caller, struct span bytes)
{
    if (caller->ended || bytes.len == 0) {
        return;
    }
    if (caller->greeted) {
        buffer_put(&caller->said, bytes);
    } else {
        /* The PROXY header, and nothing else: or who knows what of it came too early. */
        struct proxy_header header;
        size_t used = 0;
        const enum proxy_status status = proxy_header_parse(bytes, &header, &used);
        caller->blind |= status != PROXY_OK || used != bytes.len;
    }
    link_send(caller->link, bytes);
}

void caller_half_closes(struct caller *caller)
{
    if (!caller->ended) {
        caller->ended = true;
        link_half_close(caller->link);
    }
}

void caller_resets(struct caller *caller)
{
    if (!caller->ended) {
        struct link *link = caller->link;
        caller->ended = caller->blind = true;
        caller->link = NULL;
        link_reset(link);
    }
}

void caller_check(struct caller *caller)
{
    struct span line;
    size_t used;
    if (!caller->greeted || caller->dismissed || caller->blind || caller->shaking) {
        return;
    }
    if (caller->in_message
            ? message_length(buffer_span(&caller->said)) != SIZE_MAX
            : line_take(&caller->lines, buffer_span(&caller->said), &line, &used) != LINE_MORE) {
        play_fail("a client has no answer");
    }
}
