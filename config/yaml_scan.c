#include "config/yaml_scan.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "config/yaml_line.h"

/* libyaml keeps a scalar whole, however long: a quote that is never closed may not fill the memory.
 * Comments between two entries count too, hence the generous bound. */
#define ENTRY_BYTES (64u << 20)
#define BLOCK       ((size_t)64 << 10) /* read from the file at a time, for cutting */
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
    /* Where in the file its offset 0 and line 0 are: perhaps before the begin, as unsigned numbers.
     */
    uint64_t parser_at;
    size_t parser_line;
    struct span lead;   /* what is left to be read of it */
    unsigned unheard;   /* events of the lead to come */
    uint64_t fed;       /* offset in the file of what it reads next, */
    size_t feed;        /*   and how much it is given */
    size_t entry_bytes; /* read since the last event */
    unsigned keys;      /* it has read at the root, */
    unsigned stay;      /*   and is to read before it is left */
    int read_errno;

    /* Up to where the lines are known; what follows is cut from there. */
    uint64_t at;
    size_t line;
    unsigned cut_keys; /* since libyaml was left */
    uint64_t key_at;   /* of the line whose key was given, */
    size_t key_line;
    struct yaml_line_scalar value; /*   and whose value is next */

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

/* The bytes of the file from `at` on that are at hand: at least a line's and one more, or all. */
static struct span look(struct yaml_scan *scan)
{
    uint64_t from = scan->at - scan->block_at;
    if (from + YAML_LINE_MOST + 1 > scan->block_used) {
        int saved = scan->read_errno;
        scan->block_used = read_at(scan, scan->block, BLOCK, scan->at);
        scan->block_at = scan->at;
        scan->read_errno = saved; /* it is libyaml's turn, then, and it will see */
        from = 0;
    }
    return span_make(scan->block + from, scan->block_used - (size_t)from);
}

static void give(struct yaml_scan *scan, const struct yaml_line_scalar *scalar)
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
    struct yaml_line line;
    struct span text = look(scan);
    if (!yaml_line_read(text, &line)) {
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
