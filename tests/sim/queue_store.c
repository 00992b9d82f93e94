#include "tests/sim/queue_store.h"

#include <stdlib.h>

#include "tests/sim/queues.h"

/* How long after a failure it tries again, milliseconds. */
#define STORE_AGAIN 1000

enum store_event { STORE_TAKES, STORE_WRITES, STORE_REPORTS, STORE_LOADS, STORE_EVENTS };

/* ---- sets ---- */

/* By number: they are given back in that order. */
static struct store_set *sets_find(struct store_sets *sets, uint64_t number)
{
    size_t at = sets->count;
    while (at > 0 && sets->sets[at - 1].number >= number) {
        at--;
    }
    if (at < sets->count && sets->sets[at].number == number) {
        return &sets->sets[at];
    }
    if (sets->count == sets->cap) {
        sets->cap = sets->cap == 0 ? 8 : sets->cap * 2;
        sets->sets = realloc(sets->sets, sets->cap * sizeof *sets->sets);
        if (sets->sets == NULL) {
            abort();
        }
    }
    memmove(sets->sets + at + 1, sets->sets + at, (sets->count++ - at) * sizeof *sets->sets);
    sets->sets[at] = (struct store_set){.number = number};
    return &sets->sets[at];
}

static void sets_put(struct store_sets *sets, uint64_t number, struct span record)
{
    struct buffer *kept = &sets_find(sets, number)->record;
    buffer_drop(kept, kept->len);
    buffer_put(kept, record);
}

static void sets_empty(struct store_sets *sets)
{
    for (size_t i = 0; i < sets->count; i++) {
        buffer_release(&sets->sets[i].record);
    }
    sets->count = 0;
}

static void sets_release(struct store_sets *sets)
{
    sets_empty(sets);
    free(sets->sets);
    *sets = (struct store_sets){0};
}

/* ---- events: those of a process that has gone are void ---- */

static void store_run(struct sim *sim, void *object, int kind);

static void store_at(struct queue_store *store, uint64_t delay, enum store_event event)
{
    sim_at(store->queues->sim, delay, store_run, store,
           (int)(store->life * STORE_EVENTS + (unsigned)event));
}

static uint64_t any_delay(struct queue_store *store, uint64_t most)
{
    return random_below(&store->random, most + 1);
}

/* It will be taken then, or before. */
static void store_take_by(struct queue_store *store, uint64_t delay)
{
    uint64_t at = queues_now(store->queues) + delay;
    if (store->take_at == 0 || at < store->take_at) {
        store->take_at = at;
        store_at(store, delay, STORE_TAKES);
    }
}

static void on_changed(void *object, bool soon)
{
    struct queue_store *store = object;
    if (store->queues->sim->dead || store->ledger == NULL) {
        return;
    }
    if (store->changed_step == 0) {
        store->changed_step = store->queues->step;
    }
    if (store->loaded && !store->writing) {
        store_take_by(store, any_delay(store, soon ? 3 : 300));
    }
}

static void on_put(void *object, uint64_t set, struct span record)
{
    struct queue_store *store = object;
    sets_put(&store->batch, set, record);
}

static void take_all(struct queue_store *store)
{
    store->batch_step = store->changed_step;
    store->changed_step = 0;
    do {
        store->batch_number =
            ledger_take(store->ledger, 1 + (size_t)any_delay(store, 2000), on_put, store);
    } while (store->batch_number == 0);
}

static void store_takes(struct queue_store *store)
{
    if (!store->loaded || store->writing || store->take_at == 0 ||
        queues_now(store->queues) < store->take_at) {
        return; /* another event has done it */
    }
    store->take_at = 0;
    store->writing = true;
    store->written = false;
    take_all(store);
    queues_tell(store->queues, "store takes %zu sets", store->batch.count);
    store_at(store, any_delay(store, store->slow), STORE_WRITES);
    queues_trigger(store->queues, TRIGGER_TAKE);
}

static bool is_failing(const struct queue_store *store)
{
    uint64_t now = queues_now(store->queues);
    for (unsigned i = 0; i < STORE_FAILURES; i++) {
        if (store->failures[i].armed && now >= store->failures[i].from &&
            now < store->failures[i].to) {
            return true;
        }
    }
    return false;
}

/* The batch is on the disk, from one moment to the next. */
static void store_apply(struct queue_store *store)
{
    if (store->anew) {
        sets_empty(&store->durable);
        store->anew = false;
    }
    for (size_t i = 0; i < store->batch.count; i++) {
        const struct store_set *set = &store->batch.sets[i];
        sets_put(&store->durable, set->number, buffer_span(&set->record));
    }
    sets_empty(&store->batch);
    store->batch_step = 0;
}

static void store_fails(struct queue_store *store)
{
    queues_tell(store->queues, "store fails");
    store->queues->calm = false;
    sets_empty(&store->batch);
    store->changed_step = store->batch_step != 0     ? store->batch_step
                          : store->changed_step != 0 ? store->changed_step
                                                     : store->queues->step;
    store->batch_step = 0;
    store->writing = false;
    store->anew = true;
    store->bad_step = store->queues->step;
    if (store->unusable_step == 0) {
        store->unusable_step = store->queues->step;
    }
    ledger_failed(store->ledger);
    store_take_by(store, STORE_AGAIN);
}

