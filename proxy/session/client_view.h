/*
 * client_view: what the parts of a session may know of its client. A value of the session's, which
 * outlives them.
 */
#ifndef SPLITMX_PROXY_SESSION_CLIENT_VIEW_H
#define SPLITMX_PROXY_SESSION_CLIENT_VIEW_H

#include "config/net_address.h"

struct client_view {
    struct span helo;
    const char *name; /* forward-confirmed PTR, or NULL */
    char ip[NET_ADDRESS_TEXT];
    const char *protocol; /* "SMTP", "ESMTP" */
    const char *session_id;
};

#endif
