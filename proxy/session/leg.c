#include "proxy/session/leg.h"

#include <stdlib.h>

#include "proxy/session/leg_state.h"

/*
 * So many bytes on their way count as taken: less than any peer's kernel takes at once, and more
 * than what a delayed acknowledgement (RFC 1122 4.2.3.2) leaves open. What only our own kernel
 * holds, megabytes perhaps, does not.
 */
#define IN_FLIGHT_MAX (16 * 1024)

/* ---- closing ---- */

static void leg_tell(struct leg *leg, enum leg_event_kind kind, const struct reply *reply)
{
    leg->context->on_event(
        leg->context->owner, leg,
        &(struct leg_event){.kind = kind, .reply = reply, .unavailable = leg->unavailable});
}

static void leg_stop_waiting(struct leg *leg)
{
    struct world *world = world_of(leg);
    timer_stop(&world->timers, &leg->timer);
    pool_leave(world->pool, &leg->waiter);
    if (leg->resolution != NULL) {
        world->ops->resolve_cancel(world, leg->resolution);
        leg->resolution = NULL;
    }
}

/* Lets the connection go: back to the pool where that is clean, else by RST. */
static void leg_drop_upstream(struct leg *leg)
{
    struct upstream *up = leg->upstream;
    leg->upstream = NULL;
    if (up == NULL) {
        return;
    }
    if (upstream_owes(up) || leg->state == LEG_IS_TAKING) {
        upstream_reset(up);
    } else {
        pool_put(world_of(leg)->pool, up);
    }
}

static void leg_close(struct leg *leg)
{
    if (leg->state == LEG_IS_COMMITTING) { /* told its end-of-data, and no answer */
        relay_stats_add(leg->stats, RELAY_MESSAGES_UNANSWERED, 1);
    }
    leg_stop_waiting(leg);
    leg_drop_upstream(leg);
    pace_end(leg->pace);
    leg->pace = NULL;
    leg->state = LEG_IS_CLOSED;
}

static void leg_fail(struct leg *leg, const struct reply *reply)
{
    leg->failure = *reply;
    leg_close(leg);
    if (leg->asked != NULL) {
        leg->asked = NULL;
        leg_tell(leg, LEG_ANSWERED, &leg->failure);
    }
    if (leg->data_wanted) {
        leg_tell(leg, LEG_LOST, &leg->failure);
    }
}

void leg_fail_with(struct leg *leg, unsigned code, const char *enhanced, const char *what)
{
    struct reply reply;
    reply_setf(&reply, code, enhanced, "%s%s %s", leg->relay->name, relay_colon(leg->relay), what);
    leg_fail(leg, &reply);
}

/* ---- replies on their way to the client ---- */

static void leg_translate(const struct leg *leg, struct reply *reply, enum upstream_command command)
{
    reply_translate(reply, leg->kind == LEG_IS_FALLBACK, command == UPSTREAM_MAIL);
}

/* ---- the envelope ---- */

/* RFC 6531 3.5: internationalized mail goes to no server that does not offer to take it. Of a leg
 * that had somebody accepted already no recipient may hear 5xx. */
static void leg_lacks_smtputf8(struct leg *leg)
{
    struct reply reply;
    if (leg->begun) {
        leg_fail_with(leg, 451, "4.4.2", "the second connection does not offer SMTPUTF8");
        return;
    }
    reply_setf(&reply, 550, "5.6.7", "%s does not take internationalized mail", leg->relay->name);
    leg_translate(leg, &reply, UPSTREAM_MAIL);
    leg_fail(leg, &reply);
}

/* A connection is ready: a replay first, where there is something to repeat. */
void leg_go_on(struct leg *leg)
{
    timer_set(&world_of(leg)->timers, &leg->timer, leg->deadline);
    if (!upstream_takes(leg->upstream, &leg->context->envelope)) {
        leg_lacks_smtputf8(leg);
    } else if (!leg->begun) {
        leg->state = LEG_IS_ASKING;
        leg_ask(leg);
        upstream_mail(leg->upstream, &leg->context->envelope, leg->asked->path);
    } else if (leg->first != NULL) {
        leg->state = LEG_IS_REPLAYING;
        leg->replayed = leg->first;
        upstream_mail(leg->upstream, &leg->context->envelope, leg->first->path);
    } else {
        leg->begun = false;
        leg_go_on(leg);
    }
}

static void leg_do_wanted(struct leg *leg)
{
    if (leg->asked != NULL) {
        leg->state = LEG_IS_ASKING;
        leg_ask(leg);
        upstream_rcpt(leg->upstream, leg->asked->path);
    } else if (leg->data_wanted) {
        leg->state = LEG_IS_STARTING;
        leg_arm(leg, leg->context->policy->config->timeouts.data);
        upstream_data(leg->upstream);
    } else {
        leg->state = LEG_IS_OPEN;
        timer_stop(&world_of(leg)->timers, &leg->timer);
    }
}

