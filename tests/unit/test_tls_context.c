/* tls/context: what a configuration's keys, certificates and ca-files are refused or warned for. */
#include "tests/unit/tls_fixture.h"

#include <fcntl.h>

static struct identity root, inter, leaf, rsa, expired, early, lone;

static int make_files(void **state)
{
    (void)state;
    folder_enter();
    root = identity_make(&(struct wish){"Root", NULL, NULL, .authority = true, .end = 30});
    inter = identity_make(&(struct wish){"Inter", NULL, &root, .authority = true, .end = 30});
    leaf = identity_make(&(struct wish){"mx.example", "DNS:mx.example", &inter, .end = 30});
    rsa = identity_make(&(struct wish){"mx.example", NULL, &inter, .rsa = true, .end = 30});
    expired = identity_make(&(struct wish){"mx.example", NULL, &root, .begin = -9, .end = -3});
    early = identity_make(&(struct wish){"mx.example", NULL, &root, .begin = 3, .end = 9});
    lone = identity_make(&(struct wish){"mx.example", NULL, &inter, .public = true, .end = 30});
    write_identity("root", &root);
    write_identity("leaf", &leaf);
    write_identity("rsa", &rsa);
    write_identity("expired", &expired);
    write_identity("early", &early);
    write_identity("lone", &lone);
    write_chain("full.pem", leaf.certificate, inter.certificate, root.certificate);
    return 0;
}

static int remove_files(void **state)
{
    struct identity *const all[] = {&root, &inter, &leaf, &rsa, &expired, &early, &lone};
    (void)state;
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        identity_release(all[i]);
    }
    folder_leave();
    return 0;
}

/* All that is told, a line each; and what came of it. */
static struct tls_contexts *told_by(const struct tls_contexts *before, const struct fixture *f,
                                    char *out, size_t cap)
{
    struct text text = text_over(out, cap);
    struct diag_list *diags = diag_list_new();
    struct tls_contexts *contexts = tls_contexts_renew(before, &f->config, diags);
    out[0] = '\0';
    char line[1024];
    for (size_t i = 0; i < diag_count(diags); i++) {
        diag_format(diag_at(diags, i), line, sizeof(line));
        text_printf(&text, "%s\n", line);
    }
    assert_int_equal(contexts != NULL, diag_errors(diags) == 0);
    diag_list_free(diags);
    return contexts;
}

/* Whether contexts came of it. */
static bool told(const struct fixture *f, char *out, size_t cap)
{
    struct tls_contexts *contexts = told_by(NULL, f, out, cap);
    tls_contexts_unref(contexts);
    return contexts != NULL;
}

static void assert_told(const struct fixture *f, bool made, const char *expected)
{
    char out[4096];
    assert_int_equal(told(f, out, sizeof(out)), made);
    assert_string_equal(out, expected);
}

static void assert_pair(const char *certificate, const char *key, bool made, const char *expected)
{
    struct fixture f;
    fixture_init(&f);
    fixture_certificate(&f, certificate, key, NULL);
    assert_told(&f, made, expected);
}

static void without_tls_there_is_no_server_context(void **state)
{
    struct fixture f;
    (void)state;
    fixture_init(&f);
    struct tls_contexts *contexts = fixture_contexts(&f);
    assert_null(tls_server_context(contexts));
    tls_contexts_unref(contexts);
    tls_contexts_unref(NULL);
}

static void a_good_chain_and_key_are_silent(void **state)
{
    (void)state;
    assert_pair("full.pem", "leaf.key", true, "");
    assert_pair("rsa.pem", "rsa.key", true, "");
}

static void key_and_chain_may_be_one_file(void **state)
{
    (void)state;
    FILE *file = fopen("both.pem", "w");
    assert_non_null(file);
    PEM_write_PrivateKey(file, leaf.key, NULL, NULL, 0, NULL, NULL);
    PEM_write_X509(file, leaf.certificate);
    PEM_write_X509(file, inter.certificate);
    fclose(file);
    chmod("both.pem", 0640);
    assert_pair("both.pem", "both.pem", true, "");
}

static void missing_files_are_all_told(void **state)
{
    (void)state;
    assert_pair("no.pem", "no.key", false,
                "splitmx.yaml:10:3: no.pem cannot be opened: No such file or directory\n"
                "splitmx.yaml:11:3: no.key cannot be opened: No such file or directory\n");
}

