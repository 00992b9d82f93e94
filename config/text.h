/*
 * text: a bounded buffer that is being written; what does not fit sets `full` and is left out.
 *
 * The buffer belongs to the caller and is always NUL-terminated. A text that is `full` holds a
 * prefix of what was put; callers that must not cut (protocol lines) check `full` once at the end.
 */
#ifndef SPLITMX_CONFIG_TEXT_H
#define SPLITMX_CONFIG_TEXT_H

#include <stdint.h>

#include "config/span.h"

struct text {
    char *ptr;
    size_t len;
    size_t cap; /* bytes at ptr; len stays below it */
    bool full;
};

/* A text over an array variable. */
#define TEXT(array) text_over((array), sizeof(array))

struct text text_over(char *buffer, size_t cap);
void text_put(struct text *text, struct span s);
void text_putc(struct text *text, char c);
/* In decimal. With `width` digits at least, zeros in front. */
void text_number(struct text *text, uint64_t number);
void text_digits(struct text *text, uint64_t number, unsigned width);
/* For what is not said with every message: several times as costly as the others. */
void text_printf(struct text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));

static inline void text_puts(struct text *text, const char *s)
{
    text_put(text, span_of(s)); /* here, since a literal's length is known to the compiler */
}

static inline struct span text_span(const struct text *text)
{
    return (struct span){text->ptr, text->len};
}

#endif
