/*
 * random: numbers that are fair enough to share load by (splitmix64: Steele, Lea and Flood, Fast
 * Splittable Pseudorandom Number Generators). No secret may depend on them.
 */
#ifndef SPLITMX_CONFIG_RANDOM_H
#define SPLITMX_CONFIG_RANDOM_H

#include <stdint.h>

/* The same state gives the same numbers; any first one will do. */
static inline uint64_t random_step(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

#endif
