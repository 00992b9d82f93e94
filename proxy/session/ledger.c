#include "proxy/session/ledger.h"

#include <stdlib.h>

#include "config/random.h"
#include "proxy/session/ledger_state.h"

#define FIRST_BUCKETS 64

/* Sets that have expired and are looked at in passing, at most, so that no call takes long. */
#define EXPIRED_AT_ONCE 4

/* ---- the sets ---- */

void ledger_lock(struct ledger *ledger)
{
    pthread_mutex_lock(&ledger->lock);
}

bool ledger_has_room(const struct ledger *ledger)
{
    return ledger->members.octets < ledger->options.max_size;
}

void ledger_unlock(struct ledger *ledger)
{
    atomic_store_explicit(&ledger->usable, ledger->ready && ledger_has_room(ledger),
                          memory_order_relaxed);
    pthread_mutex_unlock(&ledger->lock);
}

static struct ledger_set **bucket_of(struct ledger_set **buckets, size_t count, uint64_t number)
{
    return &buckets[number & (count - 1)];
}

struct ledger_set *ledger_set_numbered(const struct ledger *ledger, uint64_t number)
{
    struct ledger_set *set = *bucket_of(ledger->buckets, ledger->bucket_count, number);
    while (set != NULL && set->number != number) {
        set = set->next_hashed;
    }
    return set;
}

/* Without memory it only gets slower. */
static void sets_grow(struct ledger *ledger)
{
    size_t count = ledger->bucket_count * 2;
    struct ledger_set **buckets = calloc(count, sizeof(struct ledger_set *));
    if (buckets == NULL) {
        return;
    }
    for (struct ledger_set *set = ledger->oldest; set != NULL; set = set->newer) {
        struct ledger_set **bucket = bucket_of(buckets, count, set->number);
        set->next_hashed = *bucket;
        *bucket = set;
    }
    free(ledger->buckets);
    ledger->buckets = buckets;
    ledger->bucket_count = count;
}

static void warm_link(struct ledger *ledger, struct ledger_set *set)
{
    set->warmer = NULL;
    set->colder = ledger->warmest;
    *(ledger->warmest != NULL ? &ledger->warmest->warmer : &ledger->coldest) = set;
    ledger->warmest = set;
}

static void warm_unlink(struct ledger *ledger, struct ledger_set *set)
{
    *(set->colder != NULL ? &set->colder->warmer : &ledger->coldest) = set->warmer;
    *(set->warmer != NULL ? &set->warmer->colder : &ledger->warmest) = set->colder;
}

void ledger_set_enter(struct ledger *ledger, struct ledger_set *set, uint64_t number)
{
    if (ledger->set_count >= ledger->bucket_count) {
        sets_grow(ledger);
    }
    struct ledger_set **bucket = bucket_of(ledger->buckets, ledger->bucket_count, number);
    set->number = number;
    set->next_hashed = *bucket;
    *bucket = set;
    set->older = ledger->newest;
    *(ledger->newest != NULL ? &ledger->newest->newer : &ledger->oldest) = set;
    ledger->newest = set;
    warm_link(ledger, set);
    ledger->last_number = number;
    ledger->set_count++;
    atomic_fetch_add(&ledger->live_count, set->in_advance ? 0 : 1);
}

static void set_unlink(struct ledger *ledger, struct ledger_set *set)
{
    struct ledger_set **link = bucket_of(ledger->buckets, ledger->bucket_count, set->number);
    while (*link != set) {
        link = &(*link)->next_hashed;
    }
    *link = set->next_hashed;
    *(set->older != NULL ? &set->older->newer : &ledger->oldest) = set->newer;
    *(set->newer != NULL ? &set->newer->older : &ledger->newest) = set->older;
    warm_unlink(ledger, set);
    ledger->set_count--;
    atomic_fetch_sub(&ledger->live_count, set->in_advance ? 0 : 1);
}

void ledger_set_changed(struct ledger *ledger, struct ledger_set *set, bool soon)
{
    ledger->sequence++;
    if (!set->dirty) {
        set->dirty = true;
        set->next_dirty = ledger->dirty;
        ledger->dirty = set;
    }
    ledger->options.changed(ledger->options.store, soon);
}

void ledger_sets_are_clean(struct ledger *ledger)
{
    while (ledger->dirty != NULL) {
        struct ledger_set *set = ledger->dirty;
        ledger->dirty = set->next_dirty;
        set->dirty = false;
        if (set->gone) {
            ledger_set_free(&ledger->members, set);
        }
    }
}

