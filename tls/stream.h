/*
 * stream: one TLS connection over spans and a write callback; no sockets (RFC 8446, RFC 5246).
 *
 * Ciphertext that arrived is put in, in any cuts; ciphertext to be sent comes out of the callback,
 * from inside the calls below (alerts too: after a failure it is worth sending what came out). The
 * end of the connection is the caller's to see: without TLS_CLOSED before it, it is a cut.
 *
 * Thread: that of its connection. A stream keeps its context alive, so the set it is from may go.
 */
#ifndef SPLITMX_TLS_STREAM_H
#define SPLITMX_TLS_STREAM_H

#include "config/text.h"
#include "tls/context.h"

struct tls_stream;
struct tls_sessions; /* tls/sessions.h */

enum tls_result {
    TLS_DONE,   /* the handshake is complete */
    TLS_MORE,   /* all is well; more bytes are needed */
    TLS_CLOSED, /* the peer said that it will send nothing more (close_notify) */
    TLS_FAILED, /* for good: tls_stream_why */
};

/* What `plain` must have room for beyond the ciphertext given to tls_stream_read: a record of which
 * all but the last byte had arrived before (RFC 8446 5.1). */
#define TLS_STREAM_ROOM ((size_t)17 * 1024)

/*
 * `name` is for clients, NULL for servers: the upstream's host name or literal address (without
 * brackets). Names are told to the peer (SNI, RFC 6066 3); where the context verifies, the
 * certificate has to be for that name or address, and without a valid one the handshake fails.
 *
 * `write` takes all bytes, or returns false for want of memory, which breaks the stream. It must
 * not call back into the stream. NULL when memory is short.
 */
struct tls_stream *tls_stream_new(const struct tls_context *context, const char *name,
                                  bool (*write)(void *owner, struct span cipher), void *owner);
void tls_stream_free(struct tls_stream *stream); /* sends nothing; NULL is accepted */

/*
 * Clients, before the handshake: offers the peer a session kept from an earlier connection and
 * keeps the one it gives. `key` is the peer's address. Name and context are always part of the
 * key: so what was made without verification, for another name, or before a reload, is never
 * resumed where it would stand for a verification. The cache must outlive the stream. When memory
 * is short nothing is reused.
 */
void tls_stream_reuse(struct tls_stream *stream, struct tls_sessions *sessions, struct span key);

/*
 * Takes what it needs off the front of *cipher; a client begins with an empty span. TLS_DONE leaves
 * in *cipher what is behind the handshake: data, for tls_stream_read. TLS_DONE, TLS_MORE or
 * TLS_FAILED.
 */
enum tls_result tls_stream_handshake(struct tls_stream *stream, struct span *cipher);

/*
 * After TLS_DONE: decrypts into plain, *len bytes; with cap >= cipher->len + TLS_STREAM_ROOM all of
 * *cipher is taken (with less, call again until *len is 0). A record that is not complete is kept.
 * Tickets and key updates give no bytes. TLS_MORE, TLS_CLOSED or TLS_FAILED; *len may be more than
 * 0 with each: those bytes came before it, and are genuine. Renegotiation is refused; a
 * peer that keeps asking for it, or for key updates beyond measure, gives TLS_FAILED.
 */
enum tls_result tls_stream_read(struct tls_stream *stream, struct span *cipher, char *plain,
                                size_t cap, size_t *len);

/* After TLS_DONE: encrypts all of it. False: the stream is broken. */
bool tls_stream_write(struct tls_stream *stream, struct span plain);

/* Says that nothing more will be sent (close_notify, RFC 8446 6.1); once, and only after TLS_DONE
 * and no failure. The peer's data may still be read. */
void tls_stream_close(struct tls_stream *stream);

/* "TLSv1.3 TLS_AES_256_GCM_SHA384"; after TLS_DONE. */
void tls_stream_describe(const struct tls_stream *stream, struct text *out);

/* The handshake was shortened by an earlier session. */
bool tls_stream_is_resumed(const struct tls_stream *stream);

/* After TLS_FAILED (or a failed write): a few printable ASCII words, such as "certificate has
 * expired", "the certificate is for other.example, not mx.example" or "alert: unknown CA". Else
 * empty. Valid as long as the stream. */
const char *tls_stream_why(const struct tls_stream *stream);

/* After TLS_FAILED: through no fault of the peer's. */
bool tls_stream_lacks_memory(const struct tls_stream *stream);

#endif
