/* Certificates and keys from PEM files: read or refused in words; what a store has kept as bytes
 * is safe to be asked for. */
#include <openssl/err.h>
#include <openssl/x509_vfy.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "config/text.h"
#include "tests/fuzz/require.h"
#include "tests/fuzz/scratch.h"
#include "tls/inspect.h"
#include "tls/store.h"

/* Each certificate of the file is looked for, as when somebody's chain leads to its issuer. */
static void look_up(X509_STORE *store, STACK_OF(X509) * certificates)
{
    X509_STORE_CTX *context = X509_STORE_CTX_new();
    require(context != NULL && X509_STORE_CTX_init(context, store, NULL, NULL) == 1);
    for (int i = 0; i < sk_X509_num(certificates); i++) {
        X509_NAME *name = X509_get_issuer_name(sk_X509_value(certificates, i));
        STACK_OF(X509) *found = X509_STORE_CTX_get1_certs(context, name);
        pem_certificates_free(found);
    }
    X509_STORE_CTX_free(context);
}

static void fill_store(const struct pem_file *file, STACK_OF(X509) * certificates,
                       struct diag_place place, struct diag_list *diags)
{
    X509_LOOKUP_METHOD *lookup = store_lookup();
    X509_STORE *store = X509_STORE_new();
    require(lookup != NULL && store != NULL);
    const size_t errors = diag_errors(diags);
    const bool filled = store_fill(store, lookup, file, place, diags);
    require(filled == (diag_errors(diags) == errors));
    require(certificates == NULL || filled); /* the store looks less close */
    if (filled && certificates != NULL) {
        look_up(store, certificates);
    }
    X509_STORE_free(store);
    X509_LOOKUP_meth_free(lookup);
}

static void inspect(const char *path)
{
    char buffer[512];
    struct text names = TEXT(buffer);
    struct tls_inspection *inspection = tls_inspect(path, NULL);
    if (inspection != NULL) {
        tls_inspection_names(inspection, &names);
        require_printable(text_span(&names));
        tls_inspection_covers(inspection, "mx.example.com");
        tls_inspection_left(inspection, 1800000000);
    }
    tls_inspection_free(inspection);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct diag_place place = {"splitmx.yaml", 1, 1};
    struct diag_list *diags = diag_list_new();
    struct pem_file file;
    char path[32];
    const int fd = memfd_create("fuzz_pem", MFD_CLOEXEC);
    require(diags != NULL && fd >= 0 && write(fd, data, size) == (ssize_t)size);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);

    require(pem_read(&file, path, PEM_PUBLIC, place, diags) && file.len == size);
    STACK_OF(X509) *certificates = pem_certificates(&file, place, diags);
    require((certificates == NULL) == (diag_errors(diags) != 0));
    require(certificates == NULL || sk_X509_num(certificates) > 0);
    fill_store(&file, certificates, place, diags);
    const size_t errors = diag_errors(diags);
    EVP_PKEY *key = pem_private_key(&file, place, diags);
    require((key == NULL) == (diag_errors(diags) != errors));
    require(ERR_peek_error() == 0); /* nothing that another connection would take for its own */
    EVP_PKEY_free(key);
    inspect(path);
    pem_certificates_free(certificates);
    pem_release(&file);
    scratch_require_places(diags, place.file, span_of("x"));
    diag_list_free(diags);
    close(fd);
    return 0;
}