static void leg_start_clock(struct leg *leg)
{
    leg->deadline = world_of(leg)->now + leg->context->policy->config->timeouts.recipient;
    leg->open_by = leg->deadline;
    timer_set(&world_of(leg)->timers, &leg->timer, leg->deadline);
}

/* The connection is gone before 354 (section 6): once more at the same relay, or lost. */
static void leg_reopen(struct leg *leg, bool stale, const char *why)
{
    leg->upstream = NULL;
    if (stale && !leg->no_pool) {
        leg->no_pool = true;
    } else if (!leg->reopened) {
        leg->reopened = true;
        leg->no_pool = true;
    } else {
        leg_fail_with(leg, 451, "4.4.2", why);
        return;
    }
    if (leg->asked == NULL && !leg->data_wanted) {
        leg->state = LEG_IS_OPEN; /* nobody waits: reopened when someone does */
        return;
    }
    if (leg->asked == NULL) {
        leg_start_clock(leg);
    }
    leg_open(leg);
}

void leg_recipient(struct leg *leg, struct recipient *recipient, const struct leg_terms *terms)
{
    if (leg->state == LEG_IS_CLOSED) {
        leg_tell(leg, LEG_ANSWERED, &leg->failure);
        return;
    }
    leg->asked = recipient;
    leg->may_wait = terms->may_wait;
    leg->open_by = terms->open_by;
    leg->deadline = terms->deadline;
    timer_set(&world_of(leg)->timers, &leg->timer, leg->deadline);
    if (leg->upstream == NULL) {
        leg_open(leg);
    } else if (!leg->begun) {
        leg_go_on(leg);
    } else {
        leg_do_wanted(leg);
    }
}

static void leg_answered(struct leg *leg, const struct upstream_event *event)
{
    struct recipient *asked = leg->asked;
    struct reply reply = *event->reply;
    leg_translate(leg, &reply, event->command);
    leg_count_time(leg, RELAY_TIME_RECIPIENT);
    if (event->command == UPSTREAM_MAIL) {
        leg_fail(leg, &reply); /* the refused MAIL is the answer to the RCPT that opened the leg */
        return;
    }
    leg->asked = NULL;
    leg->begun = true;
    leg->state = LEG_IS_OPEN;
    timer_stop(&world_of(leg)->timers, &leg->timer);
    if (reply_is(&reply, 2)) {
        *(leg->last != NULL ? &leg->last->next_in_leg : &leg->first) = asked;
        leg->last = asked;
        leg->count++;
    }
    leg->context->on_event(
        leg->context->owner, leg,
        &(struct leg_event){.kind = LEG_ANSWERED, .reply = &reply, .of_rcpt = true});
}

static void leg_replayed(struct leg *leg, const struct upstream_event *event)
{
    if (!reply_is(event->reply, 2)) {
        leg_fail_with(leg, 451, "4.4.2", "connection lost, and a second one answered otherwise");
        return;
    }
    leg->replayed = leg->replayed->next_in_leg;
    if (leg->replayed != NULL) {
        upstream_rcpt(leg->upstream, leg->replayed->path);
    } else {
        leg_do_wanted(leg);
    }
}

/* ---- data ---- */

void leg_data(struct leg *leg)
{
    leg->data_wanted = true;
    leg->may_wait = false;
    if (leg->state == LEG_IS_CLOSED) {
        leg_tell(leg, LEG_LOST, &leg->failure);
    } else if (leg->upstream == NULL) {
        leg_start_clock(leg);
        leg_open(leg);
    } else {
        leg_do_wanted(leg);
    }
}

static void leg_started(struct leg *leg, const struct upstream_event *event)
{
    if (reply_is(event->reply, 3)) {
        leg->state = LEG_IS_TAKING;
        timer_stop(&world_of(leg)->timers, &leg->timer);
        leg_tell(leg, LEG_READY, event->reply);
        return;
    }
    struct reply reply = *event->reply;
    leg_translate(leg, &reply, UPSTREAM_DATA);
    leg->failure = reply;
    leg->state = LEG_IS_OPEN;
    leg_close(leg);
    leg_tell(leg, LEG_REFUSED, &reply);
}

bool leg_has_room(const struct leg *leg)
{
    return leg->upstream == NULL || upstream_has_room(leg->upstream);
}

/* Of a short message no more than that can be on its way: the kernel need not be asked. */
static bool leg_has_little_in_flight(const struct leg *leg, size_t beside)
{
    return leg->written <= IN_FLIGHT_MAX ||
           beside + upstream_in_flight(leg->upstream) <= IN_FLIGHT_MAX;
}

static bool leg_is_drained(const struct leg *leg)
{
    return upstream_unsent(leg->upstream) == 0 && leg_has_little_in_flight(leg, 0);
}

