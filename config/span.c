#include "config/span.h"

#include <stdint.h>
#include <stdlib.h>

bool span_equal_fold(struct span a, struct span b)
{
    return a.len == b.len && span_starts_fold(a, b);
}

bool span_starts_fold(struct span s, struct span prefix)
{
    if (s.len < prefix.len) {
        return false;
    }
    for (size_t i = 0; i < prefix.len; i++) {
        if (ascii_lower(s.ptr[i]) != ascii_lower(prefix.ptr[i])) {
            return false;
        }
    }
    return true;
}

bool span_ends(struct span s, struct span suffix)
{
    return s.len >= suffix.len && span_equal(span_skip(s, s.len - suffix.len), suffix);
}

bool span_is_ascii(struct span s)
{
    for (size_t i = 0; i < s.len; i++) {
        if ((unsigned char)s.ptr[i] >= 0x80) {
            return false;
        }
    }
    return true;
}

size_t span_find(struct span s, char c)
{
    if (s.len == 0) { /* an empty span may hold NULL, which memchr does not accept */
        return 0;
    }
    const char *hit = memchr(s.ptr, c, s.len);
    return hit ? (size_t)(hit - s.ptr) : s.len;
}

size_t span_rfind(struct span s, char c)
{
    if (s.len == 0) {
        return 0;
    }
    const char *hit = memrchr(s.ptr, c, s.len);
    return hit ? (size_t)(hit - s.ptr) : s.len;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

struct span span_trim(struct span s)
{
    while (s.len > 0 && is_blank(s.ptr[0])) {
        s = span_skip(s, 1);
    }
    while (s.len > 0 && is_blank(s.ptr[s.len - 1])) {
        s.len--;
    }
    return s;
}

bool span_number(struct span s, unsigned long long max, unsigned long long *out)
{
    unsigned long long number = 0;
    if (s.len == 0) {
        return false;
    }
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] < '0' || s.ptr[i] > '9') {
            return false;
        }
        unsigned digit = (unsigned)(s.ptr[i] - '0');
        if (digit > max || number > (max - digit) / 10) { /* number * 10 + digit > max */
            return false;
        }
        number = number * 10 + digit;
    }
    *out = number;
    return true;
}

char *span_dup(struct span s)
{
    if (s.len == SIZE_MAX) {
        return NULL;
    }
    char *copy = malloc(s.len + 1);
    if (!copy) {
        return NULL;
    }
    if (s.len > 0) {
        memcpy(copy, s.ptr, s.len);
    }
    copy[s.len] = '\0';
    return copy;
}
