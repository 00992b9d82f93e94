/*
 * prepare: everything that run, check and reload load before anything is switched (design: section
 * 8).
 *
 * Thread: blocks on files; never on an event loop.
 */
#ifndef SPLITMX_PROXY_DAEMON_PREPARE_H
#define SPLITMX_PROXY_DAEMON_PREPARE_H

#include "proxy/session/policy.h"
#include "routing/relay.h"
#include "routing/resolver.h"
#include "routing/table.h"

/* What is read of the machine, beside the operator's files. */
#define PREPARE_HOSTS_FILE   "/etc/hosts"
#define PREPARE_SERVERS_FILE "/etc/resolv.conf"

/* A policy over real configuration, relays and routes. */
struct prepared {
    struct policy policy; /* first: a prepared is a policy */
    struct config *config;
    struct relay_set *relays;
    struct tls_contexts *tls;
    struct table *table;
    struct net_address *own;
    struct resolver_hosts *hosts;
    const char **dns_servers; /* as the resolver wants them */
    size_t dns_server_count;
    struct resolver_servers system_servers; /* where the configuration has none */
    /*
     * Letting go of a table unlinks files, which no event loop may wait for: where this is set, the
     * last unref, on whatever thread, calls it, and prepared_free is left to a thread that may
     * block.
     */
    void (*bury)(struct prepared *prepared, void *context);
    void *bury_context;
    struct prepared *next_buried;
    /* Where set, called on whatever thread when a look-up finds the table damaged: it can be built
     * again. */
    void (*on_damage)(const struct prepared *prepared, void *context);
    void *damage_context;
};

void prepared_free(struct prepared *prepared);

/* The resolver's options as this configuration has them; they live as long as it. */
struct resolver_options prepared_resolver(const struct prepared *prepared);

enum prepare_for {
    PREPARE_TO_SERVE, /* builds a generation in the state directory when sources changed */
    PREPARE_TO_CHECK, /* writes nothing there: builds privately */
};

/*
 * From a configuration already loaded (a reference is taken). `in_force`: what this process serves
 * with meanwhile, NULL at the start. NULL with errors in diags. One reference;
 * policy_unref(&prepared->policy) lets it go.
 */
struct prepared *prepare_config(struct config *config, enum prepare_for purpose,
                                const struct prepared *in_force, struct diag_list *diags);

/*
 * What it takes to ask name servers, and with `calls` mail servers too, about what a table says:
 * nobody's certificate is read but authorities'. `relays` (of this configuration) and `table` are
 * taken over; not when it fails: NULL with errors in diags.
 */
struct prepared *prepare_to_ask(struct config *config, struct relay_set *relays,
                                struct table *table, bool calls, struct diag_list *diags);

#endif
