/* The machine's name servers, as c-ares reads resolv.conf(5). */
#include <stdlib.h>

#include "routing/dns_channel.h"
#include "routing/resolver.h"

enum { DNS_PORT = 53 };

static bool server_text(const struct ares_addr_port_node *node, char *out, size_t cap)
{
    struct sockaddr_in in4 = {.sin_family = AF_INET, .sin_addr = node->addr.addr4};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
    const void *sa = node->family == AF_INET ? (const void *)&in4 : (const void *)&in6;
    struct net_address address;
    memcpy(&in6.sin6_addr, &node->addr.addr6, sizeof(in6.sin6_addr));
    if (!net_address_from(sa, &address)) {
        return false;
    }
    net_address_set_port(&address, node->udp_port != 0 ? (uint16_t)node->udp_port : DNS_PORT);
    net_address_text_port(&address, out, cap);
    return true;
}

bool resolver_servers_read(const char *path, struct resolver_servers *out)
{
    char lookups[] = "b", *name = span_dup(span_of(path)); /* lookups: no nsswitch.conf */
    struct ares_options options = {.lookups = lookups, .resolvconf_path = name};
    struct ares_addr_port_node *list = NULL;
    ares_channel channel;
    *out = (struct resolver_servers){.count = 0};
    if (name == NULL || ares_init_options(&channel, &options,
                                          ARES_OPT_LOOKUPS | ARES_OPT_RESOLVCONF) != ARES_SUCCESS) {
        free(name);
        return false;
    }
    bool read = ares_get_servers_ports(channel, &list) == ARES_SUCCESS;
    for (const struct ares_addr_port_node *node = list;
         node != NULL && out->count < RESOLVER_SERVERS_MAX; node = node->next) {
        out->count += server_text(node, out->texts[out->count], sizeof(out->texts[0]));
    }
    ares_free_data(list);
    ares_destroy(channel);
    free(name);
    return read && out->count > 0;
}
