/*
 * histogram: how often which time was measured; quantiles of millions of them in fixed memory.
 * Pure.
 *
 * Cells are as wide as the numbers in them are large: 128 to each power of two, so that a quantile
 * is at most 1/128 too high, from nanoseconds to centuries (as Gil Tene's HdrHistogram does).
 */
#ifndef SPLITMX_TESTS_BENCH_HISTOGRAM_H
#define SPLITMX_TESTS_BENCH_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_BITS  7
#define HISTOGRAM_CELLS ((65 - HISTOGRAM_BITS) << HISTOGRAM_BITS)

/* All zero is an empty one. */
struct histogram {
    uint64_t count;
    uint64_t max;
    double sum;
    uint64_t cells[HISTOGRAM_CELLS];
};

void histogram_add(struct histogram *histogram, uint64_t value);

/* The value that at most 1 - `part` of all are above; 0 of an empty one. part: 0 to 1. */
uint64_t histogram_quantile(const struct histogram *histogram, double part);

double histogram_mean(const struct histogram *histogram); /* 0 of an empty one */

#endif
