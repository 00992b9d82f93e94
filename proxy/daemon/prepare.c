#include "proxy/daemon/prepare.h"

#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <uv.h>

#include "proxy/daemon/sockets.h"

#define HOSTS_FILE "/etc/hosts"

static void decide(const struct policy *policy, struct span path, struct address *address,
                   struct decision *decision)
{
    const struct prepared *prepared = (const struct prepared *)(const void *)policy;
    route_decide(prepared->config, prepared->relays, prepared->table, path, address, decision);
}

void prepared_free(struct prepared *prepared)
{
    table_unref(prepared->table);
    relay_set_free(prepared->relays);
    resolver_hosts_unref(prepared->hosts);
    free(prepared->dns_servers);
    free(prepared->own);
    config_unref(prepared->config);
    free(prepared);
}

static void on_last_unref(struct policy *policy)
{
    struct prepared *prepared = (struct prepared *)(void *)policy;
    if (prepared->bury != NULL) {
        prepared->bury(prepared, prepared->bury_context);
    } else {
        prepared_free(prepared);
    }
}

/* Every address of this host with this port: what a wildcard listener stands for. */
static bool add_interfaces(struct prepared *prepared, uint16_t port)
{
    uv_interface_address_t *all = NULL;
    int count = 0;
    if (uv_interface_addresses(&all, &count) != 0) {
        return true; /* without them the check of loops sees literal listeners only */
    }
    size_t have = prepared->policy.own_count;
    struct net_address *own =
        realloc(prepared->own, (have + (size_t)count) * sizeof *own + sizeof *own);
    if (own != NULL) {
        prepared->own = own;
        for (int i = 0; i < count; i++) {
            if (net_address_from((const struct sockaddr *)&all[i].address, &own[have])) {
                net_address_set_port(&own[have++], port);
            }
        }
        prepared->policy.own_count = have;
    }
    uv_free_interface_addresses(all, count);
    return own != NULL;
}

static bool add_own(struct prepared *prepared, const struct net_address *address)
{
    size_t have = prepared->policy.own_count;
    if (net_address_is_wildcard(address)) {
        return add_interfaces(prepared, net_address_port(address));
    }
    struct net_address *own = realloc(prepared->own, (have + 1) * sizeof *own);
    if (own == NULL) {
        return false;
    }
    own[have] = *address;
    prepared->own = own;
    prepared->policy.own_count = have + 1;
    return true;
}

/* Where this configuration listens, so that no next hop leads back (section 6, loops). */
static bool collect_own(struct prepared *prepared, struct diag_list *diags)
{
    for (size_t i = 0; i < prepared->config->listener_count; i++) {
        struct net_address address;
        if (!sockets_address(prepared->config, &prepared->config->listeners[i], &address, diags)) {
            return false;
        }
        if (!add_own(prepared, &address)) {
            diag_error(diags, (struct diag_place){0}, "out of memory");
            return false;
        }
    }
    prepared->policy.own = prepared->own;
    return true;
}

static bool collect_servers(struct prepared *prepared)
{
    const struct config_texts *servers = &prepared->config->dns_servers;
    prepared->dns_servers = calloc(servers->count + 1, sizeof *prepared->dns_servers);
    if (prepared->dns_servers == NULL) {
        return false;
    }
    for (size_t i = 0; i < servers->count; i++) {
        prepared->dns_servers[i] = servers->items[i].text;
    }
    return true;
}

struct resolver_options prepared_resolver(const struct prepared *prepared)
{
    return (struct resolver_options){
        .servers = prepared->dns_servers,
        .server_count = prepared->config->dns_servers.count,
        .hosts = prepared->hosts,
        .own = prepared->own,
        .own_count = prepared->policy.own_count,
    };
}

struct prepared *prepare_config(struct config *config, enum prepare_for purpose,
                                struct diag_list *diags)
{
    struct prepared *prepared = calloc(1, sizeof *prepared);
    const char *directory = purpose == PREPARE_TO_SERVE ? config->state_directory.text : NULL;
    if (prepared == NULL) {
        diag_error(diags, (struct diag_place){0}, "out of memory");
        return NULL;
    }
    atomic_init(&prepared->policy.references, 1);
    prepared->policy.decide = decide;
    prepared->policy.free = on_last_unref;
    prepared->config = config_ref(config);
    prepared->policy.config = config;
    prepared->hosts = resolver_hosts_read(HOSTS_FILE);
    prepared->relays = relay_set_new(config, diags);
    if (prepared->relays == NULL || !collect_own(prepared, diags) || !collect_servers(prepared)) {
        goto fail;
    }
    prepared->table = table_load(config, prepared->relays, directory, diags);
    if (prepared->table == NULL) {
        goto fail;
    }
    return prepared;
fail:
    policy_unref(&prepared->policy);
    return NULL;
}

struct prepared *prepare(const char *path, enum prepare_for purpose, struct diag_list *diags)
{
    struct config *config = config_load(path, diags);
    if (config == NULL) {
        return NULL;
    }
    struct prepared *prepared = prepare_config(config, purpose, diags);
    config_unref(config);
    return prepared;
}
