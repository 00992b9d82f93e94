/*
 * json: values of one JSON line. What is written is always valid JSON, whatever the bytes are.
 */
#ifndef SPLITMX_PROXY_CLI_JSON_H
#define SPLITMX_PROXY_CLI_JSON_H

#include <stdio.h>

#include "config/span.h"

/* "…"; a byte that is no UTF-8 becomes U+FFFD. */
void json_put_string(FILE *out, struct span value);

/* Without quotes, for a terminal: control characters and bytes that are no UTF-8 as \xNN. */
void plain_string(FILE *out, struct span value);

#endif
