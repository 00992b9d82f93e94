/*
 * answer: what asking for a next hop's addresses or an address's name comes to. Values only.
 */
#ifndef SPLITMX_ROUTING_ANSWER_H
#define SPLITMX_ROUTING_ANSWER_H

#include "config/net_address.h"
#include "routing/nexthop.h"

#define RESOLVER_ADDRESSES_MAX 32
#define RESOLVER_SERVERS_MAX   8 /* name servers that are asked; more are left out */

enum resolver_status {
    RESOLVER_OK,
    RESOLVER_NONE,    /* NXDOMAIN, or no address at all */
    RESOLVER_FAIL,    /* SERVFAIL, time-out, refused, malformed: 451 4.4.3 */
    RESOLVER_NULL_MX, /* RFC 7505 */
    RESOLVER_LOOP,    /* the best MX is this host itself (RFC 5321 5.1) */
};

struct resolver_address {
    struct net_address address;      /* port set */
    char host[NEXTHOP_HOST_MAX + 1]; /* the name it belongs to (MX host or the host itself), for
                                        TLS; "" for a literal */
};

struct resolver_answer {
    enum resolver_status status;
    const struct resolver_address
        *addresses; /* in the order to be tried; valid during the callback */
    size_t count;
    bool ours;       /* RESOLVER_FAIL for want of memory or descriptors here: 452 4.3.1 */
    const char *why; /* a few words for the log when status is not OK */
};

typedef void resolver_callback(void *context, const struct resolver_answer *answer);
/* What an address is called; host names of letters, digits, dots and hyphens. Valid during the
 * callback. */
struct resolver_name {
    const char *confirmed; /* a PTR name that leads back to the address, or NULL */
    const char *reverse;   /* the same, else the first PTR name that there is, or NULL */
    bool later;            /* a look-up failed for now: what is NULL may exist */
};

typedef void resolver_ptr_callback(void *context, const struct resolver_name *name);

#endif
