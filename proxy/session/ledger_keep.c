/*
 * The other side of the ledger: what is to be kept goes to the store, who waits for that is told,
 * and the operator may look.
 */
#include "proxy/session/ledger_format.h"
#include "proxy/session/ledger_state.h"
#include "proxy/session/world.h"

/* ---- tickets ---- */

/* An answer is given in the world's own thread, which is woken for it. */
void ledger_answer(struct ledger *ledger, uint64_t up_to, bool durable)
{
    struct ledger_ticket **link = &ledger->waiting;
    while (*link != NULL) {
        struct ledger_ticket *ticket = *link;
        if (ticket->sequence > up_to) {
            link = &ticket->next;
            continue;
        }
        *link = ticket->next;
        ticket->durable = durable;
        ticket->next = ledger->done;
        ledger->done = ticket;
        atomic_store(&ledger->any_done, true);
        ticket->world->ops->wake(ticket->world);
    }
}

static bool ticket_remove(struct ledger_ticket **link, const struct ledger_ticket *ticket)
{
    while (*link != NULL && *link != ticket) {
        link = &(*link)->next;
    }
    if (*link == NULL) {
        return false;
    }
    *link = ticket->next;
    return true;
}

void ledger_forget(struct ledger *ledger, struct ledger_ticket *ticket)
{
    if (ticket->sequence == 0) {
        return;
    }
    ledger_lock(ledger);
    if (!ticket_remove(&ledger->waiting, ticket)) {
        ticket_remove(&ledger->done, ticket);
    }
    ticket->sequence = 0;
    ledger_unlock(ledger);
}

static struct ledger_ticket *take_done(struct ledger *ledger, const struct world *world)
{
    struct ledger_ticket **link = &ledger->done;
    ledger_lock(ledger);
    while (*link != NULL && (*link)->world != world) {
        link = &(*link)->next;
    }
    struct ledger_ticket *ticket = *link;
    if (ticket != NULL) {
        *link = ticket->next;
        ticket->sequence = 0;
    }
    atomic_store(&ledger->any_done, ledger->done != NULL);
    ledger_unlock(ledger);
    return ticket;
}

/* One by one: what a ticket's owner does may end another's. */
void ledger_collect(struct ledger *ledger, struct world *world)
{
    while (atomic_load(&ledger->any_done)) {
        struct ledger_ticket *ticket = take_done(ledger, world);
        if (ticket == NULL) {
            return; /* others' */
        }
        ticket->on_done(ticket->owner, ticket->durable);
    }
}

/* ---- the store ---- */

/* The next that has changed, out of the list; what is gone goes with this. Octets; 0: no memory. */
static size_t take_one(struct ledger *ledger, ledger_put *put, void *store)
{
    struct ledger_set *set = ledger->dirty;
    struct span record = {0};
    if (!set->gone) {
        record = ledger_format(set, &ledger->bytes, &ledger->bytes_cap);
        if (record.len == 0) {
            return 0;
        }
    }
    ledger->dirty = set->next_dirty;
    set->dirty = false;
    if (!set->gone || set->stored) {
        put(store, set->number, record);
    }
    set->stored = true;
    if (set->gone) {
        ledger_set_free(&ledger->members, set);
    }
    return sizeof set->number + record.len;
}

uint64_t ledger_take(struct ledger *ledger, size_t most, ledger_put *put, void *store)
{
    size_t taken = 0;
    bool memory = true;
    ledger_lock(ledger);
    while (ledger->dirty != NULL && taken < most && memory) {
        size_t octets = take_one(ledger, put, store);
        memory = octets != 0;
        taken += octets;
    }
    uint64_t sequence = ledger->dirty == NULL ? ledger->sequence : 0;
    ledger_unlock(ledger);
    return sequence;
}

void ledger_written(struct ledger *ledger, uint64_t taken)
{
    ledger_lock(ledger);
    ledger->ready = true;
    ledger_answer(ledger, taken, true);
    ledger_unlock(ledger);
}