static void what_is_no_regular_file_is_refused(void **state)
{
    (void)state;
    assert_int_equal(mkfifo("pipe", 0600), 0);
    assert_pair(".", "pipe", false,
                "splitmx.yaml:10:3: . is not a regular file; it is read again at each reload\n"
                "splitmx.yaml:11:3: pipe is not a regular file; it is read again at each reload\n");
}

static void what_is_not_pem_is_refused(void **state)
{
    (void)state;
    write_text("words.pem", "These are words.\n");
    chmod("words.pem", 0600);
    assert_pair("words.pem", "leaf.key", false,
                "splitmx.yaml:10:3: words.pem has no certificate in PEM form (-----BEGIN "
                "CERTIFICATE-----)\n");
    assert_pair("leaf.key", "leaf.key", false,
                "splitmx.yaml:10:3: leaf.key has no certificate in PEM form (-----BEGIN "
                "CERTIFICATE-----)\n");
    char out[1024];
    struct fixture f;
    fixture_init(&f);
    fixture_certificate(&f, "full.pem", "words.pem", NULL);
    assert_false(told(&f, out, sizeof(out)));
    assert_ptr_equal(strstr(out, "splitmx.yaml:11:3: words.pem has no private key in PEM form"),
                     out);
}

static void a_broken_certificate_is_told_with_its_number(void **state)
{
    char out[1024];
    struct fixture f;
    (void)state;
    FILE *file = fopen("broken.pem", "w");
    assert_non_null(file);
    PEM_write_X509(file, leaf.certificate);
    fputs("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", file);
    fclose(file);
    fixture_init(&f);
    fixture_certificate(&f, "broken.pem", "leaf.key", NULL);
    assert_false(told(&f, out, sizeof(out)));
    assert_ptr_equal(strstr(out, "splitmx.yaml:10:3: certificate 2 in broken.pem is broken: "),
                     out);
}

static void a_key_for_everyones_eyes_is_refused(void **state)
{
    static const mode_t bad[] = {0604, 0602, 0644};
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        write_key("open.key", leaf.key, bad[i]);
        assert_pair("full.pem", "open.key", false,
                    "splitmx.yaml:11:3: open.key can be read or written by everyone: chmod o-rw "
                    "open.key\n");
    }
    write_key("open.key", leaf.key, 0640);
    assert_pair("full.pem", "open.key", true, "");
}

static void an_encrypted_key_is_refused_without_asking(void **state)
{
    (void)state;
    FILE *file = fopen("locked.key", "w");
    assert_non_null(file);
    assert_int_equal(
        PEM_write_PKCS8PrivateKey(file, leaf.key, EVP_aes_128_cbc(), "secret", 6, NULL, NULL), 1);
    fclose(file);
    chmod("locked.key", 0600);
    assert_pair("full.pem", "locked.key", false,
                "splitmx.yaml:11:3: locked.key is encrypted, and nobody is there to be asked for "
                "its passphrase: write it without one (openssl pkey -in locked.key -out NEW)\n");
}

static void a_key_of_another_certificate_is_refused(void **state)
{
    (void)state;
    assert_pair("full.pem", "lone.key", false,
                "splitmx.yaml:11:3: lone.key is not the key of the certificate in full.pem\n");
    assert_pair("full.pem", "rsa.key", false,
                "splitmx.yaml:11:3: rsa.key is not the key of the certificate in full.pem\n");
}

static void a_chain_that_begins_elsewhere_is_refused(void **state)
{
    (void)state;
    write_chain("turned.pem", inter.certificate, leaf.certificate, NULL);
    assert_pair("turned.pem", "leaf.key", false,
                "splitmx.yaml:10:3: the server's own certificate is number 2 in turned.pem; it has "
                "to be the first\n");
}

static void a_chain_out_of_order_is_warned_of(void **state)
{
    (void)state;
    write_chain("mixed.pem", leaf.certificate, root.certificate, inter.certificate);
    assert_pair("mixed.pem", "leaf.key", true,
                "splitmx.yaml:10:3: warning: certificate 2 in mixed.pem did not issue the one "
                "before it; the order is the server's own, its issuer, that one's issuer\n");
}

static void a_public_certificate_alone_is_warned_of(void **state)
{
    (void)state;
    assert_pair("lone.pem", "lone.key", true,
                "splitmx.yaml:10:3: warning: lone.pem has the server's own certificate alone; "
                "senders that verify need its issuer's behind it (often called fullchain.pem)\n");
}

