/* Lines of the log, read again. */
#include <stdlib.h>
#include <time.h>

#include "proxy/admin/transactions.h"
#include "proxy/wire/record.h"

/* ---- a line ---- */

/* What follows a backslash in the text format; bytes that were no text become U+FFFD. */
static struct span put_escape(struct span rest, struct text *out)
{
    const char c = rest.ptr[0];
    if (c == 'x' && rest.len >= 3) {
        const unsigned byte = (unsigned)(ascii_hex(rest.ptr[1]) * 16 + ascii_hex(rest.ptr[2]));
        if (byte < 0x80) {
            text_putc(out, (char)byte);
        } else {
            text_puts(out, "\xef\xbf\xbd");
        }
        return span_skip(rest, 3);
    }
    text_putc(out, c == 'n' ? '\n' : c == 'r' ? '\r' : c == 't' ? '\t' : c);
    return span_skip(rest, 1);
}

/* Takes a value and the blank behind it; without quotes it ends there, with quotes at the second.
 */
static struct span take_value(struct span rest, struct text *out)
{
    if (rest.len == 0 || rest.ptr[0] != '"') {
        const size_t end = span_find(rest, ' ');
        text_put(out, span_first(rest, end));
        return span_skip(rest, end + 1);
    }
    rest = span_skip(rest, 1);
    while (rest.len > 0 && rest.ptr[0] != '"') {
        const char c = rest.ptr[0];
        rest = span_skip(rest, 1);
        if (c == '\\' && rest.len > 0) {
            rest = put_escape(rest, out);
        } else {
            text_putc(out, c);
        }
    }
    return span_skip(rest, 2);
}

/* "time level key=value key="value" …" as the object that the JSON format has for it, all strings.
 */
static json_t *text_object(struct span line)
{
    char value[3 * RECORD_MAX], key[64];
    json_t *object = json_object();
    json_object_set_new(object, "time", json_stringn(line.ptr, span_find(line, ' ')));
    line = span_skip(line, span_find(line, ' ') + 1);
    line = span_skip(line, span_find(line, ' ') + 1);
    while (line.len > 0) {
        const size_t equals = span_find(line, '=');
        struct text name = TEXT(key), text = TEXT(value);
        text_put(&name, span_first(line, equals));
        line = take_value(span_skip(line, equals + 1), &text);
        json_object_set_new(object, key, json_stringn(value, text.len));
    }
    return object;
}

static json_t *line_object(struct span line)
{
    return line.len > 0 && line.ptr[0] == '{' ? json_loadb(line.ptr, line.len, 0, NULL)
                                              : text_object(line);
}

/* ---- members ---- */

static struct span member(const json_t *line, const char *key)
{
    const json_t *value = json_object_get(line, key);
    return json_is_string(value) ? span_make(json_string_value(value), json_string_length(value))
                                 : SPAN("");
}

/* An empty one, too, is null where it means that there is none. */
static json_t *copy_or_null(const json_t *line, const char *key)
{
    return json_is_string(json_object_get(line, key)) ? json_incref(json_object_get(line, key))
                                                      : json_null();
}

static json_t *number(const json_t *line, const char *key)
{
    unsigned long long n = 0;
    if (json_is_integer(json_object_get(line, key))) {
        return json_incref(json_object_get(line, key));
    }
    return span_number(member(line, key), INT64_MAX, &n) ? json_integer((json_int_t)n)
                                                         : json_null();
}

static json_t *time_of(const json_t *line)
{
    const json_t *text = json_object_get(line, "time");
    struct tm parts = {0};
    if (!json_is_string(text) ||
        strptime(json_string_value(text), "%Y-%m-%dT%H:%M:%S", &parts) == NULL) {
        return json_null();
    }
    return json_integer((json_int_t)timegm(&parts));
}

/* "TLSv1.3 TLS_AES_256_GCM_SHA384": the version. */
static json_t *tls_of(const json_t *line)
{
    const struct span tls = member(line, "tls");
    return tls.len > 0 ? json_stringn(tls.ptr, span_find(tls, ' ')) : json_null();
}

