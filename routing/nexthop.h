/*
 * nexthop: the syntax of destinations, as transport(5) has it (design: section 4). Pure.
 */
#ifndef SPLITMX_ROUTING_NEXTHOP_H
#define SPLITMX_ROUTING_NEXTHOP_H

#include "config/net_address.h"
#include "config/span.h"

#define NEXTHOP_HOST_MAX 253
#define NEXTHOPS_MAX     16

enum nexthop_kind {
    NEXTHOP_HOST,    /* [host]: its A and AAAA */
    NEXTHOP_MX,      /* host without brackets: its MX, else its A and AAAA */
    NEXTHOP_ADDRESS, /* [IPv4], [IPv6] or [unix:/path] */
    NEXTHOP_DOMAIN,  /* "smtp:" alone: MX of the recipient's domain */
};

struct nexthop {
    enum nexthop_kind kind;
    char host[NEXTHOP_HOST_MAX + 1]; /* HOST and MX, folded; ADDRESS: as text; else "" */
    uint16_t port;                   /* 0 for unix */
    struct net_address address;      /* ADDRESS only */
    uint16_t priority; /* the lowest is tried first, equal ones in any order; lists written as text
                          count up */
    bool guarded;      /* HOST: a name that no operator wrote (design: section 7): its addresses may
                          not be loopback and the like */
};

enum transport_kind {
    TRANSPORT_SMTP,
    TRANSPORT_ERROR,
    TRANSPORT_RETRY,
    TRANSPORT_DISCARD,
    TRANSPORT_RELAY, /* a bare word: the name of a relay */
};

struct transport {
    enum transport_kind kind;
    struct nexthop *hops; /* SMTP: owned, in the order to be tried */
    size_t hop_count;
    unsigned code;     /* ERROR, RETRY: 450 or 550 */
    char enhanced[12]; /* "5.7.1" */
    char *text;        /* ERROR, RETRY: printable ASCII, owned; RELAY: the name */
};

/* The dialect: in transport maps relay: means smtp: and a bare word is no relay name unless known.
 */
enum transport_dialect { TRANSPORT_YAML, TRANSPORT_MAP };

/*
 * Parses one destination. On failure returns false with a sentence in `why` (what is wrong and what
 * was expected) and the offset into text where it is wrong. On success the caller releases it.
 */
bool transport_parse(struct span text, enum transport_dialect dialect, struct transport *out,
                     char *why, size_t why_cap, size_t *where);
/* Whether it is the name of a transport or action: smtp, error, retry, discard. */
bool transport_is_name(struct span word);
void transport_release(struct transport *transport);

#define NEXTHOP_TEXT 264 /* enough for any next hop as text */

/* As design's section 8 prints it: "[kingmailer.org]:25", "example.com:25", "[unix:/path]", "". */
void nexthop_text(const struct nexthop *hop, char *out, size_t cap);

#endif
