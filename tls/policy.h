/*
 * policy: what a relay's `tls:` asks of a connection (design: section 3; RFC 7435 for `may`). Pure.
 */
#ifndef SPLITMX_TLS_POLICY_H
#define SPLITMX_TLS_POLICY_H

#include "config/config.h"

/* "none", "may", "encrypt", "verify". */
const char *tls_policy_name(enum config_relay_tls policy);

/* Mail must not go in clear text where STARTTLS is missing or fails. */
bool tls_policy_is_strict(enum config_relay_tls policy);

#endif