static void dates_are_warned_of(void **state)
{
    char out[1024];
    struct fixture f;
    (void)state;
    fixture_init(&f);
    fixture_certificate(&f, "expired.pem", "expired.key", NULL);
    assert_true(told(&f, out, sizeof(out)));
    assert_ptr_equal(
        strstr(out, "splitmx.yaml:10:3: warning: the certificate in expired.pem expired on 2"),
        out);
    fixture_init(&f);
    fixture_certificate(&f, "early.pem", "early.key", NULL);
    assert_true(told(&f, out, sizeof(out)));
    assert_ptr_equal(
        strstr(out, "splitmx.yaml:10:3: warning: the certificate in early.pem is not valid before"),
        out);
}

static void two_keys_of_one_kind_are_refused(void **state)
{
    struct fixture f;
    (void)state;
    fixture_init(&f);
    fixture_certificate(&f, "full.pem", "leaf.key", NULL);
    fixture_certificate(&f, "rsa.pem", "rsa.key", NULL);
    assert_told(&f, true, "");
    fixture_certificate(&f, "root.pem", "root.key", NULL);
    assert_told(&f, false,
                "splitmx.yaml:30:3: root.pem has a key of the same kind (EC) as a certificate "
                "before it; there can be one of each, such as RSA beside ECDSA\n");
}

static void the_lowest_version_that_is_given_applies(void **state)
{
    struct fixture f;
    (void)state;
    fixture_init(&f);
    fixture_certificate(&f, "full.pem", "leaf.key", "1.3");
    fixture_certificate(&f, "rsa.pem", "rsa.key", NULL);
    assert_told(&f, true, "");
    f.certificates[1].minimum_version.line = 22; /* said */
    assert_told(&f, true,
                "splitmx.yaml:22:3: warning: `minimum-version: 1.2` differs from line 12; "
                "certificates share their listeners, so the lower, 1.2, applies to all\n");
}

static void a_listener_with_tls_needs_a_certificate(void **state)
{
    struct fixture f;
    struct config_listener listener = {.address = text_at("[::]:25", 5), .tls = LISTEN_TLS_MAY};
    (void)state;
    fixture_init(&f);
    f.config.listeners = &listener;
    f.config.listener_count = 1;
    assert_told(&f, false,
                "splitmx.yaml:5:3: a listener with TLS needs `tls:` with `certificate` and "
                "`private-key`, at the left margin of this file\n");
    listener.tls = LISTEN_TLS_NONE;
    assert_told(&f, true, "");
}

static void a_ca_file_needs_a_certificate(void **state)
{
    struct fixture f;
    (void)state;
    fixture_init(&f);
    fixture_relay(&f, "a", RELAY_TLS_VERIFY, true, "leaf.key");
    fixture_relay(&f, "b", RELAY_TLS_VERIFY, true, "no.pem");
    fixture_relay(&f, "c", RELAY_TLS_VERIFY, true, "no.pem");
    assert_told(&f, false,
                "splitmx.yaml:101:3: leaf.key has no certificate in PEM form (-----BEGIN "
                "CERTIFICATE-----)\n"
                "splitmx.yaml:111:3: no.pem cannot be opened: No such file or directory\n");
}

static void contexts_of_policies(void **state)
{
    struct fixture f;
    char copy[] = "root.pem";
    (void)state;
    fixture_init(&f);
    fixture_relay(&f, "a", RELAY_TLS_VERIFY, true, "root.pem");
    fixture_relay(&f, "b", RELAY_TLS_VERIFY, true, copy);
    fixture_relay(&f, "c", RELAY_TLS_VERIFY, true, "leaf.pem");
    struct tls_contexts *contexts = fixture_contexts(&f);
    const struct tls_context *may = tls_client_context(contexts, RELAY_TLS_MAY, NULL);
    const struct tls_context *ours = tls_client_context(contexts, RELAY_TLS_VERIFY, "root.pem");
    const struct tls_context *system = tls_client_context(contexts, RELAY_TLS_VERIFY, NULL);
    assert_non_null(may);
    assert_non_null(ours);
    assert_non_null(system);
    assert_ptr_equal(may, tls_client_context(contexts, RELAY_TLS_ENCRYPT, "root.pem"));
    assert_ptr_equal(ours, tls_client_context(contexts, RELAY_TLS_VERIFY, copy));
    assert_ptr_not_equal(ours, system);
    assert_ptr_not_equal(ours, may);
    assert_ptr_not_equal(ours, tls_client_context(contexts, RELAY_TLS_VERIFY, "leaf.pem"));
    assert_null(tls_client_context(contexts, RELAY_TLS_NONE, NULL));
    assert_null(tls_client_context(contexts, RELAY_TLS_VERIFY, "other.pem"));
    tls_contexts_unref(contexts);
}

