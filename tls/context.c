#include "tls/context.h"

#include <openssl/err.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "tls/context_state.h"
#include "tls/pem.h"

/*
 * TLS 1.2, by our preference: forward secrecy (ECDHE) always, AEAD before CBC (RFC 9325 4.2). CBC
 * is there because mail is opportunistic: what cannot agree with us goes on in clear text (RFC
 * 7435), and Exchange on Windows before 2016 with an RSA certificate has nothing better. RSA key
 * transport is not there for the same reason that CBC is: an attack on it (ROBOT) harms not only
 * the old peer but everyone who trusts this key. TLS 1.3 suites and groups are the library's own:
 * so post-quantum groups come with it.
 */
static const char forward_secret[] = "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"
                                     "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:"
                                     "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"
                                     "ECDHE-ECDSA-AES256-SHA384:ECDHE-RSA-AES256-SHA384:"
                                     "ECDHE-ECDSA-AES128-SHA256:ECDHE-RSA-AES128-SHA256:"
                                     "ECDHE-ECDSA-AES256-SHA:ECDHE-RSA-AES256-SHA:"
                                     "ECDHE-ECDSA-AES128-SHA:ECDHE-RSA-AES128-SHA";

/* Names this server's sessions, should a key of tickets ever be shared. */
static const unsigned char session_id_context[] = "splitmx";

/* Where systems keep all their authorities in one file; the first is the library's own answer.
 * Folders of hashed names are not used: they are read in the middle of handshakes. */
