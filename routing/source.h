/*
 * source: what a route file was when a generation was built from it, to tell whether it has
 * changed.
 *
 * Blocks on files.
 */
#ifndef SPLITMX_ROUTING_SOURCE_H
#define SPLITMX_ROUTING_SOURCE_H

#include <stdint.h>

#include "config/config.h"
#include "routing/quiet.h"

#define SOURCE_DIGEST 32 /* SHA-256 */

/* Stored in generations as it is. */
struct source_stamp {
    uint64_t device, inode, size;
    uint64_t modified, changed; /* nanoseconds since the epoch */
    uint64_t settled; /* 0: so young when read that a later change may show in no time stamp */
    unsigned char digest[SOURCE_DIGEST];
};

/* False (errno set) when the file cannot be read; EINVAL when it is a pipe or the like, which
 * cannot be read twice. `quiet`: of the work that this belongs to, or NULL. */
bool source_read(const char *path, struct source_stamp *out, struct quiet *quiet);

/* Whether both were made of the same file with the same content, and it was not touched between. */
bool source_same(const struct source_stamp *a, const struct source_stamp *b);

/* Whether nothing has touched the file since (digests are not looked at, nothing is read). */
bool source_untouched(const char *path, const struct source_stamp *stamp);

/* Whether the file says what it said: by its stamp, or else by its digest. */
bool source_unchanged(const char *path, const struct source_stamp *stamp, struct quiet *quiet);

/* The digest of everything in the configuration that a generation's content depends on. */
bool source_digest_config(const struct config *config, uint32_t format,
                          unsigned char digest[SOURCE_DIGEST]);

#endif
