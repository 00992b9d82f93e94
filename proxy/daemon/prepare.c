#include "proxy/daemon/prepare.h"

#include <stdlib.h>

#include "proxy/daemon/sockets.h"
#include "proxy/daemon/survey.h"
#include "routing/own.h"

static void decide(const struct policy *policy, struct span path, struct address *address,
                   struct decision *decision)
{
    const struct prepared *prepared = (const struct prepared *)(const void *)policy;
    route_decide(prepared->config, prepared->relays, prepared->table, path, address, decision);
    if (decision->broken && prepared->on_damage != NULL) {
        prepared->on_damage(prepared, prepared->damage_context);
    }
}

void prepared_free(struct prepared *prepared)
{
    table_unref(prepared->table);
    tls_contexts_unref(prepared->tls);
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

/* A page is no place for mail, nor the other way round: whichever came later would not be bound. */
static bool admin_is_apart(const struct prepared *prepared, const struct net_address *listeners,
                           struct diag_list *diags)
{
    const struct config *config = prepared->config;
    const struct config_listener admin = sockets_admin(config);
    struct net_address address;
    if (admin.address.text == NULL) {
        return true;
    }
    if (!sockets_address(config, &admin, &address, diags)) {
        return false;
    }
    for (size_t i = 0; i < config->listener_count; i++) {
        if (net_address_overlap(&address, &listeners[i])) {
            diag_error(diags, config_place(config, &admin.address),
                       "`admin: listen` needs an address or port of its own: at %s a listener "
                       "takes mail",
                       config->listeners[i].address.text);
            return false;
        }
    }
    return true;
}

/* Where this configuration listens, so that no next hop leads back (section 6, loops). */
static bool collect_own(struct prepared *prepared, struct diag_list *diags)
{
    size_t before = diag_errors(diags);
    size_t count = prepared->config->listener_count;
    struct net_address *listeners = calloc(count + 1, sizeof *listeners);
    bool good = listeners != NULL;
    for (size_t i = 0; good && i < count; i++) {
        good = sockets_address(prepared->config, &prepared->config->listeners[i], &listeners[i],
                               diags);
    }
    good = good && admin_is_apart(prepared, listeners, diags);
    if (good) {
        prepared->own = own_addresses(listeners, count, &prepared->policy.own_count);
        prepared->policy.own = prepared->own;
        good = prepared->own != NULL;
    }
    if (!good && diag_errors(diags) == before) {
        diag_machine(diags, "out of memory");
    }
    free(listeners);
    return good;
}

/* What the configuration says, or else the machine's. */
static bool collect_servers(struct prepared *prepared, struct diag_list *diags)
{
    const struct config_texts *said = &prepared->config->dns_servers;
    struct resolver_servers *system = &prepared->system_servers;
    if (said->count == 0 && !resolver_servers_read(PREPARE_SERVERS_FILE, system)) {
        diag_machine(diags,
                     PREPARE_SERVERS_FILE " cannot be read; name servers can be said by `dns:`");
        return false;
    }
    prepared->dns_server_count = said->count != 0 ? said->count : system->count;
    prepared->dns_servers = calloc(prepared->dns_server_count, sizeof *prepared->dns_servers);
    if (prepared->dns_servers == NULL) {
        diag_machine(diags, "out of memory");
        return false;
    }
    for (size_t i = 0; i < prepared->dns_server_count; i++) {
        prepared->dns_servers[i] = said->count != 0 ? said->items[i].text : system->texts[i];
    }
    return true;
}

struct resolver_options prepared_resolver(const struct prepared *prepared)
{
    return (struct resolver_options){
        .servers = prepared->dns_servers,
        .server_count = prepared->dns_server_count,
        .hosts = prepared->hosts,
        .own = prepared->own,
        .own_count = prepared->policy.own_count,
    };
}

static struct prepared *prepared_new(struct config *config, struct diag_list *diags)
{
    struct prepared *prepared = calloc(1, sizeof *prepared);
    if (prepared == NULL) {
        diag_machine(diags, "out of memory");
        return NULL;
    }
    policy_init(&prepared->policy);
    prepared->policy.decide = decide;
    prepared->policy.free = on_last_unref;
    prepared->config = config_ref(config);
    prepared->policy.config = config;
    prepared->hosts = resolver_hosts_read(PREPARE_HOSTS_FILE);
    return prepared;
}

struct prepared *prepare_to_ask(struct config *config, struct relay_set *relays,
                                struct table *table, bool calls, struct diag_list *diags)
{
    struct prepared *prepared = prepared_new(config, diags);
    struct config client = *config; /* without what is a server's */
    client.certificate_count = client.listener_count = 0;
    if (prepared == NULL) {
        return NULL;
    }
    if (calls) {
        prepared->policy.tls = prepared->tls = tls_contexts_renew(NULL, &client, diags);
    }
    if ((calls && prepared->tls == NULL) || !collect_own(prepared, diags) ||
        !collect_servers(prepared, diags)) {
        policy_unref(&prepared->policy);
        return NULL;
    }
    prepared->relays = relays;
    prepared->table = table;
    return prepared;
}

struct prepared *prepare_config(struct config *config, enum prepare_for purpose,
                                const struct prepared *in_force, struct diag_list *diags)
{
    struct prepared *prepared = prepared_new(config, diags);
    const char *directory = purpose == PREPARE_TO_SERVE ? config->state_directory.text : NULL;
    if (prepared == NULL) {
        return NULL;
    }
    prepared->relays = relay_set_new(config, diags);
    prepared->tls = tls_contexts_renew(in_force != NULL ? in_force->tls : NULL, config, diags);
    prepared->policy.tls = prepared->tls;
    if (!collect_own(prepared, diags) || prepared->relays == NULL || prepared->tls == NULL ||
        !collect_servers(prepared, diags)) {
        survey_routes(config, prepared->relays, diags);
        goto fail;
    }
    prepared->table = table_load(config, prepared->relays, directory,
                                 in_force != NULL ? table_generation(in_force->table) : 0, diags);
    if (prepared->table == NULL) {
        goto fail;
    }
    return prepared;
fail:
    policy_unref(&prepared->policy);
    return NULL;
}
