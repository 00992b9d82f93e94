/*
 * pem: certificates and private keys from PEM files, with what is wrong told in the operator's
 * words.
 *
 * Only regular files are read: they are read again at each reload. Nobody is asked for a
 * passphrase. Thread: blocks on files.
 */
#ifndef SPLITMX_TLS_PEM_H
#define SPLITMX_TLS_PEM_H

#include <openssl/x509.h>

#include "config/diag.h"

/* All certificates of the file, at least one, in order; the caller frees them with
 * pem_certificates_free. NULL: an error was told. */
STACK_OF(X509) *
    pem_certificates(const char *path, struct diag_place place, struct diag_list *diags);
void pem_certificates_free(STACK_OF(X509) * certificates);

/* The file's first private key. NULL: an error was told; one is that everyone may read or write the
 * file. */
EVP_PKEY *pem_private_key(const char *path, struct diag_place place, struct diag_list *diags);

#endif
