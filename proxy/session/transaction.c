#include "proxy/session/transaction.h"

#include <stdlib.h>

#include "proxy/session/shared.h"
#include "proxy/session/stats.h"
#include "proxy/session/summary.h"
#include "proxy/session/transaction_state.h"
#include "proxy/wire/received.h"

/* How many of its unknown recipients a client may have asked for elsewhere, a minute (design:
 * section 6). */
#define UNKNOWN_A_MINUTE 20

static void on_leg(void *owner, struct leg *leg, const struct leg_event *event);

void transaction_tell(struct transaction *tx, enum transaction_event_kind kind,
                      const struct reply *reply)
{
    tx->on_event(tx->owner,
                 &(struct transaction_event){.kind = kind, .reply = reply, .close = tx->dirty});
}

/* ---- recipients ---- */

static struct recipient *recipient_new(struct span path)
{
    struct recipient *recipient = calloc(1, sizeof *recipient + path.len);
    if (recipient != NULL) {
        memcpy(recipient + 1, path.ptr, path.len);
        recipient->path = span_make((const char *)(recipient + 1), path.len);
    }
    return recipient;
}

static void count_recipient(struct transaction *tx, const struct recipient *recipient)
{
    enum counter stat = recipient->code < 300   ? STAT_RECIPIENTS_ACCEPTED
                        : recipient->code < 500 ? STAT_RECIPIENTS_DEFERRED
                                                : STAT_RECIPIENTS_REJECTED;
    stats_add(tx->world->stats, stat, 1);
}

/* The recipient asked for has its answer: kept when accepted, else logged now and forgotten. */
static void recipient_answered(struct transaction *tx, const struct reply *reply)
{
    struct recipient *recipient = tx->asked;
    tx->asked = NULL;
    tx->state = TRANSACTION_IS_OPEN;
    recipient->code = reply->code;
    memcpy(recipient->enhanced, reply->enhanced, sizeof recipient->enhanced);
    count_recipient(tx, recipient);
    if (reply_is(reply, 2)) {
        *(tx->last != NULL ? &tx->last->next : &tx->first) = recipient;
        tx->last = recipient;
        tx->recipient_count++;
    } else {
        summary_refused(tx->world, tx->policy, tx->client, tx->id, recipient, reply);
        free(recipient);
    }
    transaction_tell(tx, TRANSACTION_RECIPIENT, reply);
}

static void recipient_refuse(struct transaction *tx, unsigned code, const char *enhanced,
                             const char *text)
{
    struct reply reply;
    reply_set(&reply, code, enhanced, text);
    recipient_answered(tx, &reply);
}

static struct leg *leg_for(struct transaction *tx, const struct relay *relay, enum leg_kind kind,
                           struct span domain)
{
    for (unsigned i = 0; i < tx->leg_count; i++) {
        if (leg_serves(tx->legs[i], relay, kind, domain)) {
            return tx->legs[i];
        }
    }
    return NULL;
}

/* One recipient domain a leg: where the relay says so, and where the domain is the next hop. */
static bool relay_is_by_domain(const struct relay *relay)
{
    return relay->one_domain || relay->hops[0].kind == NEXTHOP_DOMAIN;
}

/* With `split: defer` a leg that no recipient was accepted by must not keep others away. */
static void abandon_empty_legs(struct transaction *tx)
{
    for (unsigned i = 0; i < tx->leg_count; i++) {
        if (leg_recipient_count(tx->legs[i]) == 0) {
            leg_abandon(tx->legs[i]);
        }
    }
}

static bool holds_open_leg(const struct transaction *tx)
{
    for (unsigned i = 0; i < tx->leg_count; i++) {
        if (leg_is_open(tx->legs[i])) {
            return true;
        }
    }
    return false;
}

