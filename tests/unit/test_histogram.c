#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "config/random.h"
#include "tests/bench/histogram.h"

static struct histogram *empty(void)
{
    struct histogram *histogram = calloc(1, sizeof(*histogram));
    assert_non_null(histogram);
    return histogram;
}

/* What one value comes out as. A larger one keeps the maximum from cutting it. */
static uint64_t read_back(uint64_t value)
{
    struct histogram *histogram = empty();
    histogram_add(histogram, value);
    histogram_add(histogram, UINT64_MAX);
    const uint64_t read = histogram_quantile(histogram, 0.5);
    free(histogram);
    return read;
}

static void an_empty_one_is_all_zero(void **state)
{
    struct histogram *histogram = empty();
    (void)state;
    assert_int_equal(histogram_quantile(histogram, 0.5), 0);
    assert_int_equal(histogram_quantile(histogram, 1), 0);
    assert_true(histogram_mean(histogram) == 0);
    free(histogram);
}

static void small_numbers_are_exact(void **state)
{
    (void)state;
    for (uint64_t value = 0; value < 256; value++) {
        assert_int_equal(read_back(value), value);
    }
}

static void no_number_is_read_too_low_nor_more_than_a_128th_too_high(void **state)
{
    uint64_t seed = 1;
    (void)state;
    for (int i = 0; i < 3000; i++) {
        const uint64_t value = random_step(&seed) >> i % 64;
        const uint64_t read = read_back(value);
        assert_true(read >= value);
        assert_true(read - value <= value / 128);
    }
    assert_int_equal(read_back(UINT64_MAX), UINT64_MAX);
}

static void quantiles_count_from_the_least(void **state)
{
    struct histogram *histogram = empty();
    (void)state;
    for (uint64_t value = 100; value > 0; value--) {
        histogram_add(histogram, value);
    }
    assert_int_equal(histogram_quantile(histogram, 0), 1);
    assert_int_equal(histogram_quantile(histogram, 0.5), 50);
    assert_int_equal(histogram_quantile(histogram, 0.505), 51);
    assert_int_equal(histogram_quantile(histogram, 0.99), 99);
    assert_int_equal(histogram_quantile(histogram, 1), 100);
    assert_true(histogram_mean(histogram) == 50.5);
    free(histogram);
}

static void no_quantile_is_above_the_maximum(void **state)
{
    struct histogram *histogram = empty();
    (void)state;
    histogram_add(histogram, 1000001);
    assert_int_equal(histogram_quantile(histogram, 0.5), 1000001);
    assert_int_equal(histogram->max, 1000001);
    free(histogram);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_one_is_all_zero),
        cmocka_unit_test(small_numbers_are_exact),
        cmocka_unit_test(no_number_is_read_too_low_nor_more_than_a_128th_too_high),
        cmocka_unit_test(quantiles_count_from_the_least),
        cmocka_unit_test(no_quantile_is_above_the_maximum),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