void ledger_set_remove(struct ledger *ledger, struct ledger_set *set)
{
    ledger_set_empty(&ledger->members, set);
    set_unlink(ledger, set);
    set->gone = true;
    if (set->stored || set->dirty) { /* the store has to be told, or would look at it */
        ledger_set_changed(ledger, set, false);
    } else {
        ledger_set_free(&ledger->members, set);
    }
}

void ledger_set_look(struct ledger *ledger, struct ledger_set *set, bool soon)
{
    if (ledger_set_is_over(set)) {
        ledger_set_remove(ledger, set);
    } else {
        ledger_set_changed(ledger, set, soon);
    }
}

/* A clock that was set back makes nobody older. */
static bool is_expired(const struct ledger_set *set, time_t now)
{
    return set->touched < (int64_t)now - LEDGER_SET_LIFE;
}

/* Whether it has expired, and so ends with this. */
static bool ends_expired(struct ledger *ledger, struct ledger_set *set, time_t now)
{
    bool expired = is_expired(set, now);
    if (expired) {
        ledger_set_remove(ledger, set);
    }
    return expired;
}

static int64_t oldest_record(const struct ledger *ledger, time_t now)
{
    return (int64_t)now - (int64_t)ledger->options.retry_window;
}

static void warm_up(struct ledger *ledger, struct ledger_set *set)
{
    warm_unlink(ledger, set);
    warm_link(ledger, set);
}

/* What was touched while the clock was ahead must not stand in the way of the others. */
static void expire(struct ledger *ledger, time_t now)
{
    for (int i = 0; i < EXPIRED_AT_ONCE && ledger->coldest != NULL; i++) {
        if (ends_expired(ledger, ledger->coldest, now)) {
            continue;
        }
        if (ledger->coldest->touched <= now) {
            return;
        }
        warm_up(ledger, ledger->coldest);
    }
}

static void touch(struct ledger *ledger, struct ledger_set *set, time_t now)
{
    set->touched = now;
    warm_up(ledger, set);
}

/* The member, unless its set has expired. */
static struct ledger_member *find(struct ledger *ledger, struct span sender, struct span path,
                                  time_t now)
{
    struct ledger_member *member = ledger_find(&ledger->members, sender, path);
    return member != NULL && !ends_expired(ledger, member->leg->set, now) ? member : NULL;
}

/* ---- RCPT ---- */

bool ledger_is_empty(const struct ledger *ledger)
{
    return atomic_load_explicit(&ledger->live_count, memory_order_acquire) == 0;
}

/* The set that the transaction is bound to. NULL: it has ended, or does with this. */
static struct ledger_set *set_of_turn(struct ledger *ledger, const struct ledger_turn *turn,
                                      time_t now)
{
    struct ledger_set *set = ledger_set_numbered(ledger, turn->set);
    return set != NULL && !ends_expired(ledger, set, now) ? set : NULL;
}

static const struct ledger_leg *leg_of_turn(const struct ledger_set *set,
                                            const struct ledger_turn *turn)
{
    const struct ledger_leg *leg = set->first;
    while (leg != NULL && leg->number != turn->leg) {
        leg = leg->next;
    }
    return leg;
}

/* The first of its set in this transaction: the turn is taken, and moves on whatever comes of it.
 */
static enum ledger_verdict bind(struct ledger *ledger, struct ledger_turn *turn,
                                const struct ledger_member *member,
                                const struct ledger_question *question, time_t now)
{
    struct ledger_set *set = member->leg->set;
    ledger_set_prune(&ledger->members, set, oldest_record(ledger, now));
    if (ledger_set_is_over(set)) {
        ledger_set_remove(ledger, set);
        return LEDGER_FREE;
    }
    const struct ledger_leg *leg = ledger_set_turn(set, member->leg, random_step(&ledger->lot));
    bool fits = question->company == LEDGER_ALONE ||
                (question->company == LEDGER_SAME && member->leg == leg && leg->record_count == 0);
    touch(ledger, set, now);
    *turn = (struct ledger_turn){.bound = true, .set = set->number};
    if (fits) {
        turn->leg = leg->number;
        turn->records = leg->record_count;
    }
    ledger_set_changed(ledger, set, true); /* a crash must not give it back */
    if (!fits || member->leg != leg) {
        return LEDGER_WAIT;
    }
    ledger_set_used(set);
    return LEDGER_GO;
}

