#include "proxy/session/ledger_set.h"

#include <stdlib.h>

#define FIRST_BUCKETS 64
#define PATH_LONGEST  4096 /* more than a command line holds twice */

/* ---- paths ---- */

/* The local part is its upstream's business, letter case and all; the domain is folded (RFC 5321
 * 2.4). */
static struct span fold_path(struct span path, char *out)
{
    size_t domain = span_rfind(path, '@');
    size_t length = path.len < PATH_LONGEST ? path.len : PATH_LONGEST;
    for (size_t i = 0; i < length; i++) {
        out[i] = i < domain ? path.ptr[i] : ascii_lower(path.ptr[i]);
    }
    return span_make(out, length);
}

static bool path_equal(struct span a, struct span b)
{
    size_t domain = span_rfind(a, '@');
    return a.len == b.len && span_equal(span_first(a, domain), span_first(b, domain)) &&
           span_equal_fold(span_skip(a, domain), span_skip(b, domain));
}

static uint64_t hash_of(const struct ledger_members *members, struct span sender, struct span path)
{
    char folded[2 * sizeof(uint64_t) + PATH_LONGEST];
    struct span text = fold_path(sender, folded);
    uint64_t hash = hash_bytes(&members->key, text.ptr, text.len);
    memcpy(folded, &hash, sizeof hash);
    text = fold_path(path, folded + sizeof hash);
    return hash_bytes(&members->key, folded, sizeof hash + text.len);
}

/* ---- the index ---- */

bool ledger_members_init(struct ledger_members *members, uint64_t seed)
{
    *members = (struct ledger_members){
        .key = hash_key_of(seed),
        .buckets = calloc(FIRST_BUCKETS, sizeof(struct ledger_member *)),
        .bucket_count = FIRST_BUCKETS,
    };
    return members->buckets != NULL;
}

void ledger_members_release(struct ledger_members *members)
{
    free(members->buckets);
    *members = (struct ledger_members){0};
}

static struct ledger_member **bucket_of(const struct ledger_members *members, uint64_t hash)
{
    return &members->buckets[hash & (members->bucket_count - 1)];
}

/* Without memory it only gets slower. */
static void members_grow(struct ledger_members *members)
{
    struct ledger_members grown = *members;
    grown.bucket_count *= 2;
    grown.buckets = calloc(grown.bucket_count, sizeof(struct ledger_member *));
    if (grown.buckets == NULL) {
        return;
    }
    for (size_t i = 0; i < members->bucket_count; i++) {
        struct ledger_member *next = NULL;
        for (struct ledger_member *member = members->buckets[i]; member != NULL; member = next) {
            struct ledger_member **bucket = bucket_of(&grown, member->hash);
            next = member->next_hashed;
            member->next_hashed = *bucket;
            *bucket = member;
        }
    }
    free(members->buckets);
    *members = grown;
}

struct ledger_member *ledger_find(const struct ledger_members *members, struct span sender,
                                  struct span path)
{
    uint64_t hash = hash_of(members, sender, path);
    struct ledger_member *member = *bucket_of(members, hash);
    while (member != NULL && !(member->hash == hash && path_equal(member->path, path) &&
                               path_equal(member->leg->set->sender, sender))) {
        member = member->next_hashed;
    }
    return member;
}

/* ---- legs ---- */

static size_t leg_octets(const struct ledger_leg *leg)
{
    return sizeof *leg + leg->label.len + leg->record_count * sizeof *leg->records;
}

/* Last in turn. */
static void leg_link(struct ledger_leg *leg, struct ledger_set *set)
{
    leg->set = set;
    leg->next = NULL;
    *(set->last != NULL ? &set->last->next : &set->first) = leg;
    set->last = leg;
    set->leg_count++;
    set->member_count += leg->member_count;
}

