#include "tests/bench/data_end.h"

static const char ending[] = "\r\n.\r\n";

#define COMPLETE (sizeof(ending) - 1)

/* Only CR begins the ending, so there is no longer beginning to fall back to. */
static unsigned step(unsigned state, char c)
{
    return c == ending[state] ? state + 1 : c == '\r';
}

/* Octet by octet until the ending is complete or cannot be going on any more. */
static unsigned follow(unsigned state, struct span *bytes)
{
    while (state > 0 && state < COMPLETE && bytes->len > 0) {
        state = step(state, bytes->ptr[0]);
        *bytes = span_skip(*bytes, 1);
    }
    return state;
}

/* The state at the end of bytes without an ending, from their last octets. */
static unsigned last_state(struct span bytes)
{
    unsigned state = 0;
    bytes = span_skip(bytes, bytes.len > COMPLETE ? bytes.len - COMPLETE : 0);
    for (size_t i = 0; i < bytes.len; i++) {
        state = step(state, bytes.ptr[i]);
    }
    return state;
}

bool data_end_take(unsigned *state, struct span *bytes)
{
    *state = follow(*state, bytes);
    while (*state == 0 && bytes->len > 0) {
        const size_t dot = span_find(*bytes, '.');
        if (dot == bytes->len) {
            *state = last_state(*bytes);
            *bytes = span_skip(*bytes, dot);
            break;
        }
        if (dot >= 2 && bytes->ptr[dot - 2] == '\r' && bytes->ptr[dot - 1] == '\n') {
            *state = 3;
        }
        *bytes = span_skip(*bytes, dot + 1);
        *state = follow(*state, bytes);
    }
    return *state == COMPLETE;
}
