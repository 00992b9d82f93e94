/* tls/stream: a client stream and a server stream in memory, their bytes passed in every cut. */
#include "tests/unit/tls_fixture.h"

#include "tls/sessions.h"
#include <openssl/err.h>

#include "tls/stream.h"
#include "tls/why.h"

#define PLAIN_MAX ((size_t)512 * 1024)
#define PEER      "mx.example"

static struct identity root, other_root, ec, rsa, expired, alone, address, wild;

/* Servers "ec", "both", "expired", "alone", "address", "wild"; relays trust root.pem. */
static struct tls_contexts *both, *only_ec, *newest;

/* One end: what it sent that was not passed on yet, and what it read. */
struct side {
    struct tls_stream *stream;
    char *out;
    size_t out_len, out_cap;
    char *plain;
    size_t plain_len;
    size_t left_behind; /* bytes behind the handshake, at its end */
    enum tls_result handshake, result;
    bool refuses; /* its connection takes no bytes */
};

struct pair {
    struct side client, server;
    unsigned random;
};

enum cut { CUT_NONE, CUT_BYTES, CUT_RANDOM };

static bool take_bytes(void *owner, struct span cipher)
{
    struct side *side = owner;
    if (side->refuses) {
        return false;
    }
    while (side->out_len + cipher.len > side->out_cap) {
        side->out_cap = side->out_cap ? side->out_cap * 2 : 4096;
        side->out = realloc(side->out, side->out_cap);
        assert_non_null(side->out);
    }
    memcpy(side->out + side->out_len, cipher.ptr, cipher.len);
    side->out_len += cipher.len;
    return true;
}

static void side_init(struct side *side, const struct tls_context *context, const char *name)
{
    *side = (struct side){.handshake = TLS_MORE, .result = TLS_MORE};
    assert_non_null(context);
    side->plain = malloc(PLAIN_MAX);
    side->stream = tls_stream_new(context, name, take_bytes, side);
    assert_non_null(side->plain);
    assert_non_null(side->stream);
}

static void side_release(struct side *side)
{
    tls_stream_free(side->stream);
    free(side->out);
    free(side->plain);
}

static void side_feed(struct side *side, struct span bytes)
{
    size_t len;
    if (side->handshake == TLS_MORE) {
        side->handshake = tls_stream_handshake(side->stream, &bytes);
        side->left_behind = bytes.len;
        if (side->handshake == TLS_MORE) {
            assert_int_equal(bytes.len, 0);
        }
    }
    if (side->handshake != TLS_DONE || side->result == TLS_FAILED) {
        return;
    }
    const size_t cap = bytes.len + TLS_STREAM_ROOM;
    assert_true(side->plain_len + cap <= PLAIN_MAX);
    side->result = tls_stream_read(side->stream, &bytes, side->plain + side->plain_len, cap, &len);
    side->plain_len += len;
    assert_int_equal(bytes.len, 0);
}

/* Passes on what one end has sent. False: there was nothing. */
static bool pass(struct pair *pair, struct side *from, struct side *to, enum cut cut)
{
    struct span rest = span_make(from->out, from->out_len);
    char *bytes = from->out;
    const bool any = rest.len > 0;
    from->out = NULL;
    from->out_len = from->out_cap = 0;
    while (rest.len > 0) {
        size_t len = cut == CUT_NONE ? rest.len : 1;
        if (cut == CUT_RANDOM) {
            pair->random = pair->random * 1103515245u + 12345u;
            len = 1 + (pair->random >> 16) % 700;
        }
        char piece[700], *copy = len > sizeof(piece) ? malloc(len) : piece;
        const struct span first = span_first(rest, len); /* its own memory, for ASan */
        memcpy(copy, first.ptr, first.len);
        side_feed(to, span_make(copy, first.len));
        if (copy != piece) {
            free(copy);
        }
        rest = span_skip(rest, len);
    }
    free(bytes);
    return any;
}

static void converse(struct pair *pair, enum cut cut)
{
    while (pass(pair, &pair->client, &pair->server, cut) ||
           pass(pair, &pair->server, &pair->client, cut)) {
    }
}

static void pair_init(struct pair *pair, const struct tls_context *client,
                      const struct tls_context *server, const char *name)
{
    side_init(&pair->client, client, name);
    side_init(&pair->server, server, NULL);
    pair->random = 1;
}

static void pair_begin(struct pair *pair, enum cut cut)
{
    side_feed(&pair->client, (struct span){0});
    converse(pair, cut);
}

static void pair_release(struct pair *pair)
{
    side_release(&pair->client);
    side_release(&pair->server);
}

