/* The context of `tls:`: certificates, keys, and what is to be said about them. */
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tls/context_state.h"

/* Names this server's sessions, should a key of tickets ever be shared. */
static const unsigned char session_id_context[] = "splitmx";

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* The files of one certificate; zeroed where they could not be read. */
struct pair_files {
    struct pem_file certificate, key;
};

/* What making it carries along. */
struct making {
    const struct config *config;
    struct diag_list *diags;
    struct pair_files *files; /* one for each certificate */
};

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
    struct tls_context *context = tls_context_new(true);
    if (!context) {
        return NULL;
    }
    SSL_CTX *ssl = context->ssl;
    context->tickets = tickets_new();
    if (!context->tickets || !tickets_use(context->tickets, ssl) ||
        SSL_CTX_set_min_proto_version(ssl, minimum) != 1 ||
        SSL_CTX_set_cipher_list(ssl, tls_forward_secret) != 1 ||
        SSL_CTX_set_session_id_context(ssl, session_id_context, sizeof(session_id_context) - 1) !=
            1) {
        tls_context_unref(context);
        return NULL;
    }
    /* A peer that puts ChaCha20 first has no AES in hardware. */
    SSL_CTX_set_options(ssl, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
    SSL_CTX_set_verify(ssl, SSL_VERIFY_NONE, NULL); /* clients are not asked for certificates */
    /* Sessions are the client's to keep, in a ticket (tls/tickets), as long as its key stands. */
    SSL_CTX_set_timeout(ssl, TICKETS_PERIOD);
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

/* The certificate, its chain and key into the context. False when memory is short. */
static bool use_pair(struct tls_context *context, const struct config_certificate *pair,
                     STACK_OF(X509) * chain, EVP_PKEY *key, const struct making *making)
{
    const struct diag_place place = config_place(making->config, &pair->certificate);
    STACK_OF(X509) *others = sk_X509_dup(chain);

    if (!others) {
        return false;
    }
    X509 *leaf = sk_X509_shift(others);
    ERR_clear_error();
    if (SSL_CTX_use_cert_and_key(context->ssl, leaf, key, others, 0) != 1) {
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
    sk_X509_free(others);
    return true;
}

/* Certificate i, as far as its files could be read. False when memory is short. */
static bool load_pair(struct tls_context *context, size_t i, const struct making *making)
{
    const struct config_certificate *pair = &making->config->certificates[i];
    const struct pair_files *files = &making->files[i];
    STACK_OF(X509) *chain = NULL;
    EVP_PKEY *key = NULL;
    bool fine = true;

    if (files->certificate.bytes) {
        chain = pem_certificates(&files->certificate,
                                 config_place(making->config, &pair->certificate), making->diags);
    }
    if (files->key.bytes) {
        key = pem_private_key(&files->key, config_place(making->config, &pair->private_key),
                              making->diags);
    }
    if (chain && key && check_key(pair, chain, key, making)) {
        check_dates(&pair->certificate, sk_X509_value(chain, 0), making);
        check_chain(&pair->certificate, chain, making);
        fine = use_pair(context, pair, chain, key, making);
    }
    EVP_PKEY_free(key);
    context->chains[i] = chain;
    return fine;
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

/* ---- all of it ---- */

/* False: at least one file could not be read, which was told. */
static bool read_files(const struct making *making)
{
    const struct config *config = making->config;
    bool fine = true;

    for (size_t i = 0; i < config->certificate_count; i++) {
        const struct config_text *certificate = &config->certificates[i].certificate;
        const struct config_text *key = &config->certificates[i].private_key;
        fine &= pem_read(&making->files[i].certificate, certificate->text, PEM_PUBLIC,
                         config_place(config, certificate), making->diags);
        fine &= pem_read(&making->files[i].key, key->text, PEM_SECRET, config_place(config, key),
                         making->diags);
    }
    return fine;
}

/* What the context is made of: its setting and its files, in order. False when memory is short. */
static bool digest(const struct making *making, int minimum, unsigned char out[PEM_DIGEST])
{
    EVP_MD_CTX *hash = EVP_MD_CTX_new();
    bool fine = hash && EVP_DigestInit_ex(hash, EVP_sha256(), NULL) == 1 &&
                EVP_DigestUpdate(hash, &minimum, sizeof(minimum)) == 1;

    for (size_t i = 0; fine && i < making->config->certificate_count; i++) {
        const struct pair_files *files = &making->files[i];
        fine = EVP_DigestUpdate(hash, files->certificate.digest, PEM_DIGEST) == 1 &&
               EVP_DigestUpdate(hash, files->key.digest, PEM_DIGEST) == 1;
    }
    fine = fine && EVP_DigestFinal_ex(hash, out, NULL) == 1;
    EVP_MD_CTX_free(hash);
    return fine;
}

static void judge_again(const struct tls_context *context, const struct making *making)
{
    for (size_t i = 0; i < context->chain_count; i++) {
        const struct config_text *file = &making->config->certificates[i].certificate;
        check_dates(file, sk_X509_value(context->chains[i], 0), making);
        check_chain(file, context->chains[i], making);
    }
}

/* NULL when memory is short; what else is wrong is told. */
static struct tls_context *load(const struct making *making, int minimum,
                                const unsigned char made_of[PEM_DIGEST])
{
    const size_t count = making->config->certificate_count;
    struct tls_context *context = server_new(minimum);
    bool fine = context != NULL;

    if (fine) {
        context->chains = calloc(count, sizeof(*context->chains));
        context->chain_count = context->chains ? count : 0;
        memcpy(context->made_of, made_of, PEM_DIGEST);
        fine = context->chains != NULL;
    }
    for (size_t i = 0; fine && i < count; i++) {
        fine = load_pair(context, i, making);
    }
    if (!fine) {
        tls_context_unref(context);
        context = NULL;
    }
    return context;
}

static void need_certificate(const struct config *config, struct diag_list *diags)
{
    for (size_t i = 0; i < config->listener_count; i++) {
        const struct config_listener *listener = &config->listeners[i];
        if (listener->tls != LISTEN_TLS_NONE) {
            diag_error(
                diags, config_place(config, &listener->address),
                "a listener with TLS needs `tls:` with `certificate` and `private-key`, at the "
                "left margin of this file");
        }
    }
}

bool tls_server_make(const struct config *config, const struct tls_context *before,
                     struct diag_list *diags, const struct tls_context **out)
{
    const size_t count = config->certificate_count;
    unsigned char made_of[PEM_DIGEST] = {0};

    *out = NULL;
    if (count == 0) {
        need_certificate(config, diags);
        return true;
    }
    const struct making making = {config, diags, calloc(count, sizeof(struct pair_files))};
    if (!making.files) {
        return false;
    }
    const int minimum = minimum_version(&making);
    const bool whole = read_files(&making);
    bool fine = !whole || digest(&making, minimum, made_of);
    if (fine && whole && before && memcmp(before->made_of, made_of, sizeof(made_of)) == 0) {
        judge_again(before, &making);
        *out = tls_context_ref(before);
    } else if (fine) {
        *out = load(&making, minimum, made_of);
        fine = *out != NULL;
    }
    for (size_t i = 0; i < count; i++) {
        pem_release(&making.files[i].certificate);
        pem_release(&making.files[i].key);
    }
    free(making.files);
    return fine;
}
