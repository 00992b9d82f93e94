#include "proxy/wire/received.h"

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

struct civil {
    int64_t year;
    unsigned month, day; /* from 0 and from 1 */
};

/*
 * The day of the proleptic Gregorian calendar, days counted from 1970-01-01. gmtime_r would take
 * the C library's lock and may read the zone file, which an event loop must not wait for. Years
 * begin in March here, so that the leap day is the last of its year, and 400 years are one cycle of
 * 146,097 days.
 */
static struct civil civil_from_days(uint64_t days)
{
    const uint64_t shifted = days + 719468; /* from 0000-03-01 */
    const uint64_t cycle = shifted / 146097;
    const uint64_t day_of_cycle = shifted % 146097;
    const uint64_t year_of_cycle =
        (day_of_cycle - day_of_cycle / 1460 + day_of_cycle / 36524 - day_of_cycle / 146096) / 365;
    const uint64_t day_of_year =
        day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    const uint64_t march_month = (5 * day_of_year + 2) / 153;
    const unsigned month = (unsigned)(march_month < 10 ? march_month + 2 : march_month - 10);

    return (struct civil){.year = (int64_t)(cycle * 400 + year_of_cycle + (month < 2)),
                          .month = month,
                          .day = (unsigned)(day_of_year - (153 * march_month + 2) / 5 + 1)};
}

/* RFC 5322 3.3, in UTC and in English whatever the locale. */
static void put_date(struct folder *folder, time_t when)
{
    static const char days[7][4] = {"Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"};
    static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                       "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    const uint64_t seconds = when < 0 ? 0 : (uint64_t)when;
    const uint64_t day = seconds / 86400;
    const unsigned rest = (unsigned)(seconds % 86400);
    const struct civil civil = civil_from_days(day);
    char buffer[64];
    struct text text = TEXT(buffer);

    text_puts(&text, days[day % 7]);
    text_puts(&text, ", ");
    text_number(&text, civil.day);
    text_putc(&text, ' ');
    text_puts(&text, months[civil.month]);
    text_putc(&text, ' ');
    text_digits(&text, (uint64_t)civil.year, 4);
    text_putc(&text, ' ');
    text_digits(&text, rest / 3600, 2);
    text_putc(&text, ':');
    text_digits(&text, rest / 60 % 60, 2);
    text_putc(&text, ':');
    text_digits(&text, rest % 60, 2);
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
