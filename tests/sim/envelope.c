/* What MAIL and RCPT have to be answered, by the design's sections 5 and 6. */
#include <stdio.h>

#include "config/config.h"
#include "routing/pacing.h"
#include "tests/sim/message.h"

void message_expect_mail(struct message *message, struct span reply)
{
    if (message->must_encrypt) {
        message_expect(message, "MAIL", reply,
                       SPAN("530 5.7.0 Must issue a STARTTLS command first\r\n"));
        return;
    }
    if (message->says_size && message->size > message->sim->settings->limits.message_size) {
        message_expect(message, "MAIL", reply, SPAN("552 5.3.4 Message too big\r\n"));
        return;
    }
    message_expect(message, "MAIL", reply, SPAN("250 2.1.0 Ok\r\n"));
    message->mail_ok = true;
}

/* ---- legs ---- */

/* As if they had never been; one that is made anew is the last. */
static void let_go_of_empty_legs(struct message *message)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < message->leg_count; i++) {
        struct message_leg *leg = &message->legs[message->order[i]];
        if (leg->open && leg->accepted == 0) {
            leg->made = leg->open = leg->asked = leg->broken = leg->absent = false;
            leg->final = leg->busy = leg->slowed = leg->hushed = false;
        } else {
            message->order[kept++] = message->order[i];
        }
    }
    message->leg_count = kept;
}

static bool others_have_recipients(const struct message *message, unsigned number)
{
    for (unsigned i = 0; i < message->leg_count; i++) {
        if (message->order[i] != number && message->legs[message->order[i]].accepted != 0) {
            return true;
        }
    }
    return false;
}

/* The leg is made on first need; otherwise the answer is the proxy's own, which is told. */
static struct span make_leg(struct message *message, unsigned number, const struct relay *relay)
{
    struct message_leg *leg = &message->legs[number];
    bool defer = message->sim->settings->split == SPLIT_DEFER;
    if (!leg->made) {
        let_go_of_empty_legs(message);
    }
    bool is_first = !leg->made || (leg->open && leg->accepted == 0);
    if (defer && is_first && others_have_recipients(message, number)) {
        return SPAN("452 4.5.3 Send this recipient separately\r\n");
    }
    if (leg->made && relay->recipients_max != 0 && leg->accepted >= relay->recipients_max) {
        return SPAN("452 4.5.3 Too many recipients for one message there\r\n");
    }
    if (!leg->made) {
        leg->made = leg->open = true;
        message->order[message->leg_count++] = number;
    }
    return SPAN("");
}

/* ---- what a relay that is there says ---- */

/* Why the connection is refused, or the client in whose name it is made; "" if it is not. Without a
 * line's end: how the answer begins. */
static struct span refusal_of(const struct message *message, unsigned relay, enum way way,
                              char *out)
{
    const struct server *server = message->sim->servers[relay];
    const struct sim_relay *own = &message->sim->relays[relay];
    const char *unwelcome = server_welcome(server, message->identity->number);
    bool by_xclient = own->relay.identity == IDENTITY_XCLIENT;
    const char *code = NULL;
    if (own->looped) {
        code = "451 4.4.6";
    } else if (server->greets_no && server->proxy) {
        return line_passes(way, SAYS_NO_SERVICE, out);
    } else if (server->greets_no) {
        code = "451 4.3.0";
    } else if (server->proxy && unwelcome != NULL) {
        return line_passes(way, unwelcome, out);
    } else if ((server->proxy && server->helo_only) ||
               (by_xclient &&
                ((server->xclient & ATTRIBUTE_ADDR) == 0 || server->xclient_refused))) {
        code = "451 4.3.5";
    } else if (by_xclient && unwelcome != NULL) {
        return line_passes(way, unwelcome, out);
    }
    if (code == NULL) {
        return SPAN("");
    }
    snprintf(out, REPLY_LINE, "%s %s: ", code, own->name);
    return span_of(out);
}

/* The answer of a relay that can be reached. */
static struct span answer_of(const struct message *message, unsigned number, enum way way,
                             char *out)
{
    const struct rcpt *rcpt = &message->rcpts[number];
    unsigned relay = message_relay_of(message, rcpt, way);
    struct span refusal = refusal_of(message, relay, way, out);
    if (refusal.len != 0) {
        return refusal;
    }
    if (!fate_is_yes(message->mail[relay])) {
        return message_passes(message, STAGE_MAIL, way, relay, message->mail[relay], out);
    }
    return message_passes(message, STAGE_RCPT, way, way * 100 + number, rcpt->fate[way], out);
}

