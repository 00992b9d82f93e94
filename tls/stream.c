#include "tls/stream.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdlib.h>

#include "config/net_address.h"
#include "tls/context_state.h"
#include "tls/memory.h"
#include "tls/sessions.h"
#include "tls/why.h"

#define WHY_MAX 192

/* What a peer may make us send without a word of ours: some refusals of a renegotiation (31 bytes),
 * answers to key updates (27), and more of them as it sends data. Else a peer that never reads
 * could fill our memory. */
#define ANSWERED_MAX 1024
#define ANSWERED_PER 256

struct tls_stream {
    SSL *ssl;
    const struct tls_context *context; /* one reference */
    bool (*write)(void *owner, struct span cipher);
    void *owner;
    struct span input;             /* what is left of the caller's bytes, during a call */
    char *name;                    /* clients: without a last dot; or NULL */
    struct tls_sessions *sessions; /* NULL: nothing is reused */
    unsigned char key[TLS_SESSION_KEY];
    size_t answered; /* bytes that reads alone made us send */
    size_t received; /* bytes of data */
    bool done;       /* the handshake */
    bool reading;    /* in tls_stream_read */
    bool closing;    /* close_notify was sent */
    bool closed;     /* close_notify was received */
    bool failed;
    bool lacks_memory; /* which is why it has failed */
    char why[WHY_MAX];
};

/* ---- the BIO: OpenSSL's view of the spans ---- */

static int bio_read(BIO *bio, char *out, int cap)
{
    struct tls_stream *stream = BIO_get_data(bio);

    BIO_clear_retry_flags(bio);
    if (stream->input.len == 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    const struct span taken = span_first(stream->input, (size_t)cap);
    memcpy(out, taken.ptr, taken.len);
    stream->input = span_skip(stream->input, taken.len);
    return (int)taken.len;
}

static void stream_fail(struct tls_stream *stream, const char *why)
{
    stream->failed = true;
    if (stream->why[0] == '\0') {
        struct text text = TEXT(stream->why);
        text_puts(&text, why);
    }
}

static int bio_write(BIO *bio, const char *bytes, int len)
{
    struct tls_stream *stream = BIO_get_data(bio);

    BIO_clear_retry_flags(bio);
    if (stream->reading) {
        stream->answered += (size_t)len;
        if (stream->answered > ANSWERED_MAX + stream->received / ANSWERED_PER) {
            stream_fail(stream, "the peer wants new keys again and again");
        }
    }
    if (!stream->failed && !stream->write(stream->owner, span_make(bytes, (size_t)len))) {
        stream->lacks_memory = true;
        stream_fail(stream, "nothing can be sent");
    }
    return stream->failed ? -1 : len;
}

static long bio_control(BIO *bio, int command, long number, void *pointer)
{
    (void)bio;
    (void)number;
    (void)pointer;
    return command == BIO_CTRL_FLUSH ? 1 : 0; /* the callback keeps nothing back */
}

static int bio_create(BIO *bio)
{
    BIO_set_init(bio, 1);
    return 1;
}

BIO_METHOD *tls_stream_bio(void)
{
    /* Types tell BIOs of a chain apart; ours is alone, and an index would be used up each time. */
    BIO_METHOD *method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "span");
    if (method && BIO_meth_set_read(method, bio_read) && BIO_meth_set_write(method, bio_write) &&
        BIO_meth_set_ctrl(method, bio_control) && BIO_meth_set_create(method, bio_create)) {
        return method;
    }
    BIO_meth_free(method);
    return NULL;
}

/* ---- verification ---- */

static int on_verify(int fine, X509_STORE_CTX *verification)
{
    const SSL *ssl = X509_STORE_CTX_get_ex_data(verification, SSL_get_ex_data_X509_STORE_CTX_idx());
    struct tls_stream *stream = SSL_get_app_data(ssl);

    if (!fine && stream->why[0] == '\0') {
        struct text text = TEXT(stream->why);
        why_certificate(verification, stream->name, &text);
    }
    return fine;
}

/* The certificate has to be for this address (RFC 5280 4.2.1.6: bytes, not text). */
static bool expect_address(X509_VERIFY_PARAM *param, const struct net_address *address)
{
    const bool four = address->any.sa_family == AF_INET;
    const unsigned char *bytes = four ? (const unsigned char *)&address->in4.sin_addr
                                      : (const unsigned char *)&address->in6.sin6_addr;
    return X509_VERIFY_PARAM_set1_ip(param, bytes, four ? 4 : 16) == 1;
}

