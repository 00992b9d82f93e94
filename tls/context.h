/*
 * context: every TLS context that a configuration needs: keys, certificates, trust and settings.
 *
 * Made whole by run, check and each reload; immutable from then on, and counted. What a reload
 * finds unchanged is the same object as before, so that connections and sessions made with it stay
 * good. A superseded set may go while streams made from it live: each stream keeps what it needs.
 *
 * Thread: tls_contexts_renew blocks on files and belongs off the event loops. The rest may be
 * called by all threads, and contexts be used by all.
 */
#ifndef SPLITMX_TLS_CONTEXT_H
#define SPLITMX_TLS_CONTEXT_H

#include "config/config.h"

struct tls_contexts;
struct tls_context;

/* Reads the library's own configuration (openssl.cnf), once, which otherwise comes with its first
 * use. */
void tls_library_begin(void);

/* The file with the system's certificate authorities; NULL: there is none. */
const char *tls_system_store(void);

/*
 * Reads the certificates of `tls:`, the `ca-file`s of relays and the system's store.
 *
 * `in_force`: the set that serves meanwhile, NULL at the start. Contexts whose settings and whose
 * files' bytes are unchanged are taken over from it; when nothing at all has changed, what comes is
 * another reference to it. Errors and warnings are told as if all were new.
 *
 * They are placed at the key that names the file. Errors: a file that is missing, unreadable, no
 * regular file, over 16 MB or not PEM; a private key that everyone may read or write, that is
 * encrypted, or that does not belong to the certificate; a chain that does not begin with the
 * server's own certificate; two certificates with keys of the same kind; a listener with TLS where
 * `tls:` is absent. Warnings: a certificate that has expired or is not valid yet, a chain that is
 * incomplete or out of order, different `minimum-version`s (all certificates are one context's, so
 * the lowest that is given applies to all), no system store where a relay needs it.
 *
 * One reference; NULL when there was an error. diags may be NULL.
 */
struct tls_contexts *tls_contexts_renew(const struct tls_contexts *in_force,
                                        const struct config *config, struct diag_list *diags);
void tls_contexts_unref(struct tls_contexts *contexts); /* NULL is accepted */

/* NULL without `tls:`. */
const struct tls_context *tls_server_context(const struct tls_contexts *contexts);

/*
 * `may` and `encrypt` encrypt without verification; ca_file does not matter. `verify` trusts
 * ca_file, or the system's store where it is NULL; where that is absent, nothing is ever verified
 * successfully. NULL for `none`, and for a ca_file that is no relay's in the configuration.
 */
const struct tls_context *tls_client_context(const struct tls_contexts *contexts,
                                             enum config_relay_tls policy, const char *ca_file);

/* Whether the context, a client's, is one of the set. */
bool tls_contexts_have(const struct tls_contexts *contexts, const struct tls_context *context);

#endif
