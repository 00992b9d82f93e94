#include "proxy/session/timers.h"

#include <stdlib.h>

/* A binary heap; heap[0] is place 1, and the timer at place p has its children at 2p and 2p + 1. */

void timers_init(struct timers *timers)
{
    *timers = (struct timers){0};
}

void timers_release(struct timers *timers)
{
    for (size_t i = 0; i < timers->count; i++) {
        timers->heap[i]->place = 0;
    }
    free(timers->heap);
    timers_init(timers);
}

/* Room for one more; false when memory is short. */
static bool timers_grow(struct timers *timers)
{
    size_t cap = timers->cap == 0 ? 16 : timers->cap * 2;
    if (timers->count < timers->cap) {
        return true;
    }
    struct timer **heap = realloc(timers->heap, cap * sizeof *heap);
    if (heap == NULL) {
        return false;
    }
    timers->heap = heap;
    timers->cap = cap;
    return true;
}

static struct timer *timer_at(const struct timers *timers, size_t place)
{
    return timers->heap[place - 1];
}

static void timer_put(struct timers *timers, struct timer *timer, size_t place)
{
    timers->heap[place - 1] = timer;
    timer->place = place;
}

/* Puts the timer where it belongs, starting from a place that is free for it. */
static void timer_settle(struct timers *timers, struct timer *timer, size_t place)
{
    while (place > 1 && timer_at(timers, place / 2)->due > timer->due) {
        timer_put(timers, timer_at(timers, place / 2), place);
        place /= 2;
    }
    for (size_t child = place * 2; child <= timers->count; child = place * 2) {
        if (child < timers->count &&
            timer_at(timers, child + 1)->due < timer_at(timers, child)->due) {
            child++;
        }
        if (timer_at(timers, child)->due >= timer->due) {
            break;
        }
        timer_put(timers, timer_at(timers, child), place);
        place = child;
    }
    timer_put(timers, timer, place);
}

void timer_set(struct timers *timers, struct timer *timer, uint64_t due)
{
    timer->due = due;
    if (timer->place == 0) {
        /* A deadline that is lost would leave a peer waiting for ever: better no process. */
        if (!timers_grow(timers)) {
            abort();
        }
        timer->place = ++timers->count;
        timers->heap[timer->place - 1] = timer;
    }
    timer_settle(timers, timer, timer->place);
}

void timer_stop(struct timers *timers, struct timer *timer)
{
    const size_t place = timer->place;

    if (place == 0) {
        return;
    }
    struct timer *last = timer_at(timers, timers->count--);
    timer->place = 0;
    if (last != timer) {
        timer_settle(timers, last, place);
    }
}

uint64_t timers_next(const struct timers *timers)
{
    return timers->count == 0 ? UINT64_MAX : timer_at(timers, 1)->due;
}

void timers_run(struct timers *timers, uint64_t now)
{
    while (timers->count > 0 && timer_at(timers, 1)->due <= now) {
        struct timer *timer = timer_at(timers, 1);
        timer_stop(timers, timer);
        timer->on_due(timer->owner);
    }
}
