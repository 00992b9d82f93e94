/* What has to come of a message from DATA on, by the design's sections 2, 5 and 6, whatever the
 * code under test does. */
#include <stdio.h>

#include "config/config.h"
#include "config/text.h"
#include "tests/sim/message.h"

void message_expect(const struct message *message, const char *what, struct span reply,
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

/* ---- legs that carry the message, in the order of commit: those nearby last ---- */

static bool leg_is_near(const struct message *message, unsigned leg)
{
    return net_address_is_local(&message->sim->servers[leg_relay_number(leg)][0].address);
}

unsigned message_turns(const struct message *message, unsigned *turn)
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
    unsigned count = message_turns(message, turn);
    bool refused = false;
    if (!message->mail_ok) {
        message_expect(message, "DATA", reply, SPAN("503 5.5.1 Need MAIL first\r\n"));
        return;
    }
    if (message->accepted == 0) {
        message_expect(message, "DATA", reply, SPAN("554 5.5.1 No valid recipients\r\n"));
        return;
    }
    if (is_crowded(message, reply) ||
        is_loss(message, reply)) { /* a leg that had to be opened again */
        return;
    }
    for (unsigned i = 0; i < count; i++) {
        if (message_says_gone(message, turn[i], reply)) {
            return;
        }
    }
    for (unsigned i = 0; i < count; i++) {
        enum fate fate = message->legs[turn[i]].data;
        if (fate_is_yes(fate)) {
            continue;
        }
        /* Any of them may have been the first to refuse. */
        refused = true;
        if (span_equal(reply, count == 1 ? message_passes(message, STAGE_DATA, leg_way(turn[i]),
                                                          turn[i], fate, expected)
                                         : message_passes_joint(message, STAGE_DATA, turn[i], fate,
                                                                expected))) {
            return;
        }
    }
    for (unsigned i = 0; i < count; i++) {
        refused = refused || message->legs[turn[i]].hushed;
    }
    if (refused || !begins(reply, "354 ")) {
        message_expect(message, "DATA", reply, refused ? SPAN("a refusal") : SPAN("354"));
    }
    message->begun = true;
}

void message_may_begin(struct message *message)
{
    for (unsigned i = 0; i < message->leg_count; i++) {
        const struct message_leg *leg = &message->legs[message->order[i]];
        if (leg->accepted != 0 && !leg->go) {
            sim_fail(message->sim, "message %u: 354 before that of leg %u", message->id,
                     message->order[i]);
        }
    }
}

/* ---- the barrier, commit in turn, the outcome ---- */

void message_end_written(struct message *message, unsigned number)
{
    unsigned turn[SIM_LEGS];
    unsigned count = message_turns(message, turn);
    unsigned place = 0;
    sim_note(message->sim, "commit", number, message->id);
    if (!message->end_sent) {
        sim_fail(message->sim, "message %u: leg %u commits before the client's end of data",
                 message->id, number);
    }
    if (message_is_refused(message)) {
        sim_fail(message->sim, "message %u: leg %u commits what was not to be sent", message->id,
                 number);
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
        /* Of the one that commits the order of its own bytes is enough. */
        bool whole = leg->link != NULL ? i == place || link_unsent(leg->link) == 0
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

/* Who came unknown is refused for good, but only he. */
static struct span circle_of_unknown(const struct message *message, unsigned leg, char *out)
{
    struct text text = text_over(out, REPLY_LINE);
    if (message_is_split(message)) {
        text_printf(&text,
                    "451 4.3.0 %s: ", message->sim->relays[leg_relay_number(leg)].relay.name);
    }
    text_puts(&text, "554 5.4.6 This message is going in circles\r\n");
    return text_span(&text);
}

/* The answer to a message that we have sent on a detour before and are asked to again: by its first
 * detour; "" where there is none. */
static struct span circle_of(const struct message *message, char *out)
{
    for (unsigned i = 0; i < message->leg_count && message->marked; i++) {
        unsigned leg = message->order[i];
        if (message->legs[leg].accepted != 0 && leg_way(leg) != WAY_HOME) {
            return leg_way(leg) == WAY_FALLBACK
                       ? SPAN("451 4.4.6 The fallback has sent this message back to us\r\n")
                       : circle_of_unknown(message, leg, out);
        }
    }
    return SPAN("");
}

/* What is sent to nobody, whatever the upstreams would say. */
bool message_is_refused(const struct message *message)
{
    char line[REPLY_LINE];
    return message->dirty || message->circles || circle_of(message, line).len != 0 ||
           message->size > message->sim->settings->limits.message_size;
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
    if (message->circles) {
        return SPAN("554 5.4.6 Too many hops: this message is going in circles\r\n");
    }
    struct span circle = circle_of(message, out);
    if (circle.len != 0) {
        return circle;
    }
    for (unsigned i = 0; i < refusal; i++) {
        message->legs[turn[i]].wanted = true;
    }
    if (count == 0) {
        return SPAN("250 2.0.0 Ok\r\n");
    }
    if (count == 1) {
        return message_passes(message, STAGE_END, leg_way(turn[0]), turn[0],
                              message->legs[turn[0]].end, out);
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
    unsigned count = message_turns(message, turn);
    struct sim_totals *totals = message->sim->totals;
    bool some = false;
    if (is_loss(message, reply)) {
        message->cut = true;
    } else if (message->size > message->sim->settings->limits.message_size && message->circles &&
               begins(reply, "554 5.4.6 Too many hops")) { /* whichever was found first */
        message->cut = true;
    } else {
        message_expect(message, "the message", reply, outcome_of(message, turn, count, expected));
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
