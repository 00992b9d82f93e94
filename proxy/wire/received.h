/*
 * received: the one trace field splitmx adds (RFC 5321 4.4; design: section 9). Pure.
 */
#ifndef SPLITMX_PROXY_WIRE_RECEIVED_H
#define SPLITMX_PROXY_WIRE_RECEIVED_H

#include <stdint.h>
#include <time.h>

#include "config/text.h"

#define RECEIVED_MAX 2048

struct received {
    struct span helo;      /* as the client gave it; scrubbed here */
    const char *ptr_name;  /* forward-confirmed, or NULL: "unknown" */
    const char *ip;        /* "192.0.2.1" or "2001:db8::1" (written [IPv6:…]) */
    const char *hostname;  /* ours */
    const char *protocol;  /* SMTP, ESMTP, ESMTPS, UTF8SMTP, UTF8SMTPS */
    const char *id;        /* the transaction's */
    const char *tls;       /* "TLSv1.3 cipher", or NULL */
    struct span recipient; /* empty: no `for` */
    bool fallback;         /* writes "(splitmx fallback)" */
    time_t when;           /* UTC */
};

/* Writes the folded field with its last CRLF; every line under 998 octets, folded at 78 where it
 * can. */
void received_write(const struct received *received, struct text *out);

#endif
