/*
 * dns_message: a DNS answer's bytes to records and a time to live (RFC 1035, 2181, 2308). Pure.
 *
 * c-ares' own parsers do not tell the TTLs of MX and PTR records, and the cache lives by them.
 */
#ifndef SPLITMX_ROUTING_DNS_MESSAGE_H
#define SPLITMX_ROUTING_DNS_MESSAGE_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config/net_address.h"

#define DNS_NAME_MAX    253 /* octets as text, without the last dot */
#define DNS_RECORDS_MAX 32  /* kept of one answer; of MX the most preferred */
#define DNS_CHAIN_MAX   10  /* CNAMEs followed */
#define DNS_ANSWERS_MAX 512 /* records of the answer section looked at */

enum dns_type { DNS_A = 1, DNS_CNAME = 5, DNS_SOA = 6, DNS_PTR = 12, DNS_MX = 15, DNS_AAAA = 28 };

enum dns_status { DNS_OK, DNS_NODATA, DNS_NXDOMAIN, DNS_FAIL };

struct dns_record {
    uint16_t preference; /* MX */
    struct in_addr in4;  /* A */
    struct in6_addr in6; /* AAAA */
    const char
        *name; /* MX, PTR: folded, "" for the root, "?" when it has bytes no name here may have */
};

/* Immutable and reference-counted, by one thread; those with no reference count live for ever. */
struct dns_answer {
    unsigned refs;
    enum dns_status status;
    bool ours;       /* DNS_FAIL for want of memory or descriptors here; never kept */
    uint32_t ttl;    /* seconds, as the answer says; the cache bounds it */
    const char *why; /* static words when status is not DNS_OK */
    size_t size;     /* of this object in memory */
    size_t count;
    struct dns_record records[];
};

/* What stands in when memory is short. */
extern const struct dns_answer dns_answer_no_memory;

/* Room for count records; refs is 1, everything else zero. NULL when memory is short. */
struct dns_answer *dns_answer_new(enum dns_status status, size_t count, size_t name_bytes);
const struct dns_answer *dns_answer_failure(enum dns_status status, const char *why);
const struct dns_answer *dns_answer_ref(const struct dns_answer *answer);
void dns_answer_unref(const struct dns_answer *answer); /* NULL is accepted */

/*
 * Reads a whole answer to the question name (folded, no last dot) and type, following its CNAME
 * chain. The bytes may be anything: what cannot be right is DNS_FAIL. Never NULL; one reference.
 */
const struct dns_answer *dns_message_parse(const uint8_t *bytes, size_t len, const char *name,
                                           enum dns_type type);

/* The name that an address has its PTR under (RFC 1035 3.5, RFC 3596 2.5). False for unix sockets,
 * and where it does not fit. */
bool dns_reverse_name(const struct net_address *address, char *out, size_t cap);

#endif
