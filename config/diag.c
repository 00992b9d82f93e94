#include "config/diag.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "config/span.h"
#include "config/text.h"

#define MESSAGE_MAX 1024 /* bytes of one message, once escaped */
#define WORD_MAX    64   /* longer words have no near neighbours */

#define BEGINNING_MIN 3 /* letters of a word that is cut short */

struct diag_list {
    struct diag *items;
    size_t count;
    size_t room;
    size_t errors;
    size_t machine; /* of the errors */
    size_t more;    /* told, but not held: over DIAG_MAX or short of memory */
};

struct diag_list *diag_list_new(void)
{
    return calloc(1, sizeof(struct diag_list));
}

static void diag_release(const struct diag *diag)
{
    free(diag->file);
    free(diag->text);
}

void diag_list_free(struct diag_list *list)
{
    if (!list) {
        return;
    }
    for (size_t i = 0; i < list->count; i++) {
        diag_release(&list->items[i]);
    }
    free(list->items);
    free(list);
}

/* The length of the UTF-8 sequence at s; 0 when it is malformed, or a C1 control. */
static size_t utf8_length(struct span s)
{
    unsigned char first = (unsigned char)s.ptr[0];
    size_t length = first >= 0xf0 && first <= 0xf4   ? 4
                    : first >= 0xe0 && first <= 0xef ? 3
                    : first >= 0xc2 && first <= 0xdf ? 2
                                                     : 0;
    if (length == 0 || s.len < length) {
        return 0;
    }
    for (size_t i = 1; i < length; i++) {
        if (((unsigned char)s.ptr[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    unsigned char second = (unsigned char)s.ptr[1];
    if ((first == 0xc2 && second < 0xa0) || (first == 0xe0 && second < 0xa0) ||
        (first == 0xed && second >= 0xa0) || (first == 0xf0 && second < 0x90) ||
        (first == 0xf4 && second >= 0x90)) {
        return 0;
    }
    return length;
}

/* Messages quote files that anyone may have written: nothing in them may move a terminal's cursor
 * or begin a new line. */
static void put_escaped(struct text *out, struct span s)
{
    while (s.len > 0 && !out->full) {
        unsigned char c = (unsigned char)s.ptr[0];
        size_t length = c >= 0x20 && c < 0x7f ? 1 : c >= 0x80 ? utf8_length(s) : 0;
        if (length == 0) {
            text_printf(out, "\\x%02x", c);
            length = 1;
        } else if (out->cap - out->len - 1 < length) {
            out->full = true; /* no half of a character */
        } else {
            text_put(out, span_first(s, length));
        }
        s = span_skip(s, length);
    }
}

static char *escaped_copy(struct span s)
{
    char buffer[MESSAGE_MAX];
    struct text text = TEXT(buffer);
    put_escaped(&text, s);
    return span_dup(text_span(&text));
}

static bool list_grow(struct diag_list *list)
{
    if (list->count < list->room) {
        return true;
    }
    if (list->count >= DIAG_MAX) {
        return false;
    }
    size_t room = list->room ? list->room * 2 : 8;
    room = room < DIAG_MAX ? room : DIAG_MAX;
    struct diag *items = realloc(list->items, room * sizeof(*items));
    if (!items) {
        return false;
    }
    list->items = items;
    list->room = room;
    return true;
}

__attribute__((format(printf, 5, 0))) static void list_add(struct diag_list *list,
                                                           enum diag_level level, bool machine,
                                                           struct diag_place place,
                                                           const char *format, va_list args)
{
    char message[MESSAGE_MAX];
    struct diag diag = {
        .level = level, .machine = machine, .line = place.line, .column = place.column};
    if (!list) {
        return;
    }
    list->errors += level == DIAG_ERROR;
    list->machine += machine;
    if (!list_grow(list)) {
        list->more++;
        return;
    }
    if (vsnprintf(message, sizeof(message), format, args) < 0) {
        message[0] = '\0';
    }
    diag.text = escaped_copy(span_of(message));
    diag.file = place.file ? span_dup(span_of(place.file)) : NULL;
    if (!diag.text || (place.file && !diag.file)) {
        diag_release(&diag);
        list->more++;
        return;
    }
    list->items[list->count++] = diag;
}

void diag_error(struct diag_list *list, struct diag_place place, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    list_add(list, DIAG_ERROR, false, place, format, args);
    va_end(args);
}

void diag_warning(struct diag_list *list, struct diag_place place, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    list_add(list, DIAG_WARNING, false, place, format, args);
    va_end(args);
}

void diag_machine(struct diag_list *list, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    list_add(list, DIAG_ERROR, true, DIAG_NOWHERE, format, args);
    va_end(args);
}

size_t diag_errors(const struct diag_list *list)
{
    return list ? list->errors : 0;
}

bool diag_only_machine(const struct diag_list *list)
{
    return list && list->errors > 0 && list->errors == list->machine;
}

size_t diag_count(const struct diag_list *list)
{
    return list ? list->count : 0;
}

const struct diag *diag_at(const struct diag_list *list, size_t index)
{
    return list && index < list->count ? &list->items[index] : NULL;
}

size_t diag_format(const struct diag *diag, char *out, size_t cap)
{
    struct text text = text_over(out, cap);
    if (diag->file) {
        put_escaped(&text, span_of(diag->file));
        if (diag->line > 0) {
            text_printf(&text, ":%u", diag->line);
        }
        if (diag->line > 0 && diag->column > 0) {
            text_printf(&text, ":%u", diag->column);
        }
        text_puts(&text, ": ");
    }
    if (diag->level == DIAG_WARNING) {
        text_puts(&text, "warning: ");
    }
    text_puts(&text, diag->text);
    return text.len;
}

void diag_print_marked(const struct diag_list *list, FILE *out, const char *error,
                       const char *warning)
{
    char line[MESSAGE_MAX * 6];
    if (!list) {
        return;
    }
    for (size_t i = 0; i < list->count; i++) {
        const struct diag *diag = &list->items[i];
        diag_format(diag, line, sizeof(line));
        fprintf(out, "%s%s\n", diag->level == DIAG_ERROR ? error : warning, line);
    }
    if (list->more > 0) {
        fprintf(out, "%s… and %zu more\n", error, list->more);
    }
}

void diag_print(const struct diag_list *list, FILE *out)
{
    diag_print_marked(list, out, "", "");
}

static size_t least(size_t a, size_t b, size_t c)
{
    size_t ab = a < b ? a : b;
    return ab < c ? ab : c;
}

/* Levenshtein's distance, with a swap of neighbours as one edit ("lisetn"), by three rows. */
static size_t edits(struct span a, struct span b)
{
    size_t rows[3][WORD_MAX + 1];
    size_t *before = rows[0], *last = rows[1], *now = rows[2];
    for (size_t j = 0; j <= b.len; j++) {
        last[j] = j;
    }
    for (size_t i = 1; i <= a.len; i++) {
        now[0] = i;
        for (size_t j = 1; j <= b.len; j++) {
            char x = ascii_lower(a.ptr[i - 1]), y = ascii_lower(b.ptr[j - 1]);
            now[j] = least(last[j] + 1, now[j - 1] + 1, last[j - 1] + (x == y ? 0 : 1));
            if (i > 1 && j > 1 && x == ascii_lower(b.ptr[j - 2]) &&
                ascii_lower(a.ptr[i - 2]) == y && before[j - 2] + 1 < now[j]) {
                now[j] = before[j - 2] + 1;
            }
        }
        size_t *spare = before;
        before = last;
        last = now;
        now = spare;
    }
    return last[b.len];
}

/* The only candidate that begins with the word ("warn"), or NULL. */
static const char *begins_with(struct span word, const char *const *candidates)
{
    const char *found = NULL;
    for (; *candidates; candidates++) {
        if (word.len >= BEGINNING_MIN && span_starts_fold(span_of(*candidates), word)) {
            if (found) {
                return NULL;
            }
            found = *candidates;
        }
    }
    return found;
}

const char *diag_nearest(const char *word, const char *const *candidates)
{
    const char *nearest = NULL;
    struct span w = span_of(word);
    const char *const *all = candidates;
    size_t best = 3;
    if (w.len > WORD_MAX) {
        return NULL;
    }
    for (; *candidates; candidates++) {
        struct span candidate = span_of(*candidates);
        if (candidate.len > WORD_MAX) {
            continue;
        }
        size_t distance = edits(w, candidate);
        if (distance < best && distance * 3 <= w.len) {
            best = distance;
            nearest = *candidates;
        }
    }
    return nearest ? nearest : begins_with(w, all);
}
