/*
 * What each command does (RFC 5321 4.1; design: section 9). Which are allowed when is in
 * proxy/wire/server.
 */
#include <stdlib.h>

#include "proxy/session/session_state.h"

/* So many commands that bring no mail are answered between one message and the next; each that
 * comes behind counts as an error. */
#define IDLE_COMMANDS_MAX 100

/* A line an extension, behind the greeting's (RFC 5321 4.1.1.1). */
static void add_offers(struct reply *reply, const struct config *config, bool starttls)
{
    struct text text = {reply->text, reply->text_len, sizeof reply->text, false};
    text_puts(&text, "\nPIPELINING\nSIZE ");
    text_number(&text, config->limits.message_size);
    text_puts(&text, "\n8BITMIME\nENHANCEDSTATUSCODES");
    if (config->smtputf8) {
        text_puts(&text, "\nSMTPUTF8");
    }
    if (starttls) {
        text_puts(&text, "\nSTARTTLS");
    }
    reply->text_len = (unsigned short)text.len;
}

static bool is_secure(const struct session *s)
{
    return s->view.tls[0] != '\0';
}

static bool offers_starttls(const struct session *s)
{
    return !is_secure(s) && (s->tls == LISTEN_TLS_MAY || s->tls == LISTEN_TLS_ENCRYPT);
}

/* Said again it is no news; another name is (RFC 5321 4.1.4). */
static void know_helo(struct session *s, char *helo, const char *protocol)
{
    bool known =
        s->helo != NULL && strcmp(s->helo, helo) == 0 && strcmp(s->view.protocol, protocol) == 0;
    free(s->helo);
    s->helo = helo;
    s->view.helo = span_of(helo);
    s->view.protocol = protocol;
    s->view.version += !known;
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
    know_helo(s, helo, !extended ? "SMTP" : is_secure(s) ? "ESMTPS" : "ESMTP");
    session_drop_transaction(s);
    reply_set(&reply, 250, "", config->hostname.text);
    if (extended) {
        add_offers(&reply, config, offers_starttls(s) && session_can_tls(s));
    }
    session_write(s, &reply, true);
    session_set_state(s, SERVER_READY);
}

/* RFC 3207. What was pipelined behind it was sent in clear, perhaps by somebody else
 * (CVE-2011-0411). */
static void do_starttls(struct session *s, struct span argument, bool pipelined)
{
    if (is_secure(s)) {
        session_say(s, 503, "5.5.1", "TLS is in use already");
    } else if (!offers_starttls(s)) {
        session_say(s, 502, "5.5.1", "Command not implemented");
    } else if (argument.len != 0) {
        session_say(s, 501, "5.5.4", "STARTTLS takes no argument");
    } else if (pipelined || s->conn->ops->pending(s->conn)) {
        session_dismiss(s, 554, "5.5.1", "Nothing may be pipelined behind STARTTLS",
                        "session-dropped");
    } else if (!session_can_tls(s)) {
        session_say(s, 454, "4.7.0", "TLS is not available now");
    } else {
        session_say(s, 220, "2.0.0", "Ready to start TLS");
        session_set_state(s, SERVER_TLS); /* begun once this line is consumed */
    }
}

static void say_parse_error(struct session *s, enum parse_status status, const char *what)
{
    if (status == PARSE_PARAMETER) {
        session_say(s, 555, "5.5.4", "Unknown parameter");
    } else {
        session_say(s, 501, "5.5.4", what);
    }
}

/* Answers a path that cannot be used as a sender. *path becomes the sender: a source route is
 * stripped (RFC 5321 appendix C). */
static bool sender_is_good(struct session *s, struct span *path, bool utf8)
{
    struct address address;
    if (path->len == 0) {
        return true;
    }
    switch (address_parse(*path, true, utf8, &address)) {
    case ADDRESS_OK:
    case ADDRESS_ROUTING:
        *path = address.whole;
        return true;
    case ADDRESS_UTF8:
        session_say(s, 553, "5.6.7", "Non-ASCII addresses need SMTPUTF8");
        return false;
    case ADDRESS_SYNTAX:
    case ADDRESS_TOO_LONG:
        break;
    }
    session_say(s, 501, "5.1.7", "Bad sender address");
    return false;
}

/* A parameter of MAIL whose value is wrong, or that is given again. */
static const char *wrong_value(struct span keyword)
{
    if (span_equal_fold(keyword, SPAN("SIZE"))) {
        return "SIZE takes a number of octets, and is given once";
    }
    if (span_equal_fold(keyword, SPAN("BODY"))) {
        return "BODY takes 7BIT or 8BITMIME, and is given once";
    }
    return "SMTPUTF8 takes no value, and is given once";
}

static void do_mail(struct session *s, struct span argument)
{
    struct mail_command mail = {0};
    enum parse_status status = mail_parse(argument, &mail);
    if (s->tls == LISTEN_TLS_ENCRYPT && !is_secure(s)) {
        session_say(s, 530, "5.7.0", "Must issue a STARTTLS command first");
    } else if (status == PARSE_VALUE) {
        session_say(s, 501, "5.5.4", wrong_value(mail.wrong));
    } else if (status != PARSE_OK) {
        say_parse_error(s, status,
                        "Syntax: MAIL FROM:<address> [SIZE=octets] [BODY=7BIT or 8BITMIME]");
    } else if (mail.smtputf8 && !s->world->policy->config->smtputf8) {
        session_say(s, 555, "5.5.4", "Unknown parameter");
    } else if (mail.size > s->world->policy->config->limits.message_size) {
        session_say(s, 552, "5.3.4", "Message too big");
    } else if (sender_is_good(s, &mail.path, mail.smtputf8)) {
        struct envelope envelope = {.sender = mail.path,
                                    .size = mail.size,
                                    .body_8bit = mail.body_8bit,
                                    .smtputf8 = mail.smtputf8};
        s->transaction = transaction_new(s->world, &s->view, &envelope, ++s->transactions,
                                         session_on_transaction, s);
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

void session_ask_held(struct session *s)
{
    char *path = s->rcpt_path;
    s->rcpt_path = NULL;
    ask_recipient(s, span_of(path));
    free(path);
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

/* Commands that bring no mail: a client may have its reasons for some of them. */
static void count_idle_command(struct session *s, enum command_verb verb)
{
    switch (verb) {
    case VERB_HELO:
    case VERB_EHLO:
    case VERB_RSET:
    case VERB_NOOP:
    case VERB_VRFY:
    case VERB_HELP:
        s->idle_commands++;
        s->errors += s->idle_commands > IDLE_COMMANDS_MAX ? 1 : 0;
        break;
    case VERB_STARTTLS:
    case VERB_MAIL:
    case VERB_RCPT:
    case VERB_DATA:
    case VERB_QUIT:
    case VERB_UNKNOWN:
    case VERB_HTTP:
    case VERB_COUNT:
        break;
    }
}

void session_command(struct session *s, struct span line, bool pipelined)
{
    struct command command = command_parse(line);
    struct server_step step = server_step(s->state, command.verb);
    session_set_state(s, s->state); /* the next command has its own time */
    count_idle_command(s, command.verb);
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
    case SERVER_DO_STARTTLS:
        do_starttls(s, command.argument, pipelined);
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
        s->quit = step; /* done when the line is consumed */
        break;
    case SERVER_DO_DROP:
        session_dismiss(s, step.code, step.enhanced, step.text, "session-dropped");
        break;
    }
}