static void recipient_relay(struct transaction *tx, const struct relay *relay, enum leg_kind kind)
{
    struct span leg_domain = relay_is_by_domain(relay) ? tx->domain : (struct span){0};
    struct leg *leg = leg_for(tx, relay, kind, leg_domain);
    bool defers = tx->policy->config->split == SPLIT_DEFER;
    if (defers && leg == NULL) {
        abandon_empty_legs(tx);
    }
    bool alone = !holds_open_leg(tx);
    if (leg == NULL) {
        if (tx->leg_count == LEGS_MAX || (defers && !alone)) {
            recipient_refuse(tx, 452, "4.5.3", "Send this recipient separately");
            return;
        }
        leg = leg_new(&tx->context, relay, kind, leg_domain);
        if (leg == NULL) {
            recipient_refuse(tx, 452, "4.3.1", "Out of memory");
            return;
        }
        tx->legs[tx->leg_count++] = leg;
    } else if (relay->recipients_max != 0 && leg_recipient_count(leg) >= relay->recipients_max) {
        recipient_refuse(tx, 452, "4.5.3", "Too many recipients for one message there");
        return;
    }
    tx->asked->leg = leg;
    leg_recipient(leg, tx->asked, alone, tx->answer_by);
}

/* Section 6: a recipient of an unavailable relay goes to the fallback, one that the relay does not
 * know is asked for at another; both take one step only. */
static void recipient_elsewhere(struct transaction *tx, const struct relay *to, enum leg_kind kind,
                                const struct reply *why)
{
    summary_elsewhere(tx->world, tx->policy, tx->client, tx->id,
                      kind == LEG_IS_FALLBACK ? "fallback" : "unknown-recipient", tx->asked, to,
                      why);
    recipient_relay(tx, to, kind);
}

static bool is_unknown(const struct reply *reply)
{
    return (reply->code == 550 || reply->code == 553) &&
           (strcmp(reply->enhanced, "5.1.1") == 0 || strcmp(reply->enhanced, "5.1.10") == 0);
}

/* A dictionary attack must not reach the other relay. */
static bool may_ask_elsewhere(struct transaction *tx)
{
    unsigned char key[16];
    size_t length = quota_client_key(&tx->client->address, key);
    return rate_take(tx->world->shared->unknown, key, length, UNKNOWN_A_MINUTE, tx->world->now);
}

static void leg_answered(struct transaction *tx, struct leg *leg, const struct leg_event *event)
{
    const struct decision *decision = &tx->decision;
    bool plain = leg_kind(leg) == LEG_IS_PLAIN;
    struct reply reply = *event->reply;
    if (plain && event->unavailable && decision->fallback != NULL) {
        recipient_elsewhere(tx, decision->fallback, LEG_IS_FALLBACK, &reply);
    } else if (plain && event->of_rcpt && is_unknown(&reply) &&
               decision->unknown_recipient != NULL && may_ask_elsewhere(tx)) {
        recipient_elsewhere(tx, decision->unknown_recipient, LEG_IS_UNKNOWN, &reply);
    } else {
        if (leg_kind(leg) == LEG_IS_UNKNOWN && event->unavailable) {
            memcpy(reply.enhanced, "4.4.1", sizeof "4.4.1");
        }
        recipient_answered(tx, &reply);
    }
}

void transaction_recipient(struct transaction *tx, struct span path)
{
    struct address address = {0};
    struct decision decision = {0};
    tx->answer_by = tx->world->now + tx->policy->config->timeouts.recipient;
    tx->state = TRANSACTION_IS_ASKING;
    tx->asked = recipient_new(path);
    if (tx->asked == NULL) {
        struct reply reply;
        reply_set(&reply, 452, "4.3.1", "Out of memory");
        tx->state = TRANSACTION_IS_OPEN;
        transaction_tell(tx, TRANSACTION_RECIPIENT, &reply);
        return;
    }
    if (tx->recipient_count >= tx->policy->config->limits.recipients) {
        recipient_refuse(tx, 452, "4.5.3", "Too many recipients");
        return;
    }
    tx->policy->decide(tx->policy, tx->asked->path, &address, &decision);
    switch (decision.kind) {
    case DECISION_REPLY:
        recipient_refuse(tx, decision.code, decision.enhanced, decision.text);
        break;
    case DECISION_DISCARD:
        stats_add(tx->world->stats, STAT_RECIPIENTS_DISCARDED, 1);
        recipient_refuse(tx, 250, "2.1.5", "Ok");
        break;
    case DECISION_RELAY:
        tx->asked->path = address.whole; /* a source route is stripped */
        tx->decision = decision;
        tx->domain = address.domain;
        recipient_relay(tx, decision.relay, LEG_IS_PLAIN);
        break;
    }
}

