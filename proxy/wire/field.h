/*
 * field: the walk over a message's header section (RFC 5322 2.2, 4.5), for those that look at its
 * fields. Pure. Input is clean wire form, cut in any way; cuts divide names and values into pieces
 * and change nothing else of what is told.
 */
#ifndef SPLITMX_PROXY_WIRE_FIELD_H
#define SPLITMX_PROXY_WIRE_FIELD_H

#include "config/span.h"

enum field_event {
    FIELD_MORE,  /* all input is taken, wants more */
    FIELD_NAME,  /* bytes of a field's name */
    FIELD_COLON, /* the name is complete */
    FIELD_VALUE, /* bytes of the value, without the CRLF at a line's end */
    FIELD_LINE,  /* that CRLF; when FIELD_VALUE comes next, the field was folded here */
    FIELD_END,   /* the empty line; what is left of the input is the body */
    FIELD_WRONG, /* what is left of the input is no header, or the walk was over before */
};

/* For field.c only. */
enum field_place {
    FIELD_AT_LINE,     /* at the first byte of a line */
    FIELD_UNSTUFFED,   /* behind the dot there */
    FIELD_IN_NAME,     /* behind at least one byte of a name */
    FIELD_BEHIND_NAME, /* in the blanks that old mail may have before the colon */
    FIELD_IN_VALUE,
    FIELD_BEHIND_CR, /* that ends a line of a value */
    FIELD_IN_EMPTY,  /* behind the CR of the empty line */
    FIELD_OVER,
};

/* Begins as zero. */
struct field_walk {
    enum field_place place;
    bool in_field; /* a field has begun, so a line that begins with a blank continues it */
};

/* The next event. Takes what it tells of from the input's front; *bytes is set with FIELD_NAME and
 * FIELD_VALUE, lies in the input and is never empty. */
enum field_event field_next(struct field_walk *walk, struct span *input, struct span *bytes);

#endif
