/*
 * The books of a world with queues: every attempt, every copy, and what splitmx said to whom. What
 * must never be is found at once; a copy too many must have a cause that occurred.
 */
#include <stdio.h>
#include <stdlib.h>

#include "config/config.h"
#include "tests/sim/queues.h"

/* An acceptance that others are to follow is in the ledger after so long, milliseconds; a split
 * that is over by then is in it only when it has not settled. One more for events of the same one.
 */
#define ADVANCE_AFTER 11

static struct queues *queues_of(const struct attempt *attempt)
{
    return attempt->mail->sim->queues;
}

static struct author *author_of(const struct attempt *attempt)
{
    return &queues_of(attempt)->authors[attempt->mail->author];
}

static struct mailbox *box_of(const struct attempt *attempt, unsigned index)
{
    return &author_of(attempt)->boxes[attempt->rcpts[index]];
}

static struct queue_totals *totals_of(const struct attempt *attempt)
{
    return attempt->mail->sim->totals->queues;
}

/* ---- attempts ---- */

struct attempt *books_begin(struct queues *q, struct queue_client *client, struct mail *mail,
                            unsigned boxes)
{
    struct attempt *attempt = sim_alloc(1, sizeof *attempt);
    struct text prefix = TEXT(attempt->prefix);
    attempt->next = q->attempts;
    q->attempts = attempt;
    attempt->id = q->attempt_count++;
    attempt->mail = mail;
    attempt->client = client;
    attempt->began = q->step;
    attempt->unusable = q->store.unusable_step;
    for (unsigned i = 0; i < QUEUE_BOXES; i++) {
        if ((boxes >> i & 1) != 0) {
            attempt->rcpts[attempt->count++] = i;
        }
    }
    if (mail->varies) {
        text_printf(&prefix, "X-Relayed: attempt %u\r\n", attempt->id);
    }
    q->sim->totals->queues->attempts++;
    q->sim->totals->transactions++;
    queues_tell(q, "attempt %u with mail %u, author %u", attempt->id, mail->id, mail->author);
    return attempt;
}

/* ---- time by the wall: what the ledger may have forgotten ---- */

/*
 * When the set that a recipient is in was last named, by the wall clock then, which may have been
 * set back since: it is not known here who else is in it, so the one named last may be.
 */
static bool may_be_forgotten(const struct queues *q, const struct mailbox *box)
{
    const struct author *author = &q->authors[box->author];
    int64_t wall = queues_wall(q);
    bool forgotten = box->touched_wall != 0 && wall - box->touched_wall >= LEDGER_SET_LIFE;
    for (unsigned i = 0; i < q->author_count; i++) {
        const struct author *other = &q->authors[i];
        forgotten = forgotten ||
                    ((other == author || (other->null && author->null)) &&
                     other->touched_wall != 0 && wall - other->touched_wall >= LEDGER_SET_LIFE);
    }
    return forgotten;
}

/* The ledger may look at the wall clock now. */
static void copies_age(struct queues *q, const struct mailbox *box)
{
    bool forgotten = may_be_forgotten(q, box);
    for (unsigned i = 0; i < q->mail_count; i++) {
        for (struct copy *c = q->mails[i]->copies; c != NULL; c = c->next) {
            bool old = queues_wall(q) - c->wall >= (int64_t)q->store.retry_window;
            if (q->mails[i]->author == box->author && (forgotten || old)) {
                c->expired |= 1u << box->number;
            }
        }
    }
}

static void all_age(struct queues *q)
{
    for (unsigned i = 0; i < q->author_count; i++) {
        for (unsigned j = 0; j < q->authors[i].box_count; j++) {
            copies_age(q, &q->authors[i].boxes[j]);
        }
    }
}

void books_wall_jumps(struct queues *q)
{
    all_age(q);
}

/* ---- answers to RCPT ---- */

/* Who is told to come separately is so for one of a set's sake, where things can be recorded; from
 * then on there is one leg, but for several that were there before. */
static void rcpt_is_sent_away(struct attempt *attempt)
{
    const struct queues *q = queues_of(attempt);
    unsigned accepted = 0;
    for (unsigned i = 0; i < attempt->count; i++) {
        accepted += attempt->said[i] / 100 == 2;
    }
    attempt->bound =
        attempt->bound || (accepted <= 1 && q->sim->settings->split == SPLIT_TOGETHER &&
                           q->store.unusable_step == 0 && q->store.bad_step < attempt->began);
}

