/*
 * yaml_compare: whether yaml_scan gives what libyaml gives; for its test and its fuzz target.
 */
#ifndef SPLITMX_TESTS_UNIT_YAML_COMPARE_H
#define SPLITMX_TESTS_UNIT_YAML_COMPARE_H

#include <string.h>
#include <unistd.h>

#include "config/yaml_scan.h"

struct yaml_compare {
    int fd;
    off_t at;
    yaml_parser_t parser;
    yaml_event_t event; /* libyaml's */
    struct yaml_scan *scan;
};

static inline int yaml_compare_read(void *data, unsigned char *buffer, size_t size, size_t *got)
{
    struct yaml_compare *compare = data;
    ssize_t n = pread(compare->fd, buffer, size, compare->at);
    *got = n > 0 ? (size_t)n : 0;
    compare->at += n > 0 ? n : 0;
    return n >= 0;
}

static inline bool yaml_compare_marks(yaml_mark_t a, yaml_mark_t b)
{
    return a.line == b.line && a.column == b.column;
}

static inline bool yaml_compare_texts(const yaml_char_t *a, const yaml_char_t *b)
{
    return a && b ? strcmp((const char *)a, (const char *)b) == 0 : a == b;
}

static inline bool yaml_compare_scalars(const yaml_event_t *a, const yaml_event_t *b)
{
    return a->data.scalar.length == b->data.scalar.length &&
           memcmp(a->data.scalar.value, b->data.scalar.value, a->data.scalar.length + 1) == 0 &&
           a->data.scalar.style == b->data.scalar.style &&
           a->data.scalar.plain_implicit == b->data.scalar.plain_implicit &&
           a->data.scalar.quoted_implicit == b->data.scalar.quoted_implicit &&
           yaml_compare_texts(a->data.scalar.anchor, b->data.scalar.anchor) &&
           yaml_compare_texts(a->data.scalar.tag, b->data.scalar.tag);
}

static inline bool yaml_compare_events(const yaml_event_t *a, const yaml_event_t *b)
{
    if (a->type != b->type || !yaml_compare_marks(a->start_mark, b->start_mark) ||
        !yaml_compare_marks(a->end_mark, b->end_mark)) {
        return false;
    }
    switch (a->type) {
    case YAML_NO_EVENT:
    case YAML_STREAM_END_EVENT:
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        return true;
    case YAML_STREAM_START_EVENT:
        return a->data.stream_start.encoding == b->data.stream_start.encoding;
    case YAML_DOCUMENT_START_EVENT:
        return a->data.document_start.implicit == b->data.document_start.implicit;
    case YAML_DOCUMENT_END_EVENT:
        return a->data.document_end.implicit == b->data.document_end.implicit;
    case YAML_ALIAS_EVENT:
        return yaml_compare_texts(a->data.alias.anchor, b->data.alias.anchor);
    case YAML_SCALAR_EVENT:
        return yaml_compare_scalars(a, b);
    case YAML_SEQUENCE_START_EVENT:
        return a->data.sequence_start.style == b->data.sequence_start.style &&
               yaml_compare_texts(a->data.sequence_start.anchor, b->data.sequence_start.anchor) &&
               yaml_compare_texts(a->data.sequence_start.tag, b->data.sequence_start.tag);
    case YAML_MAPPING_START_EVENT:
        return a->data.mapping_start.style == b->data.mapping_start.style &&
               yaml_compare_texts(a->data.mapping_start.anchor, b->data.mapping_start.anchor) &&
               yaml_compare_texts(a->data.mapping_start.tag, b->data.mapping_start.tag);
    }
    return false;
}

/* libyaml complains of a wrong byte as soon as it has read it, perhaps long before it comes to it;
 * so either may have been told of such a byte, or of what stands before it. */
static inline bool yaml_compare_problems(const yaml_parser_t *a, const struct yaml_scan_problem *b)
{
    bool reader = a->error == YAML_READER_ERROR;
    if (reader && b->error == YAML_READER_ERROR) {
        return a->problem_offset == b->offset && a->problem_value == b->value &&
               strcmp(a->problem, b->problem) == 0;
    }
    if (reader || b->error == YAML_READER_ERROR) {
        return true;
    }
    /* Where a mapping began we do not know any more, nor is it told. */
    bool mapping = a->context && strcmp(a->context, "while parsing a block mapping") == 0;
    return a->error == b->error && strcmp(a->problem, b->problem) == 0 &&
           yaml_compare_marks(a->problem_mark, b->mark) && yaml_compare_marks(a->mark, b->here) &&
           (a->context != NULL) == b->has_context &&
           (!a->context || mapping || yaml_compare_marks(a->context_mark, b->context_mark));
}

static inline bool yaml_compare_ends(struct yaml_compare *compare, bool theirs, bool ours)
{
    for (; ours; ours = yaml_scan_next(compare->scan)) {
        if (yaml_scan_event(compare->scan)->type == YAML_STREAM_END_EVENT) {
            return false;
        }
    }
    while (theirs && compare->event.type != YAML_STREAM_END_EVENT) {
        yaml_event_delete(&compare->event);
        theirs = yaml_parser_parse(&compare->parser, &compare->event);
    }
    struct yaml_scan_problem problem = yaml_scan_problem(compare->scan);
    return !theirs && yaml_compare_problems(&compare->parser, &problem);
}

/* Whether both give the same events of the file, and have the same to complain of. */
static inline bool yaml_compare_file(int fd)
{
    struct yaml_compare compare = {.fd = fd, .scan = yaml_scan_new(fd)};
    bool same = compare.scan && yaml_parser_initialize(&compare.parser);
    bool theirs = same, ours = same;
    yaml_parser_set_input(&compare.parser, yaml_compare_read, &compare);
    while (same && compare.event.type != YAML_STREAM_END_EVENT) {
        yaml_event_delete(&compare.event);
        theirs = yaml_parser_parse(&compare.parser, &compare.event);
        ours = yaml_scan_next(compare.scan);
        if (!theirs || !ours) {
            same = yaml_compare_ends(&compare, theirs, ours);
            break;
        }
        same = yaml_compare_events(&compare.event, yaml_scan_event(compare.scan));
    }
    yaml_event_delete(&compare.event);
    yaml_parser_delete(&compare.parser);
    yaml_scan_free(compare.scan);
    return same;
}

#endif