static const struct tls_context *verifier(void)
{
    return tls_client_context(both, RELAY_TLS_VERIFY, "root.pem");
}

static const struct tls_context *unverified(void)
{
    return tls_client_context(both, RELAY_TLS_MAY, NULL);
}

/* A set with one certificate (or two, the second RSA). */
static struct tls_contexts *contexts_of(const char *pem, const char *key, const char *pem2,
                                        const char *key2, const char *version)
{
    struct fixture f;
    fixture_init(&f);
    fixture_certificate(&f, pem, key, version);
    if (pem2) {
        fixture_certificate(&f, pem2, key2, NULL);
    }
    fixture_relay(&f, "a", RELAY_TLS_VERIFY, true, "root.pem");
    fixture_relay(&f, "b", RELAY_TLS_VERIFY, true, "other.pem");
    return fixture_contexts(&f);
}

static int make_files(void **state)
{
    (void)state;
    folder_enter();
    setenv("SSL_CERT_FILE", "other.pem", 1); /* the system trusts nobody of ours */
    root = identity_make(&(struct wish){"Root", NULL, NULL, .authority = true, .end = 30});
    other_root = identity_make(&(struct wish){"Other", NULL, NULL, .authority = true, .end = 30});
    ec = identity_make(&(struct wish){"x", "DNS:mx.example", &root, .end = 30});
    rsa = identity_make(&(struct wish){"x", "DNS:mx.example", &root, .rsa = true, .end = 30});
    expired = identity_make(&(struct wish){"x", "DNS:mx.example", &root, .begin = -9, .end = -1});
    alone = identity_make(&(struct wish){"x", "DNS:mx.example", NULL, .end = 30});
    address = identity_make(&(struct wish){"x", "IP:192.0.2.1,IP:2001:db8::1", &root, .end = 30});
    wild = identity_make(
        &(struct wish){"x", "DNS:*.wild.example,DNS:m*.part.example", &root, .end = 30});
    write_identity("root", &root);
    write_identity("other", &other_root);
    write_identity("ec", &ec);
    write_identity("rsa", &rsa);
    write_identity("expired", &expired);
    write_identity("alone", &alone);
    write_identity("address", &address);
    write_identity("wild", &wild);
    both = contexts_of("ec.pem", "ec.key", "rsa.pem", "rsa.key", NULL);
    only_ec = contexts_of("ec.pem", "ec.key", NULL, NULL, NULL);
    newest = contexts_of("ec.pem", "ec.key", NULL, NULL, "1.3");
    return 0;
}

static int remove_files(void **state)
{
    struct identity *const all[] = {&root,    &other_root, &ec,      &rsa,
                                    &expired, &alone,      &address, &wild};
    (void)state;
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        identity_release(all[i]);
    }
    tls_contexts_unref(both);
    tls_contexts_unref(only_ec);
    tls_contexts_unref(newest);
    folder_leave();
    return 0;
}

static void assert_both(const struct pair *pair, enum tls_result result)
{
    assert_int_equal(pair->client.handshake, result);
    assert_int_equal(pair->server.handshake, result);
}

static void assert_described(const struct side *side, const char *expected)
{
    char buffer[128];
    struct text text = TEXT(buffer);
    tls_stream_describe(side->stream, &text);
    assert_string_equal(buffer, expected);
}

/* ---- a client that is not ours, for what ours never does ---- */

struct foreign {
    SSL_CTX *context;
    SSL *ssl;
    BIO *in, *out; /* owned by ssl */
    struct side server;
    int result;
};

static void foreign_init(struct foreign *f, const struct tls_contexts *contexts)
{
    side_init(&f->server, tls_server_context(contexts), NULL);
    f->context = SSL_CTX_new(TLS_client_method());
    assert_non_null(f->context);
    f->ssl = SSL_new(f->context);
    f->in = BIO_new(BIO_s_mem());
    f->out = BIO_new(BIO_s_mem());
    assert_non_null(f->ssl);
    BIO_set_mem_eof_return(f->in, -1);
    SSL_set_bio(f->ssl, f->in, f->out);
    SSL_set_connect_state(f->ssl);
}

static void foreign_release(struct foreign *f)
{
    SSL_free(f->ssl);
    SSL_CTX_free(f->context);
    side_release(&f->server);
}

/* What each has for the other, once. */
static void foreign_exchange(struct foreign *f)
{
    char bytes[65536];
    int len = BIO_read(f->out, bytes, sizeof(bytes));
    if (len > 0) {
        side_feed(&f->server, span_make(bytes, (size_t)len));
    }
    if (f->server.out_len > 0) {
        BIO_write(f->in, f->server.out, (int)f->server.out_len);
        f->server.out_len = 0;
    }
}

