#include "tls/tickets.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Without randomness for a new key the one in use goes on, and it is tried again after so many
 * seconds. */
#define RETRY 10

#define WORDS (sizeof(struct ticket_key) / sizeof(uint64_t))

_Static_assert(WORDS * sizeof(uint64_t) == sizeof(struct ticket_key), "whole words");

/*
 * Two keys. Readers take a copy and look whether the version was the same before and after; odd: it
 * is being changed. (Words that are atomic each, so that a copy in the middle of a change is wrong,
 * which is noticed, and not undefined.) The change itself copies 160 bytes, every two hours.
 */
struct tickets {
    atomic_uint_least64_t keys[2][WORDS]; /* the newest, and the one before */
    atomic_uint version;
    atomic_uint_least64_t due; /* when the newest is to be replaced; 0: at the first ticket */
    atomic_flag changing;      /* one thread does it; the others go on with what there is */
};

struct pair {
    struct ticket_key newest, before;
};

/* ---- the two keys ---- */

static void load_key(atomic_uint_least64_t from[WORDS], struct ticket_key *key)
{
    uint64_t words[WORDS] = {0};
    for (size_t i = 0; i < WORDS; i++) {
        words[i] = atomic_load_explicit(&from[i], memory_order_relaxed);
    }
    memcpy(key, words, sizeof(words));
    OPENSSL_cleanse(words, sizeof(words));
}

static void store_key(atomic_uint_least64_t to[WORDS], const struct ticket_key *key)
{
    uint64_t words[WORDS];
    memcpy(words, key, sizeof(words));
    for (size_t i = 0; i < WORDS; i++) {
        atomic_store_explicit(&to[i], words[i], memory_order_relaxed);
    }
    OPENSSL_cleanse(words, sizeof(words));
}

static void load_pair(struct tickets *tickets, struct pair *pair)
{
    unsigned version;
    do {
        version = atomic_load_explicit(&tickets->version, memory_order_acquire);
        load_key(tickets->keys[0], &pair->newest);
        load_key(tickets->keys[1], &pair->before);
        atomic_thread_fence(memory_order_acquire);
    } while (version % 2 != 0 ||
             version != atomic_load_explicit(&tickets->version, memory_order_relaxed));
}

