/*
 * proxy_header: the PROXY protocol, versions 1 and 2 (HAProxy's proxy-protocol.txt; its sections
 * are named here): read from peers that are listed for it, written as version 1 to upstreams. Pure,
 * sans-I/O.
 */
#ifndef SPLITMX_PROXY_WIRE_PROXY_HEADER_H
#define SPLITMX_PROXY_WIRE_PROXY_HEADER_H

#include "config/net_address.h"
#include "config/text.h"

#define PROXY_V1_MAX 107 /* octets with CRLF (2.1) */
/* Octets behind the fixed 16 of version 2. The format could say 65535; addresses and what proxies
 * add to them (a certificate's name, an identifier, a checksum) are some hundreds. */
#define PROXY_V2_LENGTH_MAX 4096
#define PROXY_HEADER_MAX    (16 + PROXY_V2_LENGTH_MAX)

enum proxy_kind {
    /* The connection stands for the peer itself, or for somebody whose address the peer does not
     * tell: the connection's own addresses are meant. */
    PROXY_LOCAL,
    PROXY_ADDRESSES,
};

struct proxy_header {
    enum proxy_kind kind;
    /* With ports (0 is possible); all zero with PROXY_LOCAL. IPv4-mapped IPv6 has become IPv4, so
     * that the two may be of different families. */
    struct net_address source, destination;
};

enum proxy_status {
    PROXY_MORE, /* a beginning; never at PROXY_HEADER_MAX octets or more */
    PROXY_OK,
    PROXY_BAD, /* no header, and cannot become one: the connection is to be closed (2.1) */
};

/*
 * Reads the header at the front of everything that the peer has sent so far. The answer is the same
 * however the input is cut: what is OK or BAD stays so when more follows. *out and *used (the
 * octets of the header, CRLF included) are written with PROXY_OK only.
 *
 * PROXY_LOCAL are: version 1 UNKNOWN, whatever follows that word on its line; version 2 LOCAL,
 * whatever its family and its block are; version 2 PROXY with an unspecified family or protocol, or
 * from a unix socket. Datagrams are BAD. TLVs are skipped; a checksum among them is not compared.
 */
enum proxy_status proxy_header_parse(struct span input, struct proxy_header *out, size_t *used);

/*
 * Puts a version 1 header, at most PROXY_V1_MAX octets. TCP4 when both are IPv4; otherwise TCP6
 * with an IPv4 address as ::ffff:a.b.c.d, as HAProxy does and Postfix takes. UNKNOWN when either is
 * NULL or no IP address: Postfix, for one, answers that by 421 and closes.
 */
void proxy_header_write(const struct net_address *source, const struct net_address *destination,
                        struct text *out);

#endif
