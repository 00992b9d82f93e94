/*
 * timers: deadlines kept in a heap; time is an argument (milliseconds, monotonic). Pure.
 *
 * Whoever owns the clock calls timers_run when timers_next is due. A timer is a value inside its
 * owner, does not move, and must be stopped before the owner goes. The heap takes no memory but
 * theirs: so a deadline can always be set, which is what keeps a peer from waiting for ever.
 */
#ifndef SPLITMX_PROXY_SESSION_TIMERS_H
#define SPLITMX_PROXY_SESSION_TIMERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct timer {
    uint64_t due;
    struct timer *child, *next; /* in the heap: due no sooner; beside it */
    struct timer **link;        /* what points to it there; NULL: not set */
    void (*on_due)(void *owner);
    void *owner;
};

struct timers {
    struct timer *root; /* the next that is due */
};

void timers_init(struct timers *timers);
void timers_release(struct timers *timers);

/* Sets or moves. */
void timer_set(struct timers *timers, struct timer *timer, uint64_t due);
void timer_stop(struct timers *timers, struct timer *timer);
static inline bool timer_is_set(const struct timer *timer)
{
    return timer->link != NULL;
}

/* When the next is due; UINT64_MAX when none is set. */
uint64_t timers_next(const struct timers *timers);

/*
 * Calls all that are due at `now`, in order of their deadlines, each stopped before its call:
 * on_due may set and stop any timer, its own too. One that it sets for `now` or before is called as
 * well, so a timer must not set itself like that for ever.
 */
void timers_run(struct timers *timers, uint64_t now);

#endif
