#include "proxy/wire/reply.h"

#include <stdarg.h>
#include <stdio.h>

#include "proxy/wire/utf8.h"

#define WRITTEN_LINE_MAX 512 /* octets with CRLF, RFC 5321 4.5.3.1.5 */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static void text_append(struct reply *reply, struct span bytes)
{
    memcpy(reply->text + reply->text_len, bytes.ptr, bytes.len);
    reply->text_len = (unsigned short)(reply->text_len + bytes.len);
    reply->text[reply->text_len] = '\0';
}

/*
 * Adds text, scrubbed, as long as whole characters fit below REPLY_TEXT. False: something was left
 * out. A scrubbed character is never longer than what it stands for.
 */
static bool text_add(struct reply *reply, struct span text)
{
    while (text.len > 0) {
        const size_t printable = utf8_printable(text);
        if (printable > 0 && reply->text_len + printable < REPLY_TEXT) {
            text_append(reply, span_first(text, printable));
            text = span_skip(text, printable);
            continue;
        }
        const size_t len = utf8_length(text);
        const bool bad = len == 0 || utf8_is_control(utf8_code(text.ptr, len));
        const char stand_in = text.ptr[0] == '\t' || text.ptr[0] == '\n' ? ' ' : '?';
        const struct span put = bad ? span_make(&stand_in, 1) : span_first(text, len);
        if (reply->text_len + put.len >= REPLY_TEXT) {
            return false;
        }
        text_append(reply, put);
        text = span_skip(text, len == 0 ? 1 : len);
    }
    return true;
}

/* Length of an enhanced code (RFC 3463: class "." subject "." detail) of this class at the front, 0
 * if none. */
static size_t enhanced_length(struct span text, unsigned class)
{
    if (text.len < 2 || text.ptr[0] != (char)('0' + class) || text.ptr[1] != '.' ||
        (class != 2 && class != 4 && class != 5)) {
        return 0;
    }
    size_t at = 2;
    for (int part = 0; part < 2; part++) {
        size_t digits = 0;
        while (at + digits < text.len && digits < 3 && is_digit(text.ptr[at + digits])) {
            digits++;
        }
        at += digits;
        if (digits == 0) {
            return 0;
        }
        if (part == 0 && (at == text.len || text.ptr[at++] != '.')) {
            return 0;
        }
    }
    return at == text.len || text.ptr[at] == ' ' ? at : 0;
}

static void reply_begin(struct reply *reply, unsigned code, const char *enhanced)
{
    reply->code = code;
    struct text out = TEXT(reply->enhanced);
    text_puts(&out, enhanced == NULL ? "" : enhanced);
    reply->text_len = 0;
    reply->text[0] = '\0';
}

void reply_set(struct reply *reply, unsigned code, const char *enhanced, const char *text)
{
    reply_begin(reply, code, enhanced);
    text_add(reply, span_of(text));
}

void reply_setf(struct reply *reply, unsigned code, const char *enhanced, const char *format, ...)
{
    /* A character that vsnprintf cuts in two lies behind what text_add keeps. */
    char buffer[REPLY_TEXT + 8];
    va_list args;

    va_start(args, format);
    const int len = vsnprintf(buffer, sizeof buffer, format, args);
    va_end(args);
    reply_begin(reply, code, enhanced);
    if (len > 0) {
        text_add(reply, span_of(buffer));
    }
}

/* The front of line that fits into len bytes, whole characters. */
static struct span cut_whole(struct span line, size_t len)
{
    if (line.len <= len) {
        return line;
    }
    while (len > 0 && ((unsigned char)line.ptr[len] & 0xc0) == 0x80) {
        len--;
    }
    return span_first(line, len);
}

void reply_write(const struct reply *reply, bool plain, struct text *out)
{
    const unsigned class = reply->code / 100;
    char fitting[] = {(char)('0' + class), '.', '0', '.', '0', '\0'};
    struct span enhanced = span_of(reply->enhanced);
    if (plain || class == 3) {
        enhanced.len = 0;
    } else if (enhanced.len == 0 || enhanced_length(enhanced, class) != enhanced.len) {
        enhanced = span_of(fitting);
    }
    struct span rest = span_make(reply->text, reply->text_len);
    bool last;
    do {
        const size_t end = span_find(rest, '\n');
        struct span line = span_first(rest, end);
        last = end == rest.len;
        rest = span_skip(rest, end + 1);

        const size_t begun = out->len;
        text_number(out, reply->code);
        text_putc(out, last ? ' ' : '-');
        text_put(out, enhanced);
        if (enhanced.len != 0 && line.len > 0) {
            text_putc(out, ' ');
        }
        text_put(out, cut_whole(line, WRITTEN_LINE_MAX - 2 - (out->len - begun)));
        text_puts(out, "\r\n");
    } while (!last);
}

struct span reply_first_line(const struct reply *reply)
{
    const struct span text = span_make(reply->text, reply->text_len);
    return span_first(text, span_find(text, '\n'));
}