void books_rcpt_said(struct attempt *attempt, unsigned index, unsigned code, struct span reply)
{
    struct queues *q = queues_of(attempt);
    struct mailbox *box = box_of(attempt, index);
    attempt->said[index] = code;
    if (span_starts_fold(reply, SPAN("452 4.5.3 Send this recipient separately"))) {
        rcpt_is_sent_away(attempt);
    }
    all_age(q);
    box->touched_wall = queues_wall(q);
    author_of(attempt)->touched_wall = queues_wall(q);
}

/* ---- copies ---- */

const char *books_cause(enum cause cause)
{
    static const char *const causes[] = {"no answer",
                                         "out of turn",
                                         "lost answer",
                                         "crash before the answer",
                                         "crash before durable",
                                         "no identity",
                                         "expired",
                                         "under way",
                                         "not read yet",
                                         "ledger full"};
    return causes[cause];
}

static const struct copy *copy_in(const struct attempt *attempt, unsigned box)
{
    for (const struct copy *c = attempt->mail->copies; c != NULL; c = c->next) {
        if (c->attempt == attempt && (c->rcpts >> box & 1) != 0) {
            return c;
        }
    }
    return NULL;
}

/* Whether all whom splitmx took it for have it by this attempt, as it knows. */
static bool all_accepted(const struct attempt *attempt)
{
    bool any = false;
    for (unsigned i = 0; i < attempt->count; i++) {
        if (attempt->said[i] / 100 != 2 || box_of(attempt, i)->kind != RCPT_RELAY) {
            continue;
        }
        const struct copy *copy = copy_in(attempt, attempt->rcpts[i]);
        if (copy == NULL || copy->told == 0) {
            return false;
        }
        any = true;
    }
    return any;
}

/* Up to when an attempt may have been under way, in steps: with nobody to hear it, it goes on until
 * the upstream that is being asked has answered. */
static uint64_t over_by(const struct attempt *attempt)
{
    bool done = attempt->over != 0;
    for (const struct commit *commit = attempt->commits; commit != NULL; commit = commit->next) {
        done = done && (commit->done || attempt->code != 0 || attempt->crashed);
    }
    return done ? attempt->over : UINT64_MAX;
}

/* An answer settles who is in it, whether or not its client reads it: that all have accepted now,
 * this very attempt. What was on record for him ends with that. */
static bool was_settled_unheard(const struct copy *copy, unsigned box)
{
    const struct mail *mail = copy->attempt->mail;
    for (const struct attempt *a = mail->sim->queues->attempts; a != NULL; a = a->next) {
        for (unsigned i = 0; i < a->count && a->mail == mail && a->over >= copy->step; i++) {
            if (a->rcpts[i] == box && a->said[i] / 100 == 2 && a->code / 100 == 2 &&
                a->heard == 0 && !a->from_record) {
                return true;
            }
        }
    }
    return false;
}

/* Why the ledger did not keep this copy from having a second, of a later attempt; CAUSES: there is
 * no reason. */
static enum cause cause_of(const struct copy *copy, const struct attempt *later, unsigned box)
{
    const struct attempt *attempt = copy->attempt;
    const struct queues *q = queues_of(attempt);
    if (copy->told == 0) {
        return attempt->crashed ? CAUSE_CRASH_ANSWER : CAUSE_NO_ANSWER;
    }
    if (copy->odd) {
        return CAUSE_OUT_OF_TURN;
    }
    if (copy->lost) {
        return CAUSE_CRASH_DURABLE;
    }
    if (all_accepted(attempt) && attempt->heard == 0) {
        return attempt->code == 0 && attempt->crashed ? CAUSE_CRASH_ANSWER : CAUSE_LOST_ANSWER;
    }
    if (was_settled_unheard(copy, box)) {
        return CAUSE_LOST_ANSWER;
    }
    if (!attempt->mail->identity) {
        return CAUSE_NO_IDENTITY;
    }
    if (later->began <= over_by(attempt)) {
        return CAUSE_AT_ONCE;
    }
    if (!q->store.loaded || later->began <= q->store.loaded_step ||
        copy->told <= q->store.dropped_step) {
        return CAUSE_UNREAD;
    }
    if ((copy->expired >> box & 1) != 0) {
        return CAUSE_EXPIRED;
    }
    return q->tight ? CAUSE_FULL : CAUSES;
}

