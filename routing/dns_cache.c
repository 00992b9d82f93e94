#include "routing/dns_cache.h"

#include <stdlib.h>
#include <string.h>

#include "routing/ring.h"

enum { BUCKETS = 1024 };

struct entry {
    struct ring bucket;
    struct ring age;
    const struct dns_answer *answer;
    uint64_t expires;
    size_t bytes;
    enum dns_type type;
    char name[];
};

struct dns_cache {
    size_t entries_max;
    size_t bytes_max;
    uint64_t seed;
    size_t count;
    size_t bytes;
    struct ring age; /* least recently used first */
    struct ring buckets[BUCKETS];
};

uint64_t dns_name_hash(uint64_t seed, const char *name, enum dns_type type)
{
    uint64_t hash = seed ^ ((uint64_t)type * 0x9e3779b97f4a7c15u);
    for (; *name != '\0'; name++) {
        hash = (hash ^ (unsigned char)*name) * 0x100000001b3u;
        hash ^= hash >> 29;
    }
    hash *= 0xbf58476d1ce4e5b9u;
    return hash ^ hash >> 32;
}

struct dns_cache *dns_cache_new(size_t entries_max, size_t bytes_max, uint64_t seed)
{
    struct dns_cache *cache = calloc(1, sizeof(*cache));
    if (cache == NULL) {
        return NULL;
    }
    cache->entries_max = entries_max;
    cache->bytes_max = bytes_max;
    cache->seed = seed;
    ring_init(&cache->age);
    for (size_t i = 0; i < BUCKETS; i++) {
        ring_init(&cache->buckets[i]);
    }
    return cache;
}

static void entry_drop(struct dns_cache *cache, struct entry *entry)
{
    ring_unlink(&entry->bucket);
    ring_unlink(&entry->age);
    cache->count--;
    cache->bytes -= entry->bytes;
    dns_answer_unref(entry->answer);
    free(entry);
}

void dns_cache_clear(struct dns_cache *cache)
{
    while (!ring_empty(&cache->age)) {
        entry_drop(cache, RING_OF(cache->age.next, struct entry, age));
    }
}

void dns_cache_free(struct dns_cache *cache)
{
    if (cache == NULL) {
        return;
    }
    dns_cache_clear(cache);
    free(cache);
}

size_t dns_cache_count(const struct dns_cache *cache)
{
    return cache->count;
}

static struct ring *bucket_of(struct dns_cache *cache, const char *name, enum dns_type type)
{
    return &cache->buckets[dns_name_hash(cache->seed, name, type) % BUCKETS];
}

static struct entry *entry_find(struct dns_cache *cache, const char *name, enum dns_type type)
{
    const struct ring *bucket = bucket_of(cache, name, type);
    for (struct ring *link = bucket->next; link != bucket; link = link->next) {
        struct entry *entry = RING_OF(link, struct entry, bucket);
        if (entry->type == type && strcmp(entry->name, name) == 0) {
            return entry;
        }
    }
    return NULL;
}

const struct dns_answer *dns_cache_get(struct dns_cache *cache, const char *name,
                                       enum dns_type type, uint64_t now)
{
    struct entry *entry = entry_find(cache, name, type);
    if (entry == NULL) {
        return NULL;
    }
    if (entry->expires <= now) {
        entry_drop(cache, entry);
        return NULL;
    }
    ring_unlink(&entry->age);
    ring_append(&cache->age, &entry->age);
    return entry->answer;
}

void dns_cache_shorten(struct dns_cache *cache, const char *name, enum dns_type type,
                       uint64_t until)
{
    struct entry *entry = entry_find(cache, name, type);
    if (entry != NULL && entry->expires > until) {
        entry->expires = until;
    }
}

static uint64_t lifetime(const struct dns_answer *answer)
{
    uint32_t most = DNS_CACHE_FAILURE;
    switch (answer->status) {
    case DNS_OK:
        most = DNS_CACHE_TTL_MAX;
        break;
    case DNS_NODATA:
    case DNS_NXDOMAIN:
        most = DNS_CACHE_NEGATIVE_MAX;
        break;
    case DNS_FAIL:
        return DNS_CACHE_FAILURE * UINT64_C(1000);
    }
    uint32_t ttl = answer->ttl < most ? answer->ttl : most;
    return (ttl > 0 ? ttl : 1) * UINT64_C(1000);
}

void dns_cache_put(struct dns_cache *cache, const char *name, enum dns_type type,
                   const struct dns_answer *answer, uint64_t now)
{
    struct entry *old = entry_find(cache, name, type);
    if (old != NULL) {
        entry_drop(cache, old);
    }
    if (answer->ours) {
        return;
    }

    size_t name_bytes = strlen(name) + 1;
    size_t bytes = sizeof(struct entry) + name_bytes + answer->size;
    if (bytes > cache->bytes_max || cache->entries_max == 0) {
        return;
    }
    while (cache->count >= cache->entries_max || cache->bytes + bytes > cache->bytes_max) {
        entry_drop(cache, RING_OF(cache->age.next, struct entry, age));
    }

    struct entry *entry = malloc(sizeof(*entry) + name_bytes);
    if (entry == NULL) {
        return;
    }
    entry->answer = dns_answer_ref(answer);
    entry->expires = now + lifetime(answer);
    entry->bytes = bytes;
    entry->type = type;
    memcpy(entry->name, name, name_bytes);
    ring_append(bucket_of(cache, name, type), &entry->bucket);
    ring_append(&cache->age, &entry->age);
    cache->count++;
    cache->bytes += bytes;
}
