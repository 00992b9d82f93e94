/*
 * ledger_set: one set of the ledger, and the rules it lives by (design: section 5): whose turn it
 * is, who shares a leg, who leaves, when it is over. Pure; for the files of the ledger only, which
 * hold its lock.
 */
#ifndef SPLITMX_PROXY_SESSION_LEDGER_SET_H
#define SPLITMX_PROXY_SESSION_LEDGER_SET_H

#include <stdint.h>

#include "config/hash.h"
#include "config/span.h"
#include "proxy/wire/identity.h"

/* Messages on record for one leg, at most; more than that at once the oldest is forgotten. */
#define LEDGER_RECORDS_MAX 128

/* Recipients of a set, at most: each change of one writes all of it. */
#define LEDGER_MEMBERS_MAX 4096

/* A message that was accepted for all members of a leg. */
struct ledger_acceptance {
    unsigned char identity[MESSAGE_IDENTITY_SIZE];
    int64_t at; /* wall clock, seconds */
};

/* A recipient. */
struct ledger_member {
    struct ledger_member *next;        /* of its leg */
    struct ledger_member *next_hashed; /* of the index */
    uint64_t hash;
    struct ledger_leg *leg;
    struct span path; /* behind the struct */
};

struct ledger_leg {
    struct ledger_leg *next; /* in turn */
    struct ledger_set *set;
    unsigned number; /* of the set, from 1 */
    unsigned member_count, record_count;
    struct ledger_member *members;
    struct ledger_acceptance *records; /* by identity; owned */
    struct span label;                 /* behind the struct */
};

struct ledger_set {
    struct ledger_set *older, *newer;   /* by number */
    struct ledger_set *colder, *warmer; /* by when they were touched */
    struct ledger_set *next_hashed;     /* of the index by number */
    struct ledger_set *next_dirty;      /* of those that the store is to write */
    uint64_t number;
    int64_t touched;                 /* by a transaction; wall clock, seconds */
    struct ledger_leg *first, *last; /* the first has the next turn */
    unsigned legs_made, leg_count, member_count;
    unsigned unused; /* turns that nobody came for; not kept */
    bool awaited;    /* nobody has come yet of the leg that had the last one */
    bool in_advance; /* its split may settle yet: it binds nobody; not kept */
    bool dirty, stored, gone;
    struct span sender; /* behind the struct */
};

/* All members of all sets, by sender and path; and what all of it takes. */
struct ledger_members {
    struct hash_key key;
    struct ledger_member **buckets;
    size_t bucket_count; /* a power of two */
    size_t count, records;
    size_t octets; /* of sets, legs, members, records */
};

bool ledger_members_init(struct ledger_members *members, uint64_t seed);
void ledger_members_release(struct ledger_members *members);

/* NULL: in no set. */
struct ledger_member *ledger_find(const struct ledger_members *members, struct span sender,
                                  struct span path);

/* NULL: no memory. */
struct ledger_set *ledger_set_new(struct ledger_members *members, struct span sender);
/* With all that is in it. */
void ledger_set_free(struct ledger_members *members, struct ledger_set *set);
/* Its members leave; it stays, empty. */
void ledger_set_empty(struct ledger_members *members, struct ledger_set *set);

/*
 * The leg whose turn it is, which is the last in turn from now on. The set has one. When turns have
 * passed unused, the one behind such a turn is drawn by lot, half of them for who asks: recipients
 * that come in transactions of their own, in step with the row, would miss their turns for ever.
 */
struct ledger_leg *ledger_set_turn(struct ledger_set *set, struct ledger_leg *asks, uint64_t lot);
/* Somebody has come of the leg that has the turn. */
void ledger_set_used(struct ledger_set *set);

/* A recipient that is in no set joins a leg of this label without records, last in turn where there
 * is none. NULL: no memory, or there are too many. */
struct ledger_member *ledger_set_add(struct ledger_members *members, struct ledger_set *set,
                                     struct span path, struct span label);

/* It goes to a leg of this label with what it has on record. False: no memory, it stays. */
bool ledger_member_part(struct ledger_members *members, struct ledger_member *member,
                        struct span label);

/* The message was accepted for it, by a leg of this label. False: no memory, it stays. */
bool ledger_member_record(struct ledger_members *members, struct ledger_member *member,
                          struct span label, const unsigned char *identity, int64_t at);

bool ledger_leg_has(const struct ledger_leg *leg, const unsigned char *identity, int64_t oldest);

/* It has its final answer for this message (NULL: one without identity): without others on record
 * it leaves. */
void ledger_member_settle(struct ledger_members *members, struct ledger_member *member,
                          const unsigned char *identity);

/* It leaves, and its leg with it if it was the last there. */
void ledger_member_drop(struct ledger_members *members, struct ledger_member *member);

/* Records of before `oldest` are forgotten; legs that do not differ any more are one. */
void ledger_set_prune(struct ledger_members *members, struct ledger_set *set, int64_t oldest);

/* All of `from` joins `into`, behind it in turn; `from` is empty then. Of the same sender. False:
 * they would be too many. */
bool ledger_set_merge(struct ledger_members *members, struct ledger_set *into,
                      struct ledger_set *from);

/* Nobody can be in another's way any more, and nothing is on record. */
bool ledger_set_is_over(const struct ledger_set *set);

/* For ledger_format: a leg at the tail, and a member of it. NULL: no memory. */
struct ledger_leg *ledger_leg_new(struct ledger_members *members, struct ledger_set *set,
                                  struct span label, const struct ledger_acceptance *records,
                                  unsigned record_count);
struct ledger_member *ledger_member_new(struct ledger_members *members, struct ledger_leg *leg,
                                        struct span path);

#endif
