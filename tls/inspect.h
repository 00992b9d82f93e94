/*
 * inspect: what a server's certificate looks like to those who come: for whom, how long, by whom.
 *
 * Thread: reads the file; off the event loops.
 */
#ifndef SPLITMX_TLS_INSPECT_H
#define SPLITMX_TLS_INSPECT_H

#include "config/text.h"
#include "tls/context.h"

struct tls_inspection;

/* The first certificate of the PEM file and the chain behind it. NULL: an error was told, or memory
 * is short. */
struct tls_inspection *tls_inspect(const char *path, struct diag_list *diags);
void tls_inspection_free(struct tls_inspection *inspection); /* NULL is accepted */

/* Seconds from `now` until it expires, negative when it has. */
long long tls_inspection_left(const struct tls_inspection *inspection, long long now);
/* Whether it is good for a host name (RFC 6125; a subject without alternative names counts by its
 * common name). */
bool tls_inspection_covers(const struct tls_inspection *inspection, const char *name);
/* Its names, "mx.example.com, *.example.com"; what is not printable ASCII as "?". */
void tls_inspection_names(const struct tls_inspection *inspection, struct text *out);
/*
 * Whether someone who has the authorities of `contexts`' system store comes to trust it by the
 * chain in the file, dates aside. False: `why` says what is missing, in the library's words.
 */
bool tls_inspection_trusted(const struct tls_inspection *inspection,
                            const struct tls_contexts *contexts, struct text *why);

#endif
