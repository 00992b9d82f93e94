/*
 * seal: the last bytes of a generation's file, which say whether it is still what was built.
 *
 * LMDB believes every page that it maps: of a damaged one it makes a wrong answer, which would
 * bounce good mail, or a crash. So a file is opened in it only when it is known to be whole:
 *
 * - Its last bytes name its length and a SHA-256 over all of it: what is cut, grown or not ours is
 *   never opened, at no cost.
 * - When it is sealed it is given a time of modification that nothing else gives it, a moment
 *   before the build, and the seal names that too. Every later write, by whatever means, changes
 *   the time. A file of up to SEAL_READ_ALWAYS bytes is read and its digest compared at each
 *   opening; a longer one only when its time is not the one it was given (10 million routes are
 *   about a gigabyte, and a start should not take the time to read that).
 *
 * What remains: a long file whose blocks rot below the file system, or that somebody changes and
 * gives its old time back. Neither is found before it is rebuilt.
 *
 * A mapped file can still be cut or written to by others while it serves, and reading behind its
 * end is a SIGBUS. Before each decision the file's length and time are compared with those at its
 * opening (one fstat). What remains: the microseconds between that and the look-up, and blocks
 * that the disk fails to read.
 *
 * Thread: putting and checking block on files, never on an event loop; a mark is asked anywhere.
 */
#ifndef SPLITMX_ROUTING_SEAL_H
#define SPLITMX_ROUTING_SEAL_H

#include <stdbool.h>
#include <stdint.h>

#define SEAL_READ_ALWAYS ((uint64_t)16 << 20) /* 10 ms, or 40 without instructions for SHA-256 */

/* The file behind a descriptor as it was at some time. */
struct seal_mark {
    uint64_t device, inode, size, modified;
};

/* Seals a file that is complete, and makes it durable. 0, or an errno. */
int seal_put(int fd, uint32_t format);

/* Whether the file is as it was sealed, of this format; then `mark` is what it was while checked.
 * False too when it cannot be read. */
bool seal_check(int fd, uint32_t format, struct seal_mark *mark);

/* Whether the file behind fd is the marked one, and nobody has written to it or cut it since. */
bool seal_holds(int fd, const struct seal_mark *mark);

#endif
