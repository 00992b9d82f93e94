#include "proxy/session/timers.h"

/*
 * A pairing heap (Fredman, Sedgewick, Sleator, Tarjan 1986): a tree in which no timer is due after
 * its children, made of the timers themselves. Each hangs on one pointer, `link`: that of the heap
 * to its root, of a parent to its first child, or of a child to the next.
 */

void timers_init(struct timers *timers)
{
    *timers = (struct timers){0};
}

void timers_release(struct timers *timers)
{
    while (timers->root != NULL) {
        timer_stop(timers, timers->root);
    }
}

/* Two trees become one, whose root hangs nowhere yet; either may be NULL. */
static struct timer *meld(struct timer *a, struct timer *b)
{
    if (a == NULL || b == NULL) {
        return a != NULL ? a : b;
    }
    struct timer *top = b->due < a->due ? b : a;
    struct timer *child = top == a ? b : a;
    child->next = top->child;
    if (child->next != NULL) {
        child->next->link = &child->next;
    }
    child->link = &top->child;
    top->child = child;
    return top;
}

/* A row of siblings becomes one tree: in pairs first, then one pair after the other, which is what
 * keeps the heap flat. */
static struct timer *meld_row(struct timer *row)
{
    struct timer *pairs = NULL, *all = NULL;
    while (row != NULL) {
        struct timer *a = row, *b = row->next;
        row = b != NULL ? b->next : NULL;
        a = meld(a, b);
        a->next = pairs;
        pairs = a;
    }
    while (pairs != NULL) {
        struct timer *pair = pairs;
        pairs = pairs->next;
        all = meld(all, pair);
    }
    return all;
}

static void timers_add(struct timers *timers, struct timer *tree)
{
    struct timer *root = meld(timers->root, tree);
    timers->root = root;
    if (root != NULL) {
        root->link = &timers->root;
        root->next = NULL;
    }
}

/* Off the heap, with what hangs below. */
static void timer_cut(struct timer *timer)
{
    *timer->link = timer->next;
    if (timer->next != NULL) {
        timer->next->link = timer->link;
    }
    timer->link = NULL;
}

void timer_stop(struct timers *timers, struct timer *timer)
{
    if (timer->link == NULL) {
        return;
    }
    struct timer *below = meld_row(timer->child);
    timer->child = NULL;
    timer_cut(timer);
    timers_add(timers, below);
}

void timer_set(struct timers *timers, struct timer *timer, uint64_t due)
{
    if (timer_is_set(timer) && due <= timer->due) { /* nothing below is due before it */
        timer_cut(timer);
    } else {
        timer_stop(timers, timer);
    }
    timer->due = due;
    timers_add(timers, timer);
}

uint64_t timers_next(const struct timers *timers)
{
    return timers->root == NULL ? UINT64_MAX : timers->root->due;
}

void timers_run(struct timers *timers, uint64_t now)
{
    while (timers->root != NULL && timers->root->due <= now) {
        struct timer *timer = timers->root;
        timer_stop(timers, timer);
        timer->on_due(timer->owner);
    }
}
