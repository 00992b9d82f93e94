#include "proxy/session/transaction.h"

#include <stdlib.h>

#include "proxy/session/shared.h"
#include "proxy/session/stats.h"
#include "proxy/session/summary.h"
#include "proxy/session/transaction_state.h"
#include "proxy/session/unsettled.h"
#include "proxy/wire/received.h"

/* How long the client waits for the ledger, which is to write one page, milliseconds. */
#define RECORD_WAIT 10000
/* A client that waits so long for legs may be one that gives up; milliseconds. Senders wait for
 * minutes (RFC 5321 4.5.3.2). */
#define KEPT_WAITING 10000

static void on_leg(void *owner, struct leg *leg, const struct leg_event *event);

void transaction_tell(struct transaction *tx, enum transaction_event_kind kind,
                      const struct reply *reply)
{
    tx->on_event(tx->owner,
                 &(struct transaction_event){.kind = kind, .reply = reply, .close = tx->dirty});
}

/* ---- the outcome ---- */

static void stop_commit_timers(struct transaction *tx)
{
    timer_stop(&tx->world->timers, &tx->recheck);
    timer_stop(&tx->world->timers, &tx->advance);
}

void transaction_abandon(struct transaction *tx)
{
    for (unsigned i = 0; i < tx->leg_count; i++) {
        leg_abandon(tx->legs[i]);
    }
}

/* Section 5, what did not settle: several legs, and one of them is the cause. */
static bool is_unsettled(const struct transaction *tx)
{
    return tx->turns > 1 && reply_is(&tx->message->outcome, 4);
}

/* What the ledger has had to do with it, for the log. */
static const char *ledger_part(const struct transaction *tx)
{
    return tx->told           ? "already-accepted"
           : tx->recorded     ? "recorded"
           : is_unsettled(tx) ? "not-recorded"
           : tx->set.bound    ? "one-leg"
                              : NULL;
}

/* Counts and logs it. */
static void transaction_settle(struct transaction *tx)
{
    enum counter stat = tx->client_gone                      ? STAT_TRANSACTIONS_LOST
                        : reply_is(&tx->message->outcome, 2) ? STAT_TRANSACTIONS_ACCEPTED
                        : reply_is(&tx->message->outcome, 4) ? STAT_TRANSACTIONS_DEFERRED
                                                             : STAT_TRANSACTIONS_REJECTED;
    timer_stop(&tx->world->timers, &tx->timer);
    stop_commit_timers(tx);
    tx->state = TRANSACTION_IS_SETTLED;
    stats_add(tx->world->stats, stat, 1);
    stats_add(tx->world->stats, STAT_BYTES, tx->message->scanner.size);
    summary_transaction(tx->world, tx->policy, tx->client,
                        &(struct summary){.id = tx->id,
                                          .envelope = &tx->context.envelope,
                                          .recipients = tx->first,
                                          .size = tx->message->scanner.size,
                                          .milliseconds = tx->world->now - tx->begun_at,
                                          .reply = &tx->message->outcome,
                                          .client_gone = tx->client_gone,
                                          .several = tx->turns > 1,
                                          .ledger = ledger_part(tx)});
}

/* Accepted, where another leg is or was concerned, for a client that is gone or may be. */
static bool may_come_again(const struct transaction *tx)
{
    return reply_is(&tx->message->outcome, 2) && unsettled_concerns(tx) &&
           (tx->client_gone || tx->client->has_ended);
}

/*
 * The client is to hear it. What it will not hear is no final answer: it will come again, so what
 * was accepted stays on record. One that has only closed its side may read it yet, and then it
 * goes.
 */
static void conclude_now(struct transaction *tx)
{
    const struct reply *outcome = &tx->message->outcome;
    bool final = !reply_is(outcome, 4) && !tx->told;
    if (final && may_come_again(tx)) {
        tx->unread = unsettled_record(tx, NULL);
    } else if (final && !tx->client_gone) {
        unsettled_settle(tx);
    } else if (!final && !tx->told && tx->turns == 1) {
        unsettled_took_turns(tx);
    }
    transaction_settle(tx);
    transaction_tell(tx, tx->message->tells, outcome);
}

