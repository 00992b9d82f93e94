#include "config/hash.h"

#include <endian.h>
#include <stdbool.h>
#include <string.h>

static uint64_t rotate(uint64_t x, unsigned n)
{
    return x << n | x >> (64 - n);
}

static void sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[1] = rotate(v[1], 13) ^ v[0];
    v[0] = rotate(v[0], 32);
    v[2] += v[3];
    v[3] = rotate(v[3], 16) ^ v[2];
    v[0] += v[3];
    v[3] = rotate(v[3], 21) ^ v[0];
    v[2] += v[1];
    v[1] = rotate(v[1], 17) ^ v[2];
    v[2] = rotate(v[2], 32);
}

/*
 * SipHash-1-3 (Aumasson, Bernstein): keyed, so a stranger with an IPv6 prefix to choose from cannot
 * aim its addresses at one window and fill it. The hash never leaves the process, and a guess at it
 * gains no more than a refused connection, so the short variant is enough.
 */
uint64_t hash_bytes(const struct hash_key *key, const void *data, size_t len)
{
    const unsigned char *bytes = data;
    uint64_t v[4] = {
        key->word[0] ^ UINT64_C(0x736f6d6570736575), key->word[1] ^ UINT64_C(0x646f72616e646f6d),
        key->word[0] ^ UINT64_C(0x6c7967656e657261), key->word[1] ^ UINT64_C(0x7465646279746573)};
    uint64_t word;

    for (size_t left = len;; left -= 8, bytes += 8) {
        const bool tail = left < 8;
        if (tail) {
            word = (uint64_t)len << 56;
            for (size_t i = 0; i < left; i++) {
                word |= (uint64_t)bytes[i] << (8 * i);
            }
        } else {
            memcpy(&word, bytes, sizeof(word));
            word = le64toh(word);
        }
        v[3] ^= word;
        sip_round(v);
        v[0] ^= word;
        if (tail) {
            break;
        }
    }
    v[2] ^= 0xff;
    for (int i = 0; i < 3; i++) {
        sip_round(v);
    }
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* The second word is only there for the form: the secret has 64 bits. */
struct hash_key hash_key_of(uint64_t seed)
{
    return (struct hash_key){{seed, rotate(seed, 32) * UINT64_C(0x9e3779b97f4a7c15)}};
}

/* A multiplication; its upper half, where all bits of the word count, comes down again. */
static uint64_t mix(uint64_t hash, uint64_t word)
{
    hash = (hash ^ word) * UINT64_C(0x9e3779b97f4a7c15);
    return hash ^ hash >> 32;
}

uint64_t hash_own(const void *data, size_t len)
{
    const unsigned char *bytes = data;
    uint64_t hash = len, word;
    size_t left = len;
    for (; left >= sizeof(word); left -= sizeof(word), bytes += sizeof(word)) {
        memcpy(&word, bytes, sizeof(word));
        hash = mix(hash, word);
    }
    for (word = 0; left > 0; left--) {
        word = word << 8 | bytes[left - 1];
    }
    return mix(hash, word);
}
