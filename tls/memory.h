/*
 * memory: what the TLS library gets its memory from: malloc, and when that has none, a small
 * reserve.
 *
 * Each record that is read or written takes two blocks from the library, for as long as the call
 * lasts: without the reserve an upstream's 250 could not be read any more for want of 40 bytes, nor
 * ours be said. And it is watched whether there was none at all: the library has many words for
 * that (an internal error, no cipher in common, a certificate of unknown strength), some of which
 * are also what it says of peers.
 *
 * Of the whole process; from any thread.
 */
#ifndef SPLITMX_TLS_MEMORY_H
#define SPLITMX_TLS_MEMORY_H

#include <stdbool.h>

/* Once, before anything else of the library is called. Without it there is no reserve, and nothing
 * is noticed. */
void tls_memory_watch(void);

/* Like errno, of the thread that asks: cleared before a call, looked at when it has failed. */
void tls_memory_clear(void);
bool tls_memory_was_short(void);

#endif