void reply_tell(const struct reply *reply, struct text *out)
{
    text_number(out, reply->code);
    text_putc(out, ' ');
    text_puts(out, reply->enhanced);
    text_puts(out, reply->enhanced[0] != '\0' ? " " : "");
    text_put(out, reply_first_line(reply));
}

/* One line, without its end. */
static enum reply_status line_parse(struct reply_parser *parser, struct span line,
                                    struct reply *out)
{
    if (line.len < 3 || line.ptr[0] < '2' || line.ptr[0] > '5' || !is_digit(line.ptr[1]) ||
        !is_digit(line.ptr[2]) || (line.len > 3 && line.ptr[3] != ' ' && line.ptr[3] != '-')) {
        return REPLY_BAD;
    }
    const unsigned code =
        (unsigned)((line.ptr[0] - '0') * 100 + (line.ptr[1] - '0') * 10 + (line.ptr[2] - '0'));
    if (parser->lines == 0) {
        parser->code = code;
        reply_begin(out, code, "");
    } else if (code != parser->code || parser->lines == REPLY_LINES) {
        return REPLY_BAD;
    }
    struct span text = span_skip(line, 4);
    if (parser->on_line != NULL) {
        parser->on_line(parser->context, text);
    }
    const size_t enhanced = enhanced_length(text, code / 100);
    if (out->enhanced[0] == '\0') { /* not every server writes it on every line */
        memcpy(out->enhanced, text.ptr, enhanced);
        out->enhanced[enhanced] = '\0';
    }
    if (enhanced > 0 && span_equal(span_first(text, enhanced), span_of(out->enhanced))) {
        text = span_skip(text, enhanced + 1);
    }
    if (parser->lines > 0 && !parser->full) {
        parser->full = out->text_len + 1u >= REPLY_TEXT;
        if (!parser->full) {
            out->text[out->text_len++] = '\n';
            out->text[out->text_len] = '\0';
        }
    }
    if (!parser->full) {
        parser->full = !text_add(out, text);
    }
    parser->lines++;
    return line.len > 3 && line.ptr[3] == '-' ? REPLY_MORE : REPLY_DONE;
}

/* What is read of a line: without its end, and of a long one the front. */
static struct span line_front(struct span line)
{
    line = span_first(line, REPLY_LINE_MAX);
    return span_ends(line, SPAN("\r")) ? span_first(line, line.len - 1) : line;
}

/* A line up to its end, or where that has not come (`whole` is false) a long one's next piece. */
static enum reply_status line_take(struct reply_parser *parser, struct span line, bool whole,
                                   struct reply *out)
{
    if (!parser->in_line) {
        parser->line = line_parse(parser, line_front(line), out);
    }
    parser->in_line = !whole;
    return whole || parser->line == REPLY_BAD ? parser->line : REPLY_MORE;
}

enum reply_status reply_parse(struct reply_parser *parser, struct span input, struct reply *out,
                              size_t *consumed)
{
    enum reply_status status = REPLY_MORE;
    *consumed = 0;
    while (status == REPLY_MORE && *consumed < input.len) {
        const struct span rest = span_skip(input, *consumed);
        const size_t end = span_find(rest, '\n');
        const bool whole = end < rest.len;
        const size_t taken = whole ? end + 1 : rest.len;
        if (parser->bytes + taken > REPLY_BYTES) {
            return REPLY_BAD;
        }
        if (!whole && !parser->in_line && taken <= REPLY_LINE_MAX) {
            break; /* it may be whole when more has come */
        }
        status = line_take(parser, span_first(rest, end), whole, out);
        parser->bytes += taken;
        *consumed += taken;
    }
    return status;
}

bool reply_blames_us(const struct reply *reply)
{
    return (reply->code >= 500 && reply->code <= 504) || reply->code == 530 || reply->code == 535 ||
           reply->code == 538 || reply->code == 555;
}

bool reply_is_unknown_recipient(const struct reply *reply)
{
    return (reply->code == 550 || reply->code == 553) &&
           (strcmp(reply->enhanced, "5.1.1") == 0 || strcmp(reply->enhanced, "5.1.10") == 0);
}

void reply_translate(struct reply *reply, bool of_fallback, bool to_mail)
{
    if (of_fallback && reply_is(reply, 5)) {
        reply->code = 451; /* it is no authority on who exists here (section 6) */
        memcpy(reply->enhanced, "4.4.1", sizeof "4.4.1");
    } else if (reply_blames_us(reply)) {
        reply->code = 451;
        memcpy(reply->enhanced, "4.3.5", sizeof "4.3.5");
    } else if (reply->code == 421) {
        reply->code = 451; /* that upstream closes; we do not */
    } else if (reply->code == 552 && to_mail) {
        reply->code = 554; /* a 552 to RCPT would read as too many recipients */
        memcpy(reply->enhanced, "5.3.4", sizeof "5.3.4");
    }
}
