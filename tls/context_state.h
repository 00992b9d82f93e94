/*
 * context_state: what a context is, for tls/context, tls/context_server,
 * tls/inspect and tls/stream only.
 */
#ifndef SPLITMX_TLS_CONTEXT_STATE_H
#define SPLITMX_TLS_CONTEXT_STATE_H

#include <openssl/ssl.h>
#include <stdatomic.h>

#include "tls/context.h"
#include "tls/pem.h"
#include "tls/tickets.h"

#define TLS_CONTEXT_ID 16

/* TLS 1.2 suites, for SSL_CTX_set_cipher_list: forward secrecy always. */
extern const char tls_forward_secret[];

struct tls_context {
    SSL_CTX *ssl;
    BIO_METHOD *bio;                  /* of its streams */
    X509_LOOKUP_METHOD *lookup;       /* of its store; NULL: none */
    unsigned char id[TLS_CONTEXT_ID]; /* random: no other context, before or after, has it */
    struct tickets *tickets;          /* a server's; else NULL */
    bool server;
    bool verifies;
    /* What it was made of: while that is the same, so is the context. All zero: of no file. */
    unsigned char made_of[PEM_DIGEST];
    /* A server's, in the order of `tls:`, to be judged anew at each reload. */
    STACK_OF(X509) * *chains;
    size_t chain_count;
    atomic_uint references; /* those of sets, and one of each stream */
};

/* One reference; NULL when memory is short. */
struct tls_context *tls_context_new(bool server);
/* Counting does not change what a context does, so const ones are counted too. */
const struct tls_context *tls_context_ref(const struct tls_context *context);
void tls_context_unref(const struct tls_context *context); /* NULL is accepted */

/*
 * The context of `tls:`, or another reference to `before` (NULL: none) when it would be the same;
 * NULL without `tls:`, and after errors, which were told. False when memory is short. Warnings are
 * told either way.
 */
bool tls_server_make(const struct config *config, const struct tls_context *before,
                     struct diag_list *diags, const struct tls_context **out);

/* What a context needs to know of streams. */
BIO_METHOD *tls_stream_bio(void); /* NULL when memory is short */
int tls_stream_on_session(SSL *ssl, SSL_SESSION *session);

#endif
