/* tls/store: authorities that are decoded when a chain leads to them are as good as any. */
#include <pthread.h>

#include "tests/unit/tls_fixture.h"
#include "tls/store.h"

static struct identity root, twin, inter, leaf, twins, stranger;
static X509_LOOKUP_METHOD *lookup;

/* By what others of the name are told apart (RFC 5280 4.2.1.1 and 4.2.1.2). */
static void identify(struct identity *identity, const struct identity *issuer, char id,
                     char issuer_id)
{
    ASN1_OCTET_STRING *own = ASN1_OCTET_STRING_new();
    AUTHORITY_KEYID *authority = AUTHORITY_KEYID_new();
    authority->keyid = ASN1_OCTET_STRING_new();
    ASN1_OCTET_STRING_set(own, (const unsigned char *)&id, 1);
    ASN1_OCTET_STRING_set(authority->keyid, (const unsigned char *)&issuer_id, 1);
    X509 *certificate = identity->certificate;
    assert_int_equal(X509_add1_ext_i2d(certificate, NID_subject_key_identifier, own, 0, 0), 1);
    assert_int_equal(X509_add1_ext_i2d(certificate, NID_authority_key_identifier, authority, 0, 0),
                     1);
    assert_true(X509_sign(certificate, issuer->key, EVP_sha256()) > 0);
    ASN1_OCTET_STRING_free(own);
    AUTHORITY_KEYID_free(authority);
}

static int make_files(void **state)
{
    (void)state;
    folder_enter();
    root = identity_make(&(struct wish){"Root", NULL, NULL, .authority = true, .end = 30});
    twin = identity_make(&(struct wish){"Root", NULL, NULL, .authority = true, .end = 30});
    inter = identity_make(&(struct wish){"Inter", NULL, &root, .authority = true, .end = 30});
    leaf = identity_make(&(struct wish){"mx.example", NULL, &inter, .end = 30});
    twins = identity_make(&(struct wish){"mx.example", NULL, &twin, .end = 30});
    stranger = identity_make(&(struct wish){"Else", NULL, NULL, .authority = true, .end = 30});
    identify(&root, &root, 1, 1);
    identify(&twin, &twin, 2, 2);
    identify(&inter, &root, 3, 1);
    identify(&twins, &twin, 4, 2);
    write_identity("root", &root);
    write_chain("all.pem", stranger.certificate, root.certificate, twin.certificate);
    write_chain("others.pem", stranger.certificate, twin.certificate, NULL);
    lookup = store_lookup();
    assert_non_null(lookup);
    return 0;
}

static int remove_files(void **state)
{
    struct identity *const all[] = {&root, &twin, &inter, &leaf, &twins, &stranger};
    (void)state;
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        identity_release(all[i]);
    }
    X509_LOOKUP_meth_free(lookup);
    folder_leave();
    return 0;
}

/* NULL: told, into `why`. */
static X509_STORE *store_of(const char *path, char *why, size_t cap)
{
    struct diag_list *diags = diag_list_new();
    X509_STORE *store = X509_STORE_new();
    struct pem_file file;
    why[0] = '\0';
    assert_true(pem_read(&file, path, PEM_PUBLIC, (struct diag_place){0}, diags));
    const bool filled = store_fill(store, lookup, &file, (struct diag_place){0}, diags);
    pem_release(&file);
    if (!filled) {
        X509_STORE_free(store);
        store = NULL;
        diag_format(diag_at(diags, 0), why, cap);
    }
    assert_int_equal(diag_errors(diags), filled ? 0 : 1);
    diag_list_free(diags);
    return store;
}

/* With the intermediate at hand. */
static bool trusts(X509_STORE *store, X509 *certificate)
{
    X509_STORE_CTX *verification = X509_STORE_CTX_new();
    STACK_OF(X509) *chain = sk_X509_new_null();
    sk_X509_push(chain, inter.certificate);
    assert_int_equal(X509_STORE_CTX_init(verification, store, certificate, chain), 1);
    const bool trusted = X509_verify_cert(verification) == 1;
    X509_STORE_CTX_free(verification);
    sk_X509_free(chain);
    return trusted;
}

