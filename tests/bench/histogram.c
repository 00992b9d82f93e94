#include "tests/bench/histogram.h"

#define CELLS_A_POWER (UINT64_C(1) << HISTOGRAM_BITS)

/* How many low bits of a value its cell does not tell. */
static unsigned shift_of(uint64_t value)
{
    const unsigned top = value == 0 ? 0 : 63 - (unsigned)__builtin_clzll(value);
    return top <= HISTOGRAM_BITS ? 0 : top - HISTOGRAM_BITS;
}

/* Cells of one shift stand behind those of the one before: value >> shift is CELLS_A_POWER or more
 * but for the least values. */
static unsigned cell_of(uint64_t value)
{
    const unsigned shift = shift_of(value);
    return (shift << HISTOGRAM_BITS) + (unsigned)(value >> shift);
}

/* The largest value of a cell. */
static uint64_t top_of(unsigned cell)
{
    if (cell < 2 * CELLS_A_POWER) {
        return cell;
    }
    const unsigned shift = (cell >> HISTOGRAM_BITS) - 1;
    return ((cell - ((uint64_t)shift << HISTOGRAM_BITS) + 1) << shift) - 1;
}

void histogram_add(struct histogram *histogram, uint64_t value)
{
    histogram->count++;
    histogram->sum += (double)value;
    histogram->max = value > histogram->max ? value : histogram->max;
    histogram->cells[cell_of(value)]++;
}

uint64_t histogram_quantile(const struct histogram *histogram, double part)
{
    const double wanted = part * (double)histogram->count;
    uint64_t seen = 0;

    for (unsigned cell = 0; cell < HISTOGRAM_CELLS && seen < histogram->count; cell++) {
        seen += histogram->cells[cell];
        if (seen > 0 && (double)seen >= wanted) {
            const uint64_t top = top_of(cell);
            return top < histogram->max ? top : histogram->max;
        }
    }
    return histogram->max;
}

double histogram_mean(const struct histogram *histogram)
{
    return histogram->count > 0 ? histogram->sum / (double)histogram->count : 0;
}