static void check_second(const struct attempt *attempt, unsigned box)
{
    bool counted = false;
    for (const struct copy *c = attempt->mail->copies; c != NULL; c = c->next) {
        if ((c->rcpts >> box & 1) == 0) {
            continue;
        }
        enum cause cause = cause_of(c, attempt, box);
        if (cause == CAUSES) {
            sim_fail(attempt->mail->sim,
                     "mail %u: recipient %u gets a second copy by attempt %u, though that of "
                     "attempt %u was known",
                     attempt->mail->id, box, attempt->id, c->attempt->id);
        }
        if (!counted) { /* the last before this one */
            totals_of(attempt)->causes[cause]++;
            queues_tell(queues_of(attempt), "a copy too many: mail %u, recipient %u, %s",
                        attempt->mail->id, box, books_cause(cause));
        }
        counted = true;
    }
}

struct copy *books_copy(struct attempt *attempt, unsigned boxes, bool odd)
{
    struct queues *q = queues_of(attempt);
    struct copy *copy = sim_alloc(1, sizeof *copy);
    all_age(q);
    for (unsigned i = 0; i < QUEUE_BOXES; i++) {
        unsigned index = 0;
        if ((boxes >> i & 1) == 0) {
            continue;
        }
        while (index < attempt->count && attempt->rcpts[index] != i) {
            index++;
        }
        if (index == attempt->count || (!odd && attempt->said[index] / 100 != 2)) {
            sim_fail(q->sim, "mail %u: recipient %u gets it, and was not asked for by attempt %u",
                     attempt->mail->id, i, attempt->id);
        }
        check_second(attempt, i);
    }
    copy->attempt = attempt;
    copy->rcpts = boxes;
    copy->odd = odd;
    copy->step = q->step;
    copy->wall = queues_wall(q);
    copy->next = attempt->mail->copies;
    attempt->mail->copies = copy;
    totals_of(attempt)->copies++;
    queues_tell(q, "accepted: mail %u by attempt %u", attempt->mail->id, attempt->id);
    queues_trigger(q, TRIGGER_COPY);
    return copy;
}

void books_unanswered(struct commit *commit)
{
    commit->done = true;
    if (commit->attempt->over != 0) { /* nobody hears it; but so long it went on */
        commit->attempt->over = queues_of(commit->attempt)->step;
    }
}

static void on_kept(struct sim *sim, void *object, int kind)
{
    struct copy *copy = object;
    (void)kind;
    copy->kept = sim->queues->step;
}

void books_answered(void *object)
{
    struct commit *commit = object;
    if (commit->copy != NULL) {
        commit->copy->told = queues_of(commit->attempt)->step;
        sim_at(queues_of(commit->attempt)->sim, ADVANCE_AFTER, on_kept, commit->copy, 0);
    }
    books_unanswered(commit);
}

/* ---- the barrier, and commit in turn ---- */

void books_leg(struct attempt *attempt, struct queue_service *service)
{
    struct queues *q = queues_of(attempt);
    attempt->services[attempt->legs++] = service;
    if (attempt->legs < 2) {
        return;
    }
    if (q->sim->settings->split == SPLIT_DEFER) {
        sim_fail(q->sim, "attempt %u is split, with split: defer", attempt->id);
    }
    if (attempt->unusable != 0 && attempt->unusable == q->store.unusable_step) {
        sim_fail(q->sim, "attempt %u is split, though nothing can be recorded", attempt->id);
    }
    if (attempt->bound) {
        sim_fail(q->sim, "attempt %u is split, though somebody was sent away", attempt->id);
    }
}