/* False when memory is short. */
static bool stream_expect(struct tls_stream *stream, const char *name)
{
    X509_VERIFY_PARAM *param = SSL_get0_param(stream->ssl);
    struct span text = span_of(name ? name : "");
    struct net_address address;
    const bool verifies = stream->context->verifies;

    if (verifies) {
        SSL_set_verify(stream->ssl, SSL_VERIFY_PEER, on_verify);
        X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    }
    if (text.len > 0 && text.ptr[text.len - 1] == '.') {
        text.len--; /* RFC 6066 3: without the trailing dot */
    }
    stream->name = span_dup(text);
    if (!stream->name) {
        return false;
    }
    if (net_address_parse(text, 0, &address)) {
        return !verifies || expect_address(param, &address);
    }
    if (!host_name_valid(text)) {
        if (verifies) { /* no name to be verified is none that was */
            stream_fail(stream, "no name to verify the certificate against");
        }
        return true;
    }
    return SSL_set_tlsext_host_name(stream->ssl, stream->name) == 1 &&
           (!verifies || SSL_set1_host(stream->ssl, stream->name) == 1);
}

/* ---- making and ending ---- */

struct tls_stream *tls_stream_new(const struct tls_context *context, const char *name,
                                  bool (*write)(void *owner, struct span cipher), void *owner)
{
    struct tls_stream *stream = calloc(1, sizeof(*stream));
    BIO *bio = NULL;

    if (!stream) {
        return NULL;
    }
    stream->write = write;
    stream->owner = owner;
    stream->context = tls_context_ref(context);
    stream->ssl = SSL_new(context->ssl);
    bio = BIO_new(context->bio);
    if (!stream->ssl || !bio) {
        goto no_memory;
    }
    BIO_set_data(bio, stream);
    SSL_set_bio(stream->ssl, bio, bio);
    bio = NULL;
    if (SSL_set_app_data(stream->ssl, stream) != 1) {
        goto no_memory;
    }
    if (context->server) {
        SSL_set_accept_state(stream->ssl);
        return stream;
    }
    SSL_set_connect_state(stream->ssl);
    if (stream_expect(stream, name)) {
        return stream;
    }
no_memory:
    ERR_clear_error();
    BIO_free(bio);
    tls_stream_free(stream);
    return NULL;
}

