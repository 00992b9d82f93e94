#include "proxy/wire/command.h"

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static bool is_control(char c)
{
    return (unsigned char)c < 0x20 || c == 0x7f;
}

static bool is_alnum(char c)
{
    const char lower = ascii_lower(c);
    return (c >= '0' && c <= '9') || (lower >= 'a' && lower <= 'z');
}

static struct span skip_blanks(struct span s)
{
    while (s.len > 0 && is_blank(s.ptr[0])) {
        s = span_skip(s, 1);
    }
    return s;
}

/* The bytes before the first blank. */
static struct span first_word(struct span s)
{
    size_t len = 0;
    while (len < s.len && !is_blank(s.ptr[len])) {
        len++;
    }
    return span_first(s, len);
}

/* A record of the handshake, of any version: no command begins like that. */
#define TLS_RECORD SPAN("\x16\x03")

enum line_status line_take(struct line_reader *reader, struct span input, struct span *line,
                           size_t *consumed)
{
    *line = span_make(input.ptr, 0);
    *consumed = 0;
    if (!reader->skipping && span_starts_fold(input, TLS_RECORD)) {
        *consumed = TLS_RECORD.len;
        return LINE_TLS;
    }
    const struct span window = reader->skipping ? input : span_first(input, COMMAND_LINE_MAX);
    const size_t end = span_find(window, '\n');

    if (end == window.len) {
        reader->skipping = reader->skipping || input.len >= COMMAND_LINE_MAX;
        *consumed = reader->skipping ? window.len : 0;
        if (!reader->skipping || window.len == input.len) {
            return LINE_MORE;
        }
        size_t more;
        const enum line_status status =
            line_take(reader, span_skip(input, window.len), line, &more);
        *consumed += more;
        return status;
    }
    *consumed = end + 1;
    if (reader->skipping) {
        reader->skipping = false;
        return LINE_TOO_LONG;
    }
    const struct span text = span_first(input, end > 0 ? end - 1 : 0);
    if (end == 0 || input.ptr[end - 1] != '\r' || span_find(text, '\r') < text.len) {
        return LINE_BARE_LF;
    }
    if (span_find(text, '\0') < text.len) {
        return LINE_NUL;
    }
    *line = text;
    return LINE_OK;
}

static bool is_http_version(struct span word)
{
    const struct span digit = span_skip(word, 5);
    return span_starts_fold(word, SPAN("HTTP/")) && digit.len > 0 && digit.ptr[0] >= '0' &&
           digit.ptr[0] <= '9';
}

/*
 * A browser can be made to send a request here whose body holds SMTP commands; its first line or
 * its header fields give it away before the body comes. No SMTP command is called like a method of
 * HTTP, ends with HTTP's version or begins with it, nor holds a colon in its first word; "MAIL" and
 * "RCPT" written together with what follows (RCPTTO:<…>) are a mail client's mistake.
 */
static bool is_http(struct span word, struct span argument)
{
    static const char *const methods[] = {"GET",     "POST",   "PUT",   "HEAD",  "OPTIONS",
                                          "CONNECT", "DELETE", "TRACE", "PATCH", "PRI"};
    const size_t colon = span_find(word, ':');
    size_t last = argument.len; /* where the last word begins */

    while (last > 0 && !is_blank(argument.ptr[last - 1])) {
        last--;
    }
    if (is_http_version(word) || is_http_version(span_skip(argument, last))) {
        return true;
    }
    if (colon > 0 && colon < word.len) {
        return !span_starts_fold(span_skip(word, colon + 1), SPAN("<"));
    }
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        if (span_equal_fold(word, span_of(methods[i]))) {
            return true;
        }
    }
    return false;
}

struct command command_parse(struct span line)
{
    static const struct {
        const char *word;
        enum command_verb verb;
    } verbs[] = {
        {"HELO", VERB_HELO}, {"EHLO", VERB_EHLO}, {"STARTTLS", VERB_STARTTLS}, {"MAIL", VERB_MAIL},
        {"RCPT", VERB_RCPT}, {"DATA", VERB_DATA}, {"RSET", VERB_RSET},         {"NOOP", VERB_NOOP},
        {"VRFY", VERB_VRFY}, {"HELP", VERB_HELP}, {"QUIT", VERB_QUIT},
    };
    const struct span word = first_word(line);
    struct command command = {VERB_UNKNOWN, span_trim(span_skip(line, word.len))};

    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++) {
        if (span_equal_fold(word, span_of(verbs[i].word))) {
            command.verb = verbs[i].verb;
            return command;
        }
    }
    if (is_http(word, command.argument)) {
        command.verb = VERB_HTTP;
    }
    return command;
}

bool helo_valid(struct span argument)
{
    if (argument.len == 0 || argument.len > 255) {
        return false;
    }
    for (size_t i = 0; i < argument.len; i++) {
        if (argument.ptr[i] <= ' ' || argument.ptr[i] >= 0x7f) {
            return false;
        }
    }
    return true;
}

/*
 * Takes "<path>" off the front of *rest. Quoting follows RFC 5321 4.1.2: inside quotes a backslash
 * takes the next byte as it is, and '>' and spaces mean nothing. Control bytes are refused
 * everywhere.
 */
