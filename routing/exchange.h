/*
 * exchange: from DNS answers to the addresses a sender tries, in their order (RFC 5321 5.1, RFC
 * 7505; design: sections 4 and 7). Pure: what this machine's addresses are and where chance comes
 * from are arguments.
 */
#ifndef SPLITMX_ROUTING_EXCHANGE_H
#define SPLITMX_ROUTING_EXCHANGE_H

#include "routing/answer.h"
#include "routing/dns_message.h"

#define EXCHANGE_HOSTS_MAX 16 /* of one domain; the less preferred are left out */

/* A mail host and what its addresses were found to be; the answers are owned by the caller. */
struct exchange_host {
    char name[NEXTHOP_HOST_MAX + 1];
    uint16_t preference; /* 0 where there is no MX */
    const struct dns_answer *v4;
    const struct dns_answer *v6;
};

/* Our own addresses; port 0 stands for every port. */
struct exchange_own {
    const struct net_address *addresses;
    size_t count;
};

/* RFC 7505: the one record that says the domain takes no mail. */
bool exchange_is_null_mx(const struct dns_answer *mx);

/*
 * The hosts of an MX answer by preference, equal ones shuffled; names that cannot be hosts are left
 * out. Returns how many were written to hosts, which has room for EXCHANGE_HOSTS_MAX.
 */
size_t exchange_order(const struct dns_answer *mx, uint64_t *random, struct exchange_host *hosts);

/*
 * The addresses of the hosts in turn, IPv6 and IPv4 of each alternating, at most
 * RESOLVER_ADDRESSES_MAX. With `own` (names outside brackets) special addresses are refused, and so
 * is every host from our own preference on (RFC 5321 5.1: a host does not send to the MX beside and
 * behind itself). Fills in status, why and count; out has room for RESOLVER_ADDRESSES_MAX.
 */
void exchange_addresses(const struct exchange_host *hosts, size_t count, uint16_t port,
                        const struct exchange_own *own, struct resolver_address *out,
                        struct resolver_answer *answer);

/* An address record as a socket address; IPv4-mapped ones become IPv4. */
bool exchange_record_address(const struct dns_record *record, enum dns_type type, uint16_t port,
                             struct net_address *out);

/* Whether two addresses are the same but for the port. */
bool exchange_same_host(const struct net_address *a, const struct net_address *b);

#endif
