/*
 * yaml_scan: libyaml's events over a file, one after the other, at their places in the file.
 *
 * Tables of routes are millions of lines `key: value`, and libyaml takes longer over them than all
 * that is done with them. So lines of the plainest kind, in a mapping that is the document's root,
 * are cut here; libyaml reads all else. No difference can be seen:
 *
 * - A line is cut only where libyaml, which has read so far, has just found that a key begins in
 *   column 0 of a block mapping at the root; or behind another such line.
 * - It is cut only when it is plain enough (config/yaml_line), which the last line of a file never
 * is.
 * - What libyaml knows in such a place does not depend on how many lines came before. So behind
 *   lines that were cut it begins again, with one in front that nobody hears of.
 *
 * Only what libyaml has read ahead is told sooner by libyaml alone: a byte that is no UTF-8 hides
 * up to 16 KiB in front of it.
 *
 * Private to config/yaml. Thread: any, one at a time; blocks on the file.
 */
#ifndef SPLITMX_CONFIG_YAML_SCAN_H
#define SPLITMX_CONFIG_YAML_SCAN_H

#include <stdbool.h>
#include <stdint.h>
#include <yaml.h>

struct yaml_scan;

/* What it was that ended the events. Places are the file's. */
struct yaml_scan_problem {
    yaml_error_type_t error;
    const char *problem; /* libyaml's words; may be NULL */
    bool has_context;
    yaml_mark_t mark;         /* of the problem */
    yaml_mark_t context_mark; /* where the thing began that it is in */
    yaml_mark_t here;         /* how far everything is read */
    uint64_t offset;          /* YAML_READER_ERROR: of the byte */
    int value;                /* and the character; -1: none */
    int read_errno;           /* of a read that failed; EFBIG: the entry is too long; else 0 */
};

/* Reads the regular file behind fd, which stays the caller's. NULL when memory is short. */
struct yaml_scan *yaml_scan_new(int fd);
void yaml_scan_free(struct yaml_scan *scan); /* NULL is accepted */

/* Goes on to the next event; false: there is a problem, and no more events. Not behind
 * YAML_STREAM_END_EVENT. */
bool yaml_scan_next(struct yaml_scan *scan);

/* The event, until the next call; YAML_NO_EVENT before the first. Its marks have no index. */
const yaml_event_t *yaml_scan_event(const struct yaml_scan *scan);
struct yaml_scan_problem yaml_scan_problem(const struct yaml_scan *scan);

#endif
