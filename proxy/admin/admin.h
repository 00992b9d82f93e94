/*
 * admin: an HTTP server that shows snapshots (design: section 10). Read-only: GET and HEAD.
 *
 * It has a thread of its own (libmicrohttpd's). For a page it asks for a snapshot, which another
 * thread gives; while none comes, it has nothing to show and says 503. Nothing of what a client
 * sends gets any further than to the choice of the page, but for the address of a route.
 */
#ifndef SPLITMX_PROXY_ADMIN_ADMIN_H
#define SPLITMX_PROXY_ADMIN_ADMIN_H

#include "proxy/admin/snapshot.h"

/* Where snapshots are handed over. Outlives the servers that use it. */
struct admin_source;

/* `want` is called from the server's thread, each time that a snapshot is wanted. NULL: no memory.
 */
struct admin_source *admin_source_new(void (*want)(void *context), void *context);
void admin_source_free(struct admin_source *source); /* NULL is accepted */

/* What is wanted now. Any thread. */
void admin_source_wish(struct admin_source *source, struct snapshot_wish *out);

/* The snapshot that is wanted, with the wish that it answers; it is the source's from here on.
 * NULL: there was no memory for it. Any thread; waits for nothing. */
void admin_source_give(struct admin_source *source, struct snapshot *snapshot);

struct admin;

/* Listens on the socket, which is bound and becomes its own, and serves. NULL: no thread,
 * descriptors or memory; the socket is closed then. */
struct admin *admin_start(int fd, struct admin_source *source);

/* Ends the thread, closes everything; whoever waits for a page hears no more. NULL is accepted. */
void admin_stop(struct admin *admin);

#endif