static void a_missing_system_store_is_told_to_who_needs_it(void **state)
{
    struct fixture f;
    (void)state;
    assert_int_equal(setenv("SSL_CERT_FILE", "no.pem", 1), 0);
    fixture_init(&f);
    fixture_relay(&f, "a", RELAY_TLS_MAY, false, NULL);
    fixture_relay(&f, "b", RELAY_TLS_VERIFY, true, "root.pem");
    assert_told(&f, true, "");
    fixture_relay(&f, "gmail", RELAY_TLS_MAY, false, NULL); /* built in: verify */
    assert_told(&f, true,
                "splitmx.yaml:120:3: warning: relay `gmail` verifies with the system's certificate "
                "authorities, and no.pem cannot be opened: No such file or directory; install "
                "ca-certificates or say `ca-file`\n");
    f.relays[2].tls_given = true;
    assert_told(&f, true, "");
    unsetenv("SSL_CERT_FILE");
}

static void diagnostics_may_be_left_out(void **state)
{
    struct fixture f;
    (void)state;
    fixture_init(&f);
    fixture_certificate(&f, "no.pem", "leaf.key", NULL);
    assert_null(tls_contexts_renew(NULL, &f.config, NULL));
}

/* ---- reload ---- */

/* What a reload makes of it; NULL when there was an error. */
static struct tls_contexts *renewed(const struct tls_contexts *before, const struct fixture *f)
{
    return tls_contexts_renew(before, &f->config, NULL);
}

/* The same configuration and files, read a second time, and a third after `change`. */
struct reloading {
    struct fixture f;
    struct tls_contexts *before, *after;
};

static void reloading_begin(struct reloading *r)
{
    assert_int_equal(setenv("SSL_CERT_FILE", "system.pem", 1), 0);
    write_chain("system.pem", root.certificate, NULL, NULL);
    write_chain("ca.pem", root.certificate, NULL, NULL);
    write_chain("server.pem", leaf.certificate, inter.certificate, NULL);
    write_key("server.key", leaf.key, 0600);
    fixture_init(&r->f);
    fixture_certificate(&r->f, "server.pem", "server.key", NULL);
    fixture_certificate(&r->f, "rsa.pem", "rsa.key", NULL);
    fixture_relay(&r->f, "a", RELAY_TLS_VERIFY, true, "ca.pem");
    fixture_relay(&r->f, "b", RELAY_TLS_VERIFY, true, "root.pem");
    r->before = fixture_contexts(&r->f);
    r->after = NULL;
}

static void reloading_end(struct reloading *r)
{
    tls_contexts_unref(r->before);
    tls_contexts_unref(r->after);
    unsetenv("SSL_CERT_FILE");
}

static void reload(struct reloading *r)
{
    r->after = renewed(r->before, &r->f);
    assert_non_null(r->after);
}

enum { SERVER = 1, MAY = 2, SYSTEM = 4, CA = 8, ROOT = 16 };

/* Which contexts are others than before. */
static int changed(const struct reloading *r)
{
    const struct tls_contexts *a = r->before, *b = r->after;
    const enum config_relay_tls verify = RELAY_TLS_VERIFY;
    int out = 0;
    out |= tls_server_context(a) != tls_server_context(b) ? SERVER : 0;
    out |= tls_client_context(a, RELAY_TLS_MAY, NULL) != tls_client_context(b, RELAY_TLS_MAY, NULL)
               ? MAY
               : 0;
    out |= tls_client_context(a, verify, NULL) != tls_client_context(b, verify, NULL) ? SYSTEM : 0;
    out |=
        tls_client_context(a, verify, "ca.pem") != tls_client_context(b, verify, "ca.pem") ? CA : 0;
    out |= tls_client_context(a, verify, "root.pem") != tls_client_context(b, verify, "root.pem")
               ? ROOT
               : 0;
    return out;
}