/* By one thread at a time. */
static void store_pair(struct tickets *tickets, const struct pair *pair)
{
    atomic_fetch_add_explicit(&tickets->version, 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    store_key(tickets->keys[0], &pair->newest);
    store_key(tickets->keys[1], &pair->before);
    atomic_fetch_add_explicit(&tickets->version, 1, memory_order_release);
}

/* A new key. After a time without handshakes the one before is too old as well: both are new. */
static bool renew(struct tickets *tickets, bool both)
{
    struct pair pair;
    load_pair(tickets, &pair);
    pair.before = pair.newest;
    const bool fine =
        RAND_priv_bytes((unsigned char *)&pair.newest, sizeof(pair.newest)) == 1 &&
        (!both || RAND_priv_bytes((unsigned char *)&pair.before, sizeof(pair.before)) == 1);
    if (fine) {
        store_pair(tickets, &pair);
    }
    OPENSSL_cleanse(&pair, sizeof(pair));
    return fine;
}

static void renew_if_due(struct tickets *tickets, uint64_t now)
{
    if (now < atomic_load_explicit(&tickets->due, memory_order_relaxed) ||
        atomic_flag_test_and_set_explicit(&tickets->changing, memory_order_acquire)) {
        return;
    }
    const uint64_t due = atomic_load_explicit(&tickets->due, memory_order_relaxed);
    if (now >= due) { /* nobody else has, since the first look */
        const bool fine = renew(tickets, now - due >= TICKETS_PERIOD);
        atomic_store_explicit(&tickets->due, now + (fine ? TICKETS_PERIOD : RETRY),
                              memory_order_relaxed);
    }
    atomic_flag_clear_explicit(&tickets->changing, memory_order_release);
}

struct tickets *tickets_new(void)
{
    struct tickets *tickets = calloc(1, sizeof(*tickets));
    if (tickets != NULL) {
        atomic_flag_clear(&tickets->changing);
        if (!renew(tickets, true)) { /* so that there is never a key of zeros */
            free(tickets);
            return NULL;
        }
    }
    return tickets;
}

void tickets_free(struct tickets *tickets)
{
    if (tickets != NULL) {
        OPENSSL_cleanse(tickets, sizeof(*tickets));
        free(tickets);
    }
}

void tickets_newest(struct tickets *tickets, uint64_t now, struct ticket_key *out)
{
    struct pair pair;
    renew_if_due(tickets, now);
    load_pair(tickets, &pair);
    *out = pair.newest;
    OPENSSL_cleanse(&pair, sizeof(pair));
}

enum ticket_age tickets_find(struct tickets *tickets, uint64_t now,
                             const unsigned char name[TICKETS_NAME], struct ticket_key *out)
{
    struct pair pair;
    enum ticket_age age = TICKET_UNKNOWN;

    renew_if_due(tickets, now);
    load_pair(tickets, &pair);
    if (memcmp(name, pair.newest.name, TICKETS_NAME) == 0) {
        *out = pair.newest;
        age = TICKET_NEW;
    } else if (memcmp(name, pair.before.name, TICKETS_NAME) == 0) {
        *out = pair.before;
        age = TICKET_OLD;
    }
    OPENSSL_cleanse(&pair, sizeof(pair));
    return age;
}

/* ---- what the library calls ---- */

/* Goes on while the machine sleeps, and nobody sets it. */
static uint64_t seconds_now(void)
{
    struct timespec now = {0};
    clock_gettime(CLOCK_BOOTTIME, &now);
    return (uint64_t)now.tv_sec;
}

static bool set_up(const struct ticket_key *key, unsigned char *iv, EVP_CIPHER_CTX *cipher,
                   EVP_MAC_CTX *mac, bool encrypts)
{
    const OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, (void *)(uintptr_t)key->mac,
                                          sizeof(key->mac)),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char[]){"SHA256"}, 0),
        OSSL_PARAM_construct_end(),
    };
    return EVP_MAC_CTX_set_params(mac, params) == 1 &&
           EVP_CipherInit_ex(cipher, EVP_aes_256_cbc(), NULL, key->cipher, iv, encrypts) == 1;
}

/* A new ticket's key into *key. False: no randomness. */
static bool begin_ticket(struct tickets *tickets, unsigned char *name, unsigned char *iv,
                         struct ticket_key *key)
{
    tickets_newest(tickets, seconds_now(), key);
    memcpy(name, key->name, sizeof(key->name));
    return RAND_bytes(iv, EVP_CIPHER_get_iv_length(EVP_aes_256_cbc())) == 1;
}

/*
 * 0: no ticket, or none that can be read: the handshake is a whole one; 1: fine; 2: fine, and a new
 * one is due, as always in TLS 1.3, where each is used once (RFC 8446 C.4). Never an error (less
 * than 0): nobody needs a ticket so much that the handshake should fail.
 */
static int on_ticket(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
                     EVP_MAC_CTX *mac, int encrypts)
{
    struct tickets *tickets = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
    struct ticket_key key = {0};
    enum ticket_age age = TICKET_NEW;
    bool fine;

    if (encrypts) {
        fine = begin_ticket(tickets, name, iv, &key);
    } else {
        age = tickets_find(tickets, seconds_now(), name, &key);
        fine = age != TICKET_UNKNOWN;
    }
    fine = fine && set_up(&key, iv, cipher, mac, encrypts);
    OPENSSL_cleanse(&key, sizeof(key));
    if (!fine) {
        ERR_clear_error(); /* else the handshake's next pause would be taken for its end */
        return 0;
    }
    return age == TICKET_OLD || SSL_version(ssl) == TLS1_3_VERSION ? 2 : 1;
}

bool tickets_use(struct tickets *tickets, SSL_CTX *context)
{
    return SSL_CTX_set_app_data(context, tickets) == 1 &&
           SSL_CTX_set_tlsext_ticket_key_evp_cb(context, on_ticket) == 1;
}