static void on_recorded(void *owner, bool durable)
{
    struct transaction *tx = owner;
    tx->recorded = durable; /* what the client is told is the same */
    conclude_now(tx);
}

void transaction_conclude(struct transaction *tx, enum transaction_event_kind tells,
                          const struct reply *outcome)
{
    tx->message->outcome = *outcome;
    tx->message->tells = tells;
    transaction_abandon(tx);
    stop_commit_timers(tx);
    if (is_unsettled(tx) && unsettled_record(tx, &tx->ticket)) {
        tx->state = TRANSACTION_IS_RECORDING;
        timer_set(&tx->world->timers, &tx->timer, tx->world->now + RECORD_WAIT);
    } else {
        conclude_now(tx);
    }
}

/* The transaction's time is over: that of the commit, or of the ledger, which will have it all the
 * same if it can. */
static void on_due(void *owner)
{
    struct transaction *tx = owner;
    if (tx->state == TRANSACTION_IS_RECORDING) {
        ledger_forget(tx->world->shared->ledger, &tx->ticket);
        conclude_now(tx);
    } else {
        commit_is_late(tx);
    }
}

/* ---- DATA ---- */

static void data_fails(struct transaction *tx, const struct reply *reply)
{
    transaction_conclude(tx, TRANSACTION_DATA, reply);
}

/* RFC 3848; RFC 6531 4.3. */
static const char *protocol_of(const struct transaction *tx)
{
    if (!tx->context.envelope.smtputf8) {
        return tx->client->protocol;
    }
    return tx->client->tls[0] != '\0' ? "UTF8SMTPS" : "UTF8SMTP";
}

/* Our Received field, in front of the message, for the legs on a detour or for the others. */
static void put_received(struct transaction *tx, bool detour, bool ends_header)
{
    char field[RECEIVED_MAX + 2];
    struct text text = TEXT(field);
    const struct client_view *client = tx->client;
    for (unsigned i = 0; i < tx->turns; i++) {
        if ((leg_kind(tx->message->turn[i]) != LEG_IS_PLAIN) != detour) {
            continue;
        }
        if (text.len == 0) {
            received_write(
                &(struct received){
                    .helo = client->helo,
                    .ptr_name = client->name,
                    .ip = client->ip,
                    .hostname = tx->policy->config->hostname.text,
                    .protocol = protocol_of(tx),
                    .id = tx->id,
                    .tls = client->tls[0] != '\0' ? client->tls : NULL,
                    .recipient = tx->recipient_count == 1 ? tx->first->path : (struct span){0},
                    .fallback = detour,
                    .when = tx->world->ops->wall(tx->world),
                },
                &text);
            text_puts(&text, ends_header ? "\r\n" : "");
        }
        leg_body(tx->message->turn[i], text_span(&text));
    }
}

/* Every leg has 354: the message may begin. */
static void data_begins(struct transaction *tx)
{
    struct reply go;
    tx->state = TRANSACTION_IS_TAKING;
    tx->message->scanner = (struct body_scanner){.line_start = true};
    header_watch_init(&tx->message->header, span_of(tx->policy->config->hostname.text));
    reply_set(&go, 354, "", "End data with <CR><LF>.<CR><LF>");
    transaction_tell(tx, TRANSACTION_DATA, &go);
}

bool transaction_has_recipients(const struct transaction *tx)
{
    return tx->recipient_count != 0;
}

static void data_lacks_memory(struct transaction *tx)
{
    struct reply reply;
    reply_set(&reply, 452, "4.3.1", "Out of memory");
    transaction_abandon(tx);
    tx->state = TRANSACTION_IS_SETTLED;
    transaction_tell(tx, TRANSACTION_DATA, &reply);
}

void transaction_data(struct transaction *tx)
{
    tx->message = spare_new(&tx->world->spares, sizeof *tx->message);
    if (tx->message == NULL) {
        data_lacks_memory(tx);
        return;
    }
    for (unsigned i = 0; i < tx->leg_count; i++) {
        if (leg_recipient_count(tx->legs[i]) != 0) {
            tx->message->turn[tx->turns++] = tx->legs[i];
        } else {
            leg_abandon(tx->legs[i]);
        }
    }
    unsettled_watch(tx);
    tx->state = TRANSACTION_IS_STARTING;
    tx->heard_at = tx->world->now;
    tx->waiting = tx->turns;
    if (tx->waiting == 0) {
        data_begins(tx);
        return;
    }
    for (unsigned i = 0; i < tx->turns && tx->state == TRANSACTION_IS_STARTING; i++) {
        leg_data(tx->message->turn[i]);
    }
}

