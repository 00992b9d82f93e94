/*
 * leg: one upstream conversation inside a transaction (design: sections 5 and 6).
 *
 * A leg is one relay (and, for a relay with one domain per transaction, one recipient domain). It
 * is opened by its first recipient, tries the relay's next hops and their addresses in order,
 * replays what was accepted when a connection is lost before 354, takes the message after 354 and
 * is committed or abandoned by its transaction, which owns it. Events never come from inside
 * leg_abandon or leg_free; LEG_ANSWERED may come from inside leg_recipient.
 */
#ifndef SPLITMX_PROXY_SESSION_LEG_H
#define SPLITMX_PROXY_SESSION_LEG_H

#include "proxy/session/policy.h"
#include "proxy/session/upstream.h"

/* How recipients came to a leg; those of different kinds have legs of their own. */
enum leg_kind {
    LEG_IS_PLAIN,    /* as the routes say */
    LEG_IS_FALLBACK, /* their relay is unavailable (section 6) */
    LEG_IS_UNKNOWN,  /* their relay does not know them */
};

/* A recipient that was accepted or is being asked for. Owned by the transaction. */
struct recipient {
    struct recipient *next;        /* of the transaction */
    struct recipient *next_in_leg; /* accepted by the same leg, in order */
    struct leg *leg;               /* NULL: discarded */
    unsigned code;                 /* the answer to its RCPT */
    char enhanced[REPLY_ENHANCED];
    struct span path; /* behind the struct, as it goes on the wire */
};

enum leg_event_kind {
    LEG_ANSWERED, /* the recipient asked for has its answer: `reply` */
    LEG_READY,    /* 354 */
    LEG_REFUSED,  /* DATA was refused: `reply`. The leg is closed */
    LEG_ROOM,     /* it may take more of the message, or has taken all there was */
    LEG_SETTLED,  /* `reply` is the upstream's answer to end-of-data. The leg is closed */
    LEG_LOST,     /* after its last recipient's answer: `reply` says why. The leg is closed */
};

/* What is known of a leg's message once its transaction is over. */
enum leg_fate {
    LEG_FATE_NONE,     /* it was sent no end-of-data: its upstream has nothing */
    LEG_FATE_ACCEPTED, /* 2xx to it */
    LEG_FATE_REFUSED,  /* another answer */
    LEG_FATE_UNKNOWN,  /* no answer */
};

struct leg_event {
    enum leg_event_kind kind;
    const struct reply *reply;
    bool unavailable; /* ANSWERED: nobody there was asked; its relay is unavailable (section 6) */
    bool of_rcpt;     /* ANSWERED: its relay said so to this very RCPT, not to what led there */
};

struct leg;
struct relay_stats;
typedef void leg_handler(void *owner, struct leg *leg, const struct leg_event *event);

/* What a leg is told of its transaction; outlives the leg. */
struct leg_context {
    struct world *world;
    struct policy *policy;
    const struct client_view *client;
    struct envelope envelope;
    leg_handler *on_event;
    void *owner;
};

/* NULL: no memory. `domain` is copied: the recipient it is of may be refused and go; empty where
 * the relay takes several. */
struct leg *leg_new(const struct leg_context *context, const struct relay *relay,
                    enum leg_kind kind, struct span domain);
void leg_free(struct leg *leg); /* abandons what is open */

/* How a recipient is asked for; times as world->now. */
struct leg_terms {
    bool may_wait;    /* for a free connection (never while the transaction holds another leg) */
    uint64_t open_by; /* a leg that is not connected then is unavailable: what follows needs time */
    uint64_t deadline; /* of the answer, all attempts together */
};
void leg_recipient(struct leg *leg, struct recipient *recipient, const struct leg_terms *terms);

void leg_data(struct leg *leg);

bool leg_has_room(const struct leg *leg);
/* All of the body so far, and is there still: it has neither ended nor spoken out of turn. */
bool leg_has_taken_all(const struct leg *leg);
/* What it has not taken yet goes out in one go with what comes next. */
bool leg_has_little_left(const struct leg *leg);
void leg_body(struct leg *leg, struct span bytes);

/* End-of-data: from here on the upstream may have the message. False: it spoke out of turn, and was
 * sent nothing. */
bool leg_commit(struct leg *leg);

/* Ends the leg so that its upstream has nothing of the message: RST once DATA was sent, RSET
 * before. */
void leg_abandon(struct leg *leg);

const struct relay *leg_relay(const struct leg *leg);
struct relay_stats *leg_stats(const struct leg *leg);
enum leg_kind leg_kind(const struct leg *leg);
struct span leg_domain(const struct leg *leg); /* empty: it takes several */
enum leg_fate leg_fate(const struct leg *leg);
bool leg_serves(const struct leg *leg, const struct relay *relay, enum leg_kind kind,
                struct span domain);
unsigned leg_recipient_count(const struct leg *leg);
bool leg_is_open(const struct leg *leg);        /* neither failed, settled nor abandoned */
bool leg_was_let_go(const struct leg *leg);     /* abandoned with no recipient accepted */
bool leg_is_unavailable(const struct leg *leg); /* closed, as its relay is, before anybody came */
bool leg_is_local(const struct leg *leg);       /* at a loopback, private or unix address */

#endif