bool leg_has_little_left(const struct leg *leg)
{
    return leg->upstream == NULL || leg_has_little_in_flight(leg, upstream_queued(leg->upstream));
}

/* What the kernel holds of an end or of words unasked for is as good as seen: the loop may come to
 * the client, and its end of data, first. */
bool leg_has_taken_all(const struct leg *leg)
{
    return leg->upstream == NULL || (leg_is_drained(leg) && upstream_is_silent(leg->upstream));
}

static uint64_t leg_taken(const struct leg *leg)
{
    return leg->written - upstream_unsent(leg->upstream) - upstream_in_flight(leg->upstream);
}

/* An upstream that takes nothing for as long as `data` is lost. */
static void leg_watch_pace(struct leg *leg, uint64_t taken)
{
    leg->taken = taken;
    leg_arm(leg, leg->context->policy->config->timeouts.data);
}

void leg_body(struct leg *leg, struct span bytes)
{
    if (leg->state != LEG_IS_TAKING) {
        return;
    }
    if (!timer_is_set(&leg->timer)) { /* all before this has been taken */
        leg_watch_pace(leg, leg->written);
    }
    upstream_body(leg->upstream, bytes);
    leg->written += bytes.len;
}

bool leg_commit(struct leg *leg)
{
    if (!upstream_end(leg->upstream)) {
        return false;
    }
    leg->state = LEG_IS_COMMITTING;
    leg_ask(leg);
    leg->fate = LEG_FATE_UNKNOWN;
    timer_stop(&world_of(leg)->timers, &leg->timer);
    return true;
}

static void leg_settled(struct leg *leg, const struct upstream_event *event)
{
    struct reply reply = *event->reply;
    leg->fate = reply_is(&reply, 2) ? LEG_FATE_ACCEPTED : LEG_FATE_REFUSED;
    leg_translate(leg, &reply, UPSTREAM_END);
    leg_count_message(leg, &reply);
    leg->state = LEG_IS_OPEN; /* the connection is clean */
    leg_close(leg);
    leg_tell(leg, LEG_SETTLED, &reply);
}

void leg_abandon(struct leg *leg)
{
    leg->let_go = leg->let_go || (leg->state != LEG_IS_CLOSED && leg->count == 0);
    leg_close(leg);
    leg->asked = NULL;
}

/* ---- events ---- */

static void leg_lost(struct leg *leg, const struct upstream_event *event)
{
    leg->upstream = NULL;
    switch (leg->state) {
    case LEG_IS_ASKING:
    case LEG_IS_REPLAYING:
    case LEG_IS_OPEN:
    case LEG_IS_STARTING:
        leg_reopen(leg, event->reused, event->why);
        break;
    case LEG_IS_NEW:
    case LEG_IS_RESOLVING:
    case LEG_IS_QUEUED:
    case LEG_IS_CONNECTING:
    case LEG_IS_TAKING:
    case LEG_IS_COMMITTING:
        leg_fail_with(leg, 451, "4.4.2", event->why);
        break;
    case LEG_IS_CLOSED:
        break;
    }
}

static void leg_answer(struct leg *leg, const struct upstream_event *event)
{
    bool slowed = leg_slow_down(leg, event->reply);
    /* A pooled connection whose first answer is 421 was stale (section 6). */
    bool stale = event->last && event->reused && event->reply->code == 421 && !slowed;
    if (event->last) {
        leg->upstream = NULL;
    }
    if (stale && leg->state != LEG_IS_COMMITTING) {
        leg_reopen(leg, true, "the connection was stale");
        return;
    }
    switch (leg->state) {
    case LEG_IS_ASKING:
        leg_answered(leg, event);
        break;
    case LEG_IS_REPLAYING:
        leg_replayed(leg, event);
        break;
    case LEG_IS_STARTING:
        leg_started(leg, event);
        break;
    case LEG_IS_COMMITTING:
        leg_settled(leg, event);
        break;
    case LEG_IS_NEW:
    case LEG_IS_RESOLVING:
    case LEG_IS_QUEUED:
    case LEG_IS_CONNECTING:
    case LEG_IS_OPEN:
    case LEG_IS_TAKING:
    case LEG_IS_CLOSED:
        break; /* the client table lets no answer through where none is owed */
    }
}

/* Refused for the client's sake, in whose name we came: its own answer. */
static void leg_turned_away(struct leg *leg, const struct reply *its)
{
    struct reply reply = *its;
    leg_translate(leg, &reply, UPSTREAM_RCPT);
    leg_fail(leg, &reply);
}

