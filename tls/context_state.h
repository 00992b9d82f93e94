/*
 * context_state: what a context is, for tls/context, tls/inspect and tls/stream only.
 */
#ifndef SPLITMX_TLS_CONTEXT_STATE_H
#define SPLITMX_TLS_CONTEXT_STATE_H

#include <openssl/ssl.h>
#include <stdatomic.h>

#include "tls/context.h"

#define TLS_CONTEXT_ID 16

struct tls_context {
    SSL_CTX *ssl;
    BIO_METHOD *bio;                  /* of its streams */
    unsigned char id[TLS_CONTEXT_ID]; /* random: no other context, before or after, has it */
    bool server;
    bool verifies;
    atomic_uint references; /* its set's, and one of each stream */
};

/* Counting does not change what a context does, so const ones are counted too. */
const struct tls_context *tls_context_ref(const struct tls_context *context);
void tls_context_unref(const struct tls_context *context); /* NULL is accepted */

/* What a context needs to know of streams. */
BIO_METHOD *tls_stream_bio(void); /* NULL when memory is short */
int tls_stream_on_session(SSL *ssl, SSL_SESSION *session);

#endif
