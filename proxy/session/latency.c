#include "proxy/session/latency.h"

const uint32_t latency_bounds[LATENCY_BOUNDS] = {
    1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 30000, 60000, 300000,
};

/* Most are among the first. */
void latency_count(struct latency *latency, uint64_t milliseconds)
{
    unsigned at = 0;
    while (at < LATENCY_BOUNDS && milliseconds > latency_bounds[at]) {
        at++;
    }
    count_add(&latency->bucket[at], 1);
    count_add(&latency->sum, milliseconds);
}

void latency_add_up(const struct latency *latency, struct latency_sum *to)
{
    for (unsigned i = 0; i <= LATENCY_BOUNDS; i++) {
        to->bucket[i] += count_get(&latency->bucket[i]);
    }
    to->sum += count_get(&latency->sum);
}
