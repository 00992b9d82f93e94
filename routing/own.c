#include "routing/own.h"

#include <errno.h>
#include <ifaddrs.h>
#include <stdlib.h>

/* Whether a wildcard that we listen on stands for an interface's address. */
static bool wildcard_covers(const struct net_address *own, const struct net_address *address)
{
    if (own->any.sa_family == AF_INET6) {
        return IN6_IS_ADDR_UNSPECIFIED(&own->in6.sin6_addr);
    }
    return own->any.sa_family == AF_INET && own->in4.sin_addr.s_addr == htonl(INADDR_ANY) &&
           address->any.sa_family == AF_INET;
}

static size_t count_interfaces(const struct ifaddrs *interface)
{
    size_t count = 0;
    for (; interface != NULL; interface = interface->ifa_next) {
        count++;
    }
    return count;
}

/* Behind the `count` of the list, what this listener's address stands for; how many there are
 * then. */
static size_t add_interfaces(const struct net_address *own, const struct ifaddrs *interface,
                             struct net_address *list, size_t count)
{
    for (; interface != NULL; interface = interface->ifa_next) {
        struct net_address address;
        if (interface->ifa_addr == NULL || !net_address_from(interface->ifa_addr, &address) ||
            !wildcard_covers(own, &address)) {
            continue;
        }
        net_address_set_port(&address, net_address_port(own));
        list[count++] = address;
    }
    return count;
}

/* Whatever of this host listens there: it takes us for itself. (Special addresses are refused as
 * such.) */
static size_t add_host(const struct ifaddrs *interface, struct net_address *list, size_t count)
{
    for (; interface != NULL; interface = interface->ifa_next) {
        if (interface->ifa_addr != NULL && net_address_from(interface->ifa_addr, &list[count]) &&
            !net_address_is_special(&list[count])) {
            net_address_set_port(&list[count++], 0);
        }
    }
    return count;
}

struct net_address *own_addresses(const struct net_address *own, size_t own_count, size_t *count)
{
    struct ifaddrs *interfaces = NULL;
    *count = 0;
    if (own_count == 0 || (getifaddrs(&interfaces) != 0 && errno == ENOMEM)) {
        return NULL;
    }
    const size_t most = own_count + (own_count + 1) * count_interfaces(interfaces);
    struct net_address *list = calloc(most, sizeof(struct net_address));
    for (size_t i = 0; list != NULL && i < own_count; i++) {
        list[(*count)++] = own[i];
        *count = add_interfaces(&own[i], interfaces, list, *count);
    }
    if (list != NULL) {
        *count = add_host(interfaces, list, *count);
    }
    freeifaddrs(interfaces);
    return list;
}
