/*
 * The barrier, and commit in turn (design: section 5). End-of-data is sent to no leg before the
 * client's own has come and every leg has taken the whole body; then to one leg at a time; the
 * first that does not answer 2xx stops it. Of the leg whose turn it is the order of its own bytes
 * suffices: the end of what it has not taken yet may go out together with the end of data.
 */
#include "proxy/session/summary.h"
#include "proxy/session/transaction_state.h"
#include "proxy/session/unsettled.h"

/* No commit begins with less than this left of `end-of-data` (design: section 5), milliseconds; a
 * ninth of it where that is shorter than the 9 minutes of the default. */
#define COMMIT_MARGIN 60000

/* The ledger has an acceptance that others are to follow unless they do so within this time,
 * milliseconds. */
#define ADVANCE_AFTER 10

/* How often the barrier looks whether the legs have taken the body, milliseconds. */
#define BARRIER_RECHECK 5

/* One of several upstreams decided for all: its words, and whose they are (design: section 5). */
void commit_joint_refusal(const struct transaction *tx, const struct leg *leg,
                          const struct reply *its, struct reply *out)
{
    if (tx->turns == 1) {
        *out = *its;
        return;
    }
    char words[REPLY_TEXT + 32]; /* what is cut off at its end would not fit into a reply */
    struct text text = TEXT(words);
    text_puts(&text, leg_relay(leg)->name);
    text_puts(&text, ": ");
    reply_tell(its, &text);
    reply_set(out, 451, "4.3.0", words);
}

static void settle_with(struct transaction *tx, const struct reply *reply)
{
    transaction_conclude(tx, TRANSACTION_OUTCOME, reply);
}

/* Before the commit of the leg whose turn it is. */
static void settle_late(struct transaction *tx, const char *why)
{
    struct reply reply;
    reply_setf(&reply, 451, "4.4.2", "%s: %s", leg_relay(tx->message->turn[tx->committed])->name,
               why);
    settle_with(tx, &reply);
}

static bool all_have_taken(const struct transaction *tx)
{
    struct leg *const *turn = tx->message->turn;
    for (unsigned i = tx->committed + 1; i < tx->turns; i++) {
        if (!leg_has_taken_all(turn[i])) {
            return false;
        }
    }
    /* Who has not committed first was seen to have taken all before. */
    return tx->turns == 1 || tx->committed != 0 || leg_has_little_left(turn[0]);
}

static uint64_t commit_margin(const struct transaction *tx)
{
    uint64_t ninth = tx->policy->config->timeouts.end_of_data / 9;
    return ninth < COMMIT_MARGIN ? ninth : COMMIT_MARGIN;
}

/* A client that only has told its end is there still to read the outcome (RFC 9293 3.6). */
static bool client_is_gone(struct transaction *tx)
{
    if (!tx->client_gone) {
        transaction_tell(tx, TRANSACTION_COMMITS, NULL);
    }
    return tx->client_gone;
}

void commit_next(struct transaction *tx)
{
    if (tx->committed == tx->turns) {
        if (tx->turns == 0) {
            reply_set(&tx->message->joint, 250, "2.0.0", "Ok"); /* all were to be discarded */
        }
        settle_with(tx, &tx->message->joint);
    } else if (client_is_gone(tx)) {
        settle_late(tx, "not sent the end of data, the client is gone");
    } else if (tx->stopped) {
        settle_with(tx, &tx->message->outcome);
    } else if (!all_have_taken(tx)) {
        tx->state = TRANSACTION_IS_FLUSHING;
        timer_set(&tx->world->timers, &tx->recheck, tx->world->now + BARRIER_RECHECK);
    } else if (tx->world->now + commit_margin(tx) > tx->commit_by) {
        settle_late(tx, "too late to begin this delivery");
    } else {
        tx->state = TRANSACTION_IS_COMMITTING;
        timer_stop(&tx->world->timers, &tx->recheck);
        if (!leg_commit(tx->message->turn[tx->committed])) {
            settle_late(tx, "spoke before the end of data");
        }
    }
}

/* The words of one of several: "local: Ok; kingmailer: queued as 4711". */
static void add_words(struct transaction *tx, struct leg *leg, const struct reply *reply)
{
    char words[440];
    struct text text = TEXT(words);
    struct span its = reply_first_line(reply);
    if (tx->committed != 0) {
        text_puts(&text, tx->message->joint.text);
        text_puts(&text, "; ");
    }
    text_puts(&text, leg_relay(leg)->name);
    text_puts(&text, ": ");
    text_put(&text, its);
    reply_set(&tx->message->joint, 250, "2.0.0", words);
}

void commit_answered(struct transaction *tx, struct leg *leg, const struct reply *reply)
{
    struct reply refusal;
    if (!reply_is(reply, 2)) {
        commit_joint_refusal(tx, leg, reply, &refusal);
        settle_with(tx, &refusal);
        return;
    }
    if (tx->turns == 1) {
        tx->message->joint = *reply;
    } else {
        add_words(tx, leg, reply);
    }
    tx->committed++;
    if (tx->committed != tx->turns && !timer_is_set(&tx->advance)) {
        timer_set(&tx->world->timers, &tx->advance, tx->world->now + ADVANCE_AFTER);
    }
    commit_next(tx);
}

void commit_advance(void *owner)
{
    unsettled_accepted(owner);
}

static void settle_unanswered(struct transaction *tx, const struct reply *reply)
{
    summary_may_repeat(tx->world, tx->policy, tx->client, tx->id, reply);
    settle_with(tx, reply);
}

void commit_lost(struct transaction *tx, const struct leg *leg, const struct reply *reply)
{
    if (tx->state != TRANSACTION_IS_COMMITTING) {
        settle_with(tx, reply);
    } else if (leg == tx->message->turn[tx->committed]) {
        settle_unanswered(tx, reply);
    } else { /* one that waited for its turn: the answer under way is still worth having */
        tx->message->outcome = *reply;
        tx->stopped = true;
    }
}

void commit_is_late(struct transaction *tx)
{
    struct reply reply;
    reply_set(&reply, 451, "4.4.2", "Upstream did not answer the end of data in time");
    if (tx->state == TRANSACTION_IS_COMMITTING) {
        settle_unanswered(tx, &reply);
    } else {
        settle_with(tx, &reply);
    }
}

void commit_recheck(void *owner)
{
    commit_next(owner);
}

/* Legs far away first, so that those nearby, which are the surest, come last. */
static void order_turns(struct transaction *tx)
{
    struct leg *near[LEGS_MAX] = {NULL};
    unsigned far_count = 0;
    unsigned near_count = 0;
    for (unsigned i = 0; i < tx->turns; i++) {
        if (leg_is_local(tx->message->turn[i])) {
            near[near_count++] = tx->message->turn[i];
        } else {
            tx->message->turn[far_count++] = tx->message->turn[i];
        }
    }
    memcpy(tx->message->turn + far_count, near, near_count * sizeof near[0]);
}

void commit_begin(struct transaction *tx)
{
    tx->state = TRANSACTION_IS_FLUSHING;
    tx->commit_by = tx->world->now + tx->policy->config->timeouts.end_of_data;
    timer_set(&tx->world->timers, &tx->timer, tx->commit_by);
    order_turns(tx);
    commit_next(tx);
}
