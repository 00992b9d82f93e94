/*
 * inquiry: what is found out for `splitmx route` about one address: the keys looked for, where its
 * next hops are, and, with --probe, what the server says that would be asked (design: section 8).
 *
 * The same world as the doctor's, so names are looked up and servers reached as by the daemon.
 */
#ifndef SPLITMX_PROXY_CLI_INQUIRY_H
#define SPLITMX_PROXY_CLI_INQUIRY_H

#include "proxy/cli/doctor_hops.h"
#include "proxy/cli/doctor_state.h"
#include "proxy/daemon/question.h"

/* Who is asked: the route's relay, and those that are asked after it. */
enum role { ROLE_RELAY, ROLE_FALLBACK, ROLE_UNKNOWN, ROLES };

/* An address that was asked, or would have been. */
struct attempt {
    enum role role;
    const struct relay *relay;
    const struct hop *hop;
    const struct resolver_address *at; /* NULL: the next hop leads nowhere */
    bool own;                          /* a listener of ours: not asked */
    struct call call;
};

/* What a client would be told now. */
struct verdict {
    bool accepted;
    unsigned code; /* 250 where accepted */
    char enhanced[REPLY_ENHANCED];
    char words[600];
};

struct inquiry {
    struct check check;
    struct question question;

    bool looked_up; /* `hops` of ROLE_RELAY say what was found */
    struct hops hops[ROLES];

    /* With --probe. */
    bool probing;
    enum role role;
    size_t hop_next, address_next; /* among `order` */
    unsigned char order[NEXTHOPS_MAX];
    char *recipient;
    const char *recipients[1];
    struct attempt **attempts;
    size_t attempt_count;
    struct verdict verdict;
};

/* Over what the table says; asks nobody. NULL: memory is short. */
struct inquiry *inquiry_new(const struct config *config, const struct relay_set *relays,
                            const struct table *table, struct span asked);
void inquiry_free(struct inquiry *inquiry);

/* Whether there is anybody to look up or to ask. */
bool inquiry_is_open(const struct inquiry *inquiry);
/* Of one that is not, what a client would be told. */
void inquiry_settle(struct inquiry *inquiry);
/* Puts it among the checks of the doctor, who does not free it. */
void inquiry_add(struct inquiry *inquiry, struct doctor *doctor, bool probing);
void inquiry_cut(struct inquiry *inquiry); /* no time is left for look-ups */

/* The relay of that role, or NULL. */
const struct relay *inquiry_relay(const struct inquiry *inquiry, enum role role);

#endif
