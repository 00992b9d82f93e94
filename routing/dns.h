/*
 * dns: questions to the DNS servers by way of the cache; equal questions under way share one query.
 *
 * A question goes to the first server, and to the next one when that says nothing for a second.
 * After several such silences in a row the others come first, for half a minute: c-ares does not
 * remember, and every question would wait.
 *
 * Runs on its loop's thread.
 */
#ifndef SPLITMX_ROUTING_DNS_H
#define SPLITMX_ROUTING_DNS_H

#include <uv.h>

#include "routing/dns_message.h"
#include "routing/ring.h"

#define DNS_DEADLINE_MS 8000 /* for one question, all servers and tries together */

struct dns;
struct dns_wait;

/* The answer is borrowed: who wants to keep it takes a reference. May ask again; may not close or
 * configure the dns. */
typedef void dns_done(struct dns_wait *wait, const struct dns_answer *answer);

/* One that waits; part of the asker's own object. */
struct dns_wait {
    struct ring link;
    dns_done *done;
    void *owner;
};

/* servers: as dns_channel_new has them; copied. NULL when c-ares cannot start or memory is short.
 */
struct dns *dns_new(uv_loop_t *loop, const char *const *servers, size_t count, uint64_t seed);
/* Nobody who waits is called; frees itself once the loop has closed its handles. */
void dns_close(struct dns *dns);
/* New servers, empty cache; questions under way go on. False: c-ares refused, all is as it was. */
bool dns_configure(struct dns *dns, const char *const *servers, size_t count);

/* What a question is for. Those for the names of clients are put, and chosen, by whoever connects:
 * they may use a part only of the questions that can be under way. */
enum dns_purpose { DNS_FOR_NEXT_HOP, DNS_FOR_CLIENT_NAME };

/* name: folded, valid, no last dot. `done` comes once, perhaps from inside, unless dns_forget comes
 * first. */
void dns_ask(struct dns *dns, const char *name, enum dns_type type, enum dns_purpose purpose,
             struct dns_wait *wait, dns_done *done, void *owner);
/* What the name led to was of no use: whatever its TTL, it is asked for anew after DNS_DOUBT_MS. */
#define DNS_DOUBT_MS 5000
void dns_doubt(struct dns *dns, const char *name);
/* For any wait that was asked with or set up by dns_wait_init. */
void dns_forget(struct dns_wait *wait);
void dns_wait_init(struct dns_wait *wait);

#endif
