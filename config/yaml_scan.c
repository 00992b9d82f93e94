#include "config/yaml_scan.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "config/span.h"

/* libyaml keeps a scalar whole, however long: a quote that is never closed may not fill the memory.
 * Comments between two entries count too, hence the generous bound. */
#define ENTRY_BYTES (64u << 20)
#define BLOCK       ((size_t)64 << 10) /* read from the file at a time, for cutting */
#define LINE_MOST   1000               /* libyaml takes no key that is longer than 1024 */
#define FEED_FIRST  512 /* bytes that libyaml is given first: it may be needed for one line only */
/* Keys that libyaml reads before it is left: to begin again costs several. The more so the more
 * often it was for nothing. */
#define STAY_LEAST 16
#define STAY_MOST  1024

/* In front of what libyaml reads when it begins again, and its events. */
#define LEAD        "a: b\n"
#define LEAD_EVENTS 5

enum source {
    SOURCE_LIBYAML,
    SOURCE_LINES, /* at the begin of a line */
    SOURCE_VALUE, /* the key of a line was given */
};

/* A scalar on a line: where it begins and ends, and of that the words without quotes. */
struct cut_scalar {
    const char *begin, *end;
    struct span words;
    yaml_scalar_style_t style;
};

struct yaml_scan {
    int fd;
    enum source source;
    yaml_event_t event;
    bool is_cut; /* event: libyaml knows nothing of it */

    /* The document so far. */
    size_t depth;
    bool value_next; /* at depth 1: a key was given */
    bool may_cut;    /* the root is a block mapping in UTF-8, and its lines end as ours do */

    yaml_parser_t parser;
    bool has_parser;
    uint64_t
        parser_at; /* offset and line in the file of its own offset 0 and line 0, which may be */
    size_t parser_line; /*   before the begin of the file: unsigned numbers come round again */
    struct span lead;   /* what is left to be read of it */
    unsigned unheard;   /* events of the lead to come */
    size_t feed;
    uint64_t fed;       /* offset in the file of what it reads next */
    size_t entry_bytes; /* read since the last event */
    unsigned keys;      /* it has read at the root, */
    unsigned stay;      /*   and is to read before it is left */
    int read_errno;

    /* Up to where the lines are known; what follows is cut from there. */
    uint64_t at;
    size_t line;
    uint64_t key_at; /* where the line is whose key was given */
    size_t key_line;
    struct cut_scalar value; /* and its value */
    unsigned cut_keys;       /* since libyaml was left */

    char *block; /* BLOCK bytes, of the file from block_at on */
    uint64_t block_at;
    size_t block_used;
};

/* ---- libyaml ---- */

static size_t read_at(struct yaml_scan *scan, void *out, size_t len, uint64_t at)
{
    ssize_t n;
    do {
        n = pread(scan->fd, out, len, (off_t)at);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        scan->read_errno = errno;
        return 0;
    }
    return (size_t)n;
}

static int feed(void *data, unsigned char *buffer, size_t size, size_t *got)
{
    struct yaml_scan *scan = data;
    if (scan->lead.len > 0) {
        *got = scan->lead.len < size ? scan->lead.len : size;
        memcpy(buffer, scan->lead.ptr, *got);
        scan->lead = span_skip(scan->lead, *got);
        return 1;
    }
    scan->read_errno = 0;
    *got = read_at(scan, buffer, scan->feed < size ? scan->feed : size, scan->fed);
    scan->feed = scan->feed < BLOCK ? 2 * scan->feed : scan->feed;
    scan->fed += *got;
    scan->entry_bytes += *got;
    if (scan->entry_bytes > ENTRY_BYTES) {
        scan->read_errno = EFBIG;
    }
    return scan->read_errno == 0;
}

static void parser_end(struct yaml_scan *scan)
{
    if (scan->has_parser) {
        yaml_parser_delete(&scan->parser);
    }
    scan->has_parser = false;
}

/* libyaml reads from `at` on, behind the lead. */
static bool parser_begin(struct yaml_scan *scan, struct span lead)
{
    parser_end(scan);
    scan->has_parser = yaml_parser_initialize(&scan->parser) == 1;
    if (!scan->has_parser) {
        return false;
    }
    yaml_parser_set_input(&scan->parser, feed, scan);
    scan->lead = lead;
    scan->unheard = lead.len > 0 ? LEAD_EVENTS : 0;
    scan->parser_at = scan->at - lead.len;
    scan->parser_line = scan->line - (lead.len > 0);
    scan->fed = scan->at;
    scan->feed = FEED_FIRST;
    scan->keys = 0;
    scan->source = SOURCE_LIBYAML;
    return true;
}

