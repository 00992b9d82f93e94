#include "tls/inspect.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <time.h>

#include "tls/context_state.h"
#include "tls/pem.h"

struct tls_inspection {
    STACK_OF(X509) * chain; /* the server's own first */
};

static X509 *leaf_of(const struct tls_inspection *inspection)
{
    return sk_X509_value(inspection->chain, 0);
}

struct tls_inspection *tls_inspect(const char *path, struct diag_list *diags)
{
    struct diag_place place = {path, 0, 0};
    struct tls_inspection *inspection = calloc(1, sizeof *inspection);
    struct pem_file file = {0};
    if (inspection != NULL && pem_read(&file, path, PEM_PUBLIC, place, diags)) {
        inspection->chain = pem_certificates(&file, place, diags);
        pem_release(&file);
    }
    if (inspection != NULL && inspection->chain == NULL) {
        free(inspection);
        inspection = NULL;
    }
    return inspection;
}

void tls_inspection_free(struct tls_inspection *inspection)
{
    if (inspection != NULL) {
        pem_certificates_free(inspection->chain);
        free(inspection);
    }
}

long long tls_inspection_left(const struct tls_inspection *inspection, long long now)
{
    struct tm end = {0};
    /* A date that cannot be read is one that has passed. */
    return ASN1_TIME_to_tm(X509_get0_notAfter(leaf_of(inspection)), &end) == 1
               ? (long long)timegm(&end) - now
               : -1;
}

bool tls_inspection_covers(const struct tls_inspection *inspection, const char *name)
{
    return X509_check_host(leaf_of(inspection), name, 0, 0, NULL) == 1;
}

static void put_name(const ASN1_STRING *name, struct text *out)
{
    const unsigned char *bytes = ASN1_STRING_get0_data(name);
    if (out->len > 0) {
        text_puts(out, ", ");
    }
    for (int i = 0; i < ASN1_STRING_length(name); i++) {
        text_putc(out, bytes[i] > ' ' && bytes[i] < 127 ? (char)bytes[i] : '?');
    }
}

void tls_inspection_names(const struct tls_inspection *inspection, struct text *out)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(leaf_of(inspection), NID_subject_alt_name, NULL, NULL);
    const X509_NAME *subject = X509_get_subject_name(leaf_of(inspection));
    int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        if (name->type == GEN_DNS) {
            put_name(name->d.dNSName, out);
        }
    }
    if (names == NULL && at >= 0) {
        put_name(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)), out);
    }
    GENERAL_NAMES_free(names);
}

bool tls_inspection_trusted(const struct tls_inspection *inspection,
                            const struct tls_contexts *contexts, struct text *why)
{
    const struct tls_context *system = tls_client_context(contexts, RELAY_TLS_VERIFY, NULL);
    X509_STORE_CTX *verification = X509_STORE_CTX_new();
    bool fine = false;
    if (verification != NULL && system != NULL &&
        X509_STORE_CTX_init(verification, SSL_CTX_get_cert_store(system->ssl), leaf_of(inspection),
                            inspection->chain) == 1) {
        X509_STORE_CTX_set_flags(verification, X509_V_FLAG_NO_CHECK_TIME);
        fine = X509_verify_cert(verification) == 1;
        text_puts(
            why, fine ? "" : X509_verify_cert_error_string(X509_STORE_CTX_get_error(verification)));
    } else {
        text_puts(why, "out of memory");
    }
    X509_STORE_CTX_free(verification);
    ERR_clear_error();
    return fine;
}
