/*
 * sessions: TLS sessions that upstreams gave us, to be resumed by a later connection.
 *
 * A fixed number, two at most for one key; the oldest makes room. Each is used once (RFC 8446 C.4):
 * who takes it out has it, and the upstream gives a new one.
 *
 * Thread: belongs to one, with the streams that use it (tls_stream_reuse); it must outlive them.
 * It may outlive contexts: the sessions of a context that is gone are never found again.
 */
#ifndef SPLITMX_TLS_SESSIONS_H
#define SPLITMX_TLS_SESSIONS_H

#include <stddef.h>

struct ssl_session_st; /* an SSL_SESSION of OpenSSL */
struct tls_sessions;

/* NULL when memory is short. A session takes some 5 KB. */
struct tls_sessions *tls_sessions_new(size_t slots);
void tls_sessions_free(struct tls_sessions *sessions); /* NULL is accepted */

/* ---- for tls/stream ---- */

#define TLS_SESSION_KEY 32

/* Takes over one reference of the session. */
void tls_sessions_put(struct tls_sessions *sessions, const unsigned char key[TLS_SESSION_KEY],
                      struct ssl_session_st *session);
/* The newest with this key that can still be resumed; the caller's from now on. Or NULL. */
struct ssl_session_st *tls_sessions_take(struct tls_sessions *sessions,
                                         const unsigned char key[TLS_SESSION_KEY]);

#endif
