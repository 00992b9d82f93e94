/*
 * utf8: what of a stranger's text may be shown as it is. Pure.
 */
#ifndef SPLITMX_PROXY_WIRE_UTF8_H
#define SPLITMX_PROXY_WIRE_UTF8_H

#include "config/span.h"

/*
 * Length of the character at the front of s: 1 to 4, or 0 when s is empty or what stands there is
 * not valid UTF-8 (RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF).
 */
static inline size_t utf8_length(struct span s)
{
    const unsigned char *b = (const unsigned char *)s.ptr;
    unsigned char low = 0x80, high = 0xbf; /* bounds of the second byte */
    size_t len;

    if (s.len == 0) {
        return 0;
    }
    if (b[0] < 0x80) {
        return 1;
    }
    if (b[0] >= 0xc2 && b[0] <= 0xdf) {
        len = 2;
    } else if (b[0] >= 0xe0 && b[0] <= 0xef) {
        len = 3;
        low = b[0] == 0xe0 ? 0xa0 : low;
        high = b[0] == 0xed ? 0x9f : high;
    } else if (b[0] >= 0xf0 && b[0] <= 0xf4) {
        len = 4;
        low = b[0] == 0xf0 ? 0x90 : low;
        high = b[0] == 0xf4 ? 0x8f : high;
    } else {
        return 0;
    }
    if (s.len < len || b[1] < low || b[1] > high) {
        return 0;
    }
    for (size_t i = 2; i < len; i++) {
        if (b[i] < 0x80 || b[i] > 0xbf) {
            return 0;
        }
    }
    return len;
}

/* The code point of a character that utf8_length has measured. */
static inline unsigned utf8_code(const char *ptr, size_t len)
{
    const unsigned char *b = (const unsigned char *)ptr;
    if (len == 1) {
        return b[0];
    }
    unsigned code = b[0] & (0x7fu >> len);
    for (size_t i = 1; i < len; i++) {
        code = code << 6 | (b[i] & 0x3fu);
    }
    return code;
}

/* Characters that move a cursor, end a line or reorder what is around them: C0, DEL, C1, the
 * Unicode line and paragraph separators and the bidirectional overrides. */
static inline bool utf8_is_control(unsigned code)
{
    return code < 0x20 || (code >= 0x7f && code <= 0x9f) || (code >= 0x2028 && code <= 0x202e) ||
           (code >= 0x2066 && code <= 0x2069);
}

/* Bytes at the front of s that are printable ASCII: the quick way through most text. */
static inline size_t utf8_printable(struct span s)
{
    size_t len = 0;
    while (len < s.len && s.ptr[len] >= 0x20 && s.ptr[len] < 0x7f) {
        len++;
    }
    return len;
}

#endif
