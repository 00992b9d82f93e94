/*
 * resolver: MX, A, AAAA and PTR by c-ares on a uv loop, with a cache that honours TTLs
 * (RFC 1034, 5321 5.1, 7505; design: sections 4, 6, 7 and 9).
 *
 * One resolver per loop; every function and callback runs on that loop's thread; callbacks come
 * from the loop, never from inside the call that asked (a cached answer too comes by the loop's
 * next turn).
 */
#ifndef SPLITMX_ROUTING_RESOLVER_H
#define SPLITMX_ROUTING_RESOLVER_H

#include <uv.h>

#include "routing/answer.h"

/* The hosts file as read off the loop; immutable, shared by all resolvers. */
struct resolver_hosts;
/* An unreadable file is empty. NULL, accepted wherever hosts are, only when memory is short. */
struct resolver_hosts *resolver_hosts_read(const char *path);
struct resolver_hosts *resolver_hosts_ref(struct resolver_hosts *hosts);
void resolver_hosts_unref(struct resolver_hosts *hosts);

/*
 * The name servers of a resolv.conf(5), as "address:port"; without any, or without the file, the
 * machine's own. Its search list and options do not matter here. Blocks on the file: off the loop.
 * False when it cannot be read, or memory is short.
 */
struct resolver_servers {
    size_t count;
    char texts[RESOLVER_SERVERS_MAX][NET_ADDRESS_TEXT];
};
bool resolver_servers_read(const char *path, struct resolver_servers *out);

struct resolver_options {
    /* "address:port", in the order in which they are asked, at least one; copied. */
    const char *const *servers;
    size_t server_count;
    struct resolver_hosts *hosts; /* may be NULL; a reference is taken */
    /* Addresses we listen on: of an MX list that leads to one, that preference and all behind it
     * are refused (RFC 5321 5.1). Port 0 is any port; no wildcards (own.h). */
    const struct net_address *own;
    size_t own_count;
    uint64_t seed; /* for shuffling */
};

struct resolver;
struct resolver_query;

/* NULL when c-ares cannot start with these servers. */
struct resolver *resolver_new(uv_loop_t *loop, const struct resolver_options *options);
/* Ends all queries without calling back; frees itself once the loop has closed its handles. */
void resolver_close(struct resolver *resolver);
/* New servers and hosts, after a reload; the cache is emptied; running queries go on. Servers that
 * c-ares refuses leave those that were. */
void resolver_configure(struct resolver *resolver, const struct resolver_options *options);

/*
 * The addresses of a next hop, HOST (A, AAAA alternating), MX (RFC 5321 5.1 order, equal
 * preferences shuffled, each host's families alternating) or ADDRESS (at once). `domain` stands in
 * for NEXTHOP_DOMAIN. NULL when memory is short. The query ends with its one callback or with
 * resolver_cancel.
 */
struct resolver_query *resolver_nexthop(struct resolver *resolver, const struct nexthop *hop,
                                        struct span domain, resolver_callback *callback,
                                        void *context);
struct resolver_query *resolver_ptr(struct resolver *resolver, const struct net_address *address,
                                    resolver_ptr_callback *callback, void *context);
/*
 * Nobody could be reached at what the name led to, or it led nowhere: its records are kept for some
 * seconds more at most, whatever their TTL. Names change when servers move, and a container's is
 * answered with minutes. `name`: of a next hop or an answer; one that is unknown is ignored.
 */
void resolver_doubt(struct resolver *resolver, const char *name);
/* No callback will come. */
void resolver_cancel(struct resolver_query *query);

#endif
