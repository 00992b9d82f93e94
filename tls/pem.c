#include "tls/pem.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The library's first complaint about what was just tried. */
static const char *reason(void)
{
    const char *text = ERR_reason_error_string(ERR_peek_error());
    return text ? text : "unknown error";
}

/* Without this, the library asks the terminal. */
static int no_passphrase(char *buffer, int size, int writing, void *asked)
{
    (void)buffer;
    (void)size;
    (void)writing;
    *(bool *)asked = true;
    return -1;
}

/* The regular file, open; NULL when there is none (told). O_NONBLOCK: a FIFO does not hold us. */
static BIO *open_regular(const char *path, struct stat *status, struct diag_place place,
                         struct diag_list *diags)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || fstat(fd, status) != 0) {
        diag_error(diags, place, "%s cannot be opened: %s", path, strerror(errno));
        goto failed;
    }
    if (!S_ISREG(status->st_mode)) {
        diag_error(diags, place, "%s is not a regular file; it is read again at each reload", path);
        goto failed;
    }
    FILE *file = fdopen(fd, "r");
    if (!file) {
        diag_error(diags, place, "out of memory");
        goto failed;
    }
    BIO *bio = BIO_new_fp(file, BIO_CLOSE);
    if (!bio) {
        diag_error(diags, place, "out of memory");
        fclose(file);
    }
    return bio;
failed:
    if (fd >= 0) {
        close(fd);
    }
    return NULL;
}

void pem_certificates_free(STACK_OF(X509) * certificates)
{
    sk_X509_pop_free(certificates, X509_free);
}

/* False: something in the file is broken (or memory is short), told. */
static bool read_certificates(BIO *bio, STACK_OF(X509) * out, const char *path,
                              struct diag_place place, struct diag_list *diags)
{
    bool asked = false;

    for (;;) {
        ERR_clear_error();
        X509 *certificate = PEM_read_bio_X509(bio, NULL, no_passphrase, &asked);
        if (!certificate) {
            break;
        }
        if (sk_X509_push(out, certificate) <= 0) {
            X509_free(certificate);
            diag_error(diags, place, "out of memory");
            return false;
        }
    }
    const unsigned long end = ERR_peek_last_error();
    if (ERR_GET_LIB(end) == ERR_LIB_PEM && ERR_GET_REASON(end) == PEM_R_NO_START_LINE) {
        return true;
    }
    diag_error(diags, place, "certificate %d in %s is broken: %s", sk_X509_num(out) + 1, path,
               reason());
    return false;
}

STACK_OF(X509) *
    pem_certificates(const char *path, struct diag_place place, struct diag_list *diags)
{
    struct stat status;
    bool fine = false;
    BIO *bio = open_regular(path, &status, place, diags);
    STACK_OF(X509) *out = sk_X509_new_null();

    if (!bio) {
        goto done;
    }
    if (!out) {
        diag_error(diags, place, "out of memory");
        goto done;
    }
    if (!read_certificates(bio, out, path, place, diags)) {
        goto done;
    }
    if (sk_X509_num(out) == 0) {
        diag_error(diags, place, "%s has no certificate in PEM form (-----BEGIN CERTIFICATE-----)",
                   path);
        goto done;
    }
    fine = true;
done:
    BIO_free(bio);
    ERR_clear_error();
    if (!fine) {
        pem_certificates_free(out);
        out = NULL;
    }
    return out;
}

EVP_PKEY *pem_private_key(const char *path, struct diag_place place, struct diag_list *diags)
{
    struct stat status;
    bool asked = false;
    EVP_PKEY *key = NULL;
    BIO *bio = open_regular(path, &status, place, diags);

    if (!bio) {
        return NULL;
    }
    if ((status.st_mode & (S_IROTH | S_IWOTH)) != 0) {
        diag_error(diags, place, "%s can be read or written by everyone: chmod o-rw %s", path,
                   path);
        goto done;
    }
    ERR_clear_error();
    key = PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, &asked);
    if (key) {
        goto done;
    }
    if (asked) {
        diag_error(diags, place,
                   "%s is encrypted, and nobody is there to be asked for its passphrase: write it "
                   "without one (openssl pkey -in %s -out NEW)",
                   path, path);
    } else {
        diag_error(diags, place,
                   "%s has no private key in PEM form (-----BEGIN PRIVATE KEY-----) that can be "
                   "read: %s",
                   path, reason());
    }
done:
    BIO_free(bio);
    ERR_clear_error();
    return key;
}