static void foreign_handshake(struct foreign *f)
{
    for (int i = 0; i < 6; i++) {
        f->result = SSL_do_handshake(f->ssl);
        foreign_exchange(f);
    }
}

/* ---- handshakes ---- */

static void bytes_may_come_in_any_cut(void **state)
{
    static const enum cut cuts[] = {CUT_NONE, CUT_BYTES, CUT_RANDOM};
    char body[100000];
    (void)state;
    for (size_t i = 0; i < sizeof(body); i++) {
        body[i] = (char)(i * 7 % 251);
    }
    for (size_t i = 0; i < 3; i++) {
        struct pair pair;
        pair_init(&pair, verifier(), tls_server_context(both), PEER);
        pair_begin(&pair, cuts[i]);
        assert_both(&pair, TLS_DONE);
        assert_true(tls_stream_write(pair.client.stream, span_make(body, sizeof(body))));
        assert_true(tls_stream_write(pair.server.stream, SPAN("250 ok\r\n")));
        assert_true(tls_stream_write(pair.server.stream, (struct span){0}));
        converse(&pair, cuts[i]);
        assert_int_equal(pair.server.plain_len, sizeof(body));
        assert_memory_equal(pair.server.plain, body, sizeof(body));
        assert_int_equal(pair.client.plain_len, 8);
        assert_memory_equal(pair.client.plain, "250 ok\r\n", 8);
        assert_string_equal(tls_stream_why(pair.client.stream), "");
        pair_release(&pair);
    }
}

static void data_behind_the_handshake_is_left_for_read(void **state)
{
    struct pair pair;
    (void)state;
    pair_init(&pair, unverified(), tls_server_context(both), PEER);
    side_feed(&pair.client, (struct span){0});
    pass(&pair, &pair.client, &pair.server, CUT_NONE);
    pass(&pair, &pair.server, &pair.client, CUT_NONE);
    assert_int_equal(pair.client.handshake, TLS_DONE);
    assert_true(tls_stream_write(pair.client.stream, SPAN("EHLO a\r\n")));
    pass(&pair, &pair.client, &pair.server, CUT_NONE); /* its Finished and the data at once */
    assert_int_equal(pair.server.handshake, TLS_DONE);
    assert_true(pair.server.left_behind > 8);
    assert_int_equal(pair.server.plain_len, 8);
    assert_memory_equal(pair.server.plain, "EHLO a\r\n", 8);
    pair_release(&pair);
}

static void too_little_room_loses_nothing(void **state)
{
    struct pair pair;
    char plain[7], all[64];
    size_t len, total = 0;
    (void)state;
    pair_init(&pair, unverified(), tls_server_context(both), PEER);
    pair_begin(&pair, CUT_NONE);
    assert_true(tls_stream_write(pair.client.stream, SPAN("0123456789")));
    assert_true(tls_stream_write(pair.client.stream, SPAN("abcdefghij")));
    struct span rest = span_make(pair.client.out, pair.client.out_len);
    do {
        assert_int_equal(tls_stream_read(pair.server.stream, &rest, plain, sizeof(plain), &len),
                         TLS_MORE);
        memcpy(all + total, plain, len);
        total += len;
    } while (len > 0);
    assert_int_equal(rest.len, 0);
    assert_int_equal(total, 20);
    assert_memory_equal(all, "0123456789abcdefghij", 20);
    pair_release(&pair);
}

static void tls_1_3_is_preferred(void **state)
{
    struct pair pair;
    (void)state;
    pair_init(&pair, unverified(), tls_server_context(both), PEER);
    pair_begin(&pair, CUT_NONE);
    assert_described(&pair.server, "TLSv1.3 TLS_AES_256_GCM_SHA384");
    assert_described(&pair.client, "TLSv1.3 TLS_AES_256_GCM_SHA384");
    assert_false(tls_stream_is_resumed(pair.client.stream));
    pair_release(&pair);
}

/* Handshakes of a foreign client with these ciphers (or none: the default), TLS 1.2. */
static void assert_agreed(const struct tls_contexts *contexts, const char *ciphers,
                          const char *sigs, const char *expected)
{
    struct foreign f;
    foreign_init(&f, contexts);
    SSL_set_max_proto_version(f.ssl, TLS1_2_VERSION);
    assert_int_equal(SSL_set_cipher_list(f.ssl, ciphers), 1);
    if (sigs) {
        assert_int_equal(SSL_set1_sigalgs_list(f.ssl, sigs), 1);
    }
    foreign_handshake(&f);
    if (expected) {
        assert_int_equal(f.server.handshake, TLS_DONE);
        assert_described(&f.server, expected);
    } else {
        assert_int_equal(f.server.handshake, TLS_FAILED);
        assert_string_equal(tls_stream_why(f.server.stream), "no shared cipher");
    }
    foreign_release(&f);
}

