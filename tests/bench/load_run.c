#include "tests/bench/load_run.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/queue.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define SECOND UINT64_C(1000000000) /* nanoseconds */

/* A session and the message that it has to send, if any. */
struct slot {
    struct load_session session; /* first: a session's slot is found by its address */
    struct run *run;
    uint64_t number; /* of the message */
    uint64_t begun;  /* from when its time counts */
    uint64_t sent;   /* messages over this connection */
    bool busy;       /* it has a message that has not ended */
    bool parked;
    TAILQ_ENTRY(slot) place;
};

TAILQ_HEAD(slot_list, slot);

struct run {
    struct load_world *world;
    const struct load_options *options;
    struct load_report *report;
    struct slot *slots;
    struct slot_list parked; /* without a message; those that are connected first */
    uint64_t limit;          /* messages in all */
    uint64_t deadline;       /* closed loop: no message begins after it */
    uint64_t taken;          /* messages that slots have taken */
    uint64_t due;            /* open loop: messages that have been due so far */
    uint64_t interval;       /* open loop: nanoseconds between them */
    int ticks;               /* open loop: a descriptor that counts them; else -1 */
    uv_poll_t ticking;
    bool over; /* no more messages will be due */
};

/* ---- which message is next ---- */

/* In open loop a time is a number of messages too: however late a tick is seen, as many are due. */
static uint64_t limit_of(const struct load_options *options)
{
    const uint64_t messages = options->messages > 0 ? options->messages : UINT64_MAX;
    const uint64_t in_time =
        options->rate > 0 && options->seconds > 0 ? options->seconds * options->rate : UINT64_MAX;
    return messages < in_time ? messages : in_time;
}

/* Open loop: the next that is due, from when that was. */
static bool take_due(struct run *run, struct slot *slot)
{
    if (run->taken == run->due) {
        return false;
    }
    slot->number = ++run->taken;
    slot->begun = run->report->begun + slot->number * run->interval;
    return true;
}

/* Closed loop: one more, from now. */
static bool take_next(struct run *run, struct slot *slot)
{
    slot->begun = uv_hrtime();
    if (run->taken == run->limit || slot->begun >= run->deadline) {
        return false;
    }
    slot->number = ++run->taken;
    return true;
}

static bool take(struct slot *slot)
{
    struct run *run = slot->run;
    return run->options->rate > 0 ? take_due(run, slot) : take_next(run, slot);
}

/* ---- a slot's life ---- */

static struct slot *slot_of(struct load_session *session)
{
    return (struct slot *)session;
}

static void slot_park(struct slot *slot)
{
    slot->parked = true;
    if (slot->session.state == LOAD_READY) {
        TAILQ_INSERT_HEAD(&slot->run->parked, slot, place);
    } else {
        TAILQ_INSERT_TAIL(&slot->run->parked, slot, place);
    }
}

static void slot_unpark(struct slot *slot)
{
    if (slot->parked) {
        TAILQ_REMOVE(&slot->run->parked, slot, place);
        slot->parked = false;
    }
}

static void slot_send(struct slot *slot)
{
    const struct load_options *options = slot->run->options;
    if (options->rate == 0 && options->keep != 1) {
        slot->begun = uv_hrtime(); /* a connection for many is not part of the first one's time */
    }
    slot->sent++;
    load_session_send(&slot->session, slot->number);
}

/* The slot has nothing to do: a message, if there is one. */
static void slot_next(struct slot *slot)
{
    const bool ready = slot->session.state == LOAD_READY;

    slot->busy = take(slot);
    if (slot->busy && ready) {
        slot_send(slot);
    } else if (slot->busy) {
        slot->sent = 0;
        load_session_open(&slot->session);
    } else if (slot->run->options->rate > 0 && !slot->run->over) {
        slot_park(slot);
    } else if (ready) {
        load_session_quit(&slot->session);
    }
}

static void on_ready(struct load_session *session)
{
    slot_send(slot_of(session));
}