static void event_drop(struct yaml_scan *scan)
{
    if (!scan->is_cut) {
        yaml_event_delete(&scan->event);
    }
    scan->is_cut = false;
    scan->event = (yaml_event_t){.type = YAML_NO_EVENT};
}

struct yaml_scan *yaml_scan_new(int fd)
{
    struct yaml_scan *scan = calloc(1, sizeof(*scan));
    if (!scan) {
        return NULL;
    }
    scan->fd = fd;
    scan->stay = STAY_LEAST;
    scan->block = malloc(BLOCK);
    if (!scan->block || !parser_begin(scan, SPAN(""))) {
        yaml_scan_free(scan);
        return NULL;
    }
    return scan;
}

void yaml_scan_free(struct yaml_scan *scan)
{
    if (!scan) {
        return;
    }
    event_drop(scan);
    parser_end(scan);
    free(scan->block);
    free(scan);
}

/* ---- lines ---- */

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

/* The bytes of the file from `at` on that are at hand: at least a line's and one more, or all. */
static struct span look(struct yaml_scan *scan)
{
    uint64_t from = scan->at - scan->block_at;
    if (from + LINE_MOST + 1 > scan->block_used) {
        int saved = scan->read_errno;
        scan->block_used = read_at(scan, scan->block, BLOCK, scan->at);
        scan->block_at = scan->at;
        scan->read_errno = saved; /* it is libyaml's turn, then, and it will see */
        from = 0;
    }
    return span_make(scan->block + from, scan->block_used - (size_t)from);
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

static bool pass(const char *p, const char *end, enum letter letter, struct cut_scalar *out)
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

/* A line that is to be cut, and what follows it. */
struct cut_line {
    struct cut_scalar key, value;
    const char *next; /* begin of the next line that says something */
    size_t lines;     /* up to there */
};

/* Whether the text begins with such a line. */
static bool is_plain(struct span text, struct cut_line *line)
{
    const char *end = text.ptr + (text.len < LINE_MOST ? text.len : LINE_MOST);
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

static void give(struct yaml_scan *scan, const struct cut_scalar *scalar)
{
    const char *line = scan->block + (scan->key_at - scan->block_at);
    bool plain = scalar->style == YAML_PLAIN_SCALAR_STYLE;
    scan->is_cut = true;
    scan->event = (yaml_event_t){
        .type = YAML_SCALAR_EVENT,
        .data.scalar = {.value = (yaml_char_t *)(uintptr_t)scalar->words.ptr,
                        .length = scalar->words.len,
                        .plain_implicit = plain,
                        .quoted_implicit = !plain,
                        .style = scalar->style},
        .start_mark = {.line = scan->key_line, .column = (size_t)(scalar->begin - line)},
        .end_mark = {.line = scan->key_line, .column = (size_t)(scalar->end - line)},
    };
}

static void terminate(struct span words)
{
    ((char *)(uintptr_t)words.ptr)[words.len] = '\0';
}

/* Gives the key of the line at hand, if it is a plain one. */
static bool cut(struct yaml_scan *scan)
{
    struct cut_line line;
    struct span text = look(scan);
    if (!is_plain(text, &line)) {
        return false;
    }
    terminate(line.key.words);
    terminate(line.value.words);
    scan->value = line.value;
    scan->key_at = scan->at;
    scan->key_line = scan->line;
    scan->at += (uint64_t)(line.next - text.ptr);
    scan->line += line.lines;
    scan->cut_keys++;
    give(scan, &line.key);
    scan->source = SOURCE_VALUE;
    return true;
}

/* libyaml ends lines at these as well (YAML 1.1, 4.2): CR, NEL, LS, PS. */
static bool has_other_breaks(struct span text)
{
    return span_find(text, '\r') < text.len ||
           (span_find(text, '\xc2') < text.len && memmem(text.ptr, text.len, "\xc2\x85", 2)) ||
           (span_find(text, '\xe2') < text.len && (memmem(text.ptr, text.len, "\xe2\x80\xa8", 3) ||
                                                   memmem(text.ptr, text.len, "\xe2\x80\xa9", 3)));
}

/* Goes over lines that libyaml has read, to the begin of `line`. One that is longer than what is at
 * hand, or may be several to libyaml, ends all cutting: false. */
static bool reach(struct yaml_scan *scan, size_t line)
{
    while (scan->line < line) {
        struct span text = look(scan);
        size_t len = span_find(text, '\n');
        scan->may_cut = len < text.len && !has_other_breaks(span_first(text, len));
        if (!scan->may_cut) {
            return false;
        }
        scan->at += len + 1;
        scan->line++;
    }
    return true;
}

/* ---- events ---- */

/* Follows the document; true when the event is a key in column 0 of its root. */
static bool follow(struct yaml_scan *scan)
{
    const yaml_event_t *event = &scan->event;
    bool key = scan->depth == 1 && !scan->value_next;
    switch (event->type) {
    case YAML_NO_EVENT:
    case YAML_STREAM_END_EVENT:
    case YAML_DOCUMENT_END_EVENT:
        return false;
    case YAML_STREAM_START_EVENT:
        scan->may_cut = event->data.stream_start.encoding == YAML_UTF8_ENCODING;
        return false;
    case YAML_DOCUMENT_START_EVENT: /* directives hold as long as it does */
        scan->may_cut = scan->may_cut && !event->data.document_start.version_directive &&
                        event->data.document_start.tag_directives.start ==
                            event->data.document_start.tag_directives.end;
        return false;
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        scan->depth--;
        return false;
    case YAML_SEQUENCE_START_EVENT:
    case YAML_MAPPING_START_EVENT:
        scan->may_cut =
            scan->may_cut &&
            (scan->depth > 0 || (event->type == YAML_MAPPING_START_EVENT &&
                                 event->data.mapping_start.style == YAML_BLOCK_MAPPING_STYLE));
        scan->value_next = scan->depth == 1 ? key : scan->value_next;
        scan->depth++;
        return false;
    case YAML_ALIAS_EVENT:
    case YAML_SCALAR_EVENT:
        scan->value_next = scan->depth == 1 ? key : scan->value_next;
        return key && event->type == YAML_SCALAR_EVENT && event->start_mark.column == 0;
    }
    return false;
}

static bool parse(struct yaml_scan *scan)
{
    bool ok = yaml_parser_parse(&scan->parser, &scan->event) == 1;
    for (; ok && scan->unheard > 0; scan->unheard--) {
        yaml_event_delete(&scan->event);
        ok = yaml_parser_parse(&scan->parser, &scan->event) == 1;
    }
    if (!ok) {
        return false;
    }
    scan->event.start_mark.line += scan->parser_line;
    scan->event.end_mark.line += scan->parser_line;
    return true;
}

bool yaml_scan_next(struct yaml_scan *scan)
{
    event_drop(scan);
    scan->entry_bytes = 0;
    switch (scan->source) {
    case SOURCE_VALUE:
        give(scan, &scan->value);
        scan->source = SOURCE_LINES;
        return true;
    case SOURCE_LINES:
        if (cut(scan)) {
            return true;
        }
        scan->stay = scan->cut_keys >= scan->stay ? STAY_LEAST
                     : scan->stay < STAY_MOST     ? 2 * scan->stay
                                                  : STAY_MOST;
        if (!parser_begin(scan, SPAN(LEAD))) {
            return false;
        }
        break;
    case SOURCE_LIBYAML:
        break;
    }
    if (!parse(scan)) {
        return false;
    }
    if (!follow(scan) || ++scan->keys < scan->stay || !scan->may_cut ||
        !reach(scan, scan->event.start_mark.line)) {
        return true;
    }
    yaml_event_t key = scan->event;
    scan->cut_keys = 0;
    if (cut(scan)) {
        yaml_event_delete(&key);
        parser_end(scan);
        scan->value_next = false; /* for when libyaml is back */
    }
    return true;
}

const yaml_event_t *yaml_scan_event(const struct yaml_scan *scan)
{
    return &scan->event;
}

static yaml_mark_t place(const struct yaml_scan *scan, yaml_mark_t mark)
{
    mark.line += scan->parser_line;
    return mark;
}

struct yaml_scan_problem yaml_scan_problem(const struct yaml_scan *scan)
{
    const yaml_parser_t *parser = &scan->parser;
    if (!scan->has_parser) {
        return (struct yaml_scan_problem){.error = YAML_MEMORY_ERROR};
    }
    return (struct yaml_scan_problem){
        .error = parser->error,
        .problem = parser->problem,
        .has_context = parser->context != NULL,
        .mark = place(scan, parser->problem_mark),
        .context_mark = place(scan, parser->context_mark),
        .here = place(scan, parser->mark),
        .offset = parser->problem_offset + scan->parser_at,
        .value = parser->problem_value,
        .read_errno = scan->read_errno,
    };
}
