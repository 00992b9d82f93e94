/*
 * dns_channel: one c-ares channel bound to a uv loop, for raw queries of exact names.
 *
 * Runs on its loop's thread. Neither close nor retire may be called from inside a query's callback.
 */
#ifndef SPLITMX_ROUTING_DNS_CHANNEL_H
#define SPLITMX_ROUTING_DNS_CHANNEL_H

/* The calls with raw answers, which newer versions advise against, are the ones every version has.
 */
#define CARES_NO_DEPRECATED

#include <ares.h>
#include <uv.h>

#include "routing/dns_message.h"

struct dns_channel;

/* servers: "address:port", at least one; what is beyond RESOLVER_SERVERS_MAX is left out. NULL when
 * one is none, or c-ares cannot start. */
struct dns_channel *dns_channel_new(uv_loop_t *loop, const char *const *servers, size_t count);

/* The callback may come from inside; it must call dns_channel_finished first. */
void dns_channel_query(struct dns_channel *channel, const char *name, enum dns_type type,
                       ares_callback callback, void *context);
void dns_channel_finished(struct dns_channel *channel);

/* Closes once its last query has ended; no more may be asked. */
void dns_channel_retire(struct dns_channel *channel);

/* How often servers have answered with a failure so far, and the last one's code (RFC 1035 4.1.1):
 * c-ares, which asks the next server then, tells in the end only that none has answered. And how
 * often there was no socket to ask with. */
struct dns_failures {
    unsigned count, code, sockets;
};
struct dns_failures dns_channel_failures(const struct dns_channel *channel);

/* Queries under way end now, with ARES_EDESTRUCTION; memory goes when the loop has closed the
 * handles. */
void dns_channel_close(struct dns_channel *channel);

#endif