struct ledger_leg *ledger_leg_new(struct ledger_members *members, struct ledger_set *set,
                                  struct span label, const struct ledger_acceptance *records,
                                  unsigned record_count)
{
    struct ledger_leg *leg = calloc(1, sizeof *leg + label.len);
    if (leg == NULL) {
        return NULL;
    }
    if (record_count != 0) {
        leg->records = calloc(record_count, sizeof *records);
        if (leg->records == NULL) {
            free(leg);
            return NULL;
        }
        memcpy(leg->records, records, record_count * sizeof *records);
    }
    leg->record_count = record_count;
    memcpy(leg + 1, label.ptr, label.len);
    leg->label = span_make((const char *)(leg + 1), label.len);
    leg->number = ++set->legs_made;
    leg_link(leg, set);
    members->octets += leg_octets(leg);
    members->records += record_count;
    return leg;
}

static void leg_unlink(struct ledger_leg *leg)
{
    struct ledger_set *set = leg->set;
    struct ledger_leg **link = &set->first;
    struct ledger_leg *before = NULL;
    while (*link != leg) {
        before = *link;
        link = &before->next;
    }
    *link = leg->next;
    if (set->last == leg) {
        set->last = before;
    }
    set->leg_count--;
    set->member_count -= leg->member_count;
}

static void leg_free(struct ledger_members *members, struct ledger_leg *leg)
{
    leg_unlink(leg);
    members->octets -= leg_octets(leg);
    members->records -= leg->record_count;
    free(leg->records);
    free(leg);
}

/* Those of a leg have the same on record. */
static bool leg_serves(const struct ledger_leg *leg, struct span label,
                       const struct ledger_acceptance *records, unsigned record_count)
{
    bool same = leg->record_count == record_count && span_equal(leg->label, label);
    for (unsigned i = 0; same && i < record_count; i++) {
        same = memcmp(leg->records[i].identity, records[i].identity, MESSAGE_IDENTITY_SIZE) == 0;
    }
    return same;
}

static struct ledger_leg *leg_like(const struct ledger_set *set, struct span label,
                                   const struct ledger_acceptance *records, unsigned record_count)
{
    struct ledger_leg *leg = set->first;
    while (leg != NULL && !leg_serves(leg, label, records, record_count)) {
        leg = leg->next;
    }
    return leg;
}

static struct ledger_leg *leg_for(struct ledger_members *members, struct ledger_set *set,
                                  struct span label, const struct ledger_acceptance *records,
                                  unsigned record_count)
{
    struct ledger_leg *leg = leg_like(set, label, records, record_count);
    return leg != NULL ? leg : ledger_leg_new(members, set, label, records, record_count);
}

bool ledger_leg_has(const struct ledger_leg *leg, const unsigned char *identity, int64_t oldest)
{
    for (unsigned i = 0; i < leg->record_count; i++) {
        if (memcmp(leg->records[i].identity, identity, MESSAGE_IDENTITY_SIZE) == 0) {
            return leg->records[i].at >= oldest;
        }
    }
    return false;
}

/* ---- members ---- */

static void member_enter(struct ledger_member *member, struct ledger_leg *leg)
{
    member->leg = leg;
    member->next = leg->members;
    leg->members = member;
    leg->member_count++;
    leg->set->member_count++;
}

/* Out of its leg, which goes with the last. */
static void member_leave(struct ledger_members *members, struct ledger_member *member)
{
    struct ledger_leg *leg = member->leg;
    struct ledger_member **link = &leg->members;
    while (*link != member) {
        link = &(*link)->next;
    }
    *link = member->next;
    leg->member_count--;
    leg->set->member_count--;
    if (leg->members == NULL) {
        leg_free(members, leg);
    }
}

struct ledger_member *ledger_member_new(struct ledger_members *members, struct ledger_leg *leg,
                                        struct span path)
{
    struct ledger_member *member = malloc(sizeof *member + path.len);
    if (member == NULL) {
        return NULL;
    }
    memcpy(member + 1, path.ptr, path.len);
    member->path = span_make((const char *)(member + 1), path.len);
    member->hash = hash_of(members, leg->set->sender, path);
    if (members->count >= members->bucket_count) {
        members_grow(members);
    }
    struct ledger_member **bucket = bucket_of(members, member->hash);
    member->next_hashed = *bucket;
    *bucket = member;
    members->count++;
    members->octets += sizeof *member + path.len;
    member_enter(member, leg);
    return member;
}

