#include "tests/sim/upstreams.h"

#include <stdio.h>
#include <stdlib.h>

#include "tests/sim/identity.h"

struct net_address sim_address(const char *text, uint16_t port)
{
    struct net_address address;
    if (!net_address_parse(span_of(text), port, &address)) {
        abort();
    }
    return address;
}

/* ---- servers ---- */

static enum shakes any_shakes(struct sim *sim)
{
    return sim_chance(sim, 10) ? (enum shakes)sim_below(sim, SHAKES_WITH_MORE + 1) : SHAKES_WELL;
}

static void build_tls(struct sim *sim, struct server *server, enum config_relay_tls tls)
{
    static const unsigned codes[] = {421, 454, 554, 554};
    server->other_in_clear = !server->helo_only && sim_chance(sim, 20);
    server->starttls = !server->helo_only && (tls == RELAY_TLS_NONE || sim_chance(sim, 93));
    server->starttls_code = sim_chance(sim, 6) ? codes[sim_below(sim, 4)] : 220;
    server->shakes = any_shakes(sim);
}

static void build_identity(struct sim *sim, struct server *server, enum config_identity identity)
{
    server->proxy = identity == IDENTITY_PROXY;
    if (!server->helo_only && (identity == IDENTITY_XCLIENT || sim_chance(sim, 30))) {
        server->xclient = sim_chance(sim, 60)
                              ? ATTRIBUTES_ALL
                              : ATTRIBUTE_ADDR | (unsigned)sim_below(sim, ATTRIBUTES_ALL + 1);
        if (sim_chance(sim, 4)) {
            server->xclient &= ~ATTRIBUTE_ADDR;
        }
    }
    server->xclient_refused = sim_chance(sim, 3);
    server->welcome =
        sim_chance(sim, 15) ? (enum welcome)(1 + sim_below(sim, WELCOME_NOT_421)) : WELCOME_ALL;
}

static void build_outage(struct sim *sim, struct server *server)
{
    server->flaky = sim_chance(sim, 20);
    server->outage = (enum outage)sim_below(sim, OUTAGES);
    server->down_from = SIM_START + sim_below(sim, sim->span);
    server->down_to = server->down_from + sim_below(sim, sim->span);
}

static void build_server(struct sim *sim, unsigned relay, const struct relay *policy)
{
    static const char *const addresses[] = {"198.51.100.%u", "127.0.0.%u", "2001:db8::%u",
                                            "10.0.0.%u"};
    const char *family = addresses[sim_below(sim, 4)];
    struct server first = {.sim = sim, .relay = relay};
    first.helo_only = sim_chance(sim, 5);
    first.pipelining = !first.helo_only && sim_chance(sim, 60);
    first.size = !first.helo_only && sim_chance(sim, 60);
    first.eight_bit = !first.helo_only && sim_chance(sim, 60);
    first.greets_no = sim_chance(sim, 2);
    first.slow = (unsigned)(sim_chance(sim, 10) ? 3000 : 1 + sim_below(sim, 60));
    first.idle_timeout = sim_chance(sim, 50) ? 1 + sim_below(sim, 20000) : 0;
    build_tls(sim, &first, policy->tls);
    build_identity(sim, &first, policy->identity);
    for (unsigned i = 0; i < SIM_ENDPOINTS; i++) {
        char text[32];
        struct server *server = &sim->servers[relay][i];
        *server = first;
        server->endpoint = i;
        snprintf(text, sizeof text, "%.*s%u", (int)strlen(family) - 2, family, 1 + relay + 10 * i);
        server->address = sim_address(text, 25);
        build_outage(sim, server);
        server->shakes = sim_chance(sim, 80) ? first.shakes : any_shakes(sim);
    }
}

bool server_is_down(const struct server *server)
{
    uint64_t now = server->sim->world.now;
    return server->flaky && now >= server->down_from && now < server->down_to;
}

void server_is_called(struct server *server)
{
    uint64_t now = server->sim->world.now;
    if (!server_is_down(server) || server->outage != OUTAGE_REFUSED ||
        server->sim->config.faults != 0) {
        return;
    }
    if (++server->refused == 3) {
        server->known_by = now + 30000; /* when what was begun before the outage has ended too */
    }
    if (server->refused < 3 || now < server->known_by) {
        return;
    }
    if (++server->called > 2 + (now - server->known_by) / 5000) {
        sim_fail(server->sim, "relay %u is called again and again, though it is down",
                 server->relay);
    }
}

bool server_may_be_down(const struct server *server, uint64_t since)
{
    /* A probe in the silence ends after 30 s; then two, with pauses, before which a mail that took
     * one's place may have gone (HEALTH_LEASE). */
    uint64_t recovery = net_address_is_local(&server->address) ? 60000 : 300000;
    return server->flaky && server->sim->world.now >= server->down_from &&
           since < server->down_to + recovery;
}

bool server_is_hopeless(const struct server *server)
{
    enum config_relay_tls tls = server->sim->relays[server->relay].relay.tls;
    bool strict = tls == RELAY_TLS_ENCRYPT || tls == RELAY_TLS_VERIFY;
    if (tls == RELAY_TLS_NONE || (!strict && !server->starttls)) {
        return false;
    }
    if (server->starttls && server->starttls_code == 421) {
        return true; /* it goes, and says nothing about TLS */
    }
    return strict && (!server->starttls || server->starttls_code != 220 ||
                      (server->shakes != SHAKES_WELL &&
                       (server->shakes != SHAKES_AS_ANOTHER || tls == RELAY_TLS_VERIFY)));
}

