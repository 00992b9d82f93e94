/*
 * net_address: IP literals, unix paths and "host:port" as text and as socket addresses. Pure.
 */
#ifndef SPLITMX_CONFIG_NET_ADDRESS_H
#define SPLITMX_CONFIG_NET_ADDRESS_H

#include <netinet/in.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "config/span.h"

/* A socket address that is compared and copied as a value; unused bytes are zero. */
struct net_address {
    union {
        struct sockaddr any;
        struct sockaddr_in in4;
        struct sockaddr_in6 in6;
        struct sockaddr_un local;
    };
};

#define NET_ADDRESS_TEXT 128 /* enough for any address as text, unix paths included */

/* An IPv4 or IPv6 literal without brackets. An IPv4-mapped IPv6 address becomes IPv4. */
bool net_address_parse(struct span text, uint16_t port, struct net_address *out);

/* A unix socket's path (at most 107 bytes). */
bool net_address_unix(struct span path, struct net_address *out);

/* From a kernel's sockaddr; IPv4-mapped becomes IPv4. False for other families. */
bool net_address_from(const struct sockaddr *sa, struct net_address *out);

socklen_t net_address_length(const struct net_address *address);
uint16_t net_address_port(const struct net_address *address); /* 0 for unix */
void net_address_set_port(struct net_address *address, uint16_t port);
bool net_address_equal(const struct net_address *a, const struct net_address *b);

/* Loopback, private (RFC 1918, RFC 4193, link-local) or unix: "local" in the design's sense. */
bool net_address_is_local(const struct net_address *address);
/* 0.0.0.0 or ::, which stands for every address of this host. */
bool net_address_is_wildcard(const struct net_address *address);
/* Whether something may reach both as listeners: the same port, and one stands for the other too.
 */
bool net_address_overlap(const struct net_address *a, const struct net_address *b);
/* May not come from a DNS name outside brackets: loopback, unspecified, link-local, multicast,
 * reserved. */
bool net_address_is_special(const struct net_address *address);

/* "192.0.2.1", "2001:db8::1", "unix:/path"; at most NET_ADDRESS_TEXT bytes with the NUL. */
void net_address_text(const struct net_address *address, char *out, size_t cap);
/* "192.0.2.1:25", "[2001:db8::1]:25", "unix:/path". */
void net_address_text_port(const struct net_address *address, char *out, size_t cap);

/* The reverse, but of unix sockets; false for a host name, and without a port. */
bool net_address_parse_port(struct span text, struct net_address *out);

/* Splits "host:port", "[v6]:port", "a.b.c.d:port"; host without brackets. Port 1..65535. */
bool host_port_split(struct span text, struct span *host, uint16_t *port);

/* A DNS host name: letters, digits, dot, hyphen (and underscore), labels of 1..63, at most 253. */
bool host_name_valid(struct span text);
/* A name whose last label is all digits is a mistyped address, never a host (RFC 1123 2.1). */
bool host_name_is_numeric(struct span name);

/* Networks as a.b.c.d/n, v6/n or a single address. */
struct net_prefix {
    struct net_address address;
    unsigned bits;
};
bool net_prefix_parse(struct span text, struct net_prefix *out);
bool net_prefix_holds(const struct net_prefix *prefix, const struct net_address *address);

#endif