/* ---- DATA ---- */

void transaction_abandon(struct transaction *tx)
{
    for (unsigned i = 0; i < tx->leg_count; i++) {
        leg_abandon(tx->legs[i]);
    }
}

void transaction_settle(struct transaction *tx)
{
    enum counter stat = tx->client_gone             ? STAT_TRANSACTIONS_LOST
                        : reply_is(&tx->outcome, 2) ? STAT_TRANSACTIONS_ACCEPTED
                        : reply_is(&tx->outcome, 4) ? STAT_TRANSACTIONS_DEFERRED
                                                    : STAT_TRANSACTIONS_REJECTED;
    timer_stop(&tx->world->timers, &tx->timer);
    timer_stop(&tx->world->timers, &tx->recheck);
    tx->state = TRANSACTION_IS_SETTLED;
    stats_add(tx->world->stats, stat, 1);
    stats_add(tx->world->stats, STAT_BYTES, tx->scanner.size);
    summary_transaction(tx->world, tx->policy, tx->client,
                        &(struct summary){.id = tx->id,
                                          .envelope = &tx->context.envelope,
                                          .recipients = tx->first,
                                          .size = tx->scanner.size,
                                          .milliseconds = tx->world->now - tx->begun_at,
                                          .reply = &tx->outcome,
                                          .client_gone = tx->client_gone});
}

static void data_fails(struct transaction *tx, const struct reply *reply)
{
    tx->outcome = *reply;
    transaction_abandon(tx);
    transaction_settle(tx);
    transaction_tell(tx, TRANSACTION_DATA, &tx->outcome);
}

/* Our Received field, in front of the message. */
static void put_received(struct transaction *tx, struct leg *leg, time_t now)
{
    char field[RECEIVED_MAX];
    struct text text = TEXT(field);
    const struct client_view *client = tx->client;
    received_write(
        &(struct received){
            .helo = client->helo,
            .ptr_name = client->name,
            .ip = client->ip,
            .hostname = tx->policy->config->hostname.text,
            .protocol = client->protocol,
            .id = tx->id,
            .tls = client->tls[0] != '\0' ? client->tls : NULL,
            .recipient = tx->recipient_count == 1 ? tx->first->path : (struct span){0},
            .fallback = leg_kind(leg) != LEG_IS_PLAIN,
            .when = now,
        },
        &text);
    leg_body(leg, text_span(&text));
}

/* Every leg has 354: the message may begin. */
static void data_begins(struct transaction *tx)
{
    struct reply go;
    time_t now = tx->world->ops->wall(tx->world);
    for (unsigned i = 0; i < tx->turns; i++) {
        put_received(tx, tx->turn[i], now);
    }
    tx->state = TRANSACTION_IS_TAKING;
    tx->scanner = (struct body_scanner){.line_start = true};
    header_watch_init(&tx->header, span_of(tx->policy->config->hostname.text));
    reply_set(&go, 354, "", "End data with <CR><LF>.<CR><LF>");
    transaction_tell(tx, TRANSACTION_DATA, &go);
}

bool transaction_has_recipients(const struct transaction *tx)
{
    return tx->recipient_count != 0;
}

void transaction_data(struct transaction *tx)
{
    for (unsigned i = 0; i < tx->leg_count; i++) {
        if (leg_recipient_count(tx->legs[i]) != 0) {
            tx->turn[tx->turns++] = tx->legs[i];
        } else {
            leg_abandon(tx->legs[i]);
        }
    }
    tx->state = TRANSACTION_IS_STARTING;
    tx->waiting = tx->turns;
    if (tx->waiting == 0) {
        data_begins(tx);
        return;
    }
    for (unsigned i = 0; i < tx->turns && tx->state == TRANSACTION_IS_STARTING; i++) {
        leg_data(tx->turn[i]);
    }
}

/* ---- the message ---- */

