#include "proxy/wire/received.h"

#include "config/civil.h"

#define FOLD_AT 78 /* RFC 5322 2.1.1 */

/* The field being written: column of the line, to know where to fold. */
struct folder {
    struct text *out;
    size_t column;
};

static void fold(struct folder *folder)
{
    text_puts(folder->out, "\r\n\t");
    folder->column = 1;
}

/* A word behind a blank, or on a new line when it does not fit on this one. */
static void put_word(struct folder *folder, struct span word)
{
    if (folder->column > 1 && folder->column + 1 + word.len > FOLD_AT) {
        fold(folder);
    }
    if (folder->column > 1) {
        text_putc(folder->out, ' ');
        folder->column++;
    }
    text_put(folder->out, word);
    folder->column += word.len;
}

/*
 * A name that a stranger chose: what could end a comment or a clause, begin a quoted string or fold
 * a line, and so forge what follows, becomes '?'. Bounded, for the length of the line.
 */
static struct span name_scrub(struct span name, char *out, size_t cap)
{
    const struct span source = span_first(name, cap);
    for (size_t i = 0; i < source.len; i++) {
        const char c = source.ptr[i];
        out[i] = c > ' ' && c < 0x7f && strchr("()<>\"\\;,", c) == NULL ? c : '?';
    }
    return span_make(out, source.len);
}

/* An address between its brackets: quotes and spaces are part of it, but no byte may end or fold
 * the line. */
static struct span path_scrub(struct span path, bool utf8, char *out, size_t cap)
{
    const struct span source = span_first(path, cap);
    for (size_t i = 0; i < source.len; i++) {
        const unsigned char c = (unsigned char)source.ptr[i];
        out[i] = (c >= ' ' && c < 0x7f) || (c >= 0x80 && utf8) ? source.ptr[i] : '?';
    }
    return span_make(out, source.len);
}

/* RFC 5322 3.3, in UTC and in English whatever the locale. */
static void put_date(struct folder *folder, time_t when)
{
    static const char days[7][4] = {"Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"};
    static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                       "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    const struct civil civil = civil_from_time(when);
    char buffer[64];
    struct text text = TEXT(buffer);

    text_puts(&text, days[civil.days % 7]);
    text_puts(&text, ", ");
    text_number(&text, civil.day);
    text_putc(&text, ' ');
    text_puts(&text, months[civil.month]);
    text_putc(&text, ' ');
    text_digits(&text, civil.year, 4);
    text_putc(&text, ' ');
    civil_put_clock(&civil, &text);
    text_puts(&text, " +0000");
    put_word(folder, text_span(&text));
}

static void put_from(struct folder *folder, const struct received *received)
{
    char helo[255], ptr[255], ip[64], buffer[400];
    struct text text = TEXT(buffer);
    const struct span name = name_scrub(received->helo, helo, sizeof helo);

    put_word(folder, SPAN("from"));
    put_word(folder, name.len > 0 ? name : SPAN("unknown"));
    text_putc(&text, '(');
    text_put(&text, name_scrub(span_of(received->ptr_name == NULL || received->ptr_name[0] == '\0'
                                           ? "unknown"
                                           : received->ptr_name),
                               ptr, sizeof ptr));
    put_word(folder, text_span(&text));
    text = TEXT(buffer);
    text_puts(&text, strchr(received->ip, ':') != NULL ? "[IPv6:" : "[");
    text_put(&text, name_scrub(span_of(received->ip), ip, sizeof ip));
    text_puts(&text, "])");
    put_word(folder, text_span(&text));
}

static void put_by(struct folder *folder, const struct received *received)
{
    char buffer[300];
    struct text text = TEXT(buffer);

    put_word(folder, SPAN("by"));
    put_word(folder, span_of(received->hostname));
    put_word(folder, received->fallback ? SPAN("(splitmx fallback)") : SPAN("(splitmx)"));
    put_word(folder, SPAN("with"));
    put_word(folder, span_of(received->protocol));
    put_word(folder, SPAN("id"));
    put_word(folder, span_of(received->id));
    if (received->tls != NULL) {
        text_printf(&text, "(%s)", received->tls);
        put_word(folder, text_span(&text));
    }
}

void received_write(const struct received *received, struct text *out)
{
    struct folder folder = {out, sizeof "Received:" - 1};
    char path[400], buffer[420];
    struct text text = TEXT(buffer);

    text_puts(out, "Received:");
    put_from(&folder, received);
    fold(&folder);
    put_by(&folder, received);
    if (received->recipient.len == 0) {
        text_putc(out, ';');
    }
    fold(&folder);
    if (received->recipient.len > 0) {
        const bool utf8 = span_starts_fold(span_of(received->protocol), SPAN("UTF8"));
        put_word(&folder, SPAN("for"));
        text_putc(&text, '<');
        text_put(&text, path_scrub(received->recipient, utf8, path, sizeof path));
        text_puts(&text, ">;");
        put_word(&folder, text_span(&text));
    }
    put_date(&folder, received->when);
    text_puts(out, "\r\n");
}
