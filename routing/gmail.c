#include "routing/gmail.h"

static const struct gmail_host hosts[] = {
    {"aspmx.l.google.com", 1},       {"alt1.aspmx.l.google.com", 5},
    {"alt2.aspmx.l.google.com", 5},  {"alt3.aspmx.l.google.com", 10},
    {"alt4.aspmx.l.google.com", 10},
};

const struct gmail_rule gmail_rule = {
    .hosts = hosts,
    .host_count = sizeof(hosts) / sizeof(*hosts),
    .port = 25,
    .tls = RELAY_TLS_VERIFY,
    .recipients_max = 100,
    .one_domain = true,
    .paced = true,
};
