/*
 * shrink: a world that fails is run again with less in it, as long as it fails in the same way:
 * messages, recipients and faults are left out by halves, quarters and so on, until each that is
 * left is needed.
 *
 * Each try is a process of its own, as a failure ends the process.
 */
#ifndef SPLITMX_TESTS_SIM_SHRINK_H
#define SPLITMX_TESTS_SIM_SHRINK_H

#include "tests/sim/sim.h"

enum atom_kind { ATOM_MAIL = 1, ATOM_RCPT, ATOM_FAULT, ATOM_KINDS };

/* A part of a world: its kind and what identifies it among those. */
typedef uint64_t atom;

struct sim_filter {
    bool chosen; /* only what is in `atoms` exists */
    atom *atoms;
    size_t count, cap;
    int report; /* where a failure and the parts that were met are told; -1: nowhere */
    atom *met;
    size_t met_count, met_cap;
};

/* Whether this part of the world exists; it is met then. */
bool filter_has(struct sim *sim, enum atom_kind kind, uint64_t number);
/* From sim_fail: tells who waits for it, which ends the process; or returns. */
void filter_report(struct sim *sim, const char *format);

/* Runs the failing world again and again, then once more with its trace. Exit status. */
int shrink(const struct sim_config *config);

#endif
