/*
 * The recipients of a transaction: where each goes, on which leg, and where to next when that is
 * unavailable or does not know it (design: sections 4, 5 and 6).
 */
#include <stdlib.h>

#include "proxy/session/shared.h"
#include "proxy/session/stats.h"
#include "proxy/session/summary.h"
#include "proxy/session/transaction_state.h"
#include "proxy/session/unsettled.h"

/* How many of its unknown recipients a client may have asked for elsewhere, a minute (design:
 * section 6). */
#define UNKNOWN_A_MINUTE 20

static struct recipient *recipient_new(struct world *world, struct span path)
{
    struct recipient *recipient = spare_new(&world->spares, sizeof *recipient + path.len);
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
    relay_stats_add(recipient->leg != NULL ? leg_stats(recipient->leg)
                                           : relay_stats_none(&tx->world->stats->relays),
                    recipient->code < 300   ? RELAY_RECIPIENTS_ACCEPTED
                    : recipient->code < 500 ? RELAY_RECIPIENTS_DEFERRED
                                            : RELAY_RECIPIENTS_REJECTED,
                    1);
}

/* The recipient asked for has its answer: kept when accepted, else logged now and forgotten. */
static void recipient_answered(struct transaction *tx, const struct reply *reply)
{
    struct recipient *recipient = tx->asked;
    if (reply_is(reply, 5)) {
        unsettled_refused(tx);
    }
    tx->asked = NULL;
    tx->state = TRANSACTION_IS_OPEN;
    recipient->code = reply->code;
    memcpy(recipient->enhanced, reply->enhanced, sizeof recipient->enhanced);
    count_recipient(tx, recipient);
    if (reply_is(reply, 2)) {
        *(tx->last != NULL ? &tx->last->next : &tx->first) = recipient;
        tx->last = recipient;
        tx->recipient_count++;
        unsettled_came_along(tx, recipient);
    } else {
        summary_refused(tx->world, tx->policy, tx->client, tx->id, recipient, reply);
        spare_free(recipient);
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

static struct leg *leg_for(const struct transaction *tx, const struct relay *relay,
                           enum leg_kind kind, struct span domain)
{
    for (unsigned i = 0; i < tx->leg_count; i++) {
        if (leg_serves(tx->legs[i], relay, kind, domain) && !leg_was_let_go(tx->legs[i])) {
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

/* A leg that no recipient was accepted by must not keep others away: it may have the one place that
 * there is, in the transaction or at an endpoint that both need. */
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

/* When a relay that was not reached by then must make way for its fallback: a quarter of the time
 * is that one's. */
static uint64_t open_by(const struct transaction *tx, bool has_fallback)
{
    uint64_t time = tx->policy->config->timeouts.recipient;
    return has_fallback ? tx->answer_by - time / 4 : tx->answer_by;
}

static struct span domain_for(const struct transaction *tx, const struct relay *relay)
{
    return relay_is_by_domain(relay) ? tx->domain : (struct span){0};
}

/* Of a relay that has been found unavailable the recipients go on to the fallback. */
static const struct leg *leg_in_the_end(const struct transaction *tx, const struct leg *leg)
{
    const struct relay *fallback = tx->decision.fallback;
    if (leg == NULL || fallback == NULL || !leg_is_unavailable(leg)) {
        return leg;
    }
    return leg_for(tx, fallback, LEG_IS_FALLBACK, domain_for(tx, fallback));
}

/* Section 5: whoever would need a second leg where one only is taken, or whose turn it is not,
 * comes again. `leg`: that is there for him, or NULL. */
static bool recipient_has_to_wait(struct transaction *tx, const struct leg *leg,
                                  const struct relay *relay, enum leg_kind kind,
                                  struct span leg_domain)
{
    if (kind == LEG_IS_PLAIN && !unsettled_lets(tx, leg_in_the_end(tx, leg), relay, leg_domain)) {
        return true;
    }
    bool one_leg = unsettled_takes_one_leg(tx);
    bool is_first = leg == NULL || (leg_is_open(leg) && leg_recipient_count(leg) == 0);
    if ((one_leg && is_first && unsettled_company(tx, leg) == LEDGER_OTHERS) ||
        (leg == NULL && tx->leg_count == LEGS_MAX)) {
        unsettled_sent_away(tx, relay, kind, leg_domain);
        return true;
    }
    if (leg == NULL) {
        abandon_empty_legs(tx);
    }
    return false;
}

static void recipient_relay(struct transaction *tx, const struct relay *relay, enum leg_kind kind)
{
    struct span leg_domain = domain_for(tx, relay);
    struct leg *leg = leg_for(tx, relay, kind, leg_domain);
    if (recipient_has_to_wait(tx, leg, relay, kind, leg_domain)) {
        recipient_refuse(tx, 452, "4.5.3",
                         tx->set.bound ? "Send this recipient separately; others have the turn"
                                       : "Send this recipient separately");
        return;
    }
    bool alone = !holds_open_leg(tx);
    if (leg == NULL) {
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
    bool has_fallback = kind == LEG_IS_PLAIN && tx->decision.fallback != NULL;
    tx->asked->leg = leg;
    leg_recipient(leg, tx->asked,
                  &(struct leg_terms){.may_wait = alone,
                                      .open_by = open_by(tx, has_fallback),
                                      .deadline = tx->answer_by});
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

/* A dictionary attack must not reach the other relay. */
static bool may_ask_elsewhere(struct transaction *tx)
{
    unsigned char key[16];
    size_t length = quota_client_key(&tx->client->address, key);
    return rate_take(tx->world->shared->unknown, key, length, UNKNOWN_A_MINUTE, tx->world->now);
}

void recipient_is_answered(struct transaction *tx, struct leg *leg, const struct leg_event *event)
{
    const struct decision *decision = &tx->decision;
    bool plain = leg_kind(leg) == LEG_IS_PLAIN;
    struct reply reply = *event->reply;
    if (plain && event->unavailable && decision->fallback != NULL) {
        recipient_elsewhere(tx, decision->fallback, LEG_IS_FALLBACK, &reply);
    } else if (plain && event->of_rcpt && reply_is_unknown_recipient(&reply) &&
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
    struct decision *decision = &tx->decision;
    tx->answer_by = tx->world->now + tx->policy->config->timeouts.recipient;
    tx->state = TRANSACTION_IS_ASKING;
    tx->asked = recipient_new(tx->world, path);
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
    if (!tx->context.envelope.smtputf8 && !span_is_ascii(path)) {
        recipient_refuse(tx, 553, "5.6.7", "Non-ASCII addresses need SMTPUTF8");
        return;
    }
    *decision = (struct decision){0};
    tx->policy->decide(tx->policy->shared, tx->asked->path, &address, decision);
    switch (decision->kind) {
    case DECISION_REPLY:
        recipient_refuse(tx, decision->code, decision->enhanced, decision->text);
        break;
    case DECISION_DISCARD:
        stats_add(tx->world->stats, STAT_RECIPIENTS_DISCARDED, 1);
        recipient_refuse(tx, 250, "2.1.5", "Ok");
        break;
    case DECISION_RELAY:
        tx->asked->path = address.whole; /* a source route is stripped */
        tx->domain = address.domain;
        recipient_relay(tx, decision->relay, LEG_IS_PLAIN);
        break;
    }
}
