/*
 * buffer: bytes that grow at one end and go at the other. A simulator without memory has nothing to
 * tell: it aborts.
 */
#ifndef SPLITMX_TESTS_SIM_BUFFER_H
#define SPLITMX_TESTS_SIM_BUFFER_H

#include "config/span.h"

struct buffer {
    char *bytes;
    size_t start, len, cap;
};

void buffer_put(struct buffer *buffer, struct span bytes);
void buffer_drop(struct buffer *buffer, size_t count);
/* The first `count` bytes of `from` go to the end of `to`. */
void buffer_move(struct buffer *to, struct buffer *from, size_t count);
/* The length of the first whole reply of a server in it, or 0. */
size_t buffer_reply(struct span input);
void buffer_release(struct buffer *buffer);

static inline struct span buffer_span(const struct buffer *buffer)
{
    return span_make(buffer->len != 0 ? buffer->bytes + buffer->start : "", buffer->len);
}

/* calloc that does not fail. */
void *sim_alloc(size_t count, size_t size);

#endif
