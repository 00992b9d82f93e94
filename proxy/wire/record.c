#include "proxy/wire/record.h"

#include "proxy/wire/utf8.h"

static const struct span ellipsis = {"\xe2\x80\xa6", 3};

void record_begin(struct record *record, enum config_log_format format)
{
    record->format = format;
    record->text = TEXT(record->buffer);
}

/* Letters, digits and "._:/@+,;<>()-". */
static bool is_plain_char(char c)
{
    const char lower = (char)(c | 0x20);
    return (lower >= 'a' && lower <= 'z') || (c >= '+' && c <= '<') || c == '>' || c == '@' ||
           c == '_' || c == '(' || c == ')';
}

static bool is_plain(struct span value)
{
    for (size_t i = 0; i < value.len; i++) {
        if (!is_plain_char(value.ptr[i])) {
            return false;
        }
    }
    return value.len > 0 && value.len <= RECORD_VALUE_MAX;
}

/* A control character or a byte that is no UTF-8. */
static void escape_bad(enum config_log_format format, struct span bytes, size_t valid,
                       struct text *out)
{
    switch (format) {
    case LOG_TEXT:
        for (size_t i = 0; i < bytes.len; i++) {
            text_printf(out, "\\x%02x", (unsigned char)bytes.ptr[i]);
        }
        break;
    case LOG_JSON:
        /* JSON has no bytes: U+FFFD stands for one that is no character. */
        text_printf(out, "\\u%04x", valid > 0 ? utf8_code(bytes.ptr, bytes.len) : 0xfffdu);
        break;
    }
}

/* The character at the front of value as it is written; *used: how many bytes it took. */
static struct span escape(enum config_log_format format, struct span value, size_t *used,
                          struct text *out)
{
    const size_t valid = utf8_length(value);
    const char c = value.ptr[0];

    *used = valid > 0 ? valid : 1;
    if (c == '"' || c == '\\') {
        text_putc(out, '\\');
        text_putc(out, c);
    } else if (c == '\n' || c == '\r' || c == '\t') {
        text_puts(out, c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t");
    } else if (valid == 0 || utf8_is_control(utf8_code(value.ptr, valid))) {
        escape_bad(format, span_first(value, *used), valid, out);
    } else {
        text_put(out, span_first(value, valid));
    }
    return text_span(out);
}

/* Separator and key. False when there is no room for them and the shortest value: the pair is left
 * out. */
static bool put_key(struct record *record, const char *key, size_t value_len)
{
    const struct span name = span_of(key);
    const size_t around = record->format == LOG_JSON ? sizeof ",\"\":" - 1 : sizeof " =" - 1;

    if (record->text.len + around + name.len + value_len >= record->text.cap) {
        return false;
    }
    if (record->text.len > 0) {
        text_putc(&record->text, record->format == LOG_JSON ? ',' : ' ');
    }
    switch (record->format) {
    case LOG_TEXT:
        text_put(&record->text, name);
        text_putc(&record->text, '=');
        break;
    case LOG_JSON:
        text_putc(&record->text, '"');
        text_put(&record->text, name);
        text_puts(&record->text, "\":");
        break;
    }
    return true;
}

/* Characters at the front that are written as they are. */
static size_t unescaped(struct span value)
{
    size_t plain = utf8_printable(value);
    for (size_t i = 0; i < plain; i++) {
        if (value.ptr[i] == '"' || value.ptr[i] == '\\') {
            return i;
        }
    }
    return plain;
}

/* With its quotes; whole escapes only, and the mark of a cut while there is room for it. */
static void put_quoted(struct record *record, struct span value)
{
    struct text *text = &record->text;
    /* Room for the closing quote and the NUL stays. */
    const size_t room = text->cap - text->len - 3;
    const size_t limit = text->len + 1 + (room < RECORD_VALUE_MAX ? room : RECORD_VALUE_MAX);

    text_putc(text, '"');
    while (value.len > 0) {
        const size_t plain = unescaped(value);
        if (plain > 0 && text->len + plain + ellipsis.len <= limit) {
            text_put(text, span_first(value, plain));
            value = span_skip(value, plain);
            continue;
        }
        char buffer[16];
        struct text escaped = TEXT(buffer);
        size_t used;
        const struct span unit = escape(record->format, value, &used, &escaped);
        const struct span rest = span_skip(value, used);
        const size_t need = unit.len + (rest.len > 0 ? ellipsis.len : 0);
        if (text->len + need > limit) {
            text_put(text, ellipsis);
            break;
        }
        text_put(text, unit);
        value = rest;
    }
    text_putc(text, '"');
}

void record_span(struct record *record, const char *key, struct span value)
{
    const bool plain = record->format == LOG_TEXT && is_plain(value);

    if (!put_key(record, key, ellipsis.len + 2)) {
        return;
    }
    if (plain && record->text.len + value.len < record->text.cap) {
        text_put(&record->text, value);
    } else {
        put_quoted(record, value);
    }
}

void record_str(struct record *record, const char *key, const char *value)
{
    record_span(record, key, value == NULL ? SPAN("") : span_of(value));
}

void record_number(struct record *record, const char *key, uint64_t value)
{
    const size_t digits_max = 20;

    if (put_key(record, key, digits_max)) {
        text_number(&record->text, value);
    }
}

struct span record_end(struct record *record)
{
    return text_span(&record->text);
}