static bool is_answer(struct span reply, struct span answer)
{
    bool whole = answer.ptr[answer.len - 1] == '\n';
    return whole ? span_equal(reply, answer) : span_equal(span_first(reply, answer.len), answer);
}

/* It is: what that means for recipient and leg. */
static void note_answer(struct message *message, unsigned number, enum way way)
{
    char refusal[REPLY_LINE];
    struct rcpt *rcpt = &message->rcpts[number];
    unsigned relay = message_relay_of(message, rcpt, way);
    struct sim_relay *own = &message->sim->relays[relay];
    struct message_leg *leg = &message->legs[message_leg_of(message, rcpt, way)];
    bool here = refusal_of(message, relay, way, refusal).len == 0;
    enum fate mail = message->mail[relay];
    leg->open = here && fate_is_yes(mail);
    leg->broken =
        leg->broken ||
        (leg->open && (rcpt->fate[way] == FATE_CLOSING || rcpt->fate[way] == FATE_SLOWER));
    leg->hushed = leg->hushed || (leg->open && own->relay.paced && rcpt->fate[way] == FATE_SLOWER);
    if (here && (mail == FATE_SLOWER || (leg->open && rcpt->fate[way] == FATE_SLOWER))) {
        own->slowed_heard = message->sim->world.now;
        own->quiet_until = own->slowed_said + PACING_QUIET;
    }
    if (leg->open && fate_is_yes(rcpt->fate[way])) {
        rcpt->accepted = true;
        rcpt->way = way;
        leg->accepted++;
        message->accepted++;
    }
}

/* ---- where a recipient goes ---- */

static bool goes(struct message *message, unsigned number, enum way way, struct span reply);

/* As far as is known now it is right that it went on from here, this way; else nothing has changed.
 */
static bool goes_on(struct message *message, unsigned number, enum way way, struct span reply)
{
    struct message before = *message;
    if (message_relay_of(message, &message->rcpts[number], way) == SIM_RELAYS) {
        return false;
    }
    if (goes(message, number, way, reply)) {
        return true;
    }
    *message = before;
    return false;
}

/* A relay that asked for less is left alone; whether it is still, at the edges and when the 10
 * minutes are over, is not known here. */
static bool is_slowed(const struct message *message, const struct rcpt *rcpt, unsigned relay,
                      struct message_leg *leg, struct span reply, bool *must)
{
    const struct sim_relay *own = &message->sim->relays[relay];
    bool quiet = own->slowed_heard != 0 && rcpt->sent_at > own->slowed_heard &&
                 message->sim->world.now < own->quiet_until;
    bool is = message_says_slowed(message, relay, reply);
    *must = leg->slowed || leg->hushed ||
            (own->relay.paced && quiet && leg->accepted == 0 && !leg->asked);
    leg->slowed = leg->slowed || is;
    leg->open = leg->open && !is;
    return is;
}

static bool goes_when_there(struct message *message, unsigned number, enum way way,
                            struct span reply)
{
    char expected[REPLY_LINE];
    const struct rcpt *rcpt = &message->rcpts[number];
    unsigned relay = message_relay_of(message, rcpt, way);
    bool unknown = way == WAY_HOME && rcpt->fate[way] == FATE_NO &&
                   fate_is_yes(message->mail[relay]) &&
                   message_relay_of(message, rcpt, WAY_UNKNOWN) < SIM_RELAYS &&
                   refusal_of(message, relay, way, expected).len == 0;
    if (unknown) {
        message->legs[message_leg_of(message, rcpt, way)].asked = true;
        if (goes_on(message, number, WAY_UNKNOWN, reply)) {
            return true;
        }
        if (message->identity->unknown <= 20) {
            return false;
        }
    }
    if (!is_answer(reply, answer_of(message, number, way, expected))) {
        return false;
    }
    note_answer(message, number, way);
    message->legs[message_leg_of(message, rcpt, way)].asked = true;
    return true;
}

