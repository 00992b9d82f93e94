#include "tests/sim/store.h"

#include <stdlib.h>

#include "tests/sim/net.h"

static void store_put(void *store, uint64_t set, struct span record)
{
    struct sim *sim = store;
    sim_note(sim, "kept", (unsigned)record.len, set);
}

static void store_run(struct sim *sim, void *object, int kind)
{
    (void)object;
    (void)kind;
    uint64_t taken = 0;
    sim->storing = false;
    while (taken == 0) {
        taken = ledger_take(sim->ledger, 4096, store_put, sim);
    }
    sim->woken = false;
    ledger_written(sim->ledger, taken);
    if (sim->woken) {
        world_woken(&sim->world);
    }
    sim_settle(sim);
}

static void on_changed(void *store, bool soon)
{
    struct sim *sim = store;
    if (!sim->storing) {
        sim->storing = true;
        sim_at(sim, sim_below(sim, soon ? 20 : 100), store_run, NULL, 0);
    }
}

void store_open(struct sim *sim)
{
    sim->ledger = ledger_new(&(struct ledger_options){.seed = sim_below(sim, UINT64_MAX),
                                                      .retry_window = 5 * LEDGER_SET_LIFE,
                                                      .max_size = 1 << 20,
                                                      .changed = on_changed,
                                                      .store = sim});
    if (sim->ledger == NULL) {
        abort();
    }
    ledger_ready(sim->ledger);
}

void store_close(struct sim *sim)
{
    ledger_free(sim->ledger);
}
