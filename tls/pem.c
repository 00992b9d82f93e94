#include "tls/pem.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Every authority there is takes a quarter of a megabyte. */
#define FILE_MAX ((off_t)16 << 20)

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

/* ---- files ---- */

static bool check_status(const struct stat *status, const char *path, enum pem_secrecy secrecy,
                         struct diag_place place, struct diag_list *diags)
{
    if (!S_ISREG(status->st_mode)) {
        diag_error(diags, place, "%s is not a regular file; it is read again at each reload", path);
        return false;
    }
    if (secrecy == PEM_SECRET && (status->st_mode & (S_IROTH | S_IWOTH)) != 0) {
        diag_error(diags, place, "%s can be read or written by everyone: chmod o-rw %s", path,
                   path);
        return false;
    }
    if (status->st_size > FILE_MAX) {
        diag_error(diags, place, "%s is longer than 16 MB", path);
        return false;
    }
    return true;
}

/* As many bytes as the file had when it was opened, or fewer. False: errno says why. */
static bool read_all(int fd, struct pem_file *file, size_t size)
{
    while (file->len < size) {
        const ssize_t n = read(fd, file->bytes + file->len, size - file->len);
        if (n < 0) {
            return false;
        }
        if (n == 0) {
            break;
        }
        file->len += (size_t)n;
    }
    return true;
}

/* O_NONBLOCK: a FIFO does not hold us. */
bool pem_read(struct pem_file *file, const char *path, enum pem_secrecy secrecy,
              struct diag_place place, struct diag_list *diags)
{
    struct stat status;
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    bool fine = false;

    *file = (struct pem_file){.path = path};
    if (fd < 0 || fstat(fd, &status) != 0) {
        diag_error(diags, place, "%s cannot be opened: %s", path, strerror(errno));
        goto done;
    }
    if (!check_status(&status, path, secrecy, place, diags)) {
        goto done;
    }
    file->bytes = OPENSSL_malloc((size_t)status.st_size + 1);
    if (!file->bytes) {
        diag_error(diags, place, "out of memory");
        goto done;
    }
    if (!read_all(fd, file, (size_t)status.st_size)) {
        diag_error(diags, place, "%s cannot be read: %s", path, strerror(errno));
        goto done;
    }
    fine = EVP_Digest(file->bytes, file->len, file->digest, NULL, EVP_sha256(), NULL) == 1;
    if (!fine) {
        diag_error(diags, place, "out of memory");
    }
done:
    if (fd >= 0) {
        close(fd);
    }
    if (!fine) {
        pem_release(file);
    }
    return fine;
}

void pem_release(struct pem_file *file)
{
    OPENSSL_clear_free(file->bytes, file->len); /* it may be a key */
    *file = (struct pem_file){0};
}

/* NULL: told. */
static BIO *file_bio(const struct pem_file *file, struct diag_place place, struct diag_list *diags)
{
    ERR_clear_error();
    BIO *bio = BIO_new_mem_buf(file->bytes, (int)file->len);
    if (!bio) {
        diag_error(diags, place, "out of memory");
    }
    return bio;
}

/* ---- certificates ---- */

/* Whether the last call failed because nothing more is there. */
static bool is_end(void)
{
    const unsigned long end = ERR_peek_last_error();
    return ERR_GET_LIB(end) == ERR_LIB_PEM && ERR_GET_REASON(end) == PEM_R_NO_START_LINE;
}

static bool is_certificate(const char *name)
{
    return strcmp(name, PEM_STRING_X509) == 0 || strcmp(name, PEM_STRING_X509_OLD) == 0 ||
           strcmp(name, PEM_STRING_X509_TRUSTED) == 0;
}

bool pem_each(const struct pem_file *file, each_certificate *each, void *context,
              struct diag_place place, struct diag_list *diags)
{
    unsigned count = 0;
    bool fine = true;
    BIO *bio = file_bio(file, place, diags);

    while (bio && fine) {
        char *name = NULL, *header = NULL;
        unsigned char *der = NULL;
        long len = 0;
        ERR_clear_error();
        if (PEM_read_bio(bio, &name, &header, &der, &len) != 1) {
            fine = is_end();
            break;
        }
        if (is_certificate(name)) {
            fine = each(context, der, (size_t)len, strcmp(name, PEM_STRING_X509_TRUSTED) == 0);
            count += fine;
        }
        OPENSSL_free(name);
        OPENSSL_free(header);
        OPENSSL_clear_free(der, (size_t)len);
    }
    if (!fine) {
        diag_error(diags, place, "certificate %u in %s is broken: %s", count + 1, file->path,
                   reason());
    } else if (bio && count == 0) {
        diag_error(diags, place, "%s has no certificate in PEM form (-----BEGIN CERTIFICATE-----)",
                   file->path);
    }
    ERR_clear_error();
    BIO_free(bio);
    return fine && count > 0;
}

static bool add_certificate(void *context, const unsigned char *der, size_t len, bool trusted)
{
    X509 *certificate =
        trusted ? d2i_X509_AUX(NULL, &der, (long)len) : d2i_X509(NULL, &der, (long)len);
    STACK_OF(X509) *certificates = context;

    if (certificate && sk_X509_push(certificates, certificate) > 0) {
        return true;
    }
    X509_free(certificate);
    return false;
}

STACK_OF(X509) *
    pem_certificates(const struct pem_file *file, struct diag_place place, struct diag_list *diags)
{
    STACK_OF(X509) *out = sk_X509_new_null();

    if (!out) {
        diag_error(diags, place, "out of memory");
        return NULL;
    }
    if (!pem_each(file, add_certificate, out, place, diags)) {
        pem_certificates_free(out);
        return NULL;
    }
    return out;
}

void pem_certificates_free(STACK_OF(X509) * certificates)
{
    sk_X509_pop_free(certificates, X509_free);
}

/* ---- private keys ---- */

EVP_PKEY *pem_private_key(const struct pem_file *file, struct diag_place place,
                          struct diag_list *diags)
{
    bool asked = false;
    BIO *bio = file_bio(file, place, diags);

    if (!bio) {
        return NULL;
    }
    EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, &asked);
    if (!key && asked) {
        diag_error(diags, place,
                   "%s is encrypted, and nobody is there to be asked for its passphrase: write it "
                   "without one (openssl pkey -in %s -out NEW)",
                   file->path, file->path);
    } else if (!key) {
        diag_error(diags, place,
                   "%s has no private key in PEM form (-----BEGIN PRIVATE KEY-----) that can be "
                   "read: %s",
                   file->path, reason());
    }
    BIO_free(bio);
    ERR_clear_error();
    return key;
}
