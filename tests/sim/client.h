/*
 * client: an SMTP client with a script made of chance: greeting, transactions, odd commands, an
 * end. It checks that each command has one answer, in order, and that it is the right one.
 */
#ifndef SPLITMX_TESTS_SIM_CLIENT_H
#define SPLITMX_TESTS_SIM_CLIENT_H

#include "tests/sim/sim.h"

struct client;

/* Comes after `delay` milliseconds. */
struct client *client_new(struct sim *sim, unsigned number, uint64_t delay);
void client_free(struct client *client);
bool client_is_done(const struct client *client);

#endif
