/*
 * upstream: one SMTP client connection to an endpoint; it outlives the transactions it carries (RFC
 * 5321 3; design: sections 5 and 6).
 *
 * It follows the table of proxy/wire/client. Its owner is a leg, or, between transactions, the
 * pool. It belongs to one world. Events UNAVAILABLE, REFUSED, TURNED_AWAY, NO_IDENTITY and LOST are
 * its last: it has closed itself, and the owner forgets it. So are an answer with `last` and the
 * calls upstream_quit and upstream_reset.
 */
#ifndef SPLITMX_PROXY_SESSION_UPSTREAM_H
#define SPLITMX_PROXY_SESSION_UPSTREAM_H

#include "proxy/session/client_view.h"
#include "proxy/session/quota.h"
#include "proxy/session/world.h"
#include "proxy/wire/client.h"

#define UPSTREAM_MESSAGES_MAX 100 /* over one connection (design: section 6) */

/* What makes two connections interchangeable. */
struct upstream_key {
    struct net_address address;
    enum config_relay_tls tls;
    const struct tls_context *context; /* its policy's; NULL with tls: none */
    char host[NEXTHOP_HOST_MAX + 1]; /* that TLS is for, the name that the certificate has to have;
                                        "": the address itself */
    enum config_identity identity;
    char client[32]; /* whom it speaks for, with an identity: session and version; else "" */
};

/* What MAIL says (the sender's path without brackets, empty for the null sender). */
struct envelope {
    struct span sender;
    uint64_t size; /* 0: not said */
    bool body_8bit;
    bool smtputf8;
};

enum upstream_event_kind {
    UPSTREAM_READY,       /* a transaction can begin */
    UPSTREAM_UNAVAILABLE, /* never came so far; `why`, `tls` */
    UPSTREAM_REFUSED,     /* greeted with 5xx, or refused EHLO; `why` */
    UPSTREAM_TURNED_AWAY, /* refused the client in whose name it was connected to; `reply` */
    UPSTREAM_NO_IDENTITY, /* does not let us say who the client is; `why` */
    UPSTREAM_NO_MEANS,    /* never came so far, for memory or descriptors are short here; `why` */
    UPSTREAM_ANSWER,      /* `reply` to `command` */
    UPSTREAM_ROOM,        /* all bytes are with the kernel */
    UPSTREAM_LOST,        /* without an answer; `why` */
};

enum upstream_command { UPSTREAM_MAIL, UPSTREAM_RCPT, UPSTREAM_DATA, UPSTREAM_END };

struct upstream_event {
    enum upstream_event_kind kind;
    enum upstream_command command;
    bool last;                 /* ANSWER: the upstream said 421 and is closed */
    bool tls;                  /* UNAVAILABLE: for the sake of TLS alone */
    bool reused;               /* nothing had been answered since it came from the pool */
    const struct reply *reply; /* READY: to the last EHLO or RSET; valid during the event, as is: */
    const char *why;           /* what happened, the upstream's own words among it */
};

typedef void upstream_handler(void *owner, const struct upstream_event *event);

struct upstream;

/*
 * Connects; `cell` is the endpoint's quota cell and is given back at the end, in every case. NULL:
 * no descriptor or no memory. `client` (NULL: nobody but ourselves) is used until UPSTREAM_READY.
 */
struct upstream *upstream_open(struct world *world, const struct upstream_key *key, quota_cell cell,
                               struct policy *policy, const struct client_view *client,
                               upstream_handler *on_event, void *owner);

/* Gives an idle connection another owner: the pool, or a leg and its policy. */
void upstream_adopt(struct upstream *upstream, struct policy *policy, upstream_handler *on_event,
                    void *owner);

/* Whether it offers what MAIL has to say: without SMTPUTF8 there is no way to say it. */
bool upstream_takes(const struct upstream *upstream, const struct envelope *envelope);

/*
 * Commands. An upstream that has spoken or ended before it was asked is lost, which is told from
 * inside the call. MAIL and the first RCPT go in one write where PIPELINING is offered. Allowed
 * when ready. `recipient` stays valid until the answer.
 */
void upstream_mail(struct upstream *upstream, const struct envelope *envelope,
                   struct span recipient);
void upstream_rcpt(struct upstream *upstream, struct span recipient);
void upstream_data(struct upstream *upstream);

/* Bytes of the message, after 354. The last must end a line. */
void upstream_body(struct upstream *upstream, struct span bytes);
size_t upstream_unsent(const struct upstream *upstream);
size_t upstream_queued(const struct upstream *upstream);    /* the same without asking the kernel */
bool upstream_has_room(const struct upstream *upstream);    /* for more of the message */
size_t upstream_in_flight(const struct upstream *upstream); /* sent, and not acknowledged */
/* Nothing has arrived that would be taken for the answer to what is said now: words, or an end. */
bool upstream_is_silent(struct upstream *upstream);

/* End-of-data. False, and nothing is sent, when the upstream has spoken or ended out of turn: reset
 * it. */
bool upstream_end(struct upstream *upstream);

/* Ends an open transaction; UPSTREAM_READY follows. Allowed when nothing is owed and no body has
 * begun. */
void upstream_rset(struct upstream *upstream);
bool upstream_is_ready(
    const struct upstream *upstream); /* owes nothing, and no transaction is open */

/* RST: the upstream has nothing of what was not committed. */
void upstream_reset(struct upstream *upstream);

/*
 * The pool's ways out, for connections that owe nothing. leave: QUIT, and the place at the endpoint
 * is given back when the upstream has ended its side (or after UPSTREAM_LEAVE), so that it never
 * has more connections than allowed; UPSTREAM_LOST follows. quit: QUIT and close at once; also for
 * one that is leaving.
 */
#define UPSTREAM_LEAVE 2000 /* milliseconds */
void upstream_leave(struct upstream *upstream);
void upstream_quit(struct upstream *upstream);

bool upstream_owes(const struct upstream *upstream); /* an answer is outstanding */
bool upstream_worn(
    const struct upstream *upstream); /* has carried UPSTREAM_MESSAGES_MAX messages */
struct policy *upstream_policy(const struct upstream *upstream);
struct world *upstream_world(const struct upstream *upstream);
const struct upstream_key *upstream_key(const struct upstream *upstream);
/* What its last answer to EHLO offered; nothing where it knows HELO only. */
const struct client_offer *upstream_offer(const struct upstream *upstream);
/* "TLSv1.3 TLS_AES_256_GCM_SHA384"; nothing in clear text. */
void upstream_tell_tls(const struct upstream *upstream, struct text *out);

/* For the pool: the list that an idle or leaving connection is in. */
struct upstream_links {
    struct upstream *next, *previous, **head;
    uint64_t since;
    quota_cell spare; /* its place among those that carry nothing */
};
struct upstream_links *upstream_links(struct upstream *upstream);

#endif
