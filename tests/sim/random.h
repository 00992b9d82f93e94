/*
 * random: the simulator's only source of chance. The same seed gives the same numbers.
 */
#ifndef SPLITMX_TESTS_SIM_RANDOM_H
#define SPLITMX_TESTS_SIM_RANDOM_H

#include <stdbool.h>

#include "config/random.h"

struct sim_random {
    uint64_t state;
};

static inline uint64_t random_next(struct sim_random *random)
{
    return random_step(&random->state);
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
