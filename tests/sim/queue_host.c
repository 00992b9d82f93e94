/* Sending hosts: what they hold, when they try it again, and how they go about it. */
#include <stdlib.h>

#include "tests/sim/queues.h"

/* When what broke last must have been got over: time-outs, and probes of what was down. */
#define SETTLED_BY (30 * MINUTE)

enum order { ORDER_AS_QUEUED, ORDER_REVERSED, ORDER_ANY };

struct queue_host {
    unsigned number;
    struct sim_random random;
    enum order order;
    bool lockstep, quits_behind, hurries;
    bool at_once;     /* recipients that have to come separately do so in the same session */
    bool bundles;     /* other mail goes over the same connection */
    unsigned split;   /* percent: over two connections at the same time */
    unsigned most;    /* recipients at once */
    uint64_t pause;   /* milliseconds before the second try */
    uint64_t longest; /* and before any */
    uint64_t patience;
    unsigned open; /* connections */
};

static uint64_t below(struct queue_host *host, uint64_t n)
{
    return random_below(&host->random, n);
}

static bool chance(struct queue_host *host, unsigned percent)
{
    return random_chance(&host->random, percent);
}

static struct queue_host *host_of(const struct mail *mail)
{
    return &mail->sim->queues->hosts[mail->host];
}

/* ---- when ---- */

static void mail_run(struct sim *sim, void *object, int kind);

static void mail_at(struct mail *mail, uint64_t delay)
{
    if (!mail->due) {
        mail->due = true;
        sim_at(mail->sim, delay, mail_run, mail, 0);
    }
}

/* Longer and longer, and never quite the same. */
static uint64_t any_pause(struct queue_host *host, const struct mail *mail)
{
    uint64_t pause = host->pause;
    /* Who comes less than once a day finds nothing remembered, and may wait for ever. */
    uint64_t longest =
        queues_is_faulty(mail->sim->queues) || host->longest < 8 * HOUR ? host->longest : 8 * HOUR;
    for (unsigned i = 1; i < mail->tries && i < 12 && pause < longest; i++) {
        pause = pause * 3 / 2;
    }
    pause = pause < longest ? pause : longest;
    return pause / 2 + below(host, pause + 1);
}

static bool has_queued(const struct mail *mail)
{
    for (unsigned i = 0; i < QUEUE_BOXES; i++) {
        if (mail->rcpts[i].state == RCPT_QUEUED) {
            return true;
        }
    }
    return false;
}

static bool is_busy(const struct mail *mail)
{
    for (unsigned i = 0; i < QUEUE_BOXES; i++) {
        if (mail->rcpts[i].busy) {
            return true;
        }
    }
    return false;
}

static void mail_again(struct mail *mail)
{
    if (has_queued(mail) && !is_busy(mail)) {
        mail_at(mail, any_pause(host_of(mail), mail));
    }
}

/* ---- whom, and in what order ---- */

static unsigned free_boxes(const struct mail *mail)
{
    unsigned boxes = 0;
    for (unsigned i = 0; i < QUEUE_BOXES; i++) {
        boxes |= (unsigned)(mail->rcpts[i].state == RCPT_QUEUED && !mail->rcpts[i].busy) << i;
    }
    return boxes;
}

static void connect_for(struct queue_host *host, struct mail *mail, unsigned boxes)
{
    struct client_manner manner = {
        .host = host->number,
        .mail = mail,
        .boxes = boxes,
        .lockstep = host->lockstep,
        .quits_behind = host->quits_behind && chance(host, 70),
        .hurries = host->hurries,
        .patience = queues_is_faulty(mail->sim->queues) ? host->patience : 10 * MINUTE,
        .seed = below(host, UINT64_MAX),
    };
    if (boxes != 0) {
        host->open++;
        for (unsigned i = 0; i < QUEUE_BOXES; i++) { /* spoken for */
            mail->rcpts[i].busy = mail->rcpts[i].busy || (boxes >> i & 1) != 0;
        }
        queue_client_new(mail->sim->queues, &manner);
    }
}

static void mail_run(struct sim *sim, void *object, int kind)
{
    struct mail *mail = object;
    struct queues *q = sim->queues;
    struct queue_host *host = host_of(mail);
    unsigned boxes = free_boxes(mail);
    (void)kind;
    mail->due = false;
    if (q->stopped || boxes == 0) {
        return;
    }
    mail->tries++;
    if (!q->up || host->open >= 4) { /* refused; or too many at once */
        mail_again(mail);
        return;
    }
    unsigned apart = chance(host, host->split) ? (unsigned)below(host, 1u << QUEUE_BOXES) : 0;
    connect_for(host, mail, boxes & ~apart);
    connect_for(host, mail, boxes & apart);
}