void tls_stream_free(struct tls_stream *stream)
{
    if (!stream) {
        return;
    }
    if (stream->ssl && stream->done && !stream->failed) {
        /* Else its session could not be resumed, which TLS 1.1 gave up (RFC 4346 7.2.1): mail
         * servers hang up without a close_notify. */
        SSL_set_shutdown(stream->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    }
    SSL_free(stream->ssl);
    tls_context_unref(stream->context);
    free(stream->name);
    free(stream);
}

/* ---- sessions ---- */

/* Called by the library with a session that the peer gave; 1: it is ours to free. */
int tls_stream_on_session(SSL *ssl, SSL_SESSION *session)
{
    const struct tls_stream *stream = SSL_get_app_data(ssl);

    if (!stream->sessions) {
        return 0;
    }
    tls_sessions_put(stream->sessions, stream->key, session);
    return 1;
}

static bool make_key(struct tls_stream *stream, struct span key)
{
    EVP_MD_CTX *digest = EVP_MD_CTX_new();
    const bool fine =
        digest && EVP_DigestInit_ex(digest, EVP_sha256(), NULL) == 1 &&
        EVP_DigestUpdate(digest, stream->context->id, sizeof(stream->context->id)) == 1 &&
        EVP_DigestUpdate(digest, stream->name, strlen(stream->name) + 1) == 1 &&
        EVP_DigestUpdate(digest, key.ptr, key.len) == 1 &&
        EVP_DigestFinal_ex(digest, stream->key, NULL) == 1;
    EVP_MD_CTX_free(digest);
    return fine;
}

void tls_stream_reuse(struct tls_stream *stream, struct tls_sessions *sessions, struct span key)
{
    ERR_clear_error();
    if (!make_key(stream, key)) {
        return;
    }
    stream->sessions = sessions;
    SSL_SESSION *session = tls_sessions_take(sessions, stream->key);
    if (session) {
        SSL_set_session(stream->ssl, session);
        SSL_SESSION_free(session);
    }
}

/* A TLS 1.2 server that gives no new ticket with a resumption means the old one to go on. */
static void keep_session(struct tls_stream *stream)
{
    if (stream->sessions && SSL_session_reused(stream->ssl) &&
        SSL_version(stream->ssl) == TLS1_2_VERSION) {
        tls_sessions_put(stream->sessions, stream->key, SSL_get1_session(stream->ssl));
    }
}

/* ---- bytes ---- */

/* Before a call of the library, for wants_more. To look is cheaper than to clear. */
static void before_call(void)
{
    if (ERR_peek_error() != 0) {
        ERR_clear_error();
    }
    tls_memory_clear();
}

/* After a call that did not succeed: whether all that it lacks is bytes. Else the stream has
 * failed. */
static bool wants_more(struct tls_stream *stream, int error)
{
    if (!stream->failed && error == SSL_ERROR_WANT_READ) {
        return true;
    }
    if (tls_memory_was_short() && !stream->failed) {
        struct text text = TEXT(stream->why);
        text_puts(&text, "out of memory");
        stream->lacks_memory = true;
    }
    if (stream->why[0] == '\0') {
        struct text text = TEXT(stream->why);
        why_error(stream->done, &text);
    }
    stream->failed = true;
    ERR_clear_error();
    return false;
}

enum tls_result tls_stream_handshake(struct tls_stream *stream, struct span *cipher)
{
    if (stream->failed) {
        return TLS_FAILED;
    }
    if (stream->done) {
        return TLS_DONE;
    }
    before_call();
    stream->input = *cipher;
    const int result = SSL_do_handshake(stream->ssl);
    *cipher = stream->input;
    stream->input = (struct span){0};
    if (result == 1 && !stream->failed) {
        stream->done = true;
        keep_session(stream);
        return TLS_DONE;
    }
    return wants_more(stream, SSL_get_error(stream->ssl, result)) ? TLS_MORE : TLS_FAILED;
}

/* One call after the other until the bytes or the room end. With no bytes there is nothing to be
 * found, and each call takes a record's buffer. */
static enum tls_result read_all(struct tls_stream *stream, char *plain, size_t cap, size_t *len)
{
    while (*len < cap && (stream->input.len > 0 || SSL_has_pending(stream->ssl))) {
        size_t got = 0;
        const int result = SSL_read_ex(stream->ssl, plain + *len, cap - *len, &got);
        *len += got;
        stream->received += got;
        if (result == 1) {
            continue;
        }
        const int error = SSL_get_error(stream->ssl, result);
        if (error == SSL_ERROR_ZERO_RETURN && !stream->failed) {
            stream->closed = true;
            return TLS_CLOSED;
        }
        return wants_more(stream, error) ? TLS_MORE : TLS_FAILED;
    }
    return TLS_MORE;
}

enum tls_result tls_stream_read(struct tls_stream *stream, struct span *cipher, char *plain,
                                size_t cap, size_t *len)
{
    enum tls_result result;

    *len = 0;
    if (stream->failed || !stream->done) {
        return TLS_FAILED;
    }
    if (stream->closed) { /* RFC 8446 6.1: what follows is ignored */
        *cipher = (struct span){0};
        return TLS_CLOSED;
    }
    before_call();
    stream->input = *cipher;
    stream->reading = true;
    result = read_all(stream, plain, cap, len);
    stream->reading = false;
    *cipher = result == TLS_MORE ? stream->input : (struct span){0};
    stream->input = (struct span){0};
    return result;
}

bool tls_stream_write(struct tls_stream *stream, struct span plain)
{
    size_t written;

    if (stream->failed || !stream->done || stream->closing) {
        return false;
    }
    if (plain.len == 0) {
        return true;
    }
    before_call();
    const int result = SSL_write_ex(stream->ssl, plain.ptr, plain.len, &written);
    if (result == 1 && !stream->failed) {
        return true;
    }
    /* Never for want of bytes: renegotiation is off, and the callback takes all. */
    wants_more(stream, SSL_ERROR_SSL);
    return false;
}

void tls_stream_close(struct tls_stream *stream)
{
    if (stream->done && !stream->failed && !stream->closing) {
        stream->closing = true;
        ERR_clear_error();
        SSL_shutdown(stream->ssl);
        ERR_clear_error();
    }
}

/* ---- what can be told ---- */

void tls_stream_describe(const struct tls_stream *stream, struct text *out)
{
    text_puts(out, SSL_get_version(stream->ssl));
    text_putc(out, ' ');
    text_puts(out, SSL_get_cipher_name(stream->ssl));
}

bool tls_stream_is_resumed(const struct tls_stream *stream)
{
    return SSL_session_reused(stream->ssl) == 1;
}

bool tls_stream_lacks_memory(const struct tls_stream *stream)
{
    return stream->lacks_memory;
}

const char *tls_stream_why(const struct tls_stream *stream)
{
    return stream->why;
}
