/* tls/inspect: what is said of a certificate, judged from outside. */
#include "tests/unit/tls_fixture.h"

#include <time.h>

#include "tls/inspect.h"

static struct identity root, inter, leaf, expired, bare;

static int make_files(void **state)
{
    (void)state;
    folder_enter();
    root = identity_make(&(struct wish){"Root", NULL, NULL, .authority = true, .end = 30});
    inter = identity_make(&(struct wish){"Inter", NULL, &root, .authority = true, .end = 30});
    leaf = identity_make(
        &(struct wish){"mx.example", "DNS:mx.example,DNS:*.sub.example", &inter, .end = 30});
    expired = identity_make(&(struct wish){"mx.example", NULL, &root, .begin = -9, .end = -3});
    bare = identity_make(&(struct wish){"own.example", NULL, NULL, .end = 30});
    write_identity("root", &root);
    write_identity("leaf", &leaf);
    write_identity("expired", &expired);
    write_identity("bare", &bare);
    write_chain("full.pem", leaf.certificate, inter.certificate, NULL);
    setenv("SSL_CERT_FILE", "root.pem", 1); /* what is the system's store here */
    return 0;
}

static int remove_files(void **state)
{
    struct identity *const all[] = {&root, &inter, &leaf, &expired, &bare};
    (void)state;
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        identity_release(all[i]);
    }
    folder_leave();
    return 0;
}

static struct tls_inspection *inspect(const char *path)
{
    struct tls_inspection *inspection = tls_inspect(path, NULL);
    assert_non_null(inspection);
    return inspection;
}

static void test_names_are_those_that_hosts_are_known_by(void **state)
{
    char names[200];
    struct text text = TEXT(names);
    (void)state;
    struct tls_inspection *inspection = inspect("full.pem");
    assert_true(tls_inspection_covers(inspection, "mx.example"));
    assert_true(tls_inspection_covers(inspection, "a.sub.example"));
    assert_false(tls_inspection_covers(inspection, "other.example"));
    tls_inspection_names(inspection, &text);
    assert_string_equal(names, "mx.example, *.sub.example");
    tls_inspection_free(inspection);
}

static void test_a_common_name_counts_where_there_is_no_other(void **state)
{
    char names[200];
    struct text text = TEXT(names);
    (void)state;
    struct tls_inspection *inspection = inspect("bare.pem");
    assert_true(tls_inspection_covers(inspection, "own.example"));
    tls_inspection_names(inspection, &text);
    assert_string_equal(names, "own.example");
    tls_inspection_free(inspection);
}

static void test_the_time_left_is_negative_once_it_has_expired(void **state)
{
    long long now = (long long)time(NULL);
    (void)state;
    struct tls_inspection *inspection = inspect("leaf.pem");
    assert_in_range(tls_inspection_left(inspection, now), 30 * DAY_SECONDS - 60, 30 * DAY_SECONDS);
    tls_inspection_free(inspection);
    inspection = inspect("expired.pem");
    assert_true(tls_inspection_left(inspection, now) < -2 * DAY_SECONDS);
    tls_inspection_free(inspection);
}

static void assert_trust(const char *path, bool expected)
{
    char why[200];
    struct text text = TEXT(why);
    struct fixture f;
    fixture_init(&f);
    struct tls_contexts *contexts = fixture_contexts(&f);
    struct tls_inspection *inspection = inspect(path);
    assert_int_equal(tls_inspection_trusted(inspection, contexts, &text), expected);
    assert_int_equal(text.len == 0, expected);
    tls_inspection_free(inspection);
    tls_contexts_unref(contexts);
}

static void test_a_chain_is_trusted_when_it_leads_to_an_authority(void **state)
{
    (void)state;
    assert_trust("full.pem", true);
    assert_trust("leaf.pem", false);
    assert_trust("bare.pem", false);
    assert_trust("expired.pem", true); /* dates are told apart */
}

static void test_a_file_that_is_no_certificate_is_told(void **state)
{
    struct diag_list *diags = diag_list_new();
    (void)state;
    assert_null(tls_inspect("absent.pem", diags));
    assert_int_equal(diag_errors(diags), 1);
    diag_list_free(diags);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_are_those_that_hosts_are_known_by),
        cmocka_unit_test(test_a_common_name_counts_where_there_is_no_other),
        cmocka_unit_test(test_the_time_left_is_negative_once_it_has_expired),
        cmocka_unit_test(test_a_chain_is_trusted_when_it_leads_to_an_authority),
        cmocka_unit_test(test_a_file_that_is_no_certificate_is_told),
    };
    return cmocka_run_group_tests(tests, make_files, remove_files);
}