/* At most so many, the others stay spoken for; they come next. */
static unsigned some_of(struct queue_host *host, unsigned boxes)
{
    unsigned order[QUEUE_BOXES];
    unsigned count = 0;
    unsigned some = 0;
    for (unsigned i = 0; i < QUEUE_BOXES; i++) {
        if ((boxes >> i & 1) != 0) {
            order[count++] = i;
        }
    }
    for (unsigned i = 0; i < count && i < host->most; i++) {
        unsigned from = host->order == ORDER_ANY ? i + (unsigned)below(host, count - i) : i;
        unsigned taken = order[from];
        order[from] = order[i];
        order[i] = taken;
        some |= 1u << taken;
    }
    return some;
}

static void order_rcpts(struct queue_host *host, struct attempt *attempt)
{
    for (unsigned i = 0; i < attempt->count && host->order != ORDER_AS_QUEUED; i++) {
        unsigned last = attempt->count - 1;
        unsigned from =
            host->order == ORDER_ANY ? i + (unsigned)below(host, attempt->count - i) : last - i;
        if (from > i) {
            unsigned box = attempt->rcpts[i];
            attempt->rcpts[i] = attempt->rcpts[from];
            attempt->rcpts[from] = box;
        }
    }
}

/* Those of the mail that are to come in the same session. */
static unsigned boxes_at_once(struct mail *mail)
{
    unsigned boxes = 0;
    for (unsigned i = 0; i < QUEUE_BOXES; i++) {
        struct mail_rcpt *rcpt = &mail->rcpts[i];
        if (rcpt->at_once && rcpt->state == RCPT_QUEUED && !rcpt->busy) {
            boxes |= 1u << i;
        }
        rcpt->at_once = false;
    }
    return boxes;
}

static struct mail *other_mail(struct queues *q, struct queue_host *host, const struct mail *mail)
{
    for (unsigned i = 1; i < q->mail_count; i++) {
        struct mail *other = q->mails[(mail->id + i) % q->mail_count];
        if (other->host == host->number && other->tries != 0 && free_boxes(other) != 0) {
            return other;
        }
    }
    return NULL;
}

struct attempt *host_next(struct queue_client *client)
{
    struct client_manner *manner = queue_client_manner(client);
    struct mail *mail = manner->mail;
    struct queues *q = mail->sim->queues;
    struct queue_host *host = &q->hosts[manner->host];
    if (manner->boxes == 0) {
        manner->boxes = boxes_at_once(mail);
    }
    if (manner->boxes == 0 && host->bundles && chance(host, 50) && !q->stopped) {
        struct mail *other = other_mail(q, host, mail);
        if (other != NULL) {
            manner->mail = mail = other;
            manner->boxes = free_boxes(other);
        }
    }
    if (manner->boxes == 0) {
        return NULL;
    }
    unsigned boxes = some_of(host, manner->boxes);
    manner->boxes &= ~boxes;
    for (unsigned i = 0; i < QUEUE_BOXES; i++) {
        mail->rcpts[i].busy = mail->rcpts[i].busy || ((boxes | manner->boxes) >> i & 1) != 0;
    }
    struct attempt *attempt = books_begin(q, client, mail, boxes);
    order_rcpts(host, attempt);
    return attempt;
}

/* ---- what came of it ---- */

/* How many attempts a recipient may take once nothing breaks any more. Where several of its
 * sender's transactions take turns it is a matter of chance whose turn it is when it comes. */
static unsigned patience_for(const struct queues *q, const struct mail *mail)
{
    const struct author *author = &q->authors[mail->author];
    const struct queue_host *host = &q->hosts[mail->host];
    unsigned legs = 2; /* those of detours */
    unsigned mails = 0;
    for (unsigned i = 0; i < q->author_count; i++) {
        const struct author *other = &q->authors[i];
        if (other == author || (other->null && author->null)) {
            legs += other->box_count;
        }
    }
    for (unsigned i = 0; i < q->mail_count; i++) {
        const struct author *other = &q->authors[q->mails[i]->author];
        mails += (other == author || (other->null && author->null)) && has_queued(q->mails[i]);
    }
    bool alone = mails == 1 && host->split == 0 && host->most == QUEUE_BOXES && !q->crowded;
    return alone ? 3 * legs + 8 : 20 * legs + 20;
}

static void rcpt_waits(struct mail *mail, unsigned box)
{
    struct queues *q = mail->sim->queues;
    struct mail_rcpt *rcpt = &mail->rcpts[box];
    if (queues_now(q) < q->fault_end + SETTLED_BY || !mail_rcpt_must_settle(q, mail, box)) {
        return;
    }
    if (++rcpt->waited <= patience_for(q, mail)) {
        return;
    }
    /* Where an upstream has one place or two, a transaction's own legs may keep each other out. */
    if (q->crowded) {
        q->sim->totals->queues->given_up++;
        rcpt->state = RCPT_BOUNCED;
    } else {
        sim_fail(mail->sim, "mail %u: recipient %u waits for ever, though its relay answers",
                 mail->id, box);
    }
}

