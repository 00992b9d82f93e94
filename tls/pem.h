/*
 * pem: certificates and private keys from PEM files, with what is wrong told in the operator's
 * words.
 *
 * Only regular files are read: they are read again at each reload. Nobody is asked for a
 * passphrase. Thread: pem_read blocks on files.
 */
#ifndef SPLITMX_TLS_PEM_H
#define SPLITMX_TLS_PEM_H

#include <openssl/x509.h>

#include "config/diag.h"

#define PEM_DIGEST 32

/* A file as it was at one moment, so that what it is known by is what was made of it. */
struct pem_file {
    const char *path; /* the caller's */
    char *bytes;
    size_t len;
    /* SHA-256 of the bytes. No stamps: the clock of a file system is coarse, and a file written
     * again within one of its ticks would be taken for the one before. */
    unsigned char digest[PEM_DIGEST];
};

enum pem_secrecy {
    PEM_PUBLIC,
    PEM_SECRET, /* everyone may not read or write it */
};

/* False: an error was told, and there is nothing to release. */
bool pem_read(struct pem_file *file, const char *path, enum pem_secrecy secrecy,
              struct diag_place place, struct diag_list *diags);
void pem_release(struct pem_file *file); /* a zeroed one is accepted */

/* All certificates of the file, at least one, in order; the caller frees them with
 * pem_certificates_free. NULL: an error was told. */
STACK_OF(X509) *
    pem_certificates(const struct pem_file *file, struct diag_place place, struct diag_list *diags);
void pem_certificates_free(STACK_OF(X509) * certificates); /* NULL is accepted */

/* The file's first private key. NULL: an error was told. */
EVP_PKEY *pem_private_key(const struct pem_file *file, struct diag_place place,
                          struct diag_list *diags);

/*
 * For each certificate, in order, its DER bytes, which end with the call. `trusted`: OpenSSL's own
 * form, with its notes behind (d2i_X509_AUX). each_certificate returns false to end it, having
 * left its reason in OpenSSL's queue. False: an error was told.
 */
typedef bool each_certificate(void *context, const unsigned char *der, size_t len, bool trusted);
bool pem_each(const struct pem_file *file, each_certificate *each, void *context,
              struct diag_place place, struct diag_list *diags);

#endif
