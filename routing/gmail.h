/*
 * gmail: the built-in rule, as a constant table (design: section 7). Pure.
 */
#ifndef SPLITMX_ROUTING_GMAIL_H
#define SPLITMX_ROUTING_GMAIL_H

#include <stddef.h>

#include "config/config.h"

#define GMAIL_NAME "gmail"

struct gmail_host {
    const char *host;
    unsigned priority;
};

struct gmail_rule {
    const struct gmail_host *hosts; /* by priority, the lowest first; A and AAAA, no MX lookup */
    size_t host_count;
    unsigned port;
    enum config_relay_tls tls; /* with the host's name */
    unsigned recipients_max;   /* per transaction */
    bool one_domain;           /* one recipient domain per transaction */
    bool paced;                /* 421 4.7.28 means: slower */
};

extern const struct gmail_rule gmail_rule;

#endif
