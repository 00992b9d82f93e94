/* What has to come of a message, by the design's sections 2 and 5, whatever the code under test
 * does. */
#include <stdio.h>

#include "config/config.h"
#include "tests/sim/message.h"

static void expect(struct message *message, const char *what, struct span reply,
                   struct span expected)
{
    if (!span_equal(reply, expected)) {
        sim_fail(message->sim, "message %u: %s answered `%.*s` instead of `%.*s`", message->id,
                 what, SPAN_ARGS(reply), SPAN_ARGS(expected));
    }
}

static bool begins(struct span reply, const char *front)
{
    return span_starts_fold(reply, span_of(front));
}

/* Answers of the proxy that every place at an upstream is taken: right where few are allowed. */
static bool is_crowded(const struct message *message, struct span reply)
{
    char line[REPLY_LINE];
    snprintf(line, sizeof line, "%.*s", SPAN_ARGS(reply));
    return message->sim->crowded && strstr(line, "all connections are in use") != NULL &&
           (begins(reply, "451 4.3.2 ") || begins(reply, "452 4.5.3 ") ||
            begins(reply, "451 4.3.0 "));
}

/* Answers that say an upstream was lost: right where some are. */
static bool is_loss(const struct message *message, struct span reply)
{
    return message->sim->config.faults != 0 &&
           (begins(reply, "451 4.4.1 ") || begins(reply, "451 4.4.2 "));
}

/* ---- the envelope ---- */

void message_expect_mail(struct message *message, struct span reply)
{
    if (message->says_size && message->size > message->sim->settings->limits.message_size) {
        expect(message, "MAIL", reply, SPAN("552 5.3.4 Message too big\r\n"));
        return;
    }
    expect(message, "MAIL", reply, SPAN("250 2.1.0 Ok\r\n"));
    message->mail_ok = true;
}

static bool holds_open_leg(const struct message *message)
{
    for (unsigned i = 0; i < SIM_LEGS; i++) {
        if (message->legs[i].open) {
            return true;
        }
    }
    return false;
}

static void let_go_of_empty_legs(struct message *message)
{
    for (unsigned i = 0; i < SIM_LEGS; i++) {
        struct message_leg *leg = &message->legs[i];
        leg->let_go = leg->let_go || (leg->open && leg->accepted == 0);
        leg->open = leg->open && !leg->let_go;
    }
}

/* The leg of a recipient, made on first need; false where the answer is the proxy's own. */
static bool expect_leg(struct message *message, struct message_leg *leg, unsigned number,
                       const struct relay *relay, struct span reply)
{
    bool defer = message->sim->settings->split == SPLIT_DEFER;
    if (!leg->made && defer) {
        let_go_of_empty_legs(message);
    }
    if (leg->let_go || (!leg->made && defer && holds_open_leg(message))) {
        expect(message, "RCPT", reply, SPAN("452 4.5.3 Send this recipient separately\r\n"));
        return false;
    }
    if (leg->made && relay->recipients_max != 0 && leg->accepted >= relay->recipients_max) {
        expect(message, "RCPT", reply,
               SPAN("452 4.5.3 Too many recipients for one message there\r\n"));
        return false;
    }
    if (!leg->made) {
        leg->made = leg->open = true;
        message->order[message->leg_count++] = message_leg_of(message, &message->rcpts[number]);
    }
    return true;
}

static void expect_relayed(struct message *message, unsigned number, struct span reply)
{
    char expected[REPLY_LINE];
    struct rcpt *rcpt = &message->rcpts[number];
    struct message_leg *leg = &message->legs[message_leg_of(message, rcpt)];
    const struct sim_relay *relay = &message->sim->relays[rcpt->relay];
    if (!expect_leg(message, leg, number, &relay->relay, reply)) {
        return;
    }
    if (is_crowded(message, reply) || is_loss(message, reply)) {
        leg->open = false;
    } else if (relay->down || relay->no_names) {
        const char *front = relay->down ? "451 4.4.1 " : "451 4.4.3 ";
        if (!begins(reply, front)) {
            expect(message, "RCPT", reply, span_of(front));
        }
        leg->open = false;
    } else if (!fate_is_yes(message->mail[rcpt->relay])) {
        expect(
            message, "RCPT", reply,
            message_passes(message, STAGE_MAIL, rcpt->relay, message->mail[rcpt->relay], expected));
        leg->open = false;
    } else {
        expect(message, "RCPT", reply,
               message_passes(message, STAGE_RCPT, number, rcpt->fate, expected));
        rcpt->accepted = fate_is_yes(rcpt->fate);
        leg->accepted += rcpt->accepted;
        message->accepted += rcpt->accepted;
    }
}

