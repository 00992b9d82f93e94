/*
 * dns_cache: answers by name and type for as long as they are good. No clock of its own.
 *
 * Bounded in entries and bytes; the least recently used goes first. Lives on one thread. Times are
 * milliseconds of any monotonic clock.
 */
#ifndef SPLITMX_ROUTING_DNS_CACHE_H
#define SPLITMX_ROUTING_DNS_CACHE_H

#include "routing/dns_message.h"

#define DNS_CACHE_TTL_MAX      3600u /* seconds; at least 1 */
#define DNS_CACHE_NEGATIVE_MAX 300u
#define DNS_CACHE_FAILURE      5u

struct dns_cache;

/* NULL when memory is short. */
struct dns_cache *dns_cache_new(size_t entries_max, size_t bytes_max, uint64_t seed);
void dns_cache_free(struct dns_cache *cache); /* NULL is accepted */
void dns_cache_clear(struct dns_cache *cache);
size_t dns_cache_count(const struct dns_cache *cache);

/* The answer, borrowed until the next call, or NULL. */
const struct dns_answer *dns_cache_get(struct dns_cache *cache, const char *name,
                                       enum dns_type type, uint64_t now);

/* What is known is kept no longer than until then. */
void dns_cache_shorten(struct dns_cache *cache, const char *name, enum dns_type type,
                       uint64_t until);

/* Keeps a reference, over what was there, for the answer's bounded TTL. Without memory: not kept.
 */
void dns_cache_put(struct dns_cache *cache, const char *name, enum dns_type type,
                   const struct dns_answer *answer, uint64_t now);

/* Seeded, so that nobody outside can choose names of one bucket. */
uint64_t dns_name_hash(uint64_t seed, const char *name, enum dns_type type);

#endif
