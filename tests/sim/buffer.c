#include "tests/sim/buffer.h"

#include <stdlib.h>

void *sim_alloc(size_t count, size_t size)
{
    void *memory = calloc(count, size);
    if (memory == NULL) {
        abort();
    }
    return memory;
}

void buffer_put(struct buffer *buffer, struct span bytes)
{
    if (bytes.len == 0) {
        return;
    }
    if (buffer->start + buffer->len + bytes.len > buffer->cap) {
        size_t cap = buffer->cap < 256 ? 256 : buffer->cap;
        while (cap < buffer->len + bytes.len) {
            cap *= 2;
        }
        /* Always a new place, so that a span that outlived its time is found by ASan. */
        char *moved = sim_alloc(1, cap);
        if (buffer->len != 0) {
            memcpy(moved, buffer->bytes + buffer->start, buffer->len);
        }
        free(buffer->bytes);
        *buffer = (struct buffer){.bytes = moved, .len = buffer->len, .cap = cap};
    }
    memcpy(buffer->bytes + buffer->start + buffer->len, bytes.ptr, bytes.len);
    buffer->len += bytes.len;
}

void buffer_drop(struct buffer *buffer, size_t count)
{
    buffer->start += count;
    buffer->len -= count;
    if (buffer->len == 0) {
        buffer->start = 0;
    }
}

void buffer_move(struct buffer *to, struct buffer *from, size_t count)
{
    buffer_put(to, span_first(buffer_span(from), count));
    buffer_drop(from, count);
}

void buffer_release(struct buffer *buffer)
{
    free(buffer->bytes);
    *buffer = (struct buffer){0};
}

size_t buffer_reply(struct span input)
{
    for (size_t at = 0;;) {
        struct span line = span_skip(input, at);
        size_t end = span_find(line, '\n');
        if (end == line.len) {
            return 0;
        }
        at += end + 1;
        if (end < 4 || line.ptr[3] != '-') {
            return at;
        }
    }
}