/* The outcome is decided before the end: no leg gets any more; the client is heard out. */
static void doom(struct transaction *tx, const struct reply *reply)
{
    tx->outcome = *reply;
    tx->state = TRANSACTION_IS_DOOMED;
    transaction_abandon(tx);
}

static void doom_with(struct transaction *tx, unsigned code, const char *enhanced, const char *text)
{
    struct reply reply;
    reply_set(&reply, code, enhanced, text);
    doom(tx, &reply);
}

/* Bytes found clean go to every leg as they are. */
static void pass_on(struct transaction *tx, struct span clean)
{
    const struct config_limits *limits = &tx->policy->config->limits;
    header_watch_feed(&tx->header, clean);
    if (tx->scanner.size > limits->message_size) {
        doom_with(tx, 552, "5.3.4", "Message too big");
    } else if (tx->header.received > limits->received_hops) {
        doom_with(tx, 554, "5.4.6", "Too many hops: this message is going in circles");
    }
    for (unsigned i = 0; i < tx->turns && tx->state == TRANSACTION_IS_TAKING; i++) {
        leg_body(tx->turn[i], clean);
    }
}

bool transaction_has_room(const struct transaction *tx)
{
    if (tx->state != TRANSACTION_IS_TAKING) {
        return tx->state == TRANSACTION_IS_DOOMED;
    }
    for (unsigned i = 0; i < tx->turns; i++) {
        if (!leg_has_room(tx->turn[i])) {
            return false;
        }
    }
    return true;
}

/* A message that was sent on a detour by us before is not sent on one again: it would go in
 * circles (design: section 6, loops). */
static bool refuse_detour(struct transaction *tx)
{
    for (unsigned i = 0; i < tx->turns; i++) {
        struct reply reply;
        switch (leg_kind(tx->turn[i])) {
        case LEG_IS_PLAIN:
            continue;
        case LEG_IS_FALLBACK:
            reply_set(&reply, 451, "4.4.6", "The fallback has sent this message back to us");
            break;
        case LEG_IS_UNKNOWN:
            reply_set(&reply, 554, "5.4.6", "This message is going in circles");
            break;
        }
        doom(tx, &reply);
        transaction_settle(tx);
        transaction_tell(tx, TRANSACTION_OUTCOME, &tx->outcome);
        return true;
    }
    return false;
}

static void message_ended(struct transaction *tx)
{
    if (tx->state == TRANSACTION_IS_DOOMED) {
        transaction_settle(tx);
        transaction_tell(tx, TRANSACTION_OUTCOME, &tx->outcome);
        return;
    }
    if (tx->header.own_fallback && refuse_detour(tx)) {
        return;
    }
    commit_begin(tx);
}

/* Up to the first dirty byte everything is passed on; from there on nothing is, up to the true end.
 */
size_t transaction_feed(struct transaction *tx, struct span input, bool *ended)
{
    size_t consumed = 0;
    *ended = false;
    if (!tx->dirty) {
        size_t clean = 0;
        enum body_status status = body_scan(&tx->scanner, input, &clean, &consumed);
        if (clean != 0) {
            pass_on(tx, span_first(input, clean));
        }
        if (status == BODY_DIRTY) {
            tx->dirty = true;
            doom_with(tx, 550, "5.5.2", "Bare CR, bare LF or NUL in the message");
        }
        *ended = status == BODY_END;
    }
    if (tx->dirty) {
        size_t skipped = 0;
        *ended = body_skip(&tx->scanner, span_skip(input, consumed), &skipped);
        consumed += skipped;
    }
    if (*ended) {
        message_ended(tx);
    }
    return consumed;
}

static void leg_is_lost(struct transaction *tx, const struct leg *leg, const struct reply *reply)
{
    switch (tx->state) {
    case TRANSACTION_IS_STARTING:
        data_fails(tx, reply);
        break;
    case TRANSACTION_IS_TAKING:
        doom(tx, reply);
        transaction_tell(tx, TRANSACTION_ROOM, NULL);
        break;
    case TRANSACTION_IS_FLUSHING:
    case TRANSACTION_IS_COMMITTING:
        commit_lost(tx, leg, reply);
        break;
    case TRANSACTION_IS_OPEN:
    case TRANSACTION_IS_ASKING:
    case TRANSACTION_IS_DOOMED:
    case TRANSACTION_IS_SETTLED:
        break; /* told to the recipient, or already counted */
    }
}