static enum rcpt_state state_after(unsigned code, unsigned outcome)
{
    unsigned last = code / 100 == 2 ? outcome : code;
    return last / 100 == 2 ? RCPT_DELIVERED : last / 100 == 5 ? RCPT_BOUNCED : RCPT_QUEUED;
}

void host_attempt_ended(struct attempt *attempt, const unsigned *heard, unsigned outcome)
{
    struct mail *mail = attempt->mail;
    struct queue_host *host = host_of(mail);
    for (unsigned i = 0; i < attempt->count; i++) {
        struct mail_rcpt *rcpt = &mail->rcpts[attempt->rcpts[i]];
        rcpt->busy = false;
        rcpt->state = state_after(heard[i], outcome);
        rcpt->at_once = host->at_once && heard[i] == 452 && outcome != 0;
        if (rcpt->state == RCPT_QUEUED && heard[i] != 0) {
            rcpt_waits(mail, attempt->rcpts[i]);
        }
    }
}

/* What it had not come to is free again. */
void host_client_ended(struct queue_client *client)
{
    struct client_manner *manner = queue_client_manner(client);
    struct queues *q = manner->mail->sim->queues;
    q->hosts[manner->host].open--;
    for (unsigned i = 0; i < QUEUE_BOXES; i++) {
        if ((manner->boxes >> i & 1) != 0) {
            manner->mail->rcpts[i].busy = false;
        }
    }
    manner->boxes = 0;
    for (unsigned i = 0; i < q->mail_count; i++) {
        if (q->mails[i]->host == manner->host && q->mails[i]->tries != 0) {
            mail_again(q->mails[i]);
        }
    }
}

/* ---- all hosts ---- */

static void host_build(struct queues *q, unsigned number, uint64_t span)
{
    static const uint64_t pauses[] = {2000, 30000, 5 * MINUTE, 15 * MINUTE};
    struct queue_host *host = &q->hosts[number];
    host->number = number;
    host->random = queues_random(q, 20, number);
    host->order = (enum order)below(host, 3);
    host->lockstep = chance(host, 30);
    host->quits_behind = chance(host, 50);
    host->hurries = chance(host, 70);
    host->at_once = chance(host, 30);
    host->bundles = chance(host, 40);
    host->split = chance(host, 30) ? 40 : 0;
    host->most = chance(host, 20) ? 1 + (unsigned)below(host, 3) : QUEUE_BOXES;
    host->pause = pauses[below(host, 4)];
    host->longest = host->pause > MINUTE && chance(host, 10) ? 26 * HOUR : host->pause * 5;
    if (host->longest < span / 15) { /* so that a long world is not all retries */
        host->longest = span / 15;
    }
    host->patience = chance(host, 70) ? 10 * MINUTE : 1000 + below(host, 2 * MINUTE);
}

void hosts_start(struct queues *q)
{
    uint64_t span = q->fault_end - SIM_START;
    q->hosts = sim_alloc(q->host_count, sizeof *q->hosts);
    q->sim->identities = sim_alloc(q->host_count, sizeof *q->sim->identities);
    q->sim->client_count = q->host_count;
    for (unsigned i = 0; i < q->host_count; i++) {
        identity_make(q->sim, i, &q->sim->identities[i]);
        host_build(q, i, span);
    }
    for (unsigned i = 0; i < q->mail_count; i++) {
        struct sim_random random = queues_random(q, 21, i);
        uint64_t by = random_chance(&random, 60) ? 20 * MINUTE : span * 2 / 3;
        mail_at(q->mails[i], random_below(&random, by));
    }
}

void hosts_release(struct queues *q)
{
    for (size_t i = 0; i < q->client_count; i++) {
        queue_client_free(q->clients[i]);
    }
    free(q->clients);
    free(q->hosts);
}

bool hosts_are_settled(struct queues *q)
{
    for (unsigned i = 0; i < q->mail_count; i++) {
        for (unsigned j = 0; j < QUEUE_BOXES; j++) {
            if (q->mails[i]->rcpts[j].state == RCPT_QUEUED &&
                mail_rcpt_must_settle(q, q->mails[i], j)) {
                return false;
            }
        }
    }
    return true;
}

bool hosts_are_idle(const struct queues *q)
{
    for (unsigned i = 0; i < q->host_count; i++) {
        if (q->hosts[i].open != 0) {
            return false;
        }
    }
    return true;
}