void message_expect_rcpt(struct message *message, unsigned number, struct span reply)
{
    struct rcpt *rcpt = &message->rcpts[number];
    if (!message->mail_ok) {
        expect(message, "RCPT", reply, SPAN("503 5.5.1 Need MAIL first\r\n"));
        return;
    }
    if (message->accepted >= message->sim->settings->limits.recipients) {
        expect(message, "RCPT", reply, SPAN("452 4.5.3 Too many recipients\r\n"));
        return;
    }
    switch (rcpt->kind) {
    case RCPT_RELAY:
        expect_relayed(message, number, reply);
        break;
    case RCPT_ERROR:
        expect(message, "RCPT", reply, SPAN("550 5.1.1 no such user\r\n"));
        break;
    case RCPT_RETRY:
        expect(message, "RCPT", reply, SPAN("450 4.0.0 not now\r\n"));
        break;
    case RCPT_DISCARD:
        expect(message, "RCPT", reply, SPAN("250 2.1.5 Ok\r\n"));
        rcpt->accepted = true;
        message->accepted++;
        break;
    }
}

/* ---- legs that carry the message, in the order of commit: those nearby last ---- */

static bool leg_is_near(const struct message *message, unsigned leg)
{
    return net_address_is_local(&message->sim->servers[leg / SIM_DOMAINS].address);
}

static unsigned turns_of(const struct message *message, unsigned *turn)
{
    unsigned count = 0;
    for (int near = 0; near < 2; near++) {
        for (unsigned i = 0; i < message->leg_count; i++) {
            unsigned leg = message->order[i];
            if (message->legs[leg].accepted != 0 && leg_is_near(message, leg) == (near == 1)) {
                turn[count++] = leg;
            }
        }
    }
    return count;
}

void message_expect_data(struct message *message, struct span reply)
{
    char expected[REPLY_LINE];
    unsigned turn[SIM_LEGS];
    unsigned count = turns_of(message, turn);
    bool refused = false;
    if (!message->mail_ok) {
        expect(message, "DATA", reply, SPAN("503 5.5.1 Need MAIL first\r\n"));
        return;
    }
    if (message->accepted == 0) {
        expect(message, "DATA", reply, SPAN("554 5.5.1 No valid recipients\r\n"));
        return;
    }
    if (is_crowded(message, reply) ||
        is_loss(message, reply)) { /* a leg that had to be opened again */
        return;
    }
    for (unsigned i = 0; i < count; i++) {
        enum fate fate = message->legs[turn[i]].data;
        if (fate_is_yes(fate)) {
            continue;
        }
        /* Any of them may have been the first to refuse. */
        refused = true;
        if (span_equal(reply,
                       count == 1
                           ? message_passes(message, STAGE_DATA, turn[i], fate, expected)
                           : message_passes_joint(message, STAGE_DATA, turn[i], fate, expected))) {
            return;
        }
    }
    if (refused || !begins(reply, "354 ")) {
        expect(message, "DATA", reply, refused ? SPAN("a refusal") : SPAN("354"));
    }
    message->begun = true;
}

void message_may_begin(struct message *message)
{
    for (unsigned i = 0; i < SIM_LEGS; i++) {
        const struct message_leg *leg = &message->legs[i];
        if (leg->accepted != 0 && !leg->go) {
            sim_fail(message->sim, "message %u: 354 before that of leg %u", message->id, i);
        }
    }
}

/* ---- the barrier, commit in turn, the outcome ---- */

