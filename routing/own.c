#include "routing/own.h"

#include <stdlib.h>
#include <uv.h>

/* Whether a wildcard that we listen on stands for an interface's address. */
static bool wildcard_covers(const struct net_address *own, const struct net_address *address)
{
    if (own->any.sa_family == AF_INET6) {
        return IN6_IS_ADDR_UNSPECIFIED(&own->in6.sin6_addr);
    }
    return own->any.sa_family == AF_INET && own->in4.sin_addr.s_addr == htonl(INADDR_ANY) &&
           address->any.sa_family == AF_INET;
}

struct net_address *own_addresses(const struct net_address *own, size_t own_count, size_t *count)
{
    uv_interface_address_t *interfaces = NULL;
    int interface_count = 0;
    *count = 0;
    if (own_count == 0) {
        return NULL;
    }
    if (uv_interface_addresses(&interfaces, &interface_count) != 0) {
        interface_count = 0;
    }
    struct net_address *list =
        calloc(own_count * (1 + (size_t)interface_count), sizeof(struct net_address));
    for (size_t i = 0; list != NULL && i < own_count; i++) {
        list[(*count)++] = own[i];
        for (int k = 0; k < interface_count; k++) {
            struct net_address address;
            if (!net_address_from((const struct sockaddr *)&interfaces[k].address, &address) ||
                !wildcard_covers(&own[i], &address)) {
                continue;
            }
            net_address_set_port(&address, net_address_port(&own[i]));
            list[(*count)++] = address;
        }
    }
    if (interfaces != NULL) {
        uv_free_interface_addresses(interfaces, interface_count);
    }
    return list;
}
