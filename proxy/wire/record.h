/*
 * record: one log event as key=value (logfmt) or JSON, escaped and bounded so that nothing a client
 * sends can break or forge a line (design: section 10). Pure.
 *
 * A record is the inside of a line: the log's sink puts time and level in front. Values that do not
 * fit are cut and end in "…"; the line stays well-formed. Keys are literals of ours.
 */
#ifndef SPLITMX_PROXY_WIRE_RECORD_H
#define SPLITMX_PROXY_WIRE_RECORD_H

#include <stdint.h>

#include "config/config.h"
#include "config/text.h"

#define RECORD_MAX 4096
/* Bytes of one value as written, so that none can crowd out what follows it. */
#define RECORD_VALUE_MAX 1024

struct record {
    enum config_log_format format;
    struct text text;
    char buffer[RECORD_MAX];
};

void record_begin(struct record *record, enum config_log_format format);
/* Text value: quoted when it holds anything but [A-Za-z0-9._:/@+,;<>()-]; control characters,
 * quotes, backslashes and invalid UTF-8 escaped (\\n, \\x1b in logfmt; \\u001b in JSON). */
void record_span(struct record *record, const char *key, struct span value);
void record_str(struct record *record, const char *key, const char *value);
void record_number(struct record *record, const char *key, uint64_t value);
/* The finished inside: logfmt `event=… key=value`, JSON `"event":"…","key":"value"`. */
struct span record_end(struct record *record);

#endif
