/*
 * span: a piece of bytes, pointer and length.
 *
 * Everything that comes from the network or a file is handled as spans; they are never
 * NUL-terminated and never own what they point at. Letter case is ASCII only.
 */
#ifndef SPLITMX_CONFIG_SPAN_H
#define SPLITMX_CONFIG_SPAN_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

struct span {
    const char *ptr;
    size_t len;
};

/* A span over a string literal. */
#define SPAN(literal) ((struct span){"" literal, sizeof(literal) - 1})

/* For printf: "%.*s", SPAN_ARGS(s). */
#define SPAN_ARGS(s) (int)(s).len, (s).ptr

static inline struct span span_make(const char *ptr, size_t len)
{
    return (struct span){ptr, len};
}

static inline struct span span_of(const char *text)
{
    return (struct span){text, strlen(text)};
}

/* The span without its first n bytes; n is cut to the length. */
static inline struct span span_skip(struct span s, size_t n)
{
    n = n < s.len ? n : s.len;
    return (struct span){s.ptr + n, s.len - n};
}

/* The first n bytes; n is cut to the length. */
static inline struct span span_first(struct span s, size_t n)
{
    return (struct span){s.ptr, n < s.len ? n : s.len};
}

static inline bool span_equal(struct span a, struct span b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

/* Begins with prefix, to the letter. */
static inline bool span_starts(struct span s, struct span prefix)
{
    return span_equal(span_first(s, prefix.len), prefix);
}

static inline char ascii_lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

/* The value of a hexadecimal digit; -1: it is none. */
static inline int ascii_hex(char c)
{
    const char lower = ascii_lower(c);
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

/* Equal but for ASCII letter case. */
bool span_equal_fold(struct span a, struct span b);

/* Begins with prefix, ASCII letter case aside. */
bool span_starts_fold(struct span s, struct span prefix);

bool span_ends(struct span s, struct span suffix);
bool span_is_ascii(struct span s);

/* Position of the first (last) c, or s.len when there is none. */
size_t span_find(struct span s, char c);
size_t span_rfind(struct span s, char c);

/* Without leading and trailing spaces and tabs. */
struct span span_trim(struct span s);

/* Decimal digits only, no sign, at most max; false otherwise. */
bool span_number(struct span s, unsigned long long max, unsigned long long *out);

/* A NUL-terminated copy; the caller frees it. NULL when memory is short. */
char *span_dup(struct span s);

#endif