static void store_writes(struct queue_store *store)
{
    if (is_failing(store)) {
        store_fails(store);
        return;
    }
    store_apply(store);
    store->written = true;
    queues_tell(store->queues, "store has written");
    store_at(store, any_delay(store, 3), STORE_REPORTS);
    queues_trigger(store->queues, TRIGGER_WRITE);
}

static void store_reports(struct queue_store *store)
{
    store->writing = store->written = false;
    if (store->unusable_step != 0) {
        store->bad_step = store->queues->step;
        store->unusable_step = 0;
    }
    ledger_written(store->ledger, store->batch_number);
    if (store->changed_step != 0) {
        store_take_by(store, any_delay(store, 3));
    }
}

/* False: not all of it; `late`: somebody of a set may be in another by now, which is kept instead.
 */
static bool store_restore(const struct queue_store *store, struct ledger *ledger, bool late)
{
    bool all = true;
    for (size_t i = 0; i < store->durable.count; i++) {
        const struct store_set *set = &store->durable.sets[i];
        bool good =
            set->record.len == 0 || ledger_restore(ledger, set->number, buffer_span(&set->record));
        if (!good && !late && !store->queues->tight) {
            sim_fail(store->queues->sim, "a set that was written is not taken back");
        }
        all = all && good;
    }
    return all;
}

/* What was kept is read, and all of it written anew, in one go. */
static void store_loads(struct queue_store *store)
{
    bool late = store->changed_step != 0; /* somebody of a set may be in another by now */
    if (!store_restore(store, store->ledger, late)) {
        store->dropped_step = store->queues->step;
    }
    store->loaded = true;
    store->loaded_step = store->bad_step = store->queues->step;
    ledger_failed(store->ledger);
    store->anew = true;
    if (is_failing(store)) {
        store_take_by(store, STORE_AGAIN);
        return;
    }
    take_all(store);
    store_apply(store);
    store->unusable_step = 0;
    ledger_written(store->ledger, store->batch_number);
}

static void store_run(struct sim *sim, void *object, int kind)
{
    struct queue_store *store = object;
    if ((unsigned)kind / STORE_EVENTS != store->life || store->ledger == NULL) {
        return;
    }
    switch ((enum store_event)((unsigned)kind % STORE_EVENTS)) {
    case STORE_TAKES:
        store_takes(store);
        break;
    case STORE_WRITES:
        store_writes(store);
        break;
    case STORE_REPORTS:
        store_reports(store);
        break;
    case STORE_LOADS:
        store_loads(store);
        break;
    case STORE_EVENTS:
        break;
    }
    if (sim->woken) {
        sim->woken = false;
        world_woken(&sim->world);
    }
    sim_settle(sim);
}

/* ---- life ---- */

void queue_store_open(struct queue_store *store, size_t max_size)
{
    store->life++;
    store->ledger = ledger_new(&(struct ledger_options){.seed = random_next(&store->random),
                                                        .retry_window = store->retry_window,
                                                        .max_size = max_size,
                                                        .changed = on_changed,
                                                        .store = store});
    if (store->ledger == NULL) {
        abort();
    }
    store->unusable_step = store->queues->step;
    if (random_chance(&store->random, 85)) {
        store_loads(store);
    } else { /* somebody else has it, for a while */
        store_at(store, any_delay(store, 60000), STORE_LOADS);
    }
}

uint64_t queue_store_crash(struct queue_store *store)
{
    uint64_t lost = store->changed_step != 0 ? store->changed_step : UINT64_MAX;
    if (store->writing && !store->written) {
        if (!is_failing(store) && random_chance(&store->random, 50)) {
            store_apply(store);
        } else if (store->batch_step != 0) {
            lost = store->batch_step;
        }
    }
    sets_empty(&store->batch);
    ledger_free(store->ledger);
    store->ledger = NULL;
    store->writing = store->written = store->anew = store->loaded = false;
    store->take_at = store->changed_step = store->batch_step = 0;
    return lost;
}

void queue_store_release(struct queue_store *store)
{
    sets_release(&store->durable);
    sets_release(&store->batch);
    ledger_free(store->ledger);
    store->ledger = NULL;
}

bool queue_store_is_clean(const struct queue_store *store)
{
    return store->changed_step == 0 && store->batch_step == 0;
}

static void ignore_change(void *object, bool soon)
{
    (void)object;
    (void)soon;
}

struct ledger *queue_store_look(const struct queue_store *store)
{
    struct ledger *ledger = ledger_new(&(struct ledger_options){
        .retry_window = store->retry_window, .max_size = SIZE_MAX / 2, .changed = ignore_change});
    if (ledger == NULL) {
        abort();
    }
    store_restore(store, ledger, false);
    return ledger;
}
