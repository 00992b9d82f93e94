/*
 * ring: an intrusive doubly linked list, so that anything waiting can be taken out at any moment.
 *
 * A member that is in no ring is a ring of its own; unlinking it again does nothing.
 */
#ifndef SPLITMX_ROUTING_RING_H
#define SPLITMX_ROUTING_RING_H

#include <stdbool.h>
#include <stddef.h>

struct ring {
    struct ring *prev;
    struct ring *next;
};

/* The struct whose member `name` the link is. */
#define RING_OF(link, type, name) ((type *)(void *)((char *)(link)-offsetof(type, name)))

static inline void ring_init(struct ring *ring)
{
    ring->prev = ring;
    ring->next = ring;
}

static inline bool ring_empty(const struct ring *ring)
{
    return ring->next == ring;
}

static inline void ring_append(struct ring *ring, struct ring *link)
{
    link->prev = ring->prev;
    link->next = ring;
    ring->prev->next = link;
    ring->prev = link;
}

static inline void ring_unlink(struct ring *link)
{
    link->prev->next = link->next;
    link->next->prev = link->prev;
    ring_init(link);
}

/* Moves every member of `from` to the empty ring `to`. */
static inline void ring_move(struct ring *to, struct ring *from)
{
    if (ring_empty(from)) {
        ring_init(to);
        return;
    }
    *to = *from;
    to->prev->next = to;
    to->next->prev = to;
    ring_init(from);
}

#endif
