/*
 * handshake: TLS as it is here: lines that go the way of all bytes, so that they are cut, late and
 * lost as those are.
 *
 *   client: hello NAME     server: hello | wrong (a certificate of another's)     client: finished
 *
 * Either may say alert instead; a byte that begins no such line is no TLS. The proxy's end is here,
 * the actors play theirs. This also stands in for tls/context: its contexts need no files.
 */
#ifndef SPLITMX_TESTS_SIM_HANDSHAKE_H
#define SPLITMX_TESTS_SIM_HANDSHAKE_H

#include "tests/sim/net.h"

#define SIM_TLS "TLSv1.3 SIM_CIPHER" /* what a protected connection tells of itself */

#define HANDSHAKE_HELLO "\x16hello"
#define HANDSHAKE_WRONG "\x16wrong\n"
#define HANDSHAKE_FINISHED                                                                         \
    "\x16"                                                                                         \
    "finished\n"
#define HANDSHAKE_ALERT                                                                            \
    "\x15"                                                                                         \
    "alert\n"

enum handshake_status { HANDSHAKE_MORE, HANDSHAKE_DONE, HANDSHAKE_FAILED };

/* The proxy's end; what it says goes into `said`. */
void handshake_begin(struct link *link, const struct tls_context *context, const char *name,
                     struct buffer *said);
enum handshake_status handshake_take(struct link *link, struct buffer *said);

/* For actors: one line with its end, taken out of the inbox into `line`; false: there is none yet.
 */
bool handshake_line(struct link *link, struct text *line);

/* The contexts of a policy, which are counted. */
struct tls_contexts *handshake_contexts_new(struct sim *sim);
void handshake_contexts_free(struct tls_contexts *contexts);

#endif
