#include "tls/sessions.h"

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define OF_ONE_KEY 2

struct slot {
    SSL_SESSION *session; /* NULL: free */
    uint64_t number;      /* grows with each put */
    unsigned char key[TLS_SESSION_KEY];
};

struct tls_sessions {
    uint64_t puts;
    size_t count;
    struct slot slots[];
};

struct tls_sessions *tls_sessions_new(size_t slots)
{
    struct tls_sessions *sessions = calloc(1, sizeof(*sessions) + slots * sizeof(struct slot));
    if (sessions) {
        sessions->count = slots;
    }
    return sessions;
}

void tls_sessions_free(struct tls_sessions *sessions)
{
    for (size_t i = 0; sessions && i < sessions->count; i++) {
        SSL_SESSION_free(sessions->slots[i].session);
    }
    free(sessions);
}

static bool slot_has(const struct slot *slot, const unsigned char key[TLS_SESSION_KEY])
{
    return slot->session && memcmp(slot->key, key, TLS_SESSION_KEY) == 0;
}

/* a may be NULL. */
static struct slot *older(struct slot *a, struct slot *b)
{
    return !a || b->number < a->number ? b : a;
}

void tls_sessions_put(struct tls_sessions *sessions, const unsigned char key[TLS_SESSION_KEY],
                      SSL_SESSION *session)
{
    struct slot *free_one = NULL, *oldest = NULL, *oldest_same = NULL;
    size_t same = 0;

    for (size_t i = 0; i < sessions->count; i++) {
        struct slot *slot = &sessions->slots[i];
        if (!slot->session) {
            free_one = slot;
            continue;
        }
        oldest = older(oldest, slot);
        if (slot_has(slot, key)) {
            same++;
            oldest_same = older(oldest_same, slot);
        }
    }
    struct slot *slot = same >= OF_ONE_KEY ? oldest_same : free_one ? free_one : oldest;
    if (!slot) {
        SSL_SESSION_free(session);
        return;
    }
    SSL_SESSION_free(slot->session);
    slot->session = session;
    slot->number = ++sessions->puts;
    memcpy(slot->key, key, TLS_SESSION_KEY);
}

SSL_SESSION *tls_sessions_take(struct tls_sessions *sessions,
                               const unsigned char key[TLS_SESSION_KEY])
{
    for (;;) {
        struct slot *newest = NULL;
        for (size_t i = 0; i < sessions->count; i++) {
            struct slot *slot = &sessions->slots[i];
            if (slot_has(slot, key) && (!newest || slot->number > newest->number)) {
                newest = slot;
            }
        }
        if (!newest) {
            return NULL;
        }
        SSL_SESSION *session = newest->session;
        newest->session = NULL;
        if (SSL_SESSION_is_resumable(session)) {
            return session;
        }
        SSL_SESSION_free(session); /* its connection ended with a fatal alert, RFC 8446 6.2 */
    }
}