static void the_certificate_is_of_a_kind_that_the_client_knows(void **state)
{
    (void)state;
    assert_agreed(both, "ALL", NULL, "TLSv1.2 ECDHE-ECDSA-AES256-GCM-SHA384");
    assert_agreed(both, "aRSA", NULL, "TLSv1.2 ECDHE-RSA-AES256-GCM-SHA384");
    assert_agreed(only_ec, "aRSA", NULL, NULL);
}

static void weak_ciphers_are_last_or_refused(void **state)
{
    (void)state;
    assert_agreed(both, "ECDHE-RSA-AES128-SHA:ECDHE-RSA-AES128-GCM-SHA256", NULL,
                  "TLSv1.2 ECDHE-RSA-AES128-GCM-SHA256");
    assert_agreed(both, "ECDHE-RSA-AES128-SHA", NULL, "TLSv1.2 ECDHE-RSA-AES128-SHA");
    assert_agreed(both, "ECDHE-RSA-CHACHA20-POLY1305:ECDHE-RSA-AES256-GCM-SHA384", NULL,
                  "TLSv1.2 ECDHE-RSA-CHACHA20-POLY1305");
    assert_agreed(both, "AES256-GCM-SHA384", NULL, NULL);         /* RSA key transport */
    assert_agreed(both, "DHE-RSA-AES256-GCM-SHA384", NULL, NULL); /* no parameters */
    assert_agreed(both, "aNULL:@SECLEVEL=0", NULL, NULL);         /* nobody's key */
}

static void old_versions_are_refused(void **state)
{
    static const struct {
        int most;
        bool newest;
    } cases[] = {{TLS1_1_VERSION, false}, {TLS1_2_VERSION, true}};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct foreign f;
        foreign_init(&f, cases[i].newest ? newest : both);
        SSL_set_min_proto_version(f.ssl, TLS1_VERSION);
        SSL_set_max_proto_version(f.ssl, cases[i].most);
        SSL_set_cipher_list(f.ssl, "ALL:@SECLEVEL=0");
        foreign_handshake(&f);
        assert_int_equal(f.server.handshake, TLS_FAILED);
        assert_string_equal(tls_stream_why(f.server.stream), "unsupported protocol");
        assert_int_not_equal(f.result, 1);
        foreign_release(&f);
    }
}

static void a_client_of_another_protocol_is_refused(void **state)
{
    static const struct {
        const char *offer;
        enum tls_result result;
    } cases[] = {{"\x08http/1.1", TLS_FAILED}, {"\x02h2\x04smtp", TLS_DONE}};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct foreign f;
        foreign_init(&f, both);
        SSL_set_alpn_protos(f.ssl, (const unsigned char *)cases[i].offer,
                            (unsigned)strlen(cases[i].offer));
        foreign_handshake(&f);
        assert_int_equal(f.server.handshake, cases[i].result);
        foreign_release(&f);
    }
}

static void renegotiation_is_refused(void **state)
{
    struct foreign f;
    (void)state;
    foreign_init(&f, both);
    SSL_set_max_proto_version(f.ssl, TLS1_2_VERSION);
    foreign_handshake(&f);
    assert_int_equal(f.server.handshake, TLS_DONE);
    assert_int_equal(SSL_renegotiate(f.ssl), 1);
    foreign_handshake(&f);
    assert_int_not_equal(f.result, 1);
    assert_int_equal(f.server.plain_len, 0);
    foreign_release(&f);
}

static void key_updates_give_no_data_and_are_answered(void **state)
{
    struct foreign f;
    char plain[16];
    (void)state;
    foreign_init(&f, both);
    foreign_handshake(&f);
    for (int i = 0; i < 30; i++) {
        assert_int_equal(SSL_key_update(f.ssl, SSL_KEY_UPDATE_REQUESTED), 1);
        assert_int_equal(SSL_do_handshake(f.ssl), 1);
        foreign_exchange(&f);
        assert_int_equal(f.server.result, TLS_MORE);
        assert_int_equal(f.server.plain_len, 0);
    }
    assert_int_equal(SSL_write(f.ssl, "NOOP\r\n", 6), 6);
    foreign_exchange(&f);
    assert_int_equal(f.server.plain_len, 6);
    assert_true(tls_stream_write(f.server.stream, SPAN("250 ok\r\n")));
    foreign_exchange(&f);
    assert_int_equal(SSL_read(f.ssl, plain, sizeof(plain)), 8);
    foreign_release(&f);
}

