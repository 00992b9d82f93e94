/* Whether a relay can be used, and how recipients may come to it (design: section 6). */
#include <stdio.h>

#include "tests/sim/message.h"

/* ---- what the proxy says of a relay by itself ---- */

static bool begins(struct span reply, const char *front)
{
    return span_starts_fold(reply, span_of(front));
}

bool is_crowded(const struct message *message, struct span reply)
{
    char line[REPLY_LINE];
    if (!message->sim->crowded) {
        return false;
    }
    snprintf(line, sizeof line, "%.*s", SPAN_ARGS(reply));
    return strstr(line, "all connections are in use") != NULL &&
           (begins(reply, "451 4.3.2 ") || begins(reply, "452 4.5.3 ") ||
            begins(reply, "451 4.3.0 "));
}

bool is_loss(const struct message *message, struct span reply)
{
    return message->sim->config.faults != 0 &&
           (begins(reply, "451 4.4.1 ") || begins(reply, "451 4.4.2 ") ||
            begins(reply, "451 4.7.5 "));
}

/* As whose they are. */
bool message_names(const struct message *message, unsigned relay, struct span reply)
{
    struct span rest = span_skip(reply, sizeof "451 4.4.1 " - 1);
    char front[32];
    snprintf(front, sizeof front, "%s: ", message->sim->relays[relay].name);
    return begins(rest, front);
}

static bool says(const struct message *message, struct span reply, const char *code, unsigned relay)
{
    char front[64];
    snprintf(front, sizeof front, "%s %s: ", code, message->sim->relays[relay].name);
    return begins(reply, front);
}

bool message_says_absent(const struct message *message, unsigned relay, enum way way,
                         struct span reply)
{
    const struct sim_relay *own = &message->sim->relays[relay];
    if (way == WAY_UNKNOWN) {
        return says(message, reply, "451 4.4.1", relay);
    }
    if (own->no_names) {
        return says(message, reply, own->null_mx ? "451 4.4.4" : "451 4.4.3", relay);
    }
    /* With TLS at fault, unless it was not tried again meanwhile. */
    return says(message, reply, "451 4.4.1", relay) ||
           (own->relay.tls != RELAY_TLS_NONE && !own->down &&
            says(message, reply, "451 4.7.5", relay));
}

bool message_says_busy(const struct message *message, unsigned relay, enum way way, uint64_t since,
                       struct span reply)
{
    char expected[REPLY_LINE];
    const struct sim_relay *own = &message->sim->relays[relay];
    for (unsigned i = 0; i < own->endpoints; i++) {
        const struct server *server = &message->sim->servers[relay][i];
        if (server->flaky && server->proxy && server->outage == OUTAGE_BUSY &&
            server_may_be_down(server, since) &&
            span_equal(reply, line_passes(way, SAYS_BUSY, expected))) {
            return true;
        }
    }
    return false;
}

bool message_says_slowed(const struct message *message, unsigned relay, struct span reply)
{
    const struct sim_relay *own = &message->sim->relays[relay];
    char line[REPLY_LINE];
    if (!own->relay.paced || own->slowed_said == 0) {
        return false;
    }
    snprintf(line, sizeof line, "451 4.7.28 %s: asked us to send less for a while\r\n", own->name);
    return span_equal(reply, span_of(line));
}

bool message_says_gone(const struct message *message, unsigned number, struct span reply)
{
    const struct message_leg *leg = &message->legs[number];
    unsigned relay = leg_relay_number(number);
    bool perhaps = false;
    for (unsigned i = 0; i < message->sim->relays[relay].endpoints; i++) {
        perhaps = perhaps || server_may_be_down(&message->sim->servers[relay][i], 0);
    }
    bool broken = leg->broken || message->sim->config.faults != 0;
    if ((leg->slowed || broken) && message_says_slowed(message, relay, reply)) {
        return true;
    }
    return perhaps && broken &&
           (message_says_absent(message, relay, leg_way(number), reply) ||
            message_says_absent(message, relay, WAY_HOME, reply) ||
            message_says_busy(message, relay, leg_way(number), 0, reply));
}

