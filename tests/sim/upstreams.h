/*
 * upstreams: the relays of a world and the servers behind them: what they offer, how they are
 * broken, when they are down, and what the oracle may conclude from that.
 */
#ifndef SPLITMX_TESTS_SIM_UPSTREAMS_H
#define SPLITMX_TESTS_SIM_UPSTREAMS_H

#include "tests/sim/sim.h"

struct net_address sim_address(const char *text, uint16_t port);
void upstreams_build(struct sim *sim);

unsigned sim_relay_number(const struct sim *sim, const struct relay *relay);
struct server *sim_server_at(struct sim *sim, const struct net_address *address);

/* Whether new connections come to nothing now. */
bool server_is_down(const struct server *server);
/* A connection to it begins: who is down is left alone but for probes, once that is known. */
void server_is_called(struct server *server);
/* Whether the proxy may have thought so at some time from `since` to now: while it is down, and
 * until a probe under way and two good ones must have ended. */
bool server_may_be_down(const struct server *server, uint64_t since);
/* Whether TLS, as the relay has it, comes to nothing at every connection. */
bool server_is_hopeless(const struct server *server);
/* What it says to a client in whose name it is spoken to; NULL: what it says to all. */
const char *server_welcome(const struct server *server, unsigned client);
/* The name by which TLS is to know it. */
const char *server_host(const struct server *server);

#endif