/* The transaction is bound already. */
static enum ledger_verdict follow(struct ledger *ledger, const struct ledger_turn *turn,
                                  struct ledger_member *member,
                                  const struct ledger_question *question, time_t now)
{
    struct ledger_set *set = set_of_turn(ledger, turn, now);
    const struct ledger_leg *leg = set != NULL ? leg_of_turn(set, turn) : NULL;
    if (member == NULL) { /* it may share what is not on record for others */
        bool same =
            question->company == LEDGER_SAME || (question->company == LEDGER_ALONE && leg != NULL &&
                                                 span_equal(leg->label, question->label));
        return same && turn->records == 0 ? LEDGER_GO : LEDGER_WAIT;
    }
    struct ledger_set *other = member->leg->set;
    if (member->leg == leg && question->company != LEDGER_OTHERS) {
        ledger_set_used(other);
        return LEDGER_GO;
    }
    if (set != NULL && other != set && ledger_set_merge(&ledger->members, set, other)) {
        touch(ledger, set, now);
        ledger_set_changed(ledger, set, false);
        ledger_set_remove(ledger, other);
    }
    return LEDGER_WAIT;
}

enum ledger_verdict ledger_turn(struct ledger *ledger, struct ledger_turn *turn,
                                const struct ledger_question *question, time_t now)
{
    enum ledger_verdict verdict = LEDGER_FREE;
    if (!turn->bound && ledger_is_empty(ledger)) {
        return LEDGER_FREE;
    }
    ledger_lock(ledger);
    expire(ledger, now);
    struct ledger_member *member = find(ledger, question->sender, question->recipient, now);
    member = member != NULL && member->leg->set->in_advance ? NULL : member;
    if (turn->bound) {
        verdict = follow(ledger, turn, member, question, now);
    } else if (member != NULL) {
        verdict = bind(ledger, turn, member, question, now);
    }
    ledger_unlock(ledger);
    return verdict;
}

void ledger_join(struct ledger *ledger, const struct ledger_turn *turn, struct span sender,
                 struct span recipient, struct span label, time_t now)
{
    ledger_lock(ledger);
    struct ledger_set *set = set_of_turn(ledger, turn, now);
    struct ledger_member *member = find(ledger, sender, recipient, now);
    if (set != NULL && member == NULL && ledger_has_room(ledger)) {
        ledger_set_add(&ledger->members, set, recipient, label);
        ledger_set_changed(ledger, set, false);
    } else if (set != NULL && member != NULL && member->leg->set == set &&
               member->leg->number == turn->leg) {
        ledger_member_part(&ledger->members, member, label);
        ledger_set_changed(ledger, set, false);
    }
    ledger_unlock(ledger);
}

/* ---- the outcome ---- */

/* Its split has not settled, or another's that has recipients of it. */
static void begin_to_bind(struct ledger *ledger, struct ledger_set *set)
{
    if (set->in_advance) {
        set->in_advance = false;
        atomic_fetch_add(&ledger->live_count, 1);
    }
}

/* One recipient of a split: in the set, made with the first, with what it has on record. */
static bool enter_entry(struct ledger *ledger, struct ledger_set **set,
                        const struct ledger_split *split, const struct ledger_entry *entry,
                        time_t now)
{
    struct ledger_members *members = &ledger->members;
    struct ledger_member *member = find(ledger, split->sender, entry->recipient, now);
    if (*set == NULL && member != NULL) {
        *set = member->leg->set;
    } else if (*set == NULL) {
        *set = ledger_set_new(members, split->sender);
        if (*set == NULL) {
            return false;
        }
        (*set)->touched = now;
        (*set)->in_advance = split->in_advance;
        ledger_set_enter(ledger, *set, ledger->last_number + 1);
    }
    if (member != NULL && member->leg->set != *set) {
        struct ledger_set *other = member->leg->set;
        if (!ledger_set_merge(members, *set, other)) {
            return false;
        }
        if (!other->in_advance) {
            begin_to_bind(ledger, *set);
        }
        ledger_set_remove(ledger, other);
    }
    if (member == NULL) {
        member = ledger_set_add(members, *set, entry->recipient, entry->label);
    }
    return member != NULL &&
           (!entry->accepted || split->identity == NULL ||
            ledger_member_record(members, member, entry->label, split->identity, now));
}