struct commit *books_end_written(struct attempt *attempt, struct queue_service *service)
{
    struct sim *sim = attempt->mail->sim;
    if (!attempt->end_sent) {
        sim_fail(sim, "attempt %u: a commit before the client's end of data", attempt->id);
    }
    if (queue_client_is_closed(attempt->client)) {
        sim_fail(sim, "attempt %u: a commit, but nobody is there to be told", attempt->id);
    }
    for (unsigned i = 0; i < attempt->legs; i++) {
        struct queue_service *other = attempt->services[i];
        struct queue_service_view view;
        if (other == NULL || other == service) {
            continue;
        }
        view = queue_service_look(other);
        if (view.end_written && !view.odd) {
            sim_fail(sim, "attempt %u: a commit while another has no answer", attempt->id);
        }
        if (link_unsent(view.link) != 0) {
            sim_fail(sim, "attempt %u: a commit before another leg has the whole body",
                     attempt->id);
        }
    }
    struct commit *commit = sim_alloc(1, sizeof *commit);
    commit->attempt = attempt;
    commit->next = attempt->commits;
    attempt->commits = commit;
    return commit;
}

/* ---- the outcome ---- */

/* A recipient in a listing of what the store holds. */
struct sought {
    struct span sender, recipient;
    bool found, recorded;
};

static void seek(void *context, const struct ledger_listed *row)
{
    struct sought *sought = context;
    if (span_equal(row->sender, sought->sender) &&
        span_equal_fold(row->recipient, sought->recipient)) {
        sought->found = true;
        sought->recorded = row->records != 0;
    }
}

static struct sought look_for(struct ledger *ledger, struct span sender, struct span recipient)
{
    struct sought sought = {.sender = sender, .recipient = recipient};
    uint64_t next = 0;
    while (ledger_list(ledger, next, seek, &sought, &next)) {
        continue;
    }
    return sought;
}

/* Another of this sender's may have settled some of it meanwhile. */
static bool is_alone(const struct attempt *attempt)
{
    const struct queues *q = queues_of(attempt);
    for (const struct attempt *other = q->attempts; other != NULL; other = other->next) {
        const struct author *author = author_of(other);
        bool same = author == author_of(attempt) || (author->null && author_of(attempt)->null);
        if (other != attempt && same && (other->over == 0 || other->over >= attempt->began)) {
            return false;
        }
    }
    return true;
}

/* A split that did not settle: whoever was to get it is in a set that a crash leaves there, and who
 * has it is on record. */
static void check_durable(const struct attempt *attempt)
{
    struct queues *q = queues_of(attempt);
    char sender[256], path[256];
    totals_of(attempt)->unsettled++;
    if (q->store.unusable_step != 0 || q->store.bad_step >= attempt->began) {
        totals_of(attempt)->untold++;
        return;
    }
    if (q->tight || !is_alone(attempt)) {
        return;
    }
    struct ledger *ledger = queue_store_look(&q->store);
    for (unsigned i = 0; i < attempt->count; i++) {
        const struct copy *copy = copy_in(attempt, attempt->rcpts[i]);
        if (attempt->said[i] / 100 != 2 || box_of(attempt, i)->kind != RCPT_RELAY) {
            continue;
        }
        struct sought sought = look_for(ledger, author_path(author_of(attempt), sender),
                                        mailbox_path(q, box_of(attempt, i), path));
        bool known = copy != NULL && copy->told != 0 && !copy->odd && attempt->mail->identity;
        if (!sought.found || (known && !sought.recorded)) {
            sim_fail(q->sim, "attempt %u: told 4xx before the set is durable", attempt->id);
        }
    }
    ledger_free(ledger);
}

/* Everybody whom the 250 is about has the message. */
static void check_accepted(const struct attempt *attempt)
{
    for (unsigned i = 0; i < attempt->count; i++) {
        unsigned box = attempt->rcpts[i];
        bool has = attempt->said[i] / 100 != 2 || box_of(attempt, i)->kind != RCPT_RELAY;
        for (const struct copy *c = attempt->mail->copies; c != NULL && !has; c = c->next) {
            has = (c->rcpts >> box & 1) != 0;
        }
        if (!has && attempt->odd) { /* believed before it had all of the message */
            attempt->mail->rcpts[box].deceived = true;
        } else if (!has) {
            sim_fail(attempt->mail->sim, "attempt %u: 250, and recipient %u of mail %u has nothing",
                     attempt->id, box, attempt->mail->id);
        }
    }
}

static bool is_of_leg(struct span reply)
{
    return span_starts_fold(reply, SPAN("451 4.4.2 ")) ||
           span_starts_fold(reply, SPAN("451 4.3.0 "));
}

