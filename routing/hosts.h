/*
 * hosts: look-ups in the hosts file of resolver.h, both ways (hosts(5)). Pure once read.
 */
#ifndef SPLITMX_ROUTING_HOSTS_H
#define SPLITMX_ROUTING_HOSTS_H

#include "config/net_address.h"
#include "routing/dns_message.h"
#include "routing/resolver.h"

/* Whether the file has the (folded) name, in whichever family; hosts may be NULL. */
bool hosts_has(const struct resolver_hosts *hosts, const char *name);

/* Its addresses of one family, DNS_A or DNS_AAAA, in the order of the file, or DNS_NODATA. A
 * reference. */
const struct dns_answer *hosts_answer(const struct resolver_hosts *hosts, const char *name,
                                      enum dns_type type);

/* The first name the file gives an address (port aside), or NULL. */
const char *hosts_name(const struct resolver_hosts *hosts, const struct net_address *address);

#endif