static void what_leads_to_the_store_is_trusted_and_nothing_else(void **state)
{
    char why[256];
    (void)state;
    X509_STORE *store = store_of("root.pem", why, sizeof(why));
    assert_true(trusts(store, leaf.certificate));
    assert_true(trusts(store, root.certificate));
    assert_false(trusts(store, twins.certificate));
    assert_false(trusts(store, stranger.certificate));
    X509_STORE_free(store);
    store = store_of("others.pem", why, sizeof(why));
    assert_false(trusts(store, leaf.certificate));
    assert_true(trusts(store, stranger.certificate));
    X509_STORE_free(store);
}

static void authorities_of_one_name_are_told_apart(void **state)
{
    char why[256];
    (void)state;
    X509_STORE *store = store_of("all.pem", why, sizeof(why));
    assert_true(trusts(store, twins.certificate));
    assert_true(trusts(store, leaf.certificate));
    assert_true(trusts(store, twins.certificate));
    X509_STORE_free(store);
}

static int decoded(X509_STORE *store)
{
    return sk_X509_OBJECT_num(X509_STORE_get0_objects(store));
}

static void the_store_decodes_only_what_is_asked_for(void **state)
{
    char why[256];
    (void)state;
    write_chain("two.pem", stranger.certificate, root.certificate, NULL);
    X509_STORE *store = store_of("two.pem", why, sizeof(why));
    assert_int_equal(decoded(store), 0);
    assert_true(trusts(store, leaf.certificate));
    assert_int_equal(decoded(store), 1);
    assert_true(trusts(store, leaf.certificate));
    assert_int_equal(decoded(store), 1);
    X509_STORE_free(store);
    store = store_of("all.pem", why, sizeof(why));
    assert_int_equal(decoded(store), 2); /* namesakes, both */
    X509_STORE_free(store);
}

static void openssls_own_form_keeps_its_notes(void **state)
{
    char why[256];
    (void)state;
    X509 *noted = X509_dup(root.certificate);
    assert_int_equal(X509_add1_reject_object(noted, OBJ_nid2obj(NID_anyExtendedKeyUsage)), 1);
    FILE *file = fopen("noted.pem", "w");
    assert_int_equal(PEM_write_X509_AUX(file, noted), 1);
    fclose(file);
    X509_free(noted);
    X509_STORE *store = store_of("noted.pem", why, sizeof(why));
    assert_false(trusts(store, leaf.certificate)); /* rejected by its note */
    X509_STORE_free(store);
}

static void a_broken_one_is_told_with_its_number(void **state)
{
    static const char *const broken[] = {
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\nMIIBhzCC\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\nMAIwAA==\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\n????\n-----END CERTIFICATE-----\n",
    };
    char why[256];
    (void)state;
    for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]); i++) {
        FILE *file = fopen("broken.pem", "w");
        PEM_write_X509(file, root.certificate);
        fputs(broken[i], file);
        fclose(file);
        assert_null(store_of("broken.pem", why, sizeof(why)));
        assert_non_null(strstr(why, "certificate 2 in broken.pem is broken: "));
    }
    write_text("none.pem", "Nothing.\n");
    assert_null(store_of("none.pem", why, sizeof(why)));
    assert_non_null(strstr(why, "none.pem has no certificate in PEM form"));
}

static void *verify_often(void *store)
{
    for (int i = 0; i < 50; i++) {
        if (!trusts(store, leaf.certificate) || !trusts(store, twins.certificate) ||
            !trusts(store, stranger.certificate)) {
            return NULL;
        }
    }
    return store;
}

static void many_threads_may_be_the_first_to_ask(void **state)
{
    char why[256];
    pthread_t threads[4];
    (void)state;
    for (int round = 0; round < 20; round++) {
        X509_STORE *store = store_of("all.pem", why, sizeof(why));
        for (size_t i = 0; i < 4; i++) {
            assert_int_equal(pthread_create(&threads[i], NULL, verify_often, store), 0);
        }
        for (size_t i = 0; i < 4; i++) {
            void *result = NULL;
            pthread_join(threads[i], &result);
            assert_ptr_equal(result, store);
        }
        X509_STORE_free(store);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_leads_to_the_store_is_trusted_and_nothing_else),
        cmocka_unit_test(authorities_of_one_name_are_told_apart),
        cmocka_unit_test(the_store_decodes_only_what_is_asked_for),
        cmocka_unit_test(openssls_own_form_keeps_its_notes),
        cmocka_unit_test(a_broken_one_is_told_with_its_number),
        cmocka_unit_test(many_threads_may_be_the_first_to_ask),
    };
    return cmocka_run_group_tests(tests, make_files, remove_files);
}