static void ticket_wait(struct ledger *ledger, struct ledger_ticket *ticket)
{
    ticket->sequence = ledger->sequence;
    ticket->next = ledger->waiting;
    ledger->waiting = ticket;
}

bool ledger_record(struct ledger *ledger, const struct ledger_split *split, time_t now,
                   struct ledger_ticket *ticket)
{
    struct ledger_set *set = NULL;
    ledger_lock(ledger);
    expire(ledger, now);
    bool good = ledger_has_room(ledger);
    for (size_t i = 0; i < split->count && good; i++) {
        good = enter_entry(ledger, &set, split, &split->entries[i], now);
    }
    if (set != NULL) {
        touch(ledger, set, now);
        if (!split->in_advance) {
            begin_to_bind(ledger, set);
        }
        good = !ledger_set_is_over(set) && good;
        ledger_set_look(ledger, set, ticket != NULL);
    }
    good = good && set != NULL && ledger->ready;
    if (good && ticket != NULL) {
        ticket_wait(ledger, ticket);
    }
    ledger_unlock(ledger);
    return good;
}

bool ledger_accepted(struct ledger *ledger, struct span sender, struct span recipient,
                     const unsigned char *identity, time_t now)
{
    if (ledger_is_empty(ledger)) {
        return false;
    }
    ledger_lock(ledger);
    const struct ledger_member *member = find(ledger, sender, recipient, now);
    bool accepted =
        member != NULL && ledger_leg_has(member->leg, identity, oldest_record(ledger, now));
    ledger_unlock(ledger);
    return accepted;
}

bool ledger_overtaken(struct ledger *ledger, const struct ledger_turn *turn, struct span sender,
                      struct span recipient, time_t now)
{
    if (turn->records == 0) {
        return false;
    }
    ledger_lock(ledger);
    const struct ledger_member *member = find(ledger, sender, recipient, now);
    bool overtaken = member == NULL || member->leg->record_count < turn->records;
    ledger_unlock(ledger);
    return overtaken;
}

void ledger_settle(struct ledger *ledger, struct span sender, struct span recipient,
                   const unsigned char *identity)
{
    ledger_lock(ledger);
    struct ledger_member *member = ledger_find(&ledger->members, sender, recipient);
    if (member != NULL) {
        struct ledger_set *set = member->leg->set;
        ledger_member_settle(&ledger->members, member, identity);
        ledger_set_look(ledger, set, false);
    }
    ledger_unlock(ledger);
}

/* ---- life ---- */

struct ledger *ledger_new(const struct ledger_options *options)
{
    struct ledger *ledger = calloc(1, sizeof *ledger);
    if (ledger == NULL) {
        return NULL;
    }
    ledger->options = *options;
    ledger->lot = options->seed;
    ledger->sequence = 1; /* what is restored can be taken before there was any change */
    ledger->bucket_count = FIRST_BUCKETS;
    ledger->buckets = calloc(FIRST_BUCKETS, sizeof(struct ledger_set *));
    if (ledger->buckets == NULL || !ledger_members_init(&ledger->members, options->seed)) {
        free(ledger->buckets);
        free(ledger);
        return NULL;
    }
    if (pthread_mutex_init(&ledger->lock, NULL) != 0) {
        ledger_members_release(&ledger->members);
        free(ledger->buckets);
        free(ledger);
        return NULL;
    }
    return ledger;
}

void ledger_free(struct ledger *ledger)
{
    if (ledger == NULL) {
        return;
    }
    ledger_sets_are_clean(ledger);
    while (ledger->oldest != NULL) {
        struct ledger_set *set = ledger->oldest;
        ledger->oldest = set->newer;
        ledger_set_free(&ledger->members, set);
    }
    ledger_members_release(&ledger->members);
    pthread_mutex_destroy(&ledger->lock);
    free(ledger->buckets);
    free(ledger->bytes);
    free(ledger);
}

void ledger_configure(struct ledger *ledger, uint64_t retry_window, size_t max_size)
{
    ledger_lock(ledger);
    ledger->options.retry_window = retry_window;
    ledger->options.max_size = max_size;
    ledger_unlock(ledger);
}

bool ledger_usable(const struct ledger *ledger)
{
    return atomic_load_explicit(&ledger->usable, memory_order_relaxed);
}
