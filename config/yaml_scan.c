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
#define STAY        16  /* keys that libyaml reads at least, for to begin again costs several */

/* In front of what libyaml reads when it begins again, and its events. */
#define LEAD        "a: b\n"
#define LEAD_EVENTS 5

enum source {
    SOURCE_LIBYAML,
    SOURCE_LINES, /* at the begin of a line */
    SOURCE_VALUE, /* the key of a line was given */
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
    unsigned keys;      /* it has read at the root */
    int read_errno;

    /* Up to where the lines are known; what follows is cut from there. */
    uint64_t at;
    size_t line;
    struct span value; /* of the line whose key was given */
    size_t value_column;
    size_t value_line;

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

struct plain_line {
    size_t key_len, value_from, value_len;
};

/* Whether the text begins with a line that is to be cut. */
static bool is_plain(struct span text, struct plain_line *out)
{
    const char *p = text.ptr, *end = text.ptr + (text.len < LINE_MOST ? text.len : LINE_MOST);
    if (p == end || !is_letter(p, LETTER_FIRST)) {
        return false;
    }
    while (p < end && is_letter(p, LETTER_KEY)) {
        p++;
    }
    out->key_len = (size_t)(p - text.ptr);
    if (end - p < 4 || p[0] != ':' || p[1] != ' ') {
        return false;
    }
    for (p += 2; p < end && *p == ' '; p++) {
        continue;
    }
    const char *value = p;
    if (p == end || !is_letter(p, LETTER_FIRST)) {
        return false;
    }
    while (p < end && is_letter(p, LETTER_VALUE)) {
        p++;
    }
    out->value_from = (size_t)(value - text.ptr);
    out->value_len = (size_t)(p - value);
    return end - p >= 2 && p[0] == '\n' && p[-1] != ':' && is_ink(p + 1);
}

static void give(struct yaml_scan *scan, struct span text, size_t line, size_t column)
{
    yaml_mark_t begin = {.line = line, .column = column};
    yaml_mark_t end = {.line = line, .column = column + text.len};
    scan->is_cut = true;
    scan->event = (yaml_event_t){
        .type = YAML_SCALAR_EVENT,
        .data.scalar = {.value = (yaml_char_t *)(uintptr_t)text.ptr,
                        .length = text.len,
                        .plain_implicit = 1,
                        .style = YAML_PLAIN_SCALAR_STYLE},
        .start_mark = begin,
        .end_mark = end,
    };
}

/* Gives the key of the line at hand, if it is a plain one. */
static bool cut(struct yaml_scan *scan)
{
    struct plain_line plain;
    struct span text = look(scan);
    if (!is_plain(text, &plain)) {
        return false;
    }
    char *line = scan->block + (scan->at - scan->block_at);
    line[plain.key_len] = '\0';
    line[plain.value_from + plain.value_len] = '\0';
    give(scan, span_make(line, plain.key_len), scan->line, 0);
    scan->value = span_make(line + plain.value_from, plain.value_len);
    scan->value_column = plain.value_from;
    scan->value_line = scan->line;
    scan->at += plain.value_from + plain.value_len + 1;
    scan->line++;
    scan->source = SOURCE_VALUE;
    return true;
}

/* libyaml ends lines at these as well (YAML 1.1, 4.2): CR, NEL, LS, PS. */
static bool has_other_breaks(struct span text)
{
    return span_find(text, '\r') < text.len || memmem(text.ptr, text.len, "\xc2\x85", 2) ||
           memmem(text.ptr, text.len, "\xe2\x80\xa8", 3) ||
           memmem(text.ptr, text.len, "\xe2\x80\xa9", 3);
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
        give(scan, scan->value, scan->value_line, scan->value_column);
        scan->source = SOURCE_LINES;
        return true;
    case SOURCE_LINES:
        if (cut(scan)) {
            return true;
        }
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
    if (!follow(scan) || ++scan->keys < STAY || !scan->may_cut ||
        !reach(scan, scan->event.start_mark.line)) {
        return true;
    }
    yaml_event_t key = scan->event;
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