void ledger_member_drop(struct ledger_members *members, struct ledger_member *member)
{
    struct ledger_member **link = bucket_of(members, member->hash);
    while (*link != member) {
        link = &(*link)->next_hashed;
    }
    *link = member->next_hashed;
    member_leave(members, member);
    members->count--;
    members->octets -= sizeof *member + member->path.len;
    free(member);
}

static void leg_take_members(struct ledger_members *members, struct ledger_leg *into,
                             struct ledger_leg *from)
{
    while (from->members != NULL) {
        struct ledger_member *member = from->members;
        from->members = member->next;
        member_enter(member, into);
    }
    leg_free(members, from);
}

static bool member_move(struct ledger_members *members, struct ledger_member *member,
                        struct span label, const struct ledger_acceptance *records,
                        unsigned record_count)
{
    struct ledger_leg *leg = leg_for(members, member->leg->set, label, records, record_count);
    if (leg == NULL) {
        return false;
    }
    if (leg != member->leg) {
        member_leave(members, member);
        member_enter(member, leg);
    }
    return true;
}

bool ledger_member_part(struct ledger_members *members, struct ledger_member *member,
                        struct span label)
{
    struct ledger_leg *leg = member->leg;
    return member_move(members, member, label, leg->records, leg->record_count);
}

static unsigned oldest_of(const struct ledger_acceptance *records, unsigned count)
{
    unsigned oldest = 0;
    for (unsigned i = 1; i < count; i++) {
        oldest = records[i].at < records[oldest].at ? i : oldest;
    }
    return oldest;
}

static void records_remove(struct ledger_acceptance *records, unsigned *count, unsigned at)
{
    (*count)--;
    memmove(records + at, records + at + 1, (*count - at) * sizeof *records);
}

/* Kept in order, so that legs can be compared. */
static void records_insert(struct ledger_acceptance *records, unsigned *count,
                           const unsigned char *identity, int64_t when)
{
    unsigned at = 0;
    while (at < *count && memcmp(records[at].identity, identity, MESSAGE_IDENTITY_SIZE) < 0) {
        at++;
    }
    memmove(records + at + 1, records + at, (*count - at) * sizeof *records);
    memcpy(records[at].identity, identity, MESSAGE_IDENTITY_SIZE);
    records[at].at = when;
    (*count)++;
}

bool ledger_member_record(struct ledger_members *members, struct ledger_member *member,
                          struct span label, const unsigned char *identity, int64_t at)
{
    struct ledger_acceptance records[LEDGER_RECORDS_MAX];
    const struct ledger_leg *leg = member->leg;
    unsigned count = leg->record_count;
    memcpy(records, leg->records != NULL ? leg->records : records, count * sizeof records[0]);
    if (!ledger_leg_has(leg, identity, INT64_MIN)) {
        if (count == LEDGER_RECORDS_MAX) {
            records_remove(records, &count, oldest_of(records, count));
        }
        records_insert(records, &count, identity, at);
    }
    return member_move(members, member, label, records, count);
}

void ledger_member_settle(struct ledger_members *members, struct ledger_member *member,
                          const unsigned char *identity)
{
    struct ledger_acceptance records[LEDGER_RECORDS_MAX];
    const struct ledger_leg *leg = member->leg;
    unsigned count = leg->record_count;
    memcpy(records, leg->records != NULL ? leg->records : records, count * sizeof records[0]);
    for (unsigned i = 0; i < count && identity != NULL; i++) {
        if (memcmp(records[i].identity, identity, MESSAGE_IDENTITY_SIZE) == 0) {
            records_remove(records, &count, i);
        }
    }
    /* Without memory for a leg of its own it leaves as well: a duplicate at worst. */
    if (count == 0 || !member_move(members, member, leg->label, records, count)) {
        ledger_member_drop(members, member);
    }
}

/* ---- sets ---- */

struct ledger_set *ledger_set_new(struct ledger_members *members, struct span sender)
{
    struct ledger_set *set = calloc(1, sizeof *set + sender.len);
    if (set != NULL) {
        memcpy(set + 1, sender.ptr, sender.len);
        set->sender = span_make((const char *)(set + 1), sender.len);
        members->octets += sizeof *set + sender.len;
    }
    return set;
}

