#include "config/text.h"

#include <stdarg.h>
#include <stdio.h>

struct text text_over(char *buffer, size_t cap)
{
    struct text text = {.ptr = buffer, .cap = cap, .full = cap == 0};
    if (cap > 0) {
        buffer[0] = '\0';
    }
    return text;
}

/* Once full, nothing more is taken: what is there stays a prefix of what was put. */
void text_put(struct text *text, struct span s)
{
    if (text->full) {
        return;
    }
    size_t room = text->cap - text->len - 1;
    size_t taken = s.len < room ? s.len : room;
    if (taken > 0) {
        memcpy(text->ptr + text->len, s.ptr, taken);
    }
    text->len += taken;
    text->ptr[text->len] = '\0';
    text->full = taken < s.len;
}

void text_putc(struct text *text, char c)
{
    text_put(text, span_make(&c, 1));
}

void text_digits(struct text *text, uint64_t number, unsigned width)
{
    char digits[20]; /* of 2^64 - 1 */
    size_t at = sizeof digits;
    width = width < sizeof digits ? width : sizeof digits;
    do {
        digits[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number != 0 || sizeof digits - at < width);
    text_put(text, span_make(digits + at, sizeof digits - at));
}

void text_number(struct text *text, uint64_t number)
{
    text_digits(text, number, 1);
}

void text_printf(struct text *text, const char *format, ...)
{
    if (text->full) {
        return;
    }
    size_t room = text->cap - text->len; /* with the NUL; at least 1 */
    va_list args;
    va_start(args, format);
    int wanted = vsnprintf(text->ptr + text->len, room, format, args);
    va_end(args);
    if (wanted < 0) {
        text->ptr[text->len] = '\0';
        text->full = true;
    } else if ((size_t)wanted >= room) {
        text->len = text->cap - 1;
        text->full = true;
    } else {
        text->len += (size_t)wanted;
    }
}
