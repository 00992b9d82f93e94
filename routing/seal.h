/*
 * seal: the last bytes of a generation's file, which say whether it is still what was built.
 *
 * LMDB believes every page that it maps: of a damaged one it makes a wrong answer, which would
 * bounce good mail, or a crash. So a file is opened in it only when it is known to be whole:
 *
 * - Its last bytes name its length and a SHA-256 over all of it: what is cut, grown or not ours is
 *   never opened, at no cost.
 * - A file of up to SEAL_READ_ALWAYS bytes is copied to memory that nobody can change any more, the
 *   digest of the copy is compared, and the copy is what serves. So nothing that happens to the
 *   file later, on the disk or by anybody's hand, touches the table in force.
 * - A longer one serves as it is, mapped (10 million routes are about a gigabyte, and a start
 * should not take the time to read that). When it was sealed it was given a time of modification
 * that nothing else gives it, a moment before the build, and the seal names that too. Every later
 *   write, by whatever means, changes the time: only then the file is read and its digest compared.
 *   It can still be cut or written to while it serves, and reading behind its end is a SIGBUS:
 *   so before each decision its length and time are compared with those at its opening (one fstat).
 *
 * What remains, for long files alone: blocks that rot below the file system, somebody who changes a
 * file and gives its old time back, and the microseconds between that fstat and the look-up.
 *
 * Thread: putting and opening block on files, never on an event loop; a mark is asked anywhere.
 */
#ifndef SPLITMX_ROUTING_SEAL_H
#define SPLITMX_ROUTING_SEAL_H

#include <stdbool.h>
#include <stdint.h>

#include "routing/quiet.h"

#define SEAL_READ_ALWAYS ((uint64_t)16 << 20) /* 10 ms, or 40 without instructions for SHA-256 */

/* The file behind a descriptor as it was at some time. */
struct seal_mark {
    uint64_t device, inode, size, modified;
};

/* Seals a file that is complete, and makes it durable. 0, or an errno. `quiet`: of the work that
 * this belongs to, or NULL. */
int seal_put(int fd, uint32_t format, struct quiet *quiet);

/* A descriptor, for reading, of the file or of its copy in memory, and its mark. -1 when there is
 * no file, or it is not as it was sealed with this format, or it cannot be read. */
int seal_open(const char *path, uint32_t format, struct seal_mark *mark);

#define SEAL_PATH 32

/* The name by which a library opens what is behind the descriptor once more. */
void seal_path(int fd, char path[SEAL_PATH]);

/* Whether the file behind fd is the marked one, and nobody has written to it or cut it since. */
bool seal_holds(int fd, const struct seal_mark *mark);

#endif
