/*
 * random: the simulator's only source of chance (splitmix64). The same seed gives the same numbers.
 */
#ifndef SPLITMX_TESTS_SIM_RANDOM_H
#define SPLITMX_TESTS_SIM_RANDOM_H

#include <stdbool.h>
#include <stdint.h>

struct sim_random {
    uint64_t state;
};

static inline uint64_t random_next(struct sim_random *random)
{
    uint64_t z = random->state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

/* 0 to n - 1; n is not 0. */
static inline uint64_t random_below(struct sim_random *random, uint64_t n)
{
    return random_next(random) % n;
}

static inline bool random_chance(struct sim_random *random, unsigned percent)
{
    return random_below(random, 100) < percent;
}

#endif