static void what_is_unchanged_is_the_same_set(void **state)
{
    struct reloading r;
    (void)state;
    reloading_begin(&r);
    for (int i = 0; i < 3; i++) {
        struct tls_contexts *again = renewed(r.before, &r.f);
        assert_ptr_equal(again, r.before);
        tls_contexts_unref(r.before); /* each has a reference of its own */
        r.before = again;
    }
    /* Touched, and written anew with the same bytes. */
    write_chain("ca.pem", root.certificate, NULL, NULL);
    assert_int_equal(rename("rsa.pem", "moved.pem"), 0);
    write_chain("rsa.pem", rsa.certificate, NULL, NULL);
    reload(&r);
    assert_ptr_equal(r.after, r.before);
    reloading_end(&r);
}

/* Byte for byte as long, and written within one tick of the file system's clock, perhaps. */
static void change_one_byte(const char *path)
{
    FILE *file = fopen(path, "r+");
    struct stat before, after;
    const struct timespec *times;
    assert_non_null(file);
    assert_int_equal(fstat(fileno(file), &before), 0);
    assert_int_equal(fseek(file, -1, SEEK_END), 0);
    assert_int_equal(fputc(' ', file), ' '); /* for the newline */
    assert_int_equal(fclose(file), 0);
    times = (const struct timespec[]){before.st_atim, before.st_mtim};
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
    assert_int_equal(stat(path, &after), 0);
    assert_int_equal(after.st_size, before.st_size);
    assert_int_equal(after.st_mtim.tv_nsec, before.st_mtim.tv_nsec);
}

static void a_changed_file_changes_what_is_made_of_it_and_nothing_else(void **state)
{
    static const struct {
        const char *path;
        int parts;
    } cases[] = {
        {"system.pem", SYSTEM}, {"ca.pem", CA},      {"server.pem", SERVER},
        {"server.key", SERVER}, {"rsa.pem", SERVER},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct reloading r;
        reloading_begin(&r);
        const struct tls_context *may = tls_client_context(r.before, RELAY_TLS_MAY, NULL);
        const struct tls_context *ca = tls_client_context(r.before, RELAY_TLS_VERIFY, "ca.pem");
        change_one_byte(cases[i].path);
        reload(&r);
        assert_ptr_not_equal(r.after, r.before);
        assert_int_equal(changed(&r), cases[i].parts);
        assert_true(tls_contexts_have(r.after, may));
        assert_int_equal(tls_contexts_have(r.after, ca), (cases[i].parts & CA) == 0);
        reloading_end(&r);
        write_identity("rsa", &rsa);
    }
}

static void a_file_replaced_by_another_is_seen(void **state)
{
    struct reloading r;
    (void)state;
    reloading_begin(&r);
    write_chain("new.pem", leaf.certificate, NULL, NULL);
    assert_int_equal(rename("new.pem", "ca.pem"), 0);
    reload(&r);
    assert_int_equal(changed(&r), CA);
    reloading_end(&r);
}

static void settings_change_what_they_are_about(void **state)
{
    struct reloading r;
    (void)state;
    reloading_begin(&r);
    r.f.certificates[0].minimum_version = text_at("1.3", 12);
    reload(&r);
    assert_int_equal(changed(&r), SERVER);
    reloading_end(&r);

    reloading_begin(&r);
    r.f.relays[1].ca_file = text_at("ca.pem", 111); /* root.pem is nobody's any more */
    reload(&r);
    assert_int_equal(changed(&r), ROOT);
    assert_null(tls_client_context(r.after, RELAY_TLS_VERIFY, "root.pem"));
    reloading_end(&r);

    reloading_begin(&r);
    r.f.config.certificate_count = 0;
    reload(&r);
    assert_int_equal(changed(&r), SERVER);
    assert_null(tls_server_context(r.after));
    reloading_end(&r);

    reloading_begin(&r);
    assert_int_equal(setenv("SSL_CERT_FILE", "no.pem", 1), 0);
    reload(&r);
    assert_int_equal(changed(&r), SYSTEM);
    reloading_end(&r);
}

static void contexts_outlive_the_set_that_they_came_with(void **state)
{
    struct reloading r;
    (void)state;
    reloading_begin(&r);
    change_one_byte("ca.pem");
    reload(&r);
    tls_contexts_unref(r.before);
    r.before = NULL;
    struct tls_contexts *third = renewed(r.after, &r.f);
    assert_ptr_equal(third, r.after);
    assert_non_null(tls_server_context(third));
    tls_contexts_unref(third);
    reloading_end(&r);
}