/* ---- the message ---- */

/* The outcome is decided before the end: no leg gets any more; the client is heard out. */
static void doom(struct transaction *tx, const struct reply *reply)
{
    tx->message->outcome = *reply;
    tx->state = TRANSACTION_IS_DOOMED;
    transaction_abandon(tx);
}

static void doom_with(struct transaction *tx, unsigned code, const char *enhanced, const char *text)
{
    struct reply reply;
    reply_set(&reply, code, enhanced, text);
    doom(tx, &reply);
}

/* A message that begins with a blank has no header (RFC 5322 2.2), and its first line would go on
 * with our field: the header ends behind that. `begin`: wire form, more than a first dot. */
static bool continues_ours(struct span begin)
{
    const struct span line = span_skip(begin, begin.len != 0 && begin.ptr[0] == '.' ? 1 : 0);
    return line.len != 0 && (line.ptr[0] == ' ' || line.ptr[0] == '\t');
}

/* Not before the client sends it: so that it goes out in one piece with our field. */
static void message_begins(struct transaction *tx, struct span begin)
{
    const bool ends_header = continues_ours(begin);
    tx->message->has_begun = true;
    put_received(tx, false, ends_header);
    put_received(tx, true, ends_header);
}

/* Bytes found clean go to every leg as they are. */
static void pass_on(struct transaction *tx, struct span clean)
{
    const struct config_limits *limits = &tx->policy->config->limits;
    header_watch_feed(&tx->message->header, clean);
    if (tx->message->identity != NULL) {
        message_identity_feed(tx->message->identity, clean);
    }
    if (tx->message->scanner.size > limits->message_size) {
        doom_with(tx, 552, "5.3.4", "Message too big");
    } else if (tx->message->header.received > limits->received_hops) {
        doom_with(tx, 554, "5.4.6", "Too many hops: this message is going in circles");
    }
    for (unsigned i = 0; i < tx->turns && tx->state == TRANSACTION_IS_TAKING; i++) {
        leg_body(tx->message->turn[i], clean);
    }
}

bool transaction_has_room(const struct transaction *tx)
{
    if (tx->state != TRANSACTION_IS_TAKING) {
        return tx->state == TRANSACTION_IS_DOOMED;
    }
    for (unsigned i = 0; i < tx->turns; i++) {
        if (!leg_has_room(tx->message->turn[i])) {
            return false;
        }
    }
    return true;
}

/* A message that was sent on a detour by us before is not sent on one again: it would go in
 * circles (design: section 6, loops). */
static void doom_detours(struct transaction *tx)
{
    for (unsigned i = 0; i < tx->turns; i++) {
        const struct leg *leg = tx->message->turn[i];
        struct reply its, reply;
        switch (leg_kind(leg)) {
        case LEG_IS_PLAIN:
            continue;
        case LEG_IS_FALLBACK:
            reply_set(&reply, 451, "4.4.6", "The fallback has sent this message back to us");
            break;
        case LEG_IS_UNKNOWN:
            reply_set(&its, 554, "5.4.6", "This message is going in circles");
            commit_joint_refusal(tx, leg, &its, &reply); /* the other legs' recipients are not */
            break;
        }
        doom(tx, &reply);
        return;
    }
}

/* Its leg has this very message: that is all the sender wants to hear. */
static void tell_it_is_known(struct transaction *tx)
{
    struct reply reply;
    reply_set(&reply, 250, "2.0.0", "already accepted");
    tx->told = tx->unread = true;
    transaction_conclude(tx, TRANSACTION_OUTCOME, &reply);
}

