/*
 * yaml_line: the lines of a block mapping that mean the same to everybody: `key: value`. Pure.
 *
 * Nothing but a key, a colon, spaces, a value and a line feed. Key and value are of characters that
 * mean nothing to YAML there, or in quotes without a backslash or another such quote. The next line
 * that is not empty, nor a comment, begins with something in column 0: for then the value has
 * ended.
 *
 * Private to config/yaml.
 */
#ifndef SPLITMX_CONFIG_YAML_LINE_H
#define SPLITMX_CONFIG_YAML_LINE_H

#include <yaml.h>

#include "config/span.h"

/* Of a line with what follows it, up to something in column 0; libyaml takes no key over 1024. */
#define YAML_LINE_MOST 1000

/* A scalar on a line: where it begins and ends, and of that the words without quotes. */
struct yaml_line_scalar {
    const char *begin, *end;
    struct span words;
    yaml_scalar_style_t style;
};

struct yaml_line {
    struct yaml_line_scalar key, value;
    const char *next; /* begin of the next line that says something */
    size_t lines;     /* from this one to that */
};

/* Whether the text, which begins in column 0 of a mapping whose keys stand there, begins with such
 * a line. All points into the text. */
bool yaml_line_read(struct span text, struct yaml_line *line);

#endif
