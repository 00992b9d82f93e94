#include "proxy/wire/header.h"

void header_watch_init(struct header_watch *watch, struct span hostname)
{
    *watch = (struct header_watch){.place = HEADER_LINE_START, .hostname = hostname};
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* Keeps a byte of the field; blanks and line ends are all one separator, so folding makes no
 * difference. */
static void keep(struct header_watch *watch, char c)
{
    if (is_blank(c) || c == '\r' || c == '\n') {
        if (watch->kept > 0 && watch->line[watch->kept - 1] == ' ') {
            return;
        }
        c = ' ';
    }
    if (watch->kept < sizeof watch->line) {
        watch->line[watch->kept++] = c;
    }
}

/* Position behind the comment that begins at `at` (RFC 5322 3.2.2: nested, with quoted pairs). */
static size_t comment_end(struct span line, size_t at)
{
    unsigned depth = 0;
    for (; at < line.len; at++) {
        if (line.ptr[at] == '\\') {
            at++;
        } else if (line.ptr[at] == '(') {
            depth++;
        } else if (line.ptr[at] == ')' && --depth == 0) {
            return at + 1;
        }
    }
    return line.len;
}

/* Next word or comment at or behind *at; empty at the end. */
static struct span token_take(struct span line, size_t *at)
{
    while (*at < line.len && line.ptr[*at] == ' ') {
        (*at)++;
    }
    const size_t begin = *at;
    if (begin < line.len && line.ptr[begin] == '(') {
        *at = comment_end(line, begin);
    } else {
        while (*at < line.len && line.ptr[*at] != ' ' && line.ptr[*at] != '(' &&
               line.ptr[*at] != ';') {
            (*at)++;
        }
        if (*at == begin && begin < line.len) {
            (*at)++; /* a semicolon is a token of its own */
        }
    }
    return span_make(line.ptr + begin, *at - begin);
}

/* "by HOSTNAME" outside comments and the mark as a comment behind it. */
static bool is_own_fallback(const struct header_watch *watch)
{
    const struct span line = span_make(watch->line, watch->kept);
    bool behind_by = false, own = false;
    size_t at = 0;

    for (struct span token = token_take(line, &at); token.len > 0; token = token_take(line, &at)) {
        if (own && span_equal_fold(token, SPAN("(splitmx fallback)"))) {
            return true;
        }
        own = own || (behind_by && span_equal_fold(token, watch->hostname));
        behind_by = span_equal_fold(token, SPAN("by"));
    }
    return false;
}

/* The name is in line[], the colon was just read. */
static void begin_body(struct header_watch *watch)
{
    watch->in_field = true;
    watch->in_received = span_equal_fold(span_make(watch->line, watch->kept), SPAN("Received"));
    watch->received += watch->in_received;
    watch->place = watch->in_received ? HEADER_RECEIVED : HEADER_OTHER;
    watch->kept = 0;
    watch->judged = 0;
}

static void begin_line(struct header_watch *watch, char c)
{
    if (is_blank(c) && watch->in_field) {
        watch->place = watch->in_received ? HEADER_RECEIVED : HEADER_OTHER;
        if (watch->in_received) {
            keep(watch, c);
        }
        return;
    }
    watch->in_field = false;
    watch->in_received = false;
    watch->kept = 0;
    watch->place = HEADER_NAME;
    if (c > ' ' && c < 0x7f && c != ':') {
        keep(watch, c);
    } else {
        watch->done = true; /* the empty line, or no header */
    }
}

static void step(struct header_watch *watch, char c)
{
    switch (watch->place) {
    case HEADER_LINE_START:
        begin_line(watch, c);
        break;
    case HEADER_NAME:
    case HEADER_NAME_END:
        if (c == ':') {
            begin_body(watch);
        } else if (is_blank(c)) {
            watch->place = HEADER_NAME_END;
        } else if (watch->place == HEADER_NAME && c > ' ' && c < 0x7f) {
            keep(watch, c);
        } else {
            watch->done = true;
        }
        break;
    case HEADER_RECEIVED:
        keep(watch, c);
        if (c == '\n') {
            /* At each line, as the message may end without an empty one. */
            if (!watch->own_fallback && watch->kept != watch->judged) {
                watch->own_fallback = is_own_fallback(watch);
                watch->judged = watch->kept;
            }
            watch->place = HEADER_LINE_START;
        }
        break;
    case HEADER_OTHER:
        if (c == '\n') {
            watch->place = HEADER_LINE_START;
        }
        break;
    }
}

void header_watch_feed(struct header_watch *watch, struct span bytes)
{
    while (bytes.len > 0 && !watch->done) {
        if (watch->place == HEADER_OTHER) {
            bytes = span_skip(bytes, span_find(bytes, '\n'));
            if (bytes.len == 0) {
                return;
            }
        }
        step(watch, bytes.ptr[0]);
        bytes = span_skip(bytes, 1);
    }
}
