/*
 * client_view: what the parts of a session may know of its client. A value of the session's, which
 * outlives them.
 */
#ifndef SPLITMX_PROXY_SESSION_CLIENT_VIEW_H
#define SPLITMX_PROXY_SESSION_CLIENT_VIEW_H

#include "config/net_address.h"

struct client_view {
    struct span helo;
    const char *name;           /* forward-confirmed PTR, or NULL */
    const char *reverse_name;   /* PTR, confirmed or not, or NULL */
    bool names_later;           /* the look-up failed for now, or is not over */
    struct net_address address; /* the client's */
    struct net_address local;   /* that it reached, ours or a proxy's in front of us */
    char ip[NET_ADDRESS_TEXT];
    const char *protocol; /* "SMTP", "ESMTP", "ESMTPS" (RFC 3848) */
    char tls[64];         /* "TLSv1.3 TLS_AES_256_GCM_SHA384"; "" in clear text */
    const char *session_id;
    bool has_ended;   /* it has closed its side and left nothing to be done: it reads, or is gone */
    unsigned version; /* rises when any of this changes: what an upstream was told is told anew */
};

#endif
