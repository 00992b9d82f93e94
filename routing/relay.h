/*
 * relay: a named next hop with its policy, compiled from the configuration (design: sections 3 and
 * 7).
 *
 * A set of relays is built once per configuration, immutable, and outlived by nothing that points
 * into it (the policy snapshot of proxy/session owns both). Transports used directly in a table
 * become relays of default policy, owned by the table.
 */
#ifndef SPLITMX_ROUTING_RELAY_H
#define SPLITMX_ROUTING_RELAY_H

#include "config/config.h"
#include "routing/nexthop.h"

struct relay {
    char *name;  /* "local"; for a direct transport its text, "smtp:[kingmailer.org]" */
    bool direct; /* made from a transport in the table, not named in the configuration */
    struct nexthop *hops;
    size_t hop_count;
    enum config_identity identity;
    enum config_relay_tls tls;
    char *tls_name;               /* NULL: the next hop's host name */
    char *ca_file;                /* NULL: the system's store */
    unsigned max_connections;     /* per endpoint */
    unsigned recipients_max;      /* per transaction; 0: no limit of its own (gmail: 100) */
    bool one_domain;              /* one recipient domain per transaction (gmail) */
    bool paced;                   /* slows down after 421 4.7.28 (gmail) */
    const struct relay *fallback; /* NULL: none */
    const struct relay *unknown_recipient; /* NULL: none */
};

#define RELAY_MAX_CONNECTIONS 100 /* of a relay that says nothing else */

struct relay_set;

/* Compiles every relay of the configuration, and the built-in gmail; errors go to diags with their
 * place (unknown relay names with a did-you-mean, cycles, next hops that are our own listeners).
 * NULL when there was an error. */
struct relay_set *relay_set_new(const struct config *config, struct diag_list *diags);
void relay_set_free(struct relay_set *set);
const struct relay *relay_find(const struct relay_set *set, struct span name); /* or NULL */
size_t relay_count(const struct relay_set *set);
const struct relay *relay_at(const struct relay_set *set, size_t index);

/* What stands behind its name in a reply: a colon, but "smtp:" brings one of its own. */
const char *relay_colon(const struct relay *relay);

/* Adds the error that no relay has this name, with a did-you-mean. */
void relay_report_unknown(const struct relay_set *set, const char *word, struct diag_place place,
                          struct diag_list *diags);

/* Whether a literal next hop is one of the configured listeners (design: section 6, loops). */
bool relay_hop_is_own(const struct config *config, const struct nexthop *hop);

/* A relay of default policy over a parsed SMTP transport (its hops are moved out of it). */
struct relay *relay_direct(struct transport *transport, struct span text);
void relay_free(struct relay *relay);

#endif