/* How long it may keep a recipient waiting at the most, milliseconds. */
static uint64_t relay_wait(const struct message *message, unsigned relay)
{
    const struct sim_relay *own = &message->sim->relays[relay];
    uint64_t wait = 0;
    for (unsigned i = 0; i < own->endpoints; i++) {
        const struct server *server = &message->sim->servers[relay][i];
        bool shakes = server->starttls && own->relay.tls != RELAY_TLS_NONE;
        wait += UINT64_C(20) * (server->slow + message->sim->delay); /* as many answers */
        /* After the first a connection from the pool does; when that is stale, another is opened.
         */
        wait += shakes && server->shakes == SHAKES_NEVER ? 60000 : 0;
        wait += !server->flaky                       ? 0
                : server->outage == OUTAGE_SILENT    ? 30000
                : server->outage == OUTAGE_UNREACHED ? 10000
                                                     : 0;
    }
    return wait;
}

bool message_is_late(const struct message *message, const struct rcpt *rcpt, unsigned relay)
{
    const struct sim *sim = message->sim;
    bool may_be = sim->crowded || sim->config.faults != 0 ||
                  relay_wait(message, rcpt->relay) +
                          (relay != rcpt->relay ? relay_wait(message, relay) : 0) >=
                      50000;
    /* `recipient` is 60 s; the client's clock lags behind by what is on its way. */
    return may_be && sim->world.now - message->asked_at >= 55000;
}

/* ---- reach ---- */

/* Answered by a refusal before TLS comes into play, which is not absence. */
static bool refuses_first(const struct server *server, const struct identity *identity)
{
    return server->greets_no ||
           (server->proxy &&
            (server->helo_only || server_welcome(server, identity->number) != NULL));
}

enum reach message_reach(const struct message *message, const struct rcpt *rcpt, unsigned relay)
{
    const struct sim *sim = message->sim;
    const struct sim_relay *own = &sim->relays[relay];
    enum reach reach = REACH_NO;
    if (own->looped) {
        return REACH_YES; /* and says so */
    }
    if (own->down || own->no_names) {
        return REACH_NO;
    }
    for (unsigned i = 0; i < own->endpoints; i++) {
        const struct server *server = &sim->servers[relay][i];
        if (server_is_hopeless(server) && !refuses_first(server, message->identity)) {
            continue;
        }
        bool sure = sim->config.faults == 0 && !server_may_be_down(server, rcpt->sent_at);
        reach = sure || reach == REACH_YES ? REACH_YES : REACH_PERHAPS;
    }
    /* A quarter of `recipient` is the fallback's: what takes the rest is not there for it. */
    bool slow = own->relay.fallback != NULL && relay_wait(message, relay) >= 40000;
    return slow && reach == REACH_YES ? REACH_PERHAPS : reach;
}

/* ---- what upstreams see ---- */

static void check_fallback(const struct message *message, unsigned number)
{
    const struct rcpt *rcpt = &message->rcpts[number];
    /* Its own leg was closed for another recipient's sake, and stays so. */
    bool absent = message->legs[message_leg_of(message, rcpt, WAY_HOME)].absent;
    if (message->sim->config.faults == 0 && !absent &&
        (rcpt->answered[WAY_HOME] || message_reach(message, rcpt, rcpt->relay) == REACH_YES)) {
        sim_fail(message->sim, "message %u: recipient %u went to the fallback of what is there",
                 message->id, number);
    }
}

/* Of one client no more than 20 a minute, so of two minutes that it touches 40. */
static void check_unknown(struct message *message, unsigned number)
{
    struct identity *identity = message->identity;
    const struct rcpt *rcpt = &message->rcpts[number];
    uint64_t now = message->sim->world.now;
    if (!rcpt->answered[WAY_HOME] || rcpt->fate[WAY_HOME] != FATE_NO) {
        sim_fail(message->sim, "message %u: recipient %u is not unknown at its own relay",
                 message->id, number);
    }
    if (identity->asked_elsewhere++ == 0) {
        identity->asked_since = now;
    }
    if (identity->asked_elsewhere > 20 * ((now - identity->asked_since) / 60000 + 2) &&
        message->sim->config.faults == 0) {
        sim_fail(message->sim, "client %u: %u of its unknown recipients were asked for elsewhere",
                 identity->number, identity->asked_elsewhere);
    }
}

enum way message_came_by(struct message *message, unsigned number, unsigned relay)
{
    const struct rcpt *rcpt = &message->rcpts[number];
    for (int way = 0; way < WAYS && rcpt->kind == RCPT_RELAY; way++) {
        if (message_relay_of(message, rcpt, (enum way)way) != relay) {
            continue;
        }
        if (way == WAY_FALLBACK) {
            check_fallback(message, number);
        } else if (way == WAY_UNKNOWN) {
            check_unknown(message, number);
        }
        return (enum way)way;
    }
    sim_fail(message->sim, "message %u: recipient %u reached the wrong upstream", message->id,
             number);
}