static bool goes_when_absent(struct message *message, unsigned number, enum way way,
                             struct span reply)
{
    const struct rcpt *rcpt = &message->rcpts[number];
    unsigned relay = message_relay_of(message, rcpt, way);
    struct message_leg *leg = &message->legs[message_leg_of(message, rcpt, way)];
    /* A leg that has lost its connection cannot take those whom it has accepted elsewhere. */
    bool detours = way == WAY_HOME && message->sim->relays[relay].relay.fallback != NULL &&
                   leg->accepted == 0 && !leg->final;
    leg->open = false;
    leg->absent = leg->asked = true;
    if (detours && goes_on(message, number, WAY_FALLBACK, reply)) {
        return true;
    }
    leg->final = true;
    return message_says_absent(message, relay, way, reply) &&
           (!detours || message_is_late(message, rcpt, relay));
}

/* Whether the reply is right for a recipient that goes this way. */
static bool goes(struct message *message, unsigned number, enum way way, struct span reply)
{
    const struct rcpt *rcpt = &message->rcpts[number];
    unsigned relay = message_relay_of(message, rcpt, way);
    unsigned leg_number = message_leg_of(message, rcpt, way);
    struct message_leg *leg = &message->legs[leg_number];
    bool must_be_slowed = false;
    struct span own = make_leg(message, leg_number, &message->sim->relays[relay].relay);
    if (own.len != 0) {
        return span_equal(reply, own);
    }
    bool slowed = is_slowed(message, rcpt, relay, leg, reply, &must_be_slowed);
    if (slowed || must_be_slowed) {
        return slowed;
    }
    bool busy = message_says_busy(message, relay, way, leg->busy ? 0 : rcpt->sent_at, reply);
    if (busy || ((is_crowded(message, reply) || is_loss(message, reply)) &&
                 message_names(message, relay, reply))) {
        leg->busy = leg->busy || busy;
        leg->open = false;
        leg->asked = true;
        return true;
    }
    if (leg->busy) {
        return false;
    }
    if (message_is_late(message, rcpt, relay) &&
        message_says_absent(message, relay, WAY_UNKNOWN, reply)) {
        leg->open = false;
        leg->absent = leg->final = leg->asked = true;
        return true;
    }
    enum reach reach = leg->absent ? REACH_NO : message_reach(message, rcpt, relay);
    return (reach != REACH_NO && goes_when_there(message, number, way, reply)) ||
           (reach != REACH_YES && goes_when_absent(message, number, way, reply));
}

static void expect_relayed(struct message *message, unsigned number, struct span reply)
{
    char expected[REPLY_LINE];
    const struct rcpt *rcpt = &message->rcpts[number];
    if (!goes(message, number, WAY_HOME, reply)) {
        static const char *const reaches[] = {"up", "down", "perhaps up"};
        sim_fail(
            message->sim, "message %u: RCPT %u to relay %u, which is %s, answered `%.*s` (`%.*s`)",
            message->id, number, rcpt->relay, reaches[message_reach(message, rcpt, rcpt->relay)],
            SPAN_ARGS(reply), SPAN_ARGS(answer_of(message, number, WAY_HOME, expected)));
    }
}

void message_expect_rcpt(struct message *message, unsigned number, struct span reply)
{
    struct rcpt *rcpt = &message->rcpts[number];
    if (!message->mail_ok) {
        message_expect(message, "RCPT", reply, SPAN("503 5.5.1 Need MAIL first\r\n"));
        return;
    }
    if (message->accepted >= message->sim->settings->limits.recipients) {
        message_expect(message, "RCPT", reply, SPAN("452 4.5.3 Too many recipients\r\n"));
        return;
    }
    switch (rcpt->kind) {
    case RCPT_RELAY:
        expect_relayed(message, number, reply);
        break;
    case RCPT_ERROR:
        message_expect(message, "RCPT", reply, SPAN("550 5.1.1 no such user\r\n"));
        break;
    case RCPT_RETRY:
        message_expect(message, "RCPT", reply, SPAN("450 4.0.0 not now\r\n"));
        break;
    case RCPT_DISCARD:
        message_expect(message, "RCPT", reply, SPAN("250 2.1.5 Ok\r\n"));
        rcpt->accepted = true;
        message->accepted++;
        break;
    }
}