void books_outcome(struct attempt *attempt, unsigned code, struct span reply, bool of_data)
{
    struct queues *q = queues_of(attempt);
    attempt->code = code;
    attempt->over = q->step;
    totals_of(attempt)->outcomes++;
    if (code / 100 == 2) {
        check_accepted(attempt);
        attempt->from_record = span_starts_fold(reply, SPAN("250 2.0.0 already"));
        totals_of(attempt)->from_record += attempt->from_record;
    } else if (!of_data && all_accepted(attempt) && !attempt->odd) {
        sim_fail(q->sim, "attempt %u: %u for what all have accepted", attempt->id, code);
    }
    if (code / 100 == 4 && attempt->legs > 1 && is_of_leg(reply)) {
        check_durable(attempt);
    }
    queues_trigger(q, TRIGGER_OUTCOME);
}

void books_over(struct attempt *attempt)
{
    attempt->over = queues_of(attempt)->step;
}

/* ---- crashes ---- */

void books_crashed(struct queues *q)
{
    for (struct attempt *attempt = q->attempts; attempt != NULL; attempt = attempt->next) {
        bool ended = attempt->over != 0;
        for (const struct commit *commit = attempt->commits; commit != NULL;
             commit = commit->next) {
            ended = ended && (commit->done || attempt->code != 0);
        }
        if (!ended) {
            attempt->crashed = true;
            attempt->over = q->step;
        }
    }
}

void books_lost(struct queues *q, uint64_t lost)
{
    for (unsigned i = 0; i < q->mail_count; i++) {
        for (struct copy *c = q->mails[i]->copies; c != NULL; c = c->next) {
            c->lost = c->lost || (c->told != 0 && (c->kept == 0 || c->kept >= lost));
        }
    }
}

/* ---- the end ---- */

static bool is_wanted(const struct queues *q, struct span sender, struct span recipient)
{
    char path[256];
    for (unsigned i = 0; i < q->mail_count; i++) {
        const struct author *author = &q->authors[q->mails[i]->author];
        bool same = span_equal(author_path(author, path), sender);
        for (unsigned j = 0; same && j < author->box_count; j++) {
            if (q->mails[i]->rcpts[j].state == RCPT_QUEUED &&
                span_equal_fold(mailbox_path(q, &author->boxes[j], path), recipient)) {
                return true;
            }
        }
    }
    return false;
}

static void look_at_left(void *context, const struct ledger_listed *row)
{
    const struct queues *q = context;
    /* What is on record stays with who has not shown that he has read it. */
    if (row->records == 0 && !is_wanted(q, row->sender, row->recipient)) {
        sim_fail(q->sim, "%.*s has his final answer, and is in a set still",
                 SPAN_ARGS(row->recipient));
    }
}

/* Where nothing broke, who has his final answer is in no set. */
static void check_ledger(struct queues *q)
{
    uint64_t next = 0;
    while (q->calm && ledger_list(q->store.ledger, next, look_at_left, q, &next)) {
        continue;
    }
}

static bool has_copy(const struct mail *mail, unsigned box)
{
    for (const struct copy *c = mail->copies; c != NULL; c = c->next) {
        if ((c->rcpts >> box & 1) != 0) {
            return true;
        }
    }
    return false;
}

void books_check(struct queues *q)
{
    for (unsigned i = 0; i < q->mail_count; i++) {
        const struct mail *mail = q->mails[i];
        for (unsigned j = 0; j < QUEUE_BOXES; j++) {
            if (mail->rcpts[j].state == RCPT_DELIVERED && !mail->rcpts[j].deceived &&
                q->authors[mail->author].boxes[j].kind == RCPT_RELAY && !has_copy(mail, j)) {
                sim_fail(q->sim, "mail %u: recipient %u has nothing", i, j);
            }
        }
    }
    check_ledger(q);
}

void books_release(struct queues *q)
{
    while (q->attempts != NULL) {
        struct attempt *next = q->attempts->next;
        while (q->attempts->commits != NULL) {
            struct commit *behind = q->attempts->commits->next;
            free(q->attempts->commits);
            q->attempts->commits = behind;
        }
        free(q->attempts);
        q->attempts = next;
    }
    for (unsigned i = 0; i < q->mail_count; i++) {
        while (q->mails[i]->copies != NULL) {
            struct copy *next = q->mails[i]->copies->next;
            free(q->mails[i]->copies);
            q->mails[i]->copies = next;
        }
    }
}
