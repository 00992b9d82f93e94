/* Sources: whether a route file says what it said, by its stamp or by its words. */
#include "tests/unit/routing_fixture.h"

#include "routing/source.h"

static void test_a_young_stamp_is_not_trusted(void **state)
{
    struct fixture *f = fixture_new();
    struct source_stamp stamp;
    (void)state;
    fixture_routes(f, "r.yaml", "a.example: local\n");
    assert_true(source_read(f->paths[0], &stamp, NULL));
    assert_int_equal(stamp.settled, 0);
    assert_true(source_unchanged(f->paths[0], &stamp, NULL));
    stamp.digest[0] ^= 1; /* as if the file had other words under the same time stamps */
    assert_false(source_unchanged(f->paths[0], &stamp, NULL));
    stamp.settled = 1;
    assert_true(source_unchanged(f->paths[0], &stamp, NULL)); /* nothing was read */
    fixture_free(f);
}

static void test_the_same_words_in_another_file_are_unchanged(void **state)
{
    struct fixture *f = fixture_new();
    struct source_stamp stamp;
    (void)state;
    fixture_routes(f, "r.yaml", "a.example: local\n");
    assert_true(source_read(f->paths[0], &stamp, NULL));
    assert_int_equal(unlink(f->paths[0]), 0);
    assert_false(source_unchanged(f->paths[0], &stamp, NULL));
    fixture_write(f, "r.yaml", "a.example: local\n");
    assert_false(source_untouched(f->paths[0], &stamp) && stamp.settled);
    assert_true(source_unchanged(f->paths[0], &stamp, NULL));
    fixture_write(f, "r.yaml", "b.example: local\n");
    assert_false(source_unchanged(f->paths[0], &stamp, NULL));
    fixture_free(f);
}

static void test_the_digest_of_the_configuration_tells_what_matters(void **state)
{
    struct fixture *f = fixture_new();
    unsigned char before[SOURCE_DIGEST], after[SOURCE_DIGEST];
    (void)state;
    fixture_routes(f, "r.yaml", "");
    assert_true(source_digest_config(&f->config, 1, before));
    f->config.recipient_delimiter = '-';
    assert_true(source_digest_config(&f->config, 1, after));
    assert_memory_equal(before, after, SOURCE_DIGEST);
    f->config.domains_given = true; /* `domains: []` is not the default */
    assert_true(source_digest_config(&f->config, 1, after));
    assert_memory_not_equal(before, after, SOURCE_DIGEST);
    f->config.domains_given = false;
    fixture_routes(f, "other.yaml", "");
    assert_true(source_digest_config(&f->config, 1, after));
    assert_memory_not_equal(before, after, SOURCE_DIGEST);
    fixture_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_young_stamp_is_not_trusted),
        cmocka_unit_test(test_the_same_words_in_another_file_are_unchanged),
        cmocka_unit_test(test_the_digest_of_the_configuration_tells_what_matters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