void message_end_written(struct message *message, unsigned number)
{
    unsigned turn[SIM_LEGS];
    unsigned count = turns_of(message, turn);
    unsigned place = 0;
    sim_note(message->sim, "commit", number, message->id);
    if (!message->end_sent) {
        sim_fail(message->sim, "message %u: leg %u commits before the client's end of data",
                 message->id, number);
    }
    if (*message->client_closed) {
        sim_fail(message->sim, "message %u: leg %u commits, but nobody is there to be told",
                 message->id, number);
    }
    while (place < count && turn[place] != number) {
        place++;
    }
    for (unsigned i = 0; i < count; i++) {
        const struct message_leg *leg = &message->legs[turn[i]];
        if (i < place && !leg->answered) {
            sim_fail(message->sim, "message %u: leg %u commits while leg %u has not answered",
                     message->id, number, turn[i]);
        }
        if (i >= place && leg->end_written) {
            sim_fail(message->sim, "message %u: leg %u commits out of turn", message->id, number);
        }
        /* Of a single leg the order of its own bytes is enough. */
        bool whole = leg->link != NULL ? count == 1 || link_unsent(leg->link) == 0
                                       : message->sim->config.faults != 0; /* gone meanwhile */
        if (i >= place && !whole) {
            sim_fail(message->sim, "message %u: leg %u commits before leg %u has the whole body",
                     message->id, number, turn[i]);
        }
    }
    message->legs[number].end_written = true;
}

/* The first of the legs that refuses, or count; those before it have committed. */
static unsigned first_refusal(const struct message *message, const unsigned *turn, unsigned count)
{
    unsigned at = 0;
    while (at < count && fate_is_yes(message->legs[turn[at]].end)) {
        at++;
    }
    return at;
}

static struct span outcome_of(struct message *message, const unsigned *turn, unsigned count,
                              char *out)
{
    unsigned refusal = first_refusal(message, turn, count);
    if (message->dirty) {
        return SPAN("550 5.5.2 Bare CR, bare LF or NUL in the message\r\n");
    }
    if (message->size > message->sim->settings->limits.message_size) {
        return SPAN("552 5.3.4 Message too big\r\n");
    }
    for (unsigned i = 0; i < refusal; i++) {
        message->legs[turn[i]].wanted = true;
    }
    if (count == 0) {
        return SPAN("250 2.0.0 Ok\r\n");
    }
    if (count == 1) {
        return message_passes(message, STAGE_END, turn[0], message->legs[turn[0]].end, out);
    }
    if (refusal < count) {
        return message_passes_joint(message, STAGE_END, turn[refusal],
                                    message->legs[turn[refusal]].end, out);
    }
    return message_accepts_joint(message, turn, count, out);
}

void message_expect_outcome(struct message *message, struct span reply)
{
    char expected[REPLY_LINE];
    unsigned turn[SIM_LEGS];
    unsigned count = turns_of(message, turn);
    struct sim_totals *totals = message->sim->totals;
    bool some = false;
    if (is_loss(message, reply)) {
        message->cut = true;
    } else if (message->dirty && begins(reply, "552 ") &&
               message->size > message->sim->settings->limits.message_size) {
        expect(message, "the message", reply, SPAN("552 5.3.4 Message too big\r\n"));
    } else {
        expect(message, "the message", reply, outcome_of(message, turn, count, expected));
    }
    for (unsigned i = 0; i < count; i++) {
        const struct message_leg *leg = &message->legs[turn[i]];
        some = some || leg->wanted;
        if (leg->wanted && leg->copies != 1) {
            sim_fail(message->sim, "message %u: answered before leg %u accepted it", message->id,
                     turn[i]);
        }
    }
    message->settled = true;
    message->code = (unsigned)(reply.ptr[0] - '0') * 100;
    totals->accepted += message->code == 200;
    totals->deferred += message->code == 400;
    totals->rejected += message->code == 500;
    totals->unsettled += some && message->code != 200;
}

/* ---- copies ---- */

void message_check_field(struct message *message, struct span field)
{
    char text[2048];
    int len = snprintf(text, sizeof text, "%.*s", SPAN_ARGS(field));
    bool one = message->accepted == 1;
    char path[256 + 4];
    char raw[256];
    if (len < 0 || (size_t)len >= sizeof text || !begins(field, "Received: from ") ||
        strstr(text, SIM_HOST) == NULL || strstr(text, "(splitmx)") == NULL ||
        strstr(text, "fallback") != NULL || (strstr(text, "for <") != NULL) != one) {
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
    unsigned count = turns_of(message, turn);
    bool over = message->dirty || message->size > message->sim->settings->limits.message_size;
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
                      message->legs[message_leg_of(message, rcpt)].wanted;
        if (rcpt->delivered != (wanted ? 1u : 0u)) {
            sim_fail(sim, "message %u: recipient %u has %u copies instead of %u", message->id, i,
                     rcpt->delivered, wanted ? 1u : 0u);
        }
    }
}
