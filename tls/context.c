#include "tls/context.h"

#include <openssl/err.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <unistd.h>

#include "tls/context_state.h"
#include "tls/store.h"

/*
 * TLS 1.2, by our preference: forward secrecy (ECDHE) always, AEAD before CBC (RFC 9325 4.2). CBC
 * is there because mail is opportunistic: what cannot agree with us goes on in clear text (RFC
 * 7435), and Exchange on Windows before 2016 with an RSA certificate has nothing better. RSA key
 * transport is not there for the same reason that CBC is: an attack on it (ROBOT) harms not only
 * the old peer but everyone who trusts this key. TLS 1.3 suites and groups are the library's own:
 * so post-quantum groups come with it.
 */
const char tls_forward_secret[] = "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"
                                  "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:"
                                  "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"
                                  "ECDHE-ECDSA-AES256-SHA384:ECDHE-RSA-AES256-SHA384:"
                                  "ECDHE-ECDSA-AES128-SHA256:ECDHE-RSA-AES128-SHA256:"
                                  "ECDHE-ECDSA-AES256-SHA:ECDHE-RSA-AES256-SHA:"
                                  "ECDHE-ECDSA-AES128-SHA:ECDHE-RSA-AES128-SHA";

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
    const struct tls_context *context;
};

struct tls_contexts {
    atomic_uint references;
    const struct tls_context *server;     /* NULL: none */
    const struct tls_context *unverified; /* for `may` and `encrypt` */
    struct authority *authorities;        /* the first is the system's */
    size_t authority_count;
};

/* What making them carries along. */
struct making {
    const struct config *config;
    struct diag_list *diags;
    const struct tls_contexts *before; /* whose parts may be taken over; NULL: none */
    struct tls_contexts *contexts;
};

void tls_library_begin(void)
{
    OPENSSL_init_ssl(OPENSSL_INIT_LOAD_CONFIG, NULL);
}

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
    if (!context || atomic_fetch_sub_explicit(&counted->references, 1, memory_order_acq_rel) > 1) {
        return;
    }
    SSL_CTX_free(counted->ssl);
    tickets_free(counted->tickets);
    BIO_meth_free(counted->bio);
    X509_LOOKUP_meth_free(counted->lookup);
    for (size_t i = 0; i < counted->chain_count; i++) {
        pem_certificates_free(counted->chains[i]);
    }
    free(counted->chains);
    free(counted);
}

struct tls_context *tls_context_new(bool server)
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
    /* A chain is what its file says: none is put together, and verified, in each handshake. */
    SSL_CTX_set_mode(context->ssl, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_NO_AUTO_CHAIN);
    return context;
}

/* ---- clients' ---- */

static struct tls_context *client_new(void)
{
    struct tls_context *context = tls_context_new(false);
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
    context->lookup = store_lookup();
    if (!context->lookup || SSL_CTX_set_cipher_list(context->ssl, tls_forward_secret) != 1) {
        tls_context_unref(context);
        return NULL;
    }
    /* What the operator put into a ca-file is trusted, also when it is an intermediate. */
    X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(context->ssl), X509_V_FLAG_PARTIAL_CHAIN);
    return context;
}

static struct authority *find_authority(const struct tls_contexts *contexts, const char *ca_file)
{
    for (size_t i = 0; contexts && i < contexts->authority_count; i++) {
        struct authority *authority = &contexts->authorities[i];
        if (ca_file && authority->path ? strcmp(ca_file, authority->path) == 0
                                       : ca_file == authority->path) {
            return authority;
        }
    }
    return NULL;
}

/* What was there before under this path, if it was made of this. */
static const struct tls_context *unchanged(const struct making *making, const char *ca_file,
                                           const unsigned char made_of[PEM_DIGEST])
{
    const struct authority *before = find_authority(making->before, ca_file);
    return before && memcmp(before->context->made_of, made_of, PEM_DIGEST) == 0
               ? tls_context_ref(before->context)
               : NULL;
}

/* One more; the context's reference goes over to it. False when memory is short. There is room. */
static bool add_authority(struct tls_contexts *contexts, const char *ca_file,
                          const struct tls_context *context)
{
    struct authority *authority = &contexts->authorities[contexts->authority_count++];
    authority->path = ca_file ? span_dup(span_of(ca_file)) : NULL;
    authority->context = context;
    return context && (authority->path || !ca_file);
}

/* ---- trust in a ca-file ---- */

/* False when memory is short; what else is wrong is told. */
static bool trust_certificates(struct tls_context *context, const struct pem_file *file,
                               struct diag_place place, struct diag_list *diags)
{
    X509_STORE *store = SSL_CTX_get_cert_store(context->ssl);
    STACK_OF(X509) *certificates = pem_certificates(file, place, diags);
    bool fine = true;

    for (int i = 0; certificates && i < sk_X509_num(certificates); i++) {
        fine = fine && X509_STORE_add_cert(store, sk_X509_value(certificates, i)) == 1;
    }
    pem_certificates_free(certificates);
    memcpy(context->made_of, file->digest, sizeof(context->made_of));
    return fine;
}

