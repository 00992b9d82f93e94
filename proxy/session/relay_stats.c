#include "proxy/session/relay_stats.h"

#include "config/hash.h"

static struct relay_stats *name_next(struct relay_table *table, struct span name, uint64_t hash,
                                     unsigned char *slot)
{
    unsigned count = atomic_load_explicit(&table->count, memory_order_relaxed);
    if (RELAY_STATS_FIRST + count == RELAY_STATS_MAX) {
        return &table->entry[RELAY_STATS_OTHERS];
    }
    struct relay_stats *entry = &table->entry[RELAY_STATS_FIRST + count];
    entry->hash = hash;
    memcpy(entry->name, name.ptr, name.len);
    *slot = (unsigned char)(RELAY_STATS_FIRST + count);
    atomic_store_explicit(&table->count, count + 1, memory_order_release); /* readable from here */
    return entry;
}

struct relay_stats *relay_stats_of(struct relay_table *table, struct span name)
{
    if (name.len == 0 || name.len >= RELAY_STATS_NAME) {
        return &table->entry[RELAY_STATS_OTHERS];
    }
    const uint64_t hash = hash_own(name.ptr, name.len);
    for (size_t at = hash % RELAY_STATS_SLOT;; at = (at + 1) % RELAY_STATS_SLOT) {
        struct relay_stats *entry = &table->entry[table->slot[at]];
        if (table->slot[at] == 0) {
            return name_next(table, name, hash, &table->slot[at]);
        }
        if (entry->hash == hash && memcmp(entry->name, name.ptr, name.len) == 0 &&
            entry->name[name.len] == '\0') {
            return entry;
        }
    }
}
