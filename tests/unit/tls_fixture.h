/*
 * tls_fixture: a folder with keys and certificates, and configurations that name them, for the
 * tests of tls.
 */
#ifndef SPLITMX_TESTS_UNIT_TLS_FIXTURE_H
#define SPLITMX_TESTS_UNIT_TLS_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/text.h"
#include "tls/context.h"

#define DAY_SECONDS 86400L

struct identity {
    X509 *certificate;
    EVP_PKEY *key;
};

struct wish {
    const char *name; /* common name */
    const char *san;  /* "DNS:mx.example,IP:192.0.2.1"; NULL: none */
    const struct identity *issuer;
    bool authority;
    bool rsa;
    bool public;     /* says where its issuer is to be had, as public ones do */
    long begin, end; /* days from now */
};

static inline void add_extension(X509 *certificate, int nid, const char *value)
{
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, nid, value);
    assert_non_null(extension);
    assert_int_equal(X509_add_ext(certificate, extension, -1), 1);
    X509_EXTENSION_free(extension);
}

static inline struct identity identity_make(const struct wish *wish)
{
    static long serial = 1;
    EVP_PKEY *key = wish->rsa ? EVP_RSA_gen(2048) : EVP_EC_gen("P-256");
    X509 *certificate = X509_new();
    assert_non_null(key);
    assert_non_null(certificate);
    X509_set_version(certificate, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), serial++);
    X509_gmtime_adj(X509_getm_notBefore(certificate), wish->begin * DAY_SECONDS);
    X509_gmtime_adj(X509_getm_notAfter(certificate), wish->end * DAY_SECONDS);
    X509_set_pubkey(certificate, key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate), "CN", MBSTRING_ASC,
                               (const unsigned char *)wish->name, -1, -1, 0);
    X509_set_issuer_name(certificate, wish->issuer
                                          ? X509_get_subject_name(wish->issuer->certificate)
                                          : X509_get_subject_name(certificate));
    add_extension(certificate, NID_basic_constraints,
                  wish->authority ? "critical,CA:TRUE" : "critical,CA:FALSE");
    if (wish->san) {
        add_extension(certificate, NID_subject_alt_name, wish->san);
    }
    if (wish->public) {
        add_extension(certificate, NID_info_access, "caIssuers;URI:http://ca.example/ca.der");
    }
    assert_true(X509_sign(certificate, wish->issuer ? wish->issuer->key : key, EVP_sha256()) > 0);
    return (struct identity){certificate, key};
}

static inline void identity_release(struct identity *identity)
{
    X509_free(identity->certificate);
    EVP_PKEY_free(identity->key);
}

/* ---- files; all names are of the current folder ---- */

static char fixture_folder[] = "/tmp/test_tls.XXXXXX";

static inline void folder_enter(void)
{
    assert_non_null(mkdtemp(fixture_folder));
    assert_int_equal(chdir(fixture_folder), 0);
}

static inline void folder_leave(void)
{
    DIR *folder = opendir(".");
    assert_non_null(folder);
    for (struct dirent *entry = readdir(folder); entry; entry = readdir(folder)) {
        if (entry->d_name[0] != '.') {
            remove(entry->d_name);
        }
    }
    closedir(folder);
    assert_int_equal(chdir("/"), 0);
    assert_int_equal(rmdir(fixture_folder), 0);
}

static inline void write_text(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

/* Up to three certificates, in order. */
static inline void write_chain(const char *path, X509 *first, X509 *second, X509 *third)
{
    X509 *const chain[] = {first, second, third};
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    for (size_t i = 0; i < 3 && chain[i]; i++) {
        assert_int_equal(PEM_write_X509(file, chain[i]), 1);
    }
    assert_int_equal(fclose(file), 0);
}

static inline void write_key(const char *path, EVP_PKEY *key, mode_t mode)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL), 1);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(path, mode), 0);
}

/* "NAME.pem" and "NAME.key". */
static inline void write_identity(const char *name, const struct identity *identity)
{
    char path[64];
    snprintf(path, sizeof(path), "%s.pem", name);
    write_chain(path, identity->certificate, NULL, NULL);
    snprintf(path, sizeof(path), "%s.key", name);
    write_key(path, identity->key, 0600);
}

/* ---- configurations ---- */

#define FIXTURE_ITEMS 4

struct fixture {
    struct config_certificate certificates[FIXTURE_ITEMS];
    struct config_relay relays[FIXTURE_ITEMS];
    struct config config;
};

static inline struct config_text text_at(const char *text, unsigned line)
{
    return (struct config_text){(char *)(uintptr_t)text, line, 3}; /* only read */
}

static inline void fixture_init(struct fixture *f)
{
    *f = (struct fixture){0};
    f->config.path = (char *)(uintptr_t) "splitmx.yaml";
    f->config.certificates = f->certificates;
    f->config.relays = f->relays;
}

/* Certificate i is said on lines 10i+10 and following. version: NULL: the default. */
static inline void fixture_certificate(struct fixture *f, const char *certificate, const char *key,
                                       const char *version)
{
    const unsigned line = (unsigned)f->config.certificate_count * 10 + 10;
    f->certificates[f->config.certificate_count++] =
        (struct config_certificate){text_at(certificate, line), text_at(key, line + 1),
                                    text_at(version ? version : "1.2", version ? line + 2 : 0)};
}

/* Relay i is said on lines 10i+100 and following. */
static inline void fixture_relay(struct fixture *f, const char *name, enum config_relay_tls tls,
                                 bool given, const char *ca_file)
{
    const unsigned line = (unsigned)f->config.relay_count * 10 + 100;
    f->relays[f->config.relay_count++] =
        (struct config_relay){.name = text_at(name, line),
                              .tls = tls,
                              .tls_given = given,
                              .ca_file = text_at(ca_file, line + 1)};
}

/* The contexts; without them the test ends, with what was told. */
static inline struct tls_contexts *fixture_contexts(const struct fixture *f)
{
    struct diag_list *diags = diag_list_new();
    struct tls_contexts *contexts = tls_contexts_renew(NULL, &f->config, diags);
    if (!contexts) {
        diag_print(diags, stderr);
    }
    assert_non_null(contexts);
    diag_list_free(diags);
    return contexts;
}

#endif