static void on_accepted(struct load_session *session)
{
    struct slot *slot = slot_of(session);
    struct load_report *report = slot->run->report;

    report->ended = uv_hrtime();
    report->accepted++;
    histogram_add(&report->times, report->ended - slot->begun);
    slot->busy = false;
    if (slot->sent == slot->run->options->keep) {
        load_session_quit(session);
    } else {
        slot_next(slot);
    }
}

/* A server may end a session that has no message: that is no failure. */
static void on_failed(struct load_session *session, const char *why)
{
    struct slot *slot = slot_of(session);

    slot_unpark(slot);
    if (slot->busy) {
        slot->busy = false;
        slot->run->report->ended = uv_hrtime();
        load_report_fail(slot->run->report, why);
    }
}

static void on_closed(struct load_session *session)
{
    slot_next(slot_of(session));
}

static const struct load_session_events events = {
    .ready = on_ready, .accepted = on_accepted, .failed = on_failed, .closed = on_closed};

/* ---- open loop ---- */

static void finish(struct run *run)
{
    run->over = true;
    uv_close((uv_handle_t *)&run->ticking, NULL);
    while (!TAILQ_EMPTY(&run->parked)) {
        struct slot *slot = TAILQ_FIRST(&run->parked);
        slot_unpark(slot);
        load_session_quit(&slot->session);
    }
}

/* The kernel counts the ticks that went by while this loop was late. */
static void on_tick(uv_poll_t *ticking, int status, int events_seen)
{
    struct run *run = ticking->data;
    uint64_t ticks = 0;
    (void)events_seen;

    if (status == 0 && read(run->ticks, &ticks, sizeof(ticks)) == (ssize_t)sizeof(ticks)) {
        const uint64_t left = run->limit - run->due;
        run->due += ticks < left ? ticks : left;
    }
    while (run->taken < run->due && !TAILQ_EMPTY(&run->parked)) {
        struct slot *slot = TAILQ_FIRST(&run->parked);
        slot_unpark(slot);
        slot_next(slot);
    }
    if (run->due == run->limit) {
        finish(run);
    }
}

static bool tick(struct run *run)
{
    const struct timespec interval = {(time_t)(run->interval / SECOND),
                                      (long)(run->interval % SECOND)};
    const struct itimerspec times = {interval, interval};

    run->ticks = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (run->ticks < 0 || uv_poll_init(&run->world->loop->uv, &run->ticking, run->ticks) != 0) {
        return false;
    }
    run->ticking.data = run;
    run->report->begun = uv_hrtime();
    return timerfd_settime(run->ticks, 0, &times, NULL) == 0 &&
           uv_poll_start(&run->ticking, UV_READABLE, on_tick) == 0;
}

/* ---- all of it ---- */

static bool begin(struct run *run)
{
    const struct load_options *options = run->options;

    run->limit = limit_of(options);
    run->report->begun = run->report->ended = uv_hrtime();
    run->deadline =
        options->seconds > 0 ? run->report->begun + options->seconds * SECOND : UINT64_MAX;
    if (options->rate > 0) {
        run->interval = SECOND / options->rate;
        if (!tick(run)) {
            return false;
        }
    }
    for (size_t i = 0; i < options->sessions; i++) {
        run->slots[i].run = run;
        load_session_init(&run->slots[i].session, run->world);
        slot_next(&run->slots[i]);
    }
    return true;
}

bool load_run(struct load_world *world, struct load_report *report)
{
    struct run run = {.world = world, .options = world->options, .report = report, .ticks = -1};
    bool good = false;

    TAILQ_INIT(&run.parked);
    world->events = &events;
    run.slots = calloc(world->options->sessions, sizeof(*run.slots));
    if (run.slots && begin(&run)) {
        uv_run(&world->loop->uv, UV_RUN_DEFAULT);
        good = true;
    } else {
        perror("load");
    }
    if (run.ticks >= 0) {
        close(run.ticks);
    }
    free(run.slots);
    return good;
}
