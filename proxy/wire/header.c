#include "proxy/wire/header.h"

void header_watch_init(struct header_watch *watch, struct span hostname)
{
    *watch = (struct header_watch){.hostname = hostname};
}

/* Keeps bytes of the field; each run of blanks as one space. */
static void keep(struct header_watch *watch, struct span bytes)
{
    for (size_t i = 0; i < bytes.len && watch->kept < sizeof watch->line; i++) {
        const char c = bytes.ptr[i] == '\t' ? ' ' : bytes.ptr[i];
        if (c != ' ' || watch->kept == 0 || watch->line[watch->kept - 1] != ' ') {
            watch->line[watch->kept++] = c;
        }
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

/* Position behind the quoted string that begins at `at` (RFC 5322 3.2.4), in which nothing is a
 * comment: a recipient that our field is for may be "(splitmx fallback)"@example.com. */
static size_t quoted_end(struct span line, size_t at)
{
    for (at++; at < line.len && line.ptr[at] != '"'; at++) {
        at += line.ptr[at] == '\\';
    }
    return at < line.len ? at + 1 : line.len;
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
            *at = line.ptr[*at] == '"' ? quoted_end(line, *at) : *at + 1;
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

static void add_name(struct header_watch *watch, struct span bytes)
{
    if (watch->in_value) {
        watch->in_value = false;
        watch->kept = 0;
    }
    keep(watch, bytes);
}

/* The name is in line[]. */
static void begin_value(struct header_watch *watch)
{
    watch->in_value = true;
    watch->in_received = span_equal_fold(span_make(watch->line, watch->kept), SPAN("Received"));
    watch->received += watch->in_received;
    watch->kept = 0;
    watch->judged = 0;
}

/* Looks at each line, as the message may end without an empty one. When the
 * field goes on, the next begins with a blank, so folding makes no difference. */
static void end_line(struct header_watch *watch)
{
    if (!watch->own_fallback && watch->kept != watch->judged) {
        watch->own_fallback = is_own_fallback(watch);
        watch->judged = watch->kept;
    }
}

void header_watch_feed(struct header_watch *watch, struct span bytes)
{
    while (bytes.len > 0 && !watch->done) {
        struct span piece = SPAN("");
        switch (field_next(&watch->walk, &bytes, &piece)) {
        case FIELD_NAME:
            add_name(watch, piece);
            break;
        case FIELD_COLON:
            begin_value(watch);
            break;
        case FIELD_VALUE:
            if (watch->in_received) {
                keep(watch, piece);
            }
            break;
        case FIELD_LINE:
            if (watch->in_received) {
                end_line(watch);
            }
            break;
        case FIELD_MORE:
            break;
        case FIELD_END:
        case FIELD_WRONG:
            watch->done = true;
            break;
        }
    }
}