void leg_on_upstream(void *owner, const struct upstream_event *event)
{
    struct leg *leg = owner;
    leg_count_connection(leg, event->kind);
    switch (event->kind) {
    case UPSTREAM_READY:
        leg_available(leg);
        leg_go_on(leg);
        break;
    case UPSTREAM_UNAVAILABLE:
        leg->upstream = NULL;
        leg_unavailable(leg, event);
        break;
    case UPSTREAM_TURNED_AWAY:
        leg->upstream = NULL;
        leg_turned_away(leg, event->reply);
        break;
    case UPSTREAM_NO_IDENTITY:
        leg->upstream = NULL;
        leg_fail_with(leg, 451, "4.3.5", event->why);
        break;
    case UPSTREAM_NO_MEANS:
        leg->upstream = NULL;
        leg_not_tried(leg);
        leg_fail_with(leg, 452, "4.3.1", event->why);
        break;
    case UPSTREAM_REFUSED:
        leg->upstream = NULL;
        leg_fail_with(leg, 451, "4.3.0", event->why);
        break;
    case UPSTREAM_ANSWER:
        leg_answer(leg, event);
        break;
    case UPSTREAM_ROOM:
        if (leg->state == LEG_IS_TAKING) {
            leg_tell(leg, LEG_ROOM, NULL);
        }
        break;
    case UPSTREAM_LOST:
        leg_lost(leg, event);
        break;
    }
}

static const char *late_text(enum leg_state state)
{
    switch (state) {
    case LEG_IS_RESOLVING:
        return "timed out looking up its address";
    case LEG_IS_CONNECTING:
        return "timed out connecting";
    case LEG_IS_REPLAYING:
    case LEG_IS_ASKING:
        return "timed out asking for a recipient";
    case LEG_IS_STARTING:
        return "timed out asking it to take the message";
    case LEG_IS_TAKING:
        return "timed out sending it the message";
    case LEG_IS_NEW:
    case LEG_IS_QUEUED:
    case LEG_IS_OPEN:
    case LEG_IS_COMMITTING:
    case LEG_IS_CLOSED:
        break;
    }
    return "timed out";
}

/* A time is over: that of the recipient, of DATA, of a place, or of taking what was sent. */
static void on_due(void *owner)
{
    struct leg *leg = owner;
    if (leg->state == LEG_IS_TAKING && leg_is_drained(leg)) {
        return; /* it is the client that is slow */
    }
    if (leg->state == LEG_IS_TAKING && leg_taken(leg) != leg->taken) {
        leg_watch_pace(leg, leg_taken(leg)); /* slow, but it moves */
    } else if (leg->state == LEG_IS_QUEUED) {
        leg_no_place(leg);
    } else if (leg->state == LEG_IS_RESOLVING || leg->state == LEG_IS_CONNECTING) {
        leg_not_in_time(leg, late_text(leg->state));
    } else {
        leg_fail_with(leg, 451, leg->state < LEG_IS_STARTING ? "4.4.1" : "4.4.2",
                      late_text(leg->state));
    }
}

/* ---- life ---- */

struct leg *leg_new(const struct leg_context *context, const struct relay *relay,
                    enum leg_kind kind, struct span domain)
{
    struct leg *leg = spare_new(&context->world->spares, sizeof *leg + domain.len);
    if (leg != NULL) {
        leg->context = context;
        leg->relay = relay;
        leg->stats = relay_stats_of(&context->world->stats->relays, span_of(relay->name));
        leg->kind = kind;
        if (domain.len != 0) {
            memcpy(leg + 1, domain.ptr, domain.len);
            leg->domain = span_make((const char *)(leg + 1), domain.len);
        }
        leg->timer.on_due = on_due;
        leg->timer.owner = leg;
    }
    return leg;
}

void leg_free(struct leg *leg)
{
    leg_abandon(leg);
    spare_free(leg->addresses);
    spare_free(leg);
}

const struct relay *leg_relay(const struct leg *leg)
{
    return leg->relay;
}

struct relay_stats *leg_stats(const struct leg *leg)
{
    return leg->stats;
}

enum leg_fate leg_fate(const struct leg *leg)
{
    return leg->fate;
}

enum leg_kind leg_kind(const struct leg *leg)
{
    return leg->kind;
}

struct span leg_domain(const struct leg *leg)
{
    return leg->domain;
}

bool leg_serves(const struct leg *leg, const struct relay *relay, enum leg_kind kind,
                struct span domain)
{
    return leg->relay == relay && leg->kind == kind && span_equal_fold(leg->domain, domain);
}

unsigned leg_recipient_count(const struct leg *leg)
{
    return leg->count;
}

bool leg_is_open(const struct leg *leg)
{
    return leg->state != LEG_IS_CLOSED;
}

bool leg_was_let_go(const struct leg *leg)
{
    return leg->let_go;
}

bool leg_is_unavailable(const struct leg *leg)
{
    return leg->unavailable;
}

bool leg_is_local(const struct leg *leg)
{
    return leg->local;
}