static void warnings_are_told_at_each_reload(void **state)
{
    struct fixture f;
    char first[1024], again[1024];
    (void)state;
    assert_int_equal(setenv("SSL_CERT_FILE", "no.pem", 1), 0);
    fixture_init(&f);
    fixture_certificate(&f, "expired.pem", "expired.key", NULL);
    fixture_relay(&f, "gmail", RELAY_TLS_MAY, false, NULL);
    struct tls_contexts *before = told_by(NULL, &f, first, sizeof(first));
    struct tls_contexts *after = told_by(before, &f, again, sizeof(again));
    assert_ptr_equal(after, before);
    assert_non_null(strstr(first, "expired on"));
    assert_non_null(strstr(first, "relay `gmail` verifies with"));
    assert_string_equal(again, first);
    tls_contexts_unref(before);
    tls_contexts_unref(after);

    fixture_init(&f);
    fixture_certificate(&f, "lone.pem", "lone.key", NULL);
    before = told_by(NULL, &f, first, sizeof(first));
    after = told_by(before, &f, again, sizeof(again));
    assert_ptr_equal(after, before);
    assert_non_null(strstr(first, "alone"));
    assert_string_equal(again, first);
    tls_contexts_unref(before);
    tls_contexts_unref(after);
    unsetenv("SSL_CERT_FILE");
}

static void a_key_that_was_opened_to_all_is_refused_unchanged_or_not(void **state)
{
    struct reloading r;
    (void)state;
    reloading_begin(&r);
    assert_int_equal(chmod("server.key", 0644), 0);
    assert_null(renewed(r.before, &r.f));
    reloading_end(&r);
}

static void a_broken_system_store_is_told_each_time(void **state)
{
    struct fixture f;
    char first[1024], again[1024];
    (void)state;
    assert_int_equal(setenv("SSL_CERT_FILE", "system.pem", 1), 0);
    write_text("system.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    fixture_init(&f);
    fixture_relay(&f, "a", RELAY_TLS_VERIFY, true, NULL);
    struct tls_contexts *before = told_by(NULL, &f, first, sizeof(first));
    struct tls_contexts *after = told_by(before, &f, again, sizeof(again));
    assert_non_null(strstr(first, "certificate 1 in system.pem is broken"));
    assert_string_equal(again, first);
    tls_contexts_unref(before);
    tls_contexts_unref(after);
    unsetenv("SSL_CERT_FILE");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_tls_there_is_no_server_context),
        cmocka_unit_test(a_good_chain_and_key_are_silent),
        cmocka_unit_test(key_and_chain_may_be_one_file),
        cmocka_unit_test(missing_files_are_all_told),
        cmocka_unit_test(what_is_no_regular_file_is_refused),
        cmocka_unit_test(what_is_not_pem_is_refused),
        cmocka_unit_test(a_broken_certificate_is_told_with_its_number),
        cmocka_unit_test(a_key_for_everyones_eyes_is_refused),
        cmocka_unit_test(an_encrypted_key_is_refused_without_asking),
        cmocka_unit_test(a_key_of_another_certificate_is_refused),
        cmocka_unit_test(a_chain_that_begins_elsewhere_is_refused),
        cmocka_unit_test(a_chain_out_of_order_is_warned_of),
        cmocka_unit_test(a_public_certificate_alone_is_warned_of),
        cmocka_unit_test(dates_are_warned_of),
        cmocka_unit_test(two_keys_of_one_kind_are_refused),
        cmocka_unit_test(the_lowest_version_that_is_given_applies),
        cmocka_unit_test(a_listener_with_tls_needs_a_certificate),
        cmocka_unit_test(a_ca_file_needs_a_certificate),
        cmocka_unit_test(contexts_of_policies),
        cmocka_unit_test(a_missing_system_store_is_told_to_who_needs_it),
        cmocka_unit_test(diagnostics_may_be_left_out),
        cmocka_unit_test(what_is_unchanged_is_the_same_set),
        cmocka_unit_test(a_changed_file_changes_what_is_made_of_it_and_nothing_else),
        cmocka_unit_test(a_file_replaced_by_another_is_seen),
        cmocka_unit_test(settings_change_what_they_are_about),
        cmocka_unit_test(contexts_outlive_the_set_that_they_came_with),
        cmocka_unit_test(warnings_are_told_at_each_reload),
        cmocka_unit_test(a_key_that_was_opened_to_all_is_refused_unchanged_or_not),
        cmocka_unit_test(a_broken_system_store_is_told_each_time),
    };
    return cmocka_run_group_tests(tests, make_files, remove_files);
}
