/*
 * hash: a keyed hash for tables whose keys strangers choose. Pure.
 */
#ifndef SPLITMX_CONFIG_HASH_H
#define SPLITMX_CONFIG_HASH_H

#include <stddef.h>
#include <stdint.h>

struct hash_key {
    uint64_t word[2];
};

struct hash_key hash_key_of(uint64_t seed);
uint64_t hash_bytes(const struct hash_key *key, const void *data, size_t len);

/* Several times as fast, for what nobody has a hand in but the operator. */
uint64_t hash_own(const void *data, size_t len);

#endif