static void message_ended(struct transaction *tx)
{
    tx->message->is_whole = true;
    if (tx->state == TRANSACTION_IS_TAKING && unsettled_is_known(tx)) {
        tell_it_is_known(tx);
        return;
    }
    if (tx->state == TRANSACTION_IS_TAKING && unsettled_is_overtaken(tx)) {
        doom_with(tx, 451, "4.3.0", "Answered on another connection meanwhile, try again");
    }
    if (tx->state == TRANSACTION_IS_TAKING && tx->message->header.own_fallback) {
        doom_detours(tx);
    }
    if (tx->state == TRANSACTION_IS_DOOMED) {
        transaction_conclude(tx, TRANSACTION_OUTCOME, &tx->message->outcome);
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
    tx->heard_at = tx->world->now;
    if (!tx->dirty) {
        size_t clean = 0;
        enum body_status status = body_scan(&tx->message->scanner, input, &clean, &consumed);
        if (!tx->message->has_begun && (clean != 0 || status == BODY_END)) {
            message_begins(tx, span_first(input, clean));
        }
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
        *ended = body_skip(&tx->message->scanner, span_skip(input, consumed), &skipped);
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
    case TRANSACTION_IS_RECORDING:
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
        recipient_is_answered(tx, leg, event);
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
    return tx->state == TRANSACTION_IS_COMMITTING || tx->state == TRANSACTION_IS_RECORDING;
}

bool transaction_is_unread(const struct transaction *tx)
{
    return tx->unread;
}

void transaction_read(struct transaction *tx)
{
    unsettled_settle(tx);
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
        spare_free(tx->first);
        tx->first = next;
    }
    unsettled_release(tx);
    spare_free(tx->asked);
    if (tx->message != NULL) {
        message_identity_free(tx->message->identity);
        spare_free(tx->message);
    }
    policy_unref(tx->policy);
    spare_free(tx);
}

struct transaction *transaction_new(struct world *world, const struct client_view *client,
                                    const struct envelope *envelope, unsigned number,
                                    transaction_handler *on_event, void *owner)
{
    struct transaction *tx = spare_new(&world->spares, sizeof *tx + envelope->sender.len);
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
    tx->timer.on_due = on_due;
    tx->timer.owner = tx;
    tx->recheck.on_due = commit_recheck;
    tx->recheck.owner = tx;
    tx->advance.on_due = commit_advance;
    tx->advance.owner = tx;
    tx->ticket = (struct ledger_ticket){.world = world, .on_done = on_recorded, .owner = tx};
    tx->deferred.free = transaction_release;
    struct text id = TEXT(tx->id);
    text_puts(&id, client->session_id);
    text_putc(&id, '-');
    text_number(&id, number);
    return tx;
}

static bool has_message(const struct transaction *tx)
{
    return tx->state > TRANSACTION_IS_STARTING && tx->state < TRANSACTION_IS_SETTLED;
}

void transaction_dismiss(struct transaction *tx, const struct reply *reply)
{
    if (tx != NULL && has_message(tx)) {
        tx->message->outcome = *reply;
        transaction_settle(tx);
    }
}

/* Whether the client, who leaves, has waited for a leg: it may not have the patience the next time
 * either, and the other legs' recipients would wait with it for ever. Who leaves at once has not
 * been kept: he would only fill the ledger. */
static bool has_kept_waiting(const struct transaction *tx)
{
    const bool waits = tx->state == TRANSACTION_IS_STARTING ||
                       tx->state == TRANSACTION_IS_FLUSHING ||
                       (tx->state == TRANSACTION_IS_TAKING && !transaction_has_room(tx));
    return waits && tx->world->now >= tx->heard_at + KEPT_WAITING;
}

void transaction_free(struct transaction *tx)
{
    if (tx == NULL) {
        return;
    }
    if (tx->turns > 1 && has_kept_waiting(tx)) {
        unsettled_record(tx, NULL);
    }
    if (has_message(tx)) {
        tx->client_gone = true;
        if (tx->state != TRANSACTION_IS_RECORDING) {
            reply_set(&tx->message->outcome, 451, "4.4.2", "The client is gone");
        }
        transaction_settle(tx);
    }
    ledger_forget(tx->world->shared->ledger, &tx->ticket);
    timer_stop(&tx->world->timers, &tx->timer);
    stop_commit_timers(tx);
    transaction_abandon(tx);
    tx->state = TRANSACTION_IS_SETTLED;
    world_defer(tx->world, &tx->deferred);
}
