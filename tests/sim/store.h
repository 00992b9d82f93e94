/*
 * store: what the ledger of a simulated world is kept in; it takes its time.
 */
#ifndef SPLITMX_TESTS_SIM_STORE_H
#define SPLITMX_TESTS_SIM_STORE_H

#include "tests/sim/sim.h"

void store_open(struct sim *sim);
void store_close(struct sim *sim);

#endif