static void endless_key_updates_fail(void **state)
{
    struct foreign f;
    (void)state;
    foreign_init(&f, both);
    foreign_handshake(&f);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(SSL_key_update(f.ssl, SSL_KEY_UPDATE_REQUESTED), 1);
        SSL_do_handshake(f.ssl);
        foreign_exchange(&f);
    }
    assert_int_equal(f.server.result, TLS_FAILED);
    assert_string_equal(tls_stream_why(f.server.stream), "the peer wants new keys again and again");
    foreign_release(&f);
}

static void garbage_is_no_handshake(void **state)
{
    static const char *const inputs[] = {"EHLO client.example\r\n", "GET / HTTP/1.1\r\n\r\n",
                                         "220 mx.example ESMTP ready\r\n", "\x80\x2e\x01\x00\x02"};
    (void)state;
    for (size_t i = 0; i < 4; i++) {
        for (int client = 0; client < 2; client++) {
            struct side side;
            side_init(&side, client ? unverified() : tls_server_context(both),
                      client ? PEER : NULL);
            side_feed(&side, (struct span){0});
            side_feed(&side, span_of(inputs[i]));
            side_feed(&side, SPAN("more of the same, and more, and more, and more\r\n"));
            assert_int_equal(side.handshake, TLS_FAILED);
            if (i < 3) {
                assert_string_equal(tls_stream_why(side.stream), "the peer does not speak TLS");
            }
            assert_string_not_equal(tls_stream_why(side.stream), "");
            struct span more = SPAN("more");
            assert_int_equal(tls_stream_handshake(side.stream, &more), TLS_FAILED);
            assert_false(tls_stream_write(side.stream, SPAN("mail")));
            side_release(&side);
        }
    }
}

/* ---- verification ---- */

static void assert_verified(const char *server, const char *name, const char *why)
{
    char pem[32], key[32];
    struct pair pair;
    snprintf(pem, sizeof(pem), "%s.pem", server);
    snprintf(key, sizeof(key), "%s.key", server);
    struct tls_contexts *contexts = contexts_of(pem, key, NULL, NULL, NULL);
    pair_init(&pair, verifier(), tls_server_context(contexts), name);
    pair_begin(&pair, CUT_NONE);
    assert_string_equal(tls_stream_why(pair.client.stream), why);
    assert_int_equal(pair.client.handshake, why[0] ? TLS_FAILED : TLS_DONE);
    pair_release(&pair);
    /* Without verification all of them are good enough. */
    pair_init(&pair, unverified(), tls_server_context(contexts), name);
    pair_begin(&pair, CUT_NONE);
    assert_both(&pair, TLS_DONE);
    pair_release(&pair);
    tls_contexts_unref(contexts);
}

static void names_are_verified(void **state)
{
    (void)state;
    assert_verified("ec", "mx.example", "");
    assert_verified("ec", "MX.example.", "");
    assert_verified("ec", "aspmx.l.google.com",
                    "the certificate is for mx.example, not aspmx.l.google.com");
    assert_verified("wild", "a.wild.example", "");
    assert_verified("wild", "a.b.wild.example",
                    "the certificate is for *.wild.example, m*.part.example, not a.b.wild.example");
    assert_verified("wild", "mx.part.example",
                    "the certificate is for *.wild.example, m*.part.example, not mx.part.example");
}

static void addresses_are_verified(void **state)
{
    (void)state;
    assert_verified("address", "192.0.2.1", "");
    assert_verified("address", "2001:db8:0::1", "");
    assert_verified("address", "192.0.2.2",
                    "the certificate is for 192.0.2.1, 2001:db8::1, not 192.0.2.2");
    assert_verified("ec", "192.0.2.1", "the certificate is for mx.example, not 192.0.2.1");
}

static void certificates_are_verified(void **state)
{
    (void)state;
    assert_verified("expired", PEER, "certificate has expired");
    assert_verified("alone", PEER, "self-signed certificate");
}

static void without_a_name_nothing_is_verified(void **state)
{
    (void)state;
    assert_verified("ec", "", "no name to verify the certificate against");
    assert_verified("ec", NULL, "no name to verify the certificate against");
}

