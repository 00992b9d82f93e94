/*
 * memory: whether the TLS library has lacked memory. It has many words for that (an internal error,
 * no cipher in common, a certificate of unknown strength), some of which are also what it says of
 * peers; so what it asks for is watched.
 */
#ifndef SPLITMX_TLS_MEMORY_H
#define SPLITMX_TLS_MEMORY_H

#include <stdbool.h>

/* Once, before anything else of the library is called. Without it nothing is ever noticed. */
void tls_memory_watch(void);

/* Like errno, of the thread that asks: cleared before a call, looked at when it has failed. */
void tls_memory_clear(void);
bool tls_memory_was_short(void);

#endif