/* ---- recipients ---- */

/* Where the address at the front of an entry ends, at its equals sign: local parts may hold some
 * themselves, and anything at all in quotes. */
static size_t address_length(struct span entry)
{
    size_t at = 0;
    if (entry.len > 0 && entry.ptr[0] == '"') {
        for (at = 1; at < entry.len && entry.ptr[at] != '"'; at++) {
            at += entry.ptr[at] == '\\';
        }
    }
    const struct span rest = span_skip(entry, at);
    const size_t sign = span_find(rest, '@');
    const size_t start = sign < span_find(rest, ';') ? sign : 0; /* postmaster has no domain */
    return at + start + span_find(span_skip(rest, start), '=');
}

/* "user@example.com=local(fallback):250/accepted" */
static json_t *recipient_json(struct span address, struct span fate)
{
    const size_t colon = span_rfind(fate, ':');
    const struct span relay = span_first(fate, colon), reply = span_skip(fate, colon + 1);
    return json_pack("{s:o, s:o, s:o}", "address", json_stringn(address.ptr, address.len), "relay",
                     span_equal(relay, SPAN("discard")) ? json_null()
                                                        : json_stringn(relay.ptr, relay.len),
                     "reply", json_stringn(reply.ptr, reply.len));
}

static void add_recipients(const json_t *line, json_t *to)
{
    json_t *list = json_array();
    size_t more = 0;
    for (struct span rest = member(line, "recipients"); rest.len > 0;) {
        const size_t length = address_length(rest);
        const struct span address = span_first(rest, length);
        rest = span_skip(rest, length + 1);
        const struct span fate = span_first(rest, span_find(rest, ';'));
        rest = span_skip(rest, fate.len + 1);
        if (json_array_size(list) < TRANSACTIONS_RECIPIENTS) {
            json_array_append_new(list, recipient_json(address, fate));
        } else {
            more++;
        }
    }
    json_object_set_new(to, "recipients", list);
    json_object_set_new(to, "more_recipients", json_integer((json_int_t)more));
}

/* What both kinds have, and what they call by the log's own name. */
static json_t *object_with(const json_t *line, const char *const *same, size_t count)
{
    json_t *out = json_object();
    json_object_set_new(out, "at", time_of(line));
    json_object_set_new(out, "client_name", copy_or_null(line, "name"));
    for (size_t i = 0; i < count; i++) {
        json_object_set_new(out, same[i], copy_or_null(line, same[i]));
    }
    return out;
}

static json_t *transaction_json(const json_t *line)
{
    static const char *const same[] = {"session", "id", "client", "helo", "outcome", "reply"};
    json_t *out = object_with(line, same, sizeof same / sizeof same[0]);
    json_object_set_new(out, "tls", tls_of(line));
    json_object_set_new(out, "from", copy_or_null(line, "sender"));
    json_object_set_new(out, "size", number(line, "size"));
    json_object_set_new(out, "ms", number(line, "ms"));
    add_recipients(line, out);
    return out;
}

static json_t *refusal_json(const json_t *line)
{
    static const char *const same[] = {"session",   "id",    "client", "helo",
                                       "recipient", "relay", "reply"};
    return object_with(line, same, sizeof same / sizeof same[0]);
}

json_t *transactions_json(const char *lines, enum transactions_kind kind)
{
    json_t *list = json_array();
    for (struct span rest = span_of(lines != NULL ? lines : ""); rest.len > 0;) {
        const struct span text = span_first(rest, span_find(rest, '\n'));
        json_t *line = line_object(text);
        rest = span_skip(rest, text.len + 1);
        if (line != NULL) {
            json_array_append_new(list, kind == TRANSACTIONS_ALL ? transaction_json(line)
                                                                 : refusal_json(line));
        }
        json_decref(line);
    }
    return list;
}
