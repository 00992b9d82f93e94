/*
 * own: the addresses that lead back to this process (design: section 6, loops; section 7).
 */
#ifndef SPLITMX_ROUTING_OWN_H
#define SPLITMX_ROUTING_OWN_H

#include "config/net_address.h"

/*
 * The listeners' addresses as given and, for wildcards, those that this host's interfaces have now,
 * with the same port; then all that they have but special ones, with port 0. The caller frees;
 * NULL: no listener, or no memory.
 */
struct net_address *own_addresses(const struct net_address *listeners, size_t listener_count,
                                  size_t *count);

#endif