static const char *const system_stores[] = {
    "/etc/ssl/certs/ca-certificates.crt", /* Debian, Alpine */
    "/etc/pki/tls/certs/ca-bundle.crt",   /* Fedora */
    "/etc/ssl/ca-bundle.pem",             /* SUSE */
    "/etc/ssl/cert.pem",                  /* BSD */
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Trust for `verify`. */
struct authority {
    char *path; /* the ca-file; NULL: the system's store */
    struct tls_context *context;
};

struct tls_contexts {
    struct tls_context *server;     /* NULL: none */
    struct tls_context *unverified; /* for `may` and `encrypt` */
    struct authority *authorities;  /* the first is the system's */
    size_t authority_count;
};

/* What making them carries along. */
struct making {
    const struct config *config;
    struct diag_list *diags;
    struct tls_contexts *contexts;
};

/* ---- one context ---- */

const struct tls_context *tls_context_ref(const struct tls_context *context)
{
    struct tls_context *counted = (struct tls_context *)context;
    atomic_fetch_add_explicit(&counted->references, 1, memory_order_relaxed);
    return context;
}

void tls_context_unref(const struct tls_context *context)
{
    struct tls_context *counted = (struct tls_context *)context;
    if (context && atomic_fetch_sub_explicit(&counted->references, 1, memory_order_acq_rel) == 1) {
        SSL_CTX_free(counted->ssl);
        BIO_meth_free(counted->bio);
        free(counted);
    }
}

/* NULL when memory is short. */
static struct tls_context *context_new(bool server)
{
    struct tls_context *context = calloc(1, sizeof(*context));
    if (!context) {
        return NULL;
    }
    atomic_init(&context->references, 1);
    context->server = server;
    context->bio = tls_stream_bio();
    context->ssl = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());
    if (!context->bio || !context->ssl || RAND_bytes(context->id, sizeof(context->id)) != 1 ||
        SSL_CTX_set_min_proto_version(context->ssl, TLS1_2_VERSION) != 1) { /* RFC 8996 */
        tls_context_unref(context);
        return NULL;
    }
    SSL_CTX_set_options(context->ssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_mode(context->ssl, SSL_MODE_RELEASE_BUFFERS);
    return context;
}

/* ---- the server's ---- */

/* A client that means to speak another protocol is let go before it can be deceived into taking our
 * answers for that one's (ALPACA); RFC 7301 3.2. */
static int select_protocol(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                           const unsigned char *offered, unsigned offered_len, void *context)
{
    static const char *const ours[] = {"smtp", "esmtp"};
    struct span list = span_make((const char *)offered, offered_len);
    (void)ssl;
    (void)context;

    while (list.len > 0) {
        const size_t len = (unsigned char)list.ptr[0];
        const struct span name = span_first(span_skip(list, 1), len);
        for (size_t i = 0; i < COUNT(ours); i++) {
            if (span_equal(name, span_of(ours[i]))) {
                *out = (const unsigned char *)name.ptr;
                *out_len = (unsigned char)name.len;
                return SSL_TLSEXT_ERR_OK;
            }
        }
        list = span_skip(list, 1 + len);
    }
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

static struct tls_context *server_new(int minimum)
{
    struct tls_context *context = context_new(true);
    if (!context) {
        return NULL;
    }
    SSL_CTX *ssl = context->ssl;
    if (SSL_CTX_set_min_proto_version(ssl, minimum) != 1 ||
        SSL_CTX_set_cipher_list(ssl, forward_secret) != 1 ||
        SSL_CTX_set_session_id_context(ssl, session_id_context, sizeof(session_id_context) - 1) !=
            1) {
        tls_context_unref(context);
        return NULL;
    }
    /* A peer that puts ChaCha20 first has no AES in hardware. */
    SSL_CTX_set_options(ssl, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
    SSL_CTX_set_verify(ssl, SSL_VERIFY_NONE, NULL); /* clients are not asked for certificates */
    /* Sessions are the client's to keep: in a ticket, under a key that ends with this context. */
    SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(ssl, 1);
    SSL_CTX_set_alpn_select_cb(ssl, select_protocol, NULL);
    return context;
}

static void date_text(const ASN1_TIME *time, char *out, size_t cap)
{
    struct tm parts;
    if (ASN1_TIME_to_tm(time, &parts) != 1 || strftime(out, cap, "%Y-%m-%d", &parts) == 0) {
        snprintf(out, cap, "?");
    }
}

static void check_dates(const struct config_text *file, X509 *leaf, const struct making *making)
{
    const struct diag_place place = config_place(making->config, file);
    char date[32];

    if (X509_cmp_current_time(X509_get0_notAfter(leaf)) < 0) {
        date_text(X509_get0_notAfter(leaf), date, sizeof(date));
        diag_warning(making->diags, place, "the certificate in %s expired on %s", file->text, date);
    } else if (X509_cmp_current_time(X509_get0_notBefore(leaf)) > 0) {
        date_text(X509_get0_notBefore(leaf), date, sizeof(date));
        diag_warning(making->diags, place, "the certificate in %s is not valid before %s",
                     file->text, date);
    }
}

/* RFC 5246 7.4.2: each certificate of a chain certifies the one before it. */
static void check_chain(const struct config_text *file, STACK_OF(X509) * chain,
                        const struct making *making)
{
    const struct diag_place place = config_place(making->config, file);
    X509 *leaf = sk_X509_value(chain, 0);

    for (int i = 1; i < sk_X509_num(chain); i++) {
        if (X509_check_issued(sk_X509_value(chain, i), sk_X509_value(chain, i - 1)) != X509_V_OK) {
            diag_warning(making->diags, place,
                         "certificate %d in %s did not issue the one before it; the order is the "
                         "server's own, its issuer, that one's issuer",
                         i + 1, file->text);
            return;
        }
    }
    /* Public authorities say where their intermediate is to be had; private roots do not. */
    if (sk_X509_num(chain) == 1 && X509_check_issued(leaf, leaf) != X509_V_OK &&
        X509_get_ext_by_NID(leaf, NID_info_access, -1) >= 0) {
        diag_warning(making->diags, place,
                     "%s has the server's own certificate alone; senders that verify need its "
                     "issuer's behind it (often called fullchain.pem)",
                     file->text);
    }
}

/* Whether the key belongs to the chain's first certificate. */
static bool check_key(const struct config_certificate *pair, STACK_OF(X509) * chain, EVP_PKEY *key,
                      const struct making *making)
{
    for (int i = 0; i < sk_X509_num(chain); i++) {
        if (X509_check_private_key(sk_X509_value(chain, i), key) != 1) {
            continue;
        }
        if (i == 0) {
            return true;
        }
        diag_error(making->diags, config_place(making->config, &pair->certificate),
                   "the server's own certificate is number %d in %s; it has to be the first", i + 1,
                   pair->certificate.text);
        return false;
    }
    diag_error(making->diags, config_place(making->config, &pair->private_key),
               "%s is not the key of the certificate in %s", pair->private_key.text,
               pair->certificate.text);
    return false;
}

/* The certificate, its chain and key into the context. */
static void use_pair(struct tls_context *context, const struct config_certificate *pair,
                     STACK_OF(X509) * chain, EVP_PKEY *key, const struct making *making)
{
    const struct diag_place place = config_place(making->config, &pair->certificate);
    X509 *leaf = sk_X509_shift(chain);

    ERR_clear_error();
    if (SSL_CTX_use_cert_and_key(context->ssl, leaf, key, chain, 0) != 1) {
        const unsigned long error = ERR_peek_error();
        const char *why = ERR_reason_error_string(error);
        if (ERR_GET_REASON(error) == SSL_R_NOT_REPLACING_CERTIFICATE) {
            diag_error(making->diags, place,
                       "%s has a key of the same kind (%s) as a certificate before it; there can "
                       "be one of each, such as RSA beside ECDSA",
                       pair->certificate.text, EVP_PKEY_get0_type_name(key));
        } else {
            diag_error(making->diags, place, "%s cannot be used: %s", pair->certificate.text,
                       why ? why : "unknown error");
        }
    }
    ERR_clear_error();
    X509_free(leaf);
}

static void load_pair(struct tls_context *context, const struct config_certificate *pair,
                      const struct making *making)
{
    const struct config_text *file = &pair->certificate;
    STACK_OF(X509) *chain =
        pem_certificates(file->text, config_place(making->config, file), making->diags);
    EVP_PKEY *key = pem_private_key(
        pair->private_key.text, config_place(making->config, &pair->private_key), making->diags);

    if (chain && key && check_key(pair, chain, key, making)) {
        check_dates(file, sk_X509_value(chain, 0), making);
        check_chain(file, chain, making);
        use_pair(context, pair, chain, key, making);
    }
    EVP_PKEY_free(key);
    pem_certificates_free(chain);
}

/* The lowest that was written; 1.2 where none was. */
static int minimum_version(const struct making *making)
{
    const struct config *config = making->config;
    const struct config_text *lowest = NULL;

    for (size_t i = 0; i < config->certificate_count; i++) {
        const struct config_text *version = &config->certificates[i].minimum_version;
        if (!version->text || version->line == 0) {
            continue; /* the default */
        }
        if (lowest && strcmp(lowest->text, version->text) != 0) {
            const bool lower = strcmp(version->text, lowest->text) < 0;
            diag_warning(making->diags, config_place(config, version),
                         "`minimum-version: %s` differs from line %u; certificates share their "
                         "listeners, so the lower, %s, applies to all",
                         version->text, lowest->line, lower ? version->text : lowest->text);
            lowest = lower ? version : lowest;
        }
        lowest = lowest ? lowest : version;
    }
    return lowest && strcmp(lowest->text, "1.3") == 0 ? TLS1_3_VERSION : TLS1_2_VERSION;
}

static bool make_server(const struct making *making)
{
    const struct config *config = making->config;

    for (size_t i = 0; i < config->listener_count && config->certificate_count == 0; i++) {
        const struct config_listener *listener = &config->listeners[i];
        if (listener->tls != LISTEN_TLS_NONE) {
            diag_error(making->diags, config_place(config, &listener->address),
                       "a listener with TLS needs `tls:` with `certificate` and `private-key`");
        }
    }
    if (config->certificate_count == 0) {
        return true;
    }
    struct tls_context *context = server_new(minimum_version(making));
    making->contexts->server = context;
    for (size_t i = 0; context && i < config->certificate_count; i++) {
        load_pair(context, &config->certificates[i], making);
    }
    return context != NULL;
}

/* ---- clients' ---- */

static struct tls_context *client_new(void)
{
    struct tls_context *context = context_new(false);
    if (context) {
        /* Kept by tls/sessions, which knows whom they are for. */
        SSL_CTX_set_session_cache_mode(context->ssl,
                                       SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
        SSL_CTX_sess_set_new_cb(context->ssl, tls_stream_on_session);
    }
    return context;
}

/* Trusts nobody yet. */
static struct tls_context *verifier_new(void)
{
    struct tls_context *context = client_new();
    if (!context) {
        return NULL;
    }
    context->verifies = true;
    if (SSL_CTX_set_cipher_list(context->ssl, forward_secret) != 1) {
        tls_context_unref(context);
        return NULL;
    }
    /* What the operator put into a ca-file is trusted, also when it is an intermediate. */
    X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(context->ssl), X509_V_FLAG_PARTIAL_CHAIN);
    return context;
}

/* False when memory is short; what else is wrong is told. */
static bool trust_file(struct tls_context *context, const char *path, struct diag_place place,
                       struct diag_list *diags)
{
    X509_STORE *store = SSL_CTX_get_cert_store(context->ssl);
    STACK_OF(X509) *certificates = pem_certificates(path, place, diags);
    bool fine = true;

    for (int i = 0; certificates && i < sk_X509_num(certificates); i++) {
        fine = fine && X509_STORE_add_cert(store, sk_X509_value(certificates, i)) == 1;
    }
    pem_certificates_free(certificates);
    return fine;
}

static const char *system_store(void)
{
    const char *path = secure_getenv(X509_get_default_cert_file_env());
    if (path) {
        return path;
    }
    path = X509_get_default_cert_file();
    for (size_t i = 0; access(path, R_OK) != 0; i++) {
        if (i == COUNT(system_stores)) {
            return NULL;
        }
        path = system_stores[i];
    }
    return path;
}

/* Gmail verifies unless told otherwise (design: section 7). */
static bool relay_needs_system(const struct config_relay *relay)
{
    const bool verifies = relay->tls == RELAY_TLS_VERIFY ||
                          (!relay->tls_given && strcmp(relay->name.text, "gmail") == 0);
    return verifies && !relay->ca_file.text;
}

/* A store that is absent or broken stops nothing: only what needs it will fail, and say so. */
static void warn_system(const struct making *making, const char *why)
{
    const struct config *config = making->config;
    for (size_t i = 0; i < config->relay_count; i++) {
        const struct config_relay *relay = &config->relays[i];
        if (relay_needs_system(relay)) {
            diag_warning(making->diags, config_place(config, &relay->name),
                         "relay `%s` verifies with the system's certificate authorities, and %s; "
                         "install ca-certificates or say `ca-file`",
                         relay->name.text, why);
        }
    }
}

static bool trust_system(const struct making *making, struct tls_context *context)
{
    const char *path = system_store();
    char why[512];
    bool fine = true;

    if (!path) {
        warn_system(making, "this system has no file of them");
        return true;
    }
    struct diag_list *own = diag_list_new();
    if (!own) {
        return false;
    }
    fine = trust_file(context, path, (struct diag_place){0}, own);
    if (fine && diag_errors(own) > 0) {
        diag_format(diag_at(own, 0), why, sizeof(why));
        warn_system(making, why);
    }
    diag_list_free(own);
    return fine;
}

static struct authority *find_authority(const struct tls_contexts *contexts, const char *ca_file)
{
    for (size_t i = 0; i < contexts->authority_count; i++) {
        struct authority *authority = &contexts->authorities[i];
        if (ca_file && authority->path ? strcmp(ca_file, authority->path) == 0
                                       : ca_file == authority->path) {
            return authority;
        }
    }
    return NULL;
}

/* One more, without trust; NULL when memory is short. There is room. */
static struct authority *add_authority(struct tls_contexts *contexts, const char *ca_file)
{
    struct authority *authority = &contexts->authorities[contexts->authority_count++];
    authority->path = ca_file ? span_dup(span_of(ca_file)) : NULL;
    authority->context = verifier_new();
    return authority->context && (authority->path || !ca_file) ? authority : NULL;
}

static bool make_clients(const struct making *making)
{
    const struct config *config = making->config;
    struct tls_contexts *contexts = making->contexts;

    contexts->unverified = client_new();
    contexts->authorities = calloc(config->relay_count + 1, sizeof(*contexts->authorities));
    if (!contexts->unverified || !contexts->authorities) {
        return false;
    }
    const struct authority *authority = add_authority(contexts, NULL);
    if (!authority || !trust_system(making, authority->context)) {
        return false;
    }
    for (size_t i = 0; i < config->relay_count; i++) {
        const struct config_text *file = &config->relays[i].ca_file;
        if (!file->text || find_authority(contexts, file->text)) {
            continue;
        }
        authority = add_authority(contexts, file->text);
        if (!authority || !trust_file(authority->context, file->text, config_place(config, file),
                                      making->diags)) {
            return false;
        }
    }
    return true;
}

/* ---- all of them ---- */

/* diags is not NULL here. */
static struct tls_contexts *make(const struct config *config, struct diag_list *diags)
{
    const size_t errors = diag_errors(diags);
    struct tls_contexts *contexts = calloc(1, sizeof(*contexts));
    const struct making making = {config, diags, contexts};

    if (!contexts || !make_server(&making) || !make_clients(&making)) {
        diag_error(diags, (struct diag_place){config->path, 0, 0},
                   "TLS cannot be set up: out of memory");
    }
    ERR_clear_error();
    if (diag_errors(diags) == errors) {
        return contexts;
    }
    tls_contexts_free(contexts);
    return NULL;
}

struct tls_contexts *tls_contexts_new(const struct config *config, struct diag_list *diags)
{
    struct diag_list *own = diags ? NULL : diag_list_new();
    if (!diags && !own) {
        return NULL;
    }
    struct tls_contexts *contexts = make(config, diags ? diags : own);
    diag_list_free(own);
    return contexts;
}

void tls_contexts_free(struct tls_contexts *contexts)
{
    if (!contexts) {
        return;
    }
    tls_context_unref(contexts->server);
    tls_context_unref(contexts->unverified);
    for (size_t i = 0; i < contexts->authority_count; i++) {
        tls_context_unref(contexts->authorities[i].context);
        free(contexts->authorities[i].path);
    }
    free(contexts->authorities);
    free(contexts);
}

const struct tls_context *tls_server_context(const struct tls_contexts *contexts)
{
    return contexts->server;
}

const struct tls_context *tls_client_context(const struct tls_contexts *contexts,
                                             enum config_relay_tls policy, const char *ca_file)
{
    const struct authority *authority;

    switch (policy) {
    case RELAY_TLS_NONE:
        return NULL;
    case RELAY_TLS_MAY:
    case RELAY_TLS_ENCRYPT:
        return contexts->unverified;
    case RELAY_TLS_VERIFY:
        authority = find_authority(contexts, ca_file);
        return authority ? authority->context : NULL;
    }
    return NULL;
}
