/*
 * store: many authorities of which few are ever asked for, such as the system's: kept as bytes by
 * name, and decoded when a chain leads to them.
 *
 * Decoding all of Debian's takes OpenSSL 3.0 twelve times as long as finding their names.
 */
#ifndef SPLITMX_TLS_STORE_H
#define SPLITMX_TLS_STORE_H

#include <openssl/x509_vfy.h>

#include "tls/pem.h"

/* What a store looks certificates up by; it must outlive the stores that were filled with it. NULL
 * when memory is short; freed by X509_LOOKUP_meth_free. */
X509_LOOKUP_METHOD *store_lookup(void);

/*
 * Fills the store with the file's certificates, of which a broken one, but for its frame and name,
 * is found out when it is needed: then it is as if it were not there. False: an error was told,
 * and nothing is trusted. The file may be released; nothing is read later.
 */
bool store_fill(X509_STORE *store, X509_LOOKUP_METHOD *lookup, const struct pem_file *file,
                struct diag_place place, struct diag_list *diags);

#endif