static void only_the_relays_own_authorities_count(void **state)
{
    static const char *const files[] = {"other.pem", NULL};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct pair pair;
        pair_init(&pair, tls_client_context(both, RELAY_TLS_VERIFY, files[i]),
                  tls_server_context(both), PEER);
        pair_begin(&pair, CUT_NONE);
        assert_both(&pair, TLS_FAILED);
        assert_string_equal(tls_stream_why(pair.client.stream),
                            "unable to get local issuer certificate, Root");
        assert_string_equal(tls_stream_why(pair.server.stream), "alert: unknown CA");
        pair_release(&pair);
    }
}

/* The library's own reasons lie above those of alerts. */
static void what_fails_here_is_no_alert_of_the_peers(void **state)
{
    static const int reasons[] = {ERR_R_INTERNAL_ERROR, ERR_R_MALLOC_FAILURE};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        char words[100];
        struct text text = TEXT(words);
        ERR_clear_error();
        ERR_raise(ERR_LIB_SSL, reasons[i]);
        why_error(true, &text);
        assert_null(strstr(words, "alert"));
        ERR_clear_error();
    }
}

static void what_a_certificate_says_is_scrubbed(void **state)
{
    struct identity bad =
        identity_make(&(struct wish){"x", "DNS:evil\r\n\x1b[31m\" name", &root, .end = 30});
    (void)state;
    write_identity("bad", &bad);
    identity_release(&bad);
    assert_verified("bad", PEER, "the certificate is for evil???[31m\"?name, not mx.example");
}

static void names_are_told_to_the_peer_and_addresses_not(void **state)
{
    static const struct {
        const char *name;
        bool told;
    } cases[] = {
        {"mx.example", true}, {"mx.example.", true}, {"192.0.2.1", false}, {"2001:db8::1", false}};
    (void)state;
    for (size_t i = 0; i < 4; i++) {
        struct side client;
        side_init(&client, unverified(), cases[i].name);
        side_feed(&client, (struct span){0});
        const bool dotted = memmem(client.out, client.out_len, "mx.example.", 11) != NULL;
        assert_int_equal(memmem(client.out, client.out_len, cases[i].name, 9) != NULL,
                         cases[i].told);
        assert_false(dotted);
        side_release(&client);
    }
}

/* ---- the end ---- */

static void close_notify_is_told(void **state)
{
    struct pair pair;
    struct span junk = SPAN("junk behind the end");
    char plain[TLS_STREAM_ROOM + 64];
    size_t len;
    (void)state;
    pair_init(&pair, unverified(), tls_server_context(both), PEER);
    tls_stream_close(pair.client.stream); /* too early: nothing */
    assert_int_equal(pair.client.out_len, 0);
    pair_begin(&pair, CUT_NONE);
    assert_true(tls_stream_write(pair.client.stream, SPAN("QUIT\r\n")));
    tls_stream_close(pair.client.stream);
    const size_t sent = pair.client.out_len;
    tls_stream_close(pair.client.stream);
    assert_int_equal(pair.client.out_len, sent);
    assert_false(tls_stream_write(pair.client.stream, SPAN("NOOP\r\n")));
    pass(&pair, &pair.client, &pair.server, CUT_RANDOM);
    assert_int_equal(pair.server.result, TLS_CLOSED);
    assert_int_equal(pair.server.plain_len, 6);
    assert_true(tls_stream_write(pair.server.stream, SPAN("221 bye\r\n")));
    pass(&pair, &pair.server, &pair.client, CUT_RANDOM);
    assert_int_equal(pair.client.plain_len, 9); /* still read after our own close */
    assert_int_equal(tls_stream_read(pair.server.stream, &junk, plain, sizeof(plain), &len),
                     TLS_CLOSED);
    assert_int_equal(junk.len, 0);
    assert_int_equal(len, 0);
    pair_release(&pair);
}

static void clear_text_after_the_handshake_is_refused(void **state)
{
    struct pair pair;
    (void)state;
    pair_init(&pair, unverified(), tls_server_context(both), PEER);
    pair_begin(&pair, CUT_NONE);
    assert_true(tls_stream_write(pair.client.stream, SPAN("DATA\r\n")));
    assert_true(take_bytes(&pair.client, SPAN("MAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\n")));
    pass(&pair, &pair.client, &pair.server, CUT_NONE);
    assert_int_equal(pair.server.result, TLS_FAILED);
    assert_int_equal(pair.server.plain_len, 6); /* what came before is genuine */
    assert_string_not_equal(tls_stream_why(pair.server.stream), "");
    assert_true(pair.server.out_len > 0); /* an alert */
    pair_release(&pair);
}