static bool path_take(struct span *rest, struct span *path)
{
    bool quoted = false;

    if (rest->len == 0 || rest->ptr[0] != '<') {
        return false;
    }
    for (size_t at = 1; at < rest->len; at++) {
        const char c = rest->ptr[at];
        if (is_control(c)) {
            return false;
        }
        if (c == '"') {
            quoted = !quoted;
        } else if (quoted && c == '\\') {
            at++;
            if (at == rest->len || is_control(rest->ptr[at])) {
                return false;
            }
        } else if (!quoted && (c == ' ' || c == '<')) {
            return false;
        } else if (!quoted && c == '>') {
            *path = span_make(rest->ptr + 1, at - 1);
            *rest = span_skip(*rest, at + 1);
            return true;
        }
    }
    return false;
}

/* "FROM:" or "TO:" with the path behind it; *rest is what follows, which begins with a blank if not
 * empty. */
static bool argument_take(struct span argument, struct span word, struct span *path,
                          struct span *rest)
{
    if (!span_starts_fold(argument, word)) {
        return false;
    }
    *rest = skip_blanks(span_skip(argument, word.len));
    return path_take(rest, path) && (rest->len == 0 || is_blank(rest->ptr[0]));
}

struct parameter {
    struct span keyword;
    struct span value;
    bool has_value;
};

/* One esmtp-param of RFC 5321 4.1.2. */
static bool parameter_parse(struct span word, struct parameter *out)
{
    const size_t equals = span_find(word, '=');
    out->keyword = span_first(word, equals);
    out->has_value = equals < word.len;
    out->value = span_skip(word, equals + 1);

    if (equals == 0 || !is_alnum(word.ptr[0])) {
        return false;
    }
    for (size_t i = 1; i < equals; i++) {
        if (!is_alnum(word.ptr[i]) && word.ptr[i] != '-') {
            return false;
        }
    }
    for (size_t i = 0; i < out->value.len; i++) {
        if (is_control(out->value.ptr[i]) || out->value.ptr[i] == '=') {
            return false;
        }
    }
    return !out->has_value || out->value.len > 0;
}

/* RFC 1870: 1 to 20 digits. What does not fit 64 bits is as good as the largest: no limit lets it
 * pass. */
static bool size_parse(struct span digits, uint64_t *out)
{
    uint64_t size = 0;

    if (digits.len == 0 || digits.len > 20) {
        return false;
    }
    for (size_t i = 0; i < digits.len; i++) {
        if (digits.ptr[i] < '0' || digits.ptr[i] > '9') {
            return false;
        }
        const uint64_t digit = (uint64_t)(digits.ptr[i] - '0');
        size = size > (UINT64_MAX - digit) / 10 ? UINT64_MAX : size * 10 + digit;
    }
    *out = size;
    return true;
}

static enum parse_status mail_parameter(const struct parameter *parameter, bool *size_given,
                                        struct mail_command *out)
{
    if (span_equal_fold(parameter->keyword, SPAN("SIZE"))) {
        const bool again = *size_given;
        *size_given = true;
        return !again && size_parse(parameter->value, &out->size) ? PARSE_OK : PARSE_VALUE;
    }
    if (span_equal_fold(parameter->keyword, SPAN("BODY"))) {
        const bool again = out->body_given;
        out->body_given = true;
        out->body_8bit = span_equal_fold(parameter->value, SPAN("8BITMIME"));
        return !again && (out->body_8bit || span_equal_fold(parameter->value, SPAN("7BIT")))
                   ? PARSE_OK
                   : PARSE_VALUE;
    }
    if (span_equal_fold(parameter->keyword, SPAN("SMTPUTF8"))) {
        const bool again = out->smtputf8;
        out->smtputf8 = true;
        return !again && !parameter->has_value ? PARSE_OK : PARSE_VALUE;
    }
    return PARSE_PARAMETER;
}

/* The next parameter off the front of *rest; false at the end. */
static bool word_take(struct span *rest, struct span *word)
{
    *rest = skip_blanks(*rest);
    *word = first_word(*rest);
    *rest = span_skip(*rest, word->len);
    return word->len > 0;
}

enum parse_status mail_parse(struct span argument, struct mail_command *out)
{
    struct span rest, word;
    bool size_given = false;

    *out = (struct mail_command){.path = {argument.ptr, 0}};
    if (!argument_take(argument, SPAN("FROM:"), &out->path, &rest)) {
        return PARSE_SYNTAX;
    }
    while (word_take(&rest, &word)) {
        struct parameter parameter;
        const enum parse_status status = parameter_parse(word, &parameter)
                                             ? mail_parameter(&parameter, &size_given, out)
                                             : PARSE_SYNTAX;
        if (status != PARSE_OK) {
            out->wrong = parameter.keyword;
            return status;
        }
    }
    return PARSE_OK;
}

enum parse_status rcpt_parse(struct span argument, struct rcpt_command *out)
{
    struct span rest, word;
    struct parameter parameter;

    *out = (struct rcpt_command){.path = {argument.ptr, 0}};
    if (!argument_take(argument, SPAN("TO:"), &out->path, &rest)) {
        return PARSE_SYNTAX;
    }
    if (!word_take(&rest, &word)) {
        return PARSE_OK;
    }
    return parameter_parse(word, &parameter) ? PARSE_PARAMETER : PARSE_SYNTAX;
}