const char *server_welcome(const struct server *server, unsigned client)
{
    if (client % 3 != 0) {
        return NULL;
    }
    switch (server->welcome) {
    case WELCOME_ALL:
        break;
    case WELCOME_NOT_554:
        return "554 5.7.1 you are not welcome";
    case WELCOME_NOT_450:
        return "450 4.7.1 you are not welcome now";
    case WELCOME_NOT_421:
        return "421 4.7.0 you come too often";
    }
    return NULL;
}

const char *server_host(const struct server *server)
{
    return server->sim->hosts[server->relay][server->endpoint];
}

struct server *sim_server_at(struct sim *sim, const struct net_address *address)
{
    for (unsigned i = 0; i < sim->relay_count; i++) {
        for (unsigned j = 0; j < sim->relays[i].endpoints; j++) {
            if (net_address_equal(&sim->servers[i][j].address, address)) {
                return &sim->servers[i][j];
            }
        }
    }
    return NULL;
}

/* ---- relays ---- */

unsigned sim_relay_number(const struct sim *sim, const struct relay *relay)
{
    return (unsigned)((const struct sim_relay *)(const void *)relay - sim->relays);
}

static void build_policy(struct sim *sim, struct relay *relay)
{
    static const enum config_relay_tls tls[] = {RELAY_TLS_NONE,    RELAY_TLS_NONE,
                                                RELAY_TLS_MAY,     RELAY_TLS_MAY,
                                                RELAY_TLS_ENCRYPT, RELAY_TLS_VERIFY};
    static const enum config_identity identity[] = {IDENTITY_NONE, IDENTITY_NONE, IDENTITY_XCLIENT,
                                                    IDENTITY_XCLIENT, IDENTITY_PROXY};
    static char name[] = "what.the.operator.says.example";
    relay->tls = tls[sim_below(sim, 6)];
    relay->identity = identity[sim_below(sim, 5)];
    relay->tls_name = sim_chance(sim, 20) ? name : NULL;
    relay->max_connections = sim->crowded ? 1 + (unsigned)sim_below(sim, 3) : 1000;
    relay->recipients_max = sim_chance(sim, 10) ? 1 + (unsigned)sim_below(sim, 3) : 0;
    relay->one_domain = sim_chance(sim, 15);
    relay->paced = sim_chance(sim, 8);
}

static void add_hop(struct sim_relay *own, unsigned priority, const struct net_address *address)
{
    own->hops[own->relay.hop_count++] = (struct nexthop){
        .kind = NEXTHOP_ADDRESS, .port = 25, .priority = priority, .address = *address};
}

/* The hop of a server, by address or by a name of its own. */
static void add_server(struct sim *sim, struct sim_relay *own, unsigned priority,
                       const struct server *server)
{
    char *host = sim->hosts[server->relay][server->endpoint];
    size_t size = sizeof sim->hosts[0][0];
    add_hop(own, priority, own->looped ? &sim->own : own->down ? &sim->nowhere : &server->address);
    net_address_text(&server->address, host, size);
    if (sim_chance(sim, 30)) {
        struct nexthop *hop = &own->hops[own->relay.hop_count - 1];
        snprintf(host, size, "r%u-%u.example", server->relay, server->endpoint);
        hop->kind = NEXTHOP_HOST;
        snprintf(hop->host, sizeof hop->host, "%s", host);
        own->no_names = !own->down && !own->looped && own->endpoints == 1 && sim_chance(sim, 8);
        own->null_mx = own->no_names && sim_chance(sim, 50);
    }
}

static void build_relay(struct sim *sim, unsigned number)
{
    struct sim_relay *own = &sim->relays[number];
    *own = (struct sim_relay){.down = sim_chance(sim, 4), .looped = sim_chance(sim, 1)};
    own->endpoints = sim_chance(sim, 25) ? SIM_ENDPOINTS : 1;
    own->equal = sim_chance(sim, 30);
    snprintf(own->name, sizeof own->name, "r%u", number);
    own->relay.name = own->name;
    own->relay.hops = own->hops;
    build_policy(sim, &own->relay);
    build_server(sim, number, &own->relay);
    if (own->endpoints > 1) { /* the last in rank, not in the list */
        add_server(sim, own, own->equal ? 1 : 2, &sim->servers[number][1]);
    }
    add_server(sim, own, 1, &sim->servers[number][0]);
    if (sim_chance(sim, 15)) {
        add_hop(own, 0, &sim->nowhere);
    }
}

/* Another than `number` and `taken`; NULL: there is none. */
static const struct relay *other_relay(struct sim *sim, unsigned number, const struct relay *taken)
{
    unsigned other =
        (number + 1 + (unsigned)sim_below(sim, sim->relay_count - 1)) % sim->relay_count;
    const struct relay *relay = &sim->relays[other].relay;
    return relay != taken ? relay : NULL;
}

void upstreams_build(struct sim *sim)
{
    for (unsigned i = 0; i < sim->relay_count; i++) {
        build_relay(sim, i);
    }
    for (unsigned i = 0; i < sim->relay_count; i++) {
        struct relay *relay = &sim->relays[i].relay;
        relay->fallback = sim_chance(sim, 40) ? other_relay(sim, i, NULL) : NULL;
        relay->unknown_recipient =
            sim_chance(sim, 40) ? other_relay(sim, i, relay->fallback) : NULL;
    }
}