static void a_changed_record_is_refused(void **state)
{
    struct pair pair;
    (void)state;
    pair_init(&pair, unverified(), tls_server_context(both), PEER);
    pair_begin(&pair, CUT_NONE);
    assert_true(tls_stream_write(pair.client.stream, SPAN("RCPT TO:<a@b.example>\r\n")));
    pair.client.out[pair.client.out_len - 1] ^= 1;
    converse(&pair, CUT_NONE);
    assert_int_equal(pair.server.result, TLS_FAILED);
    assert_int_equal(pair.server.plain_len, 0);
    assert_string_equal(tls_stream_why(pair.server.stream), "decryption failed or bad record mac");
    assert_string_equal(tls_stream_why(pair.client.stream), "alert: bad record mac");
    pair_release(&pair);
}

static void a_callback_that_refuses_breaks_the_stream(void **state)
{
    struct pair pair;
    (void)state;
    pair_init(&pair, unverified(), tls_server_context(both), PEER);
    pair.client.refuses = true;
    pair_begin(&pair, CUT_NONE);
    assert_int_equal(pair.client.handshake, TLS_FAILED);
    assert_string_equal(tls_stream_why(pair.client.stream), "nothing can be sent");
    pair_release(&pair);
    pair_init(&pair, unverified(), tls_server_context(both), PEER);
    pair_begin(&pair, CUT_NONE);
    pair.server.refuses = true;
    assert_false(tls_stream_write(pair.server.stream, SPAN("250 ok\r\n")));
    pair.server.refuses = false;
    assert_false(tls_stream_write(pair.server.stream, SPAN("250 ok\r\n")));
    assert_int_equal(pair.server.out_len, 0);
    tls_stream_close(pair.server.stream);
    assert_int_equal(pair.server.out_len, 0);
    pair_release(&pair);
}

static void a_stream_outlives_its_contexts(void **state)
{
    struct pair pair;
    (void)state;
    struct tls_contexts *contexts = contexts_of("ec.pem", "ec.key", NULL, NULL, NULL);
    pair_init(&pair, tls_client_context(contexts, RELAY_TLS_VERIFY, "root.pem"),
              tls_server_context(contexts), PEER);
    side_feed(&pair.client, (struct span){0});
    tls_contexts_unref(contexts);
    converse(&pair, CUT_RANDOM);
    assert_both(&pair, TLS_DONE);
    assert_true(tls_stream_write(pair.client.stream, SPAN("QUIT\r\n")));
    converse(&pair, CUT_NONE);
    assert_int_equal(pair.server.plain_len, 6);
    pair_release(&pair);
}

/* ---- reuse ---- */

/* One connection that uses the cache; whether it was resumed. */
static bool connect_reusing(struct tls_sessions *sessions, const struct tls_context *client,
                            const struct tls_context *server, const char *name, const char *key)
{
    struct pair pair;
    pair_init(&pair, client, server, name);
    tls_stream_reuse(pair.client.stream, sessions, span_of(key));
    pair_begin(&pair, CUT_RANDOM);
    assert_both(&pair, TLS_DONE);
    const bool resumed = tls_stream_is_resumed(pair.client.stream);
    assert_int_equal(tls_stream_is_resumed(pair.server.stream), resumed);
    assert_true(tls_stream_write(pair.client.stream, SPAN("QUIT\r\n")));
    converse(&pair, CUT_NONE);
    assert_int_equal(pair.server.plain_len, 6);
    pair_release(&pair); /* without a close_notify, as mail servers do */
    return resumed;
}

static void sessions_are_resumed(void **state)
{
    struct tls_sessions *sessions = tls_sessions_new(4);
    (void)state;
    assert_non_null(sessions);
    const struct tls_context *server = tls_server_context(both);
    assert_false(connect_reusing(sessions, verifier(), server, PEER, "192.0.2.1:25"));
    for (int i = 0; i < 3; i++) { /* each gives the next its session */
        assert_true(connect_reusing(sessions, verifier(), server, PEER, "192.0.2.1:25"));
    }
    tls_sessions_free(sessions);
}

static void sessions_stay_with_whom_they_are_of(void **state)
{
    struct tls_sessions *sessions = tls_sessions_new(8);
    struct tls_contexts *reloaded = contexts_of("ec.pem", "ec.key", "rsa.pem", "rsa.key", NULL);
    const struct tls_context *server = tls_server_context(both);
    const char *key = "192.0.2.1:25";
    (void)state;
    assert_false(connect_reusing(sessions, unverified(), server, PEER, key));
    assert_false(connect_reusing(sessions, verifier(), server, PEER, key));
    assert_false(connect_reusing(sessions, unverified(), server, "other.example", key));
    assert_false(connect_reusing(sessions, unverified(), server, PEER, "192.0.2.2:25"));
    assert_false(connect_reusing(sessions, tls_client_context(reloaded, RELAY_TLS_MAY, NULL),
                                 server, PEER, key));
    assert_true(connect_reusing(sessions, unverified(), server, PEER, key));
    assert_true(connect_reusing(sessions, verifier(), server, PEER, key));
    tls_contexts_unref(reloaded);
    tls_sessions_free(sessions);
}