/* False when memory is short; what else is wrong is told. */
static bool trust_ca_file(const struct making *making, const struct config_text *path)
{
    const struct diag_place place = config_place(making->config, path);
    struct tls_context *context = NULL;
    struct pem_file file;

    if (!pem_read(&file, path->text, PEM_PUBLIC, place, making->diags)) {
        context = verifier_new(); /* stands there, so that this is told once */
        return add_authority(making->contexts, path->text, context);
    }
    const struct tls_context *before = unchanged(making, path->text, file.digest);
    bool fine = true;
    if (!before) {
        context = verifier_new();
        fine = context && trust_certificates(context, &file, place, making->diags);
    }
    pem_release(&file);
    return add_authority(making->contexts, path->text, before ? before : context) && fine;
}

/* ---- trust in the system's store ---- */

const char *tls_system_store(void)
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

/* The file; a zeroed one: there is none, told. False when memory is short. */
static bool read_system(const struct making *making, struct pem_file *file, struct diag_list *own)
{
    const char *path = tls_system_store();

    *file = (struct pem_file){0};
    if (!path) {
        warn_system(making, "this system has no file of them");
        return true;
    }
    return pem_read(file, path, PEM_PUBLIC, DIAG_NOWHERE, own) || diag_errors(own) > 0;
}

/* False when memory is short. A store that is broken was made of nothing: it is looked at again. */
static bool trust_system(const struct making *making)
{
    char why[512];
    struct pem_file file = {0};
    struct tls_context *context = NULL;
    const struct tls_context *before = NULL;
    struct diag_list *own = diag_list_new();
    bool fine = own && read_system(making, &file, own);

    if (fine) {
        before = unchanged(making, NULL, file.digest);
        context = before ? NULL : verifier_new();
        fine = before || context;
    }
    if (context && file.bytes &&
        store_fill(SSL_CTX_get_cert_store(context->ssl), context->lookup, &file, DIAG_NOWHERE,
                   own)) {
        memcpy(context->made_of, file.digest, sizeof(context->made_of));
    }
    if (fine && diag_errors(own) > 0) {
        diag_format(diag_at(own, 0), why, sizeof(why));
        warn_system(making, why);
    }
    pem_release(&file);
    diag_list_free(own);
    return add_authority(making->contexts, NULL, before ? before : context) && fine;
}

static bool make_clients(const struct making *making)
{
    const struct config *config = making->config;
    struct tls_contexts *contexts = making->contexts;

    contexts->unverified =
        making->before ? tls_context_ref(making->before->unverified) : client_new();
    contexts->authorities = calloc(config->relay_count + 1, sizeof(*contexts->authorities));
    if (!contexts->unverified || !contexts->authorities || !trust_system(making)) {
        return false;
    }
    for (size_t i = 0; i < config->relay_count; i++) {
        const struct config_text *file = &config->relays[i].ca_file;
        if (file->text && !find_authority(contexts, file->text) && !trust_ca_file(making, file)) {
            return false;
        }
    }
    return true;
}

/* ---- all of them ---- */

static struct tls_contexts *contexts_ref(const struct tls_contexts *contexts)
{
    struct tls_contexts *counted = (struct tls_contexts *)contexts;
    atomic_fetch_add_explicit(&counted->references, 1, memory_order_relaxed);
    return counted;
}

void tls_contexts_unref(struct tls_contexts *contexts)
{
    if (!contexts ||
        atomic_fetch_sub_explicit(&contexts->references, 1, memory_order_acq_rel) > 1) {
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

static bool is_same(const struct tls_contexts *a, const struct tls_contexts *b)
{
    if (a->server != b->server || a->unverified != b->unverified ||
        a->authority_count != b->authority_count) {
        return false;
    }
    for (size_t i = 0; i < a->authority_count; i++) {
        const struct authority *other = find_authority(b, a->authorities[i].path);
        if (!other || other->context != a->authorities[i].context) {
            return false;
        }
    }
    return true;
}

/* diags is not NULL here. */
static struct tls_contexts *make(const struct tls_contexts *before, const struct config *config,
                                 struct diag_list *diags)
{
    const size_t errors = diag_errors(diags);
    struct tls_contexts *contexts = calloc(1, sizeof(*contexts));
    const struct making making = {config, diags, before, contexts};

    if (contexts) {
        atomic_init(&contexts->references, 1);
    }
    if (!contexts ||
        !tls_server_make(config, before ? before->server : NULL, diags, &contexts->server) ||
        !make_clients(&making)) {
        diag_error(diags, (struct diag_place){config->path, 0, 0},
                   "TLS cannot be set up: out of memory");
    }
    ERR_clear_error();
    if (diag_errors(diags) != errors) {
        tls_contexts_unref(contexts);
        return NULL;
    }
    if (before && is_same(before, contexts)) {
        tls_contexts_unref(contexts);
        return contexts_ref(before);
    }
    return contexts;
}

struct tls_contexts *tls_contexts_renew(const struct tls_contexts *in_force,
                                        const struct config *config, struct diag_list *diags)
{
    struct diag_list *own = diags ? NULL : diag_list_new();
    if (!diags && !own) {
        return NULL;
    }
    struct tls_contexts *contexts = make(in_force, config, diags ? diags : own);
    diag_list_free(own);
    return contexts;
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

bool tls_contexts_have(const struct tls_contexts *contexts, const struct tls_context *context)
{
    bool have = contexts->unverified == context;
    for (size_t i = 0; !have && i < contexts->authority_count; i++) {
        have = contexts->authorities[i].context == context;
    }
    return have;
}
