/*
 * why: why TLS failed, in a few words that may be logged: what is the peer's is scrubbed. For
 * tls/stream. Pure.
 */
#ifndef SPLITMX_TLS_WHY_H
#define SPLITMX_TLS_WHY_H

#include <openssl/types.h>

#include "config/text.h"

/* What the library refuses in a certificate; wanted: the name that was asked for. */
void why_certificate(X509_STORE_CTX *verification, const char *wanted, struct text *out);

/* The first of the thread's queued errors. speaks: the peer has proved to speak TLS. */
void why_error(bool speaks, struct text *out);

#endif
