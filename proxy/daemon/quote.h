/*
 * quote: strangers' text on standard output, as JSON or for a terminal; whatever the bytes are,
 * neither breaks.
 */
#ifndef SPLITMX_PROXY_DAEMON_QUOTE_H
#define SPLITMX_PROXY_DAEMON_QUOTE_H

#include <stdio.h>

#include "config/span.h"

/* "…"; a byte that is no UTF-8 becomes U+FFFD. */
void json_put_string(FILE *out, struct span value);

/* Without quotes, for a terminal: control characters and bytes that are no UTF-8 as \xNN. */
void print_plain(FILE *out, struct span value);

#endif