static void a_server_that_has_new_keys_gets_a_new_session(void **state)
{
    struct tls_sessions *sessions = tls_sessions_new(8);
    struct tls_contexts *reloaded = contexts_of("ec.pem", "ec.key", NULL, NULL, NULL);
    (void)state;
    assert_false(connect_reusing(sessions, verifier(), tls_server_context(both), PEER, "a"));
    assert_false(connect_reusing(sessions, verifier(), tls_server_context(reloaded), PEER, "a"));
    assert_true(connect_reusing(sessions, verifier(), tls_server_context(reloaded), PEER, "a"));
    tls_contexts_unref(reloaded);
    tls_sessions_free(sessions);
}

static void a_cache_keeps_two_of_a_key_and_drops_the_oldest(void **state)
{
    const unsigned char a[TLS_SESSION_KEY] = "a", b[TLS_SESSION_KEY] = "b";
    struct tls_sessions *sessions = tls_sessions_new(3);
    SSL_SESSION *made[6], *found;
    (void)state;
    for (unsigned char i = 0; i < 6; i++) {
        made[i] = SSL_SESSION_new();
        assert_int_equal(SSL_SESSION_set1_id(made[i], &i, 1), 1); /* else none is resumable */
    }
    tls_sessions_put(sessions, b, made[0]);
    for (int i = 1; i < 4; i++) {
        tls_sessions_put(sessions, a, made[i]);
    }
    found = tls_sessions_take(sessions, b);
    assert_ptr_equal(found, made[0]); /* a's third took the place of a's first */
    SSL_SESSION_free(found);
    assert_null(tls_sessions_take(sessions, b));
    tls_sessions_put(sessions, b, made[4]);
    tls_sessions_put(sessions, b, made[5]); /* full: the oldest, which is a's, goes */
    found = tls_sessions_take(sessions, a);
    assert_ptr_equal(found, made[3]);
    SSL_SESSION_free(found);
    assert_null(tls_sessions_take(sessions, a));
    tls_sessions_free(sessions);
    sessions = tls_sessions_new(0);
    tls_sessions_put(sessions, a, SSL_SESSION_new());
    assert_null(tls_sessions_take(sessions, a));
    tls_sessions_free(sessions);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_may_come_in_any_cut),
        cmocka_unit_test(data_behind_the_handshake_is_left_for_read),
        cmocka_unit_test(too_little_room_loses_nothing),
        cmocka_unit_test(tls_1_3_is_preferred),
        cmocka_unit_test(the_certificate_is_of_a_kind_that_the_client_knows),
        cmocka_unit_test(weak_ciphers_are_last_or_refused),
        cmocka_unit_test(old_versions_are_refused),
        cmocka_unit_test(a_client_of_another_protocol_is_refused),
        cmocka_unit_test(renegotiation_is_refused),
        cmocka_unit_test(key_updates_give_no_data_and_are_answered),
        cmocka_unit_test(endless_key_updates_fail),
        cmocka_unit_test(garbage_is_no_handshake),
        cmocka_unit_test(names_are_verified),
        cmocka_unit_test(addresses_are_verified),
        cmocka_unit_test(certificates_are_verified),
        cmocka_unit_test(without_a_name_nothing_is_verified),
        cmocka_unit_test(only_the_relays_own_authorities_count),
        cmocka_unit_test(what_fails_here_is_no_alert_of_the_peers),
        cmocka_unit_test(what_a_certificate_says_is_scrubbed),
        cmocka_unit_test(names_are_told_to_the_peer_and_addresses_not),
        cmocka_unit_test(close_notify_is_told),
        cmocka_unit_test(clear_text_after_the_handshake_is_refused),
        cmocka_unit_test(a_changed_record_is_refused),
        cmocka_unit_test(a_callback_that_refuses_breaks_the_stream),
        cmocka_unit_test(a_stream_outlives_its_contexts),
        cmocka_unit_test(sessions_are_resumed),
        cmocka_unit_test(sessions_stay_with_whom_they_are_of),
        cmocka_unit_test(a_server_that_has_new_keys_gets_a_new_session),
        cmocka_unit_test(a_cache_keeps_two_of_a_key_and_drops_the_oldest),
    };
    return cmocka_run_group_tests(tests, make_files, remove_files);
}
