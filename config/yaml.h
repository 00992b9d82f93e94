/*
 * yaml: libyaml's events with places, and nothing that a configuration should not hold.
 *
 * A pull reader over one document whose root is a mapping (or nothing). It refuses, with the place:
 * anchors, aliases, tags other than none and "!!str", more than one document, duplicate keys within
 * one mapping of at most YAML_KEYS_CHECKED keys (longer mappings are the routes, whose duplicates
 * the table build finds), depth over YAML_DEPTH, scalars over YAML_SCALAR bytes, invalid UTF-8, NUL
 * in scalars. It streams: memory does not grow with the file. An empty file reads as a mapping
 * without keys. Only regular files are read.
 *
 * What is refused is told and reading goes on, so that all errors are found: a refused key
 * (duplicate, not a scalar) is passed over with its value, a refused value comes with `refused`
 * set. Only syntax errors and depth end it.
 *
 * Thread: any, one at a time. Blocks on the file: never on an event loop.
 */
#ifndef SPLITMX_CONFIG_YAML_H
#define SPLITMX_CONFIG_YAML_H

#include "config/diag.h"
#include "config/span.h"

#define YAML_DEPTH        8
#define YAML_SCALAR       4096
#define YAML_KEYS_CHECKED 256

enum yaml_kind {
    YAML_END, /* of the file */
    YAML_BAD, /* a syntax or read error; it is in the diagnostics; nothing follows */
    YAML_MAP, /* a mapping begins */
    YAML_MAP_END,
    YAML_LIST, /* a sequence begins */
    YAML_LIST_END,
    YAML_SCALAR_VALUE, /* a key or a value: the reader knows which from where it stands */
};

struct yaml_event {
    enum yaml_kind kind;
    struct span value;       /* scalars: valid until the next call; NUL-terminated behind its end */
    bool plain;              /* scalar without quotes (null, numbers and booleans are plain) */
    bool flow;               /* mappings and lists: written in braces or brackets */
    bool made_up;            /* the mapping of a file in which nothing stands */
    bool refused;            /* told in the diagnostics already (alias, tag); the value is empty */
    struct diag_place place; /* file belongs to the reader */
};

struct yaml_reader;

/* Never NULL but when memory is short. A file that cannot be opened is told at the first event. */
struct yaml_reader *yaml_open(const char *path, struct diag_list *diags);
void yaml_close(struct yaml_reader *reader);

/* The next event. After YAML_END or YAML_BAD the same is returned for ever. */
struct yaml_event yaml_next(struct yaml_reader *reader);

/* Passes over the value that `event` begins (a scalar: nothing more to do). */
void yaml_skip(struct yaml_reader *reader, struct yaml_event event);

#endif