void ledger_ready(struct ledger *ledger)
{
    ledger_written(ledger, 0);
}

/* The next file is an empty one: what is gone need not be told, what is there has to be. */
static void all_changed(struct ledger *ledger)
{
    ledger_sets_are_clean(ledger);
    for (struct ledger_set *set = ledger->oldest; set != NULL; set = set->newer) {
        set->stored = false;
        set->dirty = true;
        set->next_dirty = ledger->dirty;
        ledger->dirty = set;
    }
}

void ledger_failed(struct ledger *ledger)
{
    ledger_lock(ledger);
    ledger->ready = false;
    ledger_answer(ledger, UINT64_MAX, false);
    all_changed(ledger);
    ledger_unlock(ledger);
}

static bool restore(struct ledger *ledger, uint64_t number, struct span record)
{
    struct ledger_set *set = NULL;
    if (number > INT64_MAX || !ledger_has_room(ledger) ||
        ledger_parse(&ledger->members, record, &set) != LEDGER_PARSED) {
        return false;
    }
    if (number <= ledger->last_number) { /* in the meantime others were recorded */
        number = ledger->last_number + 1;
    }
    set->stored = true;
    ledger_set_enter(ledger, set, number);
    return true;
}

/* With the lock: a store that had to wait for the file restores while worlds ask already. */
bool ledger_restore(struct ledger *ledger, uint64_t number, struct span record)
{
    ledger_lock(ledger);
    bool restored = restore(ledger, number, record);
    ledger_unlock(ledger);
    return restored;
}

/* ---- the operator ---- */

void ledger_tell(struct ledger *ledger, struct ledger_state *out)
{
    ledger_lock(ledger);
    *out = (struct ledger_state){
        .usable = ledger->ready && ledger_has_room(ledger),
        .sets = ledger->set_count,
        .recipients = ledger->members.count,
        .records = ledger->members.records,
        .size = ledger->members.octets,
    };
    ledger_unlock(ledger);
}

static void list_set(const struct ledger_set *set, ledger_list_row *row, void *context)
{
    struct ledger_listed listed = {
        .set = set->number, .touched = set->touched, .sender = set->sender};
    for (const struct ledger_leg *leg = set->first; leg != NULL; leg = leg->next) {
        listed.leg++;
        listed.label = leg->label;
        listed.records = leg->record_count;
        for (const struct ledger_member *m = leg->members; m != NULL; m = m->next) {
            listed.recipient = m->path;
            row(context, &listed);
        }
    }
}

bool ledger_list(struct ledger *ledger, uint64_t from, ledger_list_row *row, void *context,
                 uint64_t *next)
{
    ledger_lock(ledger);
    const struct ledger_set *set = ledger_set_numbered(ledger, from);
    if (set == NULL) { /* it is gone, or this is the beginning */
        set = ledger->oldest;
        while (set != NULL && set->number < from) {
            set = set->newer;
        }
    }
    if (set != NULL) {
        list_set(set, row, context);
        *next = set->newer != NULL ? set->newer->number : set->number + 1;
    }
    ledger_unlock(ledger);
    return set != NULL;
}

static bool clear_one(struct ledger *ledger, uint64_t number, uint64_t last)
{
    ledger_lock(ledger);
    struct ledger_set *set = number != 0 ? ledger_set_numbered(ledger, number) : ledger->oldest;
    bool there = set != NULL && set->number <= last;
    if (there) {
        ledger_set_remove(ledger, set);
    }
    ledger_unlock(ledger);
    return there;
}

/* Of all, one by one: others want the lock, and what they make meanwhile stays. */
uint64_t ledger_clear(struct ledger *ledger, uint64_t number)
{
    uint64_t cleared = 0;
    ledger_lock(ledger);
    uint64_t last = ledger->last_number;
    ledger_unlock(ledger);
    while (clear_one(ledger, number, last)) {
        cleared++;
    }
    return cleared;
}
