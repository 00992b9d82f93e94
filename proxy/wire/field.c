#include "proxy/wire/field.h"

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* RFC 5322 2.2: printable US-ASCII but the colon. */
static bool is_name(char c)
{
    return c > ' ' && c < 0x7f && c != ':';
}

static size_t name_length(struct span input)
{
    size_t len = 0;
    while (len < input.len && is_name(input.ptr[len])) {
        len++;
    }
    return len;
}

static struct span take(struct span *input, size_t len)
{
    const struct span taken = span_first(*input, len);
    *input = span_skip(*input, len);
    return taken;
}

/* Takes the CR of an empty line only. */
static void begin_line(struct field_walk *walk, struct span *input)
{
    const char c = input->ptr[0];

    if (is_name(c)) {
        walk->place = FIELD_IN_NAME;
    } else if (is_blank(c) && walk->in_field) {
        walk->place = FIELD_IN_VALUE;
    } else if (c == '\r') {
        take(input, 1);
        walk->place = FIELD_IN_EMPTY;
    } else {
        walk->place = FIELD_OVER;
    }
}

static enum field_event end_name(struct field_walk *walk, struct span *input)
{
    const char c = input->ptr[0];

    if (c != ':' && !is_blank(c)) {
        walk->place = FIELD_OVER;
        return FIELD_MORE;
    }
    take(input, 1);
    walk->in_field = c == ':';
    walk->place = walk->in_field ? FIELD_IN_VALUE : FIELD_BEHIND_NAME;
    return walk->in_field ? FIELD_COLON : FIELD_MORE;
}

/* The LF behind a CR. */
static enum field_event end_line(struct field_walk *walk, struct span *input)
{
    const bool empty = walk->place == FIELD_IN_EMPTY;

    if (input->ptr[0] != '\n') {
        walk->place = FIELD_OVER;
        return FIELD_MORE;
    }
    take(input, 1);
    walk->place = empty ? FIELD_OVER : FIELD_AT_LINE;
    return empty ? FIELD_END : FIELD_LINE;
}

/* FIELD_MORE when there is nothing to tell yet. */
static enum field_event step(struct field_walk *walk, struct span *input, struct span *bytes)
{
    switch (walk->place) {
    case FIELD_AT_LINE:
        /* A server takes this dot away before it looks at the line (RFC 5321 4.5.2), whether or not
         * it was needed: what it gets by ".Date:" is a Date. */
        if (input->ptr[0] == '.') {
            take(input, 1);
            walk->place = FIELD_UNSTUFFED;
        } else {
            begin_line(walk, input);
        }
        return FIELD_MORE;
    case FIELD_UNSTUFFED:
        begin_line(walk, input);
        return FIELD_MORE;
    case FIELD_IN_NAME:
        *bytes = take(input, name_length(*input));
        return bytes->len > 0 ? FIELD_NAME : end_name(walk, input);
    case FIELD_BEHIND_NAME:
        return end_name(walk, input);
    case FIELD_IN_VALUE:
        *bytes = take(input, span_find(*input, '\r'));
        if (bytes->len == 0) {
            take(input, 1);
            walk->place = FIELD_BEHIND_CR;
        }
        return bytes->len > 0 ? FIELD_VALUE : FIELD_MORE;
    case FIELD_BEHIND_CR:
    case FIELD_IN_EMPTY:
        return end_line(walk, input);
    case FIELD_OVER:
        return FIELD_WRONG;
    }
    return FIELD_WRONG;
}

enum field_event field_next(struct field_walk *walk, struct span *input, struct span *bytes)
{
    enum field_event event = FIELD_MORE;

    while (input->len > 0 && event == FIELD_MORE) {
        event = step(walk, input, bytes);
    }
    return event;
}
