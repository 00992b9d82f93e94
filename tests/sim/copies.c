/* What reaches the upstreams: our Received field, and one copy for each recipient that was promised
 * one. */
#include <stdio.h>

#include "config/config.h"
#include "tests/sim/handshake.h"
#include "tests/sim/message.h"

/* How the client spoke, and under what protection. */
static bool tells_protocol(const struct message *message, const char *text)
{
    const struct hello *hello = &message->hello;
    char expected[64];
    snprintf(expected, sizeof expected, "with %s id",
             !hello->extended ? "SMTP"
             : hello->secure  ? "ESMTPS"
                              : "ESMTP");
    return strstr(text, expected) != NULL &&
           (strstr(text, "(" SIM_TLS ")") != NULL) == hello->secure;
}

static bool tells_client(const struct message *message, const char *text)
{
    const struct identity *identity = message->identity;
    char expected[100];
    snprintf(expected, sizeof expected, "[%s%s])", identity->six ? "IPv6:" : "", identity->ip);
    return strstr(text, expected) != NULL &&
           (strstr(text, identity->name) != NULL) == (identity->name_state == NAME_KNOWN);
}

/* In one line. */
static void unfold(struct span field, struct text *out)
{
    for (size_t i = 0; i < field.len; i++) {
        if (field.ptr[i] != '\r' && field.ptr[i] != '\n') {
            text_putc(out, field.ptr[i] == '\t' ? ' ' : field.ptr[i]);
        }
    }
}

void message_check_field(struct message *message, unsigned leg, struct span field)
{
    char text[2048];
    struct text line = TEXT(text);
    bool one = message->accepted == 1;
    const char *mark = leg_way(leg) == WAY_HOME ? "(splitmx)" : "(splitmx fallback)";
    char path[256 + 4];
    char raw[256];
    unfold(field, &line);
    if (line.full || !span_starts_fold(text_span(&line), SPAN("Received: from ")) ||
        strstr(text, SIM_HOST) == NULL || strstr(text, mark) == NULL ||
        !tells_protocol(message, text) || !tells_client(message, text) ||
        (strstr(text, "for <") != NULL) != one) {
        sim_fail(message->sim, "message %u: bad Received field `%s`", message->id, text);
    }
    for (unsigned i = 0; one && i < message->rcpt_count; i++) {
        struct span whole = message_rcpt_path(message, i, raw);
        snprintf(path, sizeof path, "<%.*s>", SPAN_ARGS(whole));
        if (message->rcpts[i].accepted && strstr(text, path) == NULL) {
            sim_fail(message->sim, "message %u: Received is for another: %s", message->id, text);
        }
    }
}

/* The client went away behind its end of data: any of the first commits may have happened. */
static void check_gone(struct message *message)
{
    unsigned turn[SIM_LEGS];
    unsigned count = message_turns(message, turn);
    bool over = message_is_refused(message);
    for (unsigned i = 0; i < count; i++) {
        struct message_leg *leg = &message->legs[turn[i]];
        leg->wanted = leg->copies != 0;
        if (leg->wanted && (over || !message->end_sent)) {
            sim_fail(message->sim, "message %u: a copy of what was not to be sent", message->id);
        }
        over = over || !leg->wanted;
    }
}

void message_check(struct message *message)
{
    struct sim *sim = message->sim;
    sim->totals->transactions += message->begun;
    sim->totals->splits += message->begun && message_is_split(message);
    if (message->cut) {
        check_gone(message);
    } else if (message->begun && message->end_sent && !message->settled) {
        sim->totals->gone++;
        if (message->ending == ENDING_END_RESET || message->ending == ENDING_END_FIN_RESET) {
            check_gone(message);
        } else if (!sim->draining) { /* cut off, else: then there is no copy anywhere */
            sim_fail(sim, "message %u: no answer to its end", message->id);
        }
    }
    for (unsigned i = 0; i < message->rcpt_count; i++) {
        const struct rcpt *rcpt = &message->rcpts[i];
        bool wanted = rcpt->kind == RCPT_RELAY && rcpt->accepted &&
                      message->legs[message_leg_of(message, rcpt, rcpt->way)].wanted;
        if (rcpt->delivered != (wanted ? 1u : 0u)) {
            sim_fail(sim, "message %u: recipient %u has %u copies instead of %u", message->id, i,
                     rcpt->delivered, wanted ? 1u : 0u);
        }
    }
}
