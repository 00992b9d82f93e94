/*
 * tickets: the keys that the tickets of one server are under.
 *
 * A ticket is a session, encrypted, that the client keeps: who learns the key can read what that
 * session and its TLS 1.2 descendants said (RFC 9325 3.4). So a key is used for two hours, which is
 * how long a session may be resumed; for two more it opens what it closed; then it is overwritten.
 * Nothing runs by itself: the handshakes notice that it is time.
 *
 * Thread: all, at once, with no lock: a key that stands is only read.
 */
#ifndef SPLITMX_TLS_TICKETS_H
#define SPLITMX_TLS_TICKETS_H

#include <stdbool.h>
#include <stdint.h>

struct ssl_ctx_st; /* an SSL_CTX of OpenSSL */
struct tickets;

/* Seconds. */
#define TICKETS_PERIOD ((uint64_t)2 * 60 * 60)

/* NULL when memory or randomness are short. */
struct tickets *tickets_new(void);
void tickets_free(struct tickets *tickets); /* overwrites them; NULL is accepted */

/* From now on this context's tickets are under these keys, which must outlive it. False when memory
 * is short. */
bool tickets_use(struct tickets *tickets, struct ssl_ctx_st *context);

/* ---- for the tests ---- */

#define TICKETS_NAME 16

struct ticket_key {
    unsigned char name[TICKETS_NAME]; /* is in the ticket, readable */
    unsigned char cipher[32];         /* AES-256-CBC */
    unsigned char mac[32];            /* HMAC-SHA256, of the encrypted */
};

/* The key for a new ticket. `now`: seconds on a clock that is not set. */
void tickets_newest(struct tickets *tickets, uint64_t now, struct ticket_key *out);

enum ticket_age {
    TICKET_NEW,
    TICKET_OLD,     /* good still; a new one is due */
    TICKET_UNKNOWN, /* too old, or another server's */
};

/* The key of a ticket that came back. */
enum ticket_age tickets_find(struct tickets *tickets, uint64_t now,
                             const unsigned char name[TICKETS_NAME], struct ticket_key *out);

#endif
