#include "config/yaml_line.h"

#include <stdint.h>

enum letter {
    LETTER_FIRST = 1, /* begins a key or a value */
    LETTER_KEY = 2,   /* goes on in a key */
    LETTER_VALUE = 4, /* goes on in a value */
};

#define LETTER_WORD (LETTER_KEY | LETTER_VALUE)
#define LETTER_ALL  (LETTER_FIRST | LETTER_WORD)

static const unsigned char letters[256] = {
    ['a' ... 'z'] = LETTER_ALL, ['A' ... 'Z'] = LETTER_ALL, ['0' ... '9'] = LETTER_ALL,
    ['_'] = LETTER_ALL,         ['.'] = LETTER_ALL,         ['+'] = LETTER_WORD,
    ['-'] = LETTER_WORD,        ['='] = LETTER_WORD,        ['@'] = LETTER_WORD,
    [','] = LETTER_VALUE,       ['/'] = LETTER_VALUE,       [':'] = LETTER_VALUE,
    ['['] = LETTER_VALUE,       [']'] = LETTER_VALUE,
};

static bool is_letter(const char *p, enum letter letter)
{
    return (letters[(unsigned char)*p] & letter) != 0;
}

/* In column 0 it ends what stands on the lines above. */
static bool is_ink(const char *p)
{
    return *p > ' ' && *p <= '~';
}

/* Up to the quote that ends it. What means something in quotes is not for us: a backslash, a quote
 * that is written twice (then no colon or line feed follows), the end of the line. */
static const char *pass_quoted(const char *p, const char *end)
{
    const char quote = *p++;
    while (p < end && *p >= ' ' && *p <= '~' && *p != quote && *p != '\\') {
        p++;
    }
    return p < end && *p == quote ? p + 1 : NULL;
}

/* Blanks are inside where a letter follows; behind a colon they would make a mapping of it. */
static const char *pass_plain(const char *p, const char *end, enum letter letter)
{
    const char *behind = p;
    if (p == end || !is_letter(p, LETTER_FIRST)) {
        return NULL;
    }
    while (p < end &&
           (is_letter(p, letter) || (letter == LETTER_VALUE && *p == ' ' && p[-1] != ':'))) {
        behind = *p != ' ' ? p + 1 : behind;
        p++;
    }
    return p == behind && p[-1] != ':' ? p : NULL;
}

static bool pass(const char *p, const char *end, enum letter letter, struct yaml_line_scalar *out)
{
    bool quoted = p < end && (*p == '"' || *p == '\'');
    out->begin = p;
    out->end = quoted ? pass_quoted(p, end) : pass_plain(p, end, letter);
    if (!out->end) {
        return false;
    }
    size_t len = (size_t)(out->end - p);
    out->words = quoted ? span_make(p + 1, len - 2) : span_make(p, len);
    out->style = !quoted     ? YAML_PLAIN_SCALAR_STYLE
                 : *p == '"' ? YAML_DOUBLE_QUOTED_SCALAR_STYLE
                             : YAML_SINGLE_QUOTED_SCALAR_STYLE;
    return true;
}

/* How many bytes the character of a comment has; 0: it is not one that we know. Of two bytes are
 * the letters that most comments in Europe need, U+00C0 to U+07FF in UTF-8, all printable. */
static size_t comment_step(const char *p, const char *end)
{
    if (p == end || is_ink(p) || *p == ' ') {
        return p < end;
    }
    bool two = (unsigned char)*p >= 0xc3 && (unsigned char)*p <= 0xdf;
    return two && end - p > 1 && (p[1] & 0xc0) == 0x80 ? 2 : 0;
}

/* Over empty lines and comments, which are counted, to what begins in column 0. */
static const char *pass_comments(const char *p, const char *end, size_t *lines)
{
    for (; p < end && (*p == '\n' || *p == '#'); p++, (*lines)++) {
        for (size_t step = 1; step > 0; p += step) {
            step = comment_step(p, end);
        }
        if (p == end || *p != '\n') {
            return NULL;
        }
    }
    return p < end && is_ink(p) ? p : NULL;
}

bool yaml_line_read(struct span text, struct yaml_line *line)
{
    const char *end = text.ptr + (text.len < YAML_LINE_MOST ? text.len : YAML_LINE_MOST);
    if (!pass(text.ptr, end, LETTER_KEY, &line->key) || end - line->key.end < 2 ||
        line->key.end[0] != ':' || line->key.end[1] != ' ') {
        return false;
    }
    const char *p = line->key.end + 2;
    while (p < end && *p == ' ') {
        p++;
    }
    if (!pass(p, end, LETTER_VALUE, &line->value) || line->value.end == end ||
        *line->value.end != '\n') {
        return false;
    }
    line->lines = 1;
    line->next = pass_comments(line->value.end + 1, end, &line->lines);
    return line->next != NULL;
}