void ledger_set_empty(struct ledger_members *members, struct ledger_set *set)
{
    while (set->first != NULL) {
        struct ledger_leg *leg = set->first;
        if (leg->members != NULL) {
            ledger_member_drop(members, leg->members); /* and the leg with the last */
        } else {
            leg_free(members, leg); /* of a set that was being read */
        }
    }
}

void ledger_set_free(struct ledger_members *members, struct ledger_set *set)
{
    ledger_set_empty(members, set);
    members->octets -= sizeof *set + set->sender.len;
    free(set);
}

static struct ledger_leg *leg_drawn(const struct ledger_set *set, struct ledger_leg *asks,
                                    uint64_t lot)
{
    struct ledger_leg *leg = set->first;
    if (lot % 2 != 0) {
        return asks;
    }
    for (uint64_t place = lot / 2 % set->leg_count; place > 0; place--) {
        leg = leg->next;
    }
    return leg;
}

struct ledger_leg *ledger_set_turn(struct ledger_set *set, struct ledger_leg *asks, uint64_t lot)
{
    set->unused += set->awaited; /* the last one */
    bool drawn = set->awaited && set->unused > 1;
    struct ledger_leg *leg = drawn ? leg_drawn(set, asks, lot) : set->first;
    leg_unlink(leg);
    leg_link(leg, set);
    set->awaited = true;
    return leg;
}

void ledger_set_used(struct ledger_set *set)
{
    set->awaited = false;
}

struct ledger_member *ledger_set_add(struct ledger_members *members, struct ledger_set *set,
                                     struct span path, struct span label)
{
    if (set->member_count >= LEDGER_MEMBERS_MAX) {
        return NULL;
    }
    struct ledger_leg *leg = leg_for(members, set, label, NULL, 0);
    struct ledger_member *member = leg != NULL ? ledger_member_new(members, leg, path) : NULL;
    if (leg != NULL && leg->members == NULL) {
        leg_free(members, leg);
    }
    return member;
}

static bool leg_forget_old(struct ledger_members *members, struct ledger_leg *leg, int64_t oldest)
{
    unsigned before = leg->record_count;
    for (unsigned i = leg->record_count; i-- > 0;) {
        if (leg->records[i].at < oldest) {
            records_remove(leg->records, &leg->record_count, i);
        }
    }
    members->octets -= (before - leg->record_count) * sizeof *leg->records;
    members->records -= before - leg->record_count;
    return leg->record_count != before;
}

/* Legs that differ no more are one, at the place of the first. */
static void legs_unite(struct ledger_members *members, struct ledger_set *set)
{
    struct ledger_leg *next = NULL;
    for (struct ledger_leg *leg = set->first; leg != NULL; leg = next) {
        struct ledger_leg *same = leg_like(set, leg->label, leg->records, leg->record_count);
        next = leg->next;
        if (same != leg) {
            leg_take_members(members, same, leg);
        }
    }
}

void ledger_set_prune(struct ledger_members *members, struct ledger_set *set, int64_t oldest)
{
    bool forgotten = false;
    for (struct ledger_leg *leg = set->first; leg != NULL; leg = leg->next) {
        forgotten = leg_forget_old(members, leg, oldest) || forgotten;
    }
    if (forgotten) {
        legs_unite(members, set);
    }
}

bool ledger_set_merge(struct ledger_members *members, struct ledger_set *into,
                      struct ledger_set *from)
{
    if (into->member_count + from->member_count > LEDGER_MEMBERS_MAX) {
        return false;
    }
    while (from->first != NULL) {
        struct ledger_leg *leg = from->first;
        struct ledger_leg *same = leg_like(into, leg->label, leg->records, leg->record_count);
        if (same != NULL) {
            leg_take_members(members, same, leg);
        } else {
            leg_unlink(leg);
            leg->number = ++into->legs_made;
            leg_link(leg, into);
        }
    }
    return true;
}

bool ledger_set_is_over(const struct ledger_set *set)
{
    return set->first == NULL || (set->first == set->last && set->first->record_count == 0);
}
