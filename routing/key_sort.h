/*
 * key_sort: puts records in the order of their keys (bytes, the shorter first where one begins the
 * other).
 *
 * Most of what sorting costs is fetching keys from memory that no cache holds. So a record is moved
 * about together with seven bytes of its key, and these alone are compared; only records that agree
 * in them are looked at again, for the next seven.
 *
 * Pure; takes no memory.
 */
#ifndef SPLITMX_ROUTING_KEY_SORT_H
#define SPLITMX_ROUTING_KEY_SORT_H

#include <stddef.h>
#include <stdint.h>

#include "config/span.h"

struct key_item {
    uint64_t head;      /* key_sort's own */
    const char *record; /* the caller's */
};

/* The key of a record. */
typedef struct span key_of(const char *record);

/* Records with equal keys keep their order. `spare` has room for half of the items. */
void key_sort(struct key_item *items, size_t count, struct key_item *spare, key_of *key);

#endif