static void on_leg(void *owner, struct leg *leg, const struct leg_event *event)
{
    struct transaction *tx = owner;
    struct reply refusal;
    switch (event->kind) {
    case LEG_ANSWERED:
        leg_answered(tx, leg, event);
        break;
    case LEG_READY:
        if (--tx->waiting == 0) {
            data_begins(tx);
        }
        break;
    case LEG_REFUSED:
        commit_joint_refusal(tx, leg, event->reply, &refusal);
        data_fails(tx, &refusal);
        break;
    case LEG_ROOM:
        if (tx->state == TRANSACTION_IS_FLUSHING) {
            commit_next(tx);
        } else if (tx->state == TRANSACTION_IS_TAKING && transaction_has_room(tx)) {
            transaction_tell(tx, TRANSACTION_ROOM, NULL);
        }
        break;
    case LEG_SETTLED:
        commit_answered(tx, leg, event->reply);
        break;
    case LEG_LOST:
        leg_is_lost(tx, leg, event->reply);
        break;
    }
}

bool transaction_client_gone(struct transaction *tx)
{
    tx->client_gone = true;
    return tx->state != TRANSACTION_IS_COMMITTING;
}

bool transaction_is_committing(const struct transaction *tx)
{
    return tx->state == TRANSACTION_IS_COMMITTING;
}

/* ---- life ---- */

static void transaction_release(struct deferred *deferred)
{
    struct transaction *tx = DEFERRED_OWNER(transaction, deferred);
    for (unsigned i = 0; i < tx->leg_count; i++) {
        leg_free(tx->legs[i]);
    }
    while (tx->first != NULL) {
        struct recipient *next = tx->first->next;
        free(tx->first);
        tx->first = next;
    }
    free(tx->asked);
    policy_unref(tx->policy);
    free(tx);
}

struct transaction *transaction_new(struct world *world, const struct client_view *client,
                                    const struct envelope *envelope, unsigned number,
                                    transaction_handler *on_event, void *owner)
{
    struct transaction *tx = calloc(1, sizeof *tx + envelope->sender.len);
    if (tx == NULL) {
        return NULL;
    }
    memcpy(tx->sender, envelope->sender.ptr, envelope->sender.len);
    tx->world = world;
    tx->policy = policy_ref(world->policy);
    tx->client = client;
    tx->context = (struct leg_context){.world = world,
                                       .policy = tx->policy,
                                       .client = client,
                                       .envelope = *envelope,
                                       .on_event = on_leg,
                                       .owner = tx};
    tx->context.envelope.sender = span_make(tx->sender, envelope->sender.len);
    tx->on_event = on_event;
    tx->owner = owner;
    tx->begun_at = world->now;
    tx->timer.on_due = commit_is_late;
    tx->timer.owner = tx;
    tx->recheck.on_due = commit_recheck;
    tx->recheck.owner = tx;
    tx->deferred.free = transaction_release;
    struct text id = TEXT(tx->id);
    text_printf(&id, "%s-%u", client->session_id, number);
    return tx;
}

static bool has_message(const struct transaction *tx)
{
    return tx->state > TRANSACTION_IS_STARTING && tx->state < TRANSACTION_IS_SETTLED;
}

void transaction_dismiss(struct transaction *tx, const struct reply *reply)
{
    if (tx != NULL && has_message(tx)) {
        tx->outcome = *reply;
        transaction_settle(tx);
    }
}

void transaction_free(struct transaction *tx)
{
    if (tx == NULL) {
        return;
    }
    if (has_message(tx)) {
        tx->client_gone = true;
        reply_set(&tx->outcome, 451, "4.4.2", "The client is gone");
        transaction_settle(tx);
    }
    timer_stop(&tx->world->timers, &tx->timer);
    timer_stop(&tx->world->timers, &tx->recheck);
    transaction_abandon(tx);
    tx->state = TRANSACTION_IS_SETTLED;
    world_defer(tx->world, &tx->deferred);
}
