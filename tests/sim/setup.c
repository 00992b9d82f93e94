/* What a world is made of: configuration, relays and their servers, the policy. */
#include <stdio.h>
#include <stdlib.h>

#include "tests/sim/message.h"

static struct net_address address_of(const char *text, uint16_t port)
{
    struct net_address address;
    if (!net_address_parse(span_of(text), port, &address)) {
        abort();
    }
    return address;
}

static void decide(const struct policy *policy, struct span path, struct address *address,
                   struct decision *decision);

/* ---- the policy ---- */

struct sim_policy {
    struct policy policy; /* first */
    struct sim *sim;
};

static void policy_free(struct policy *policy)
{
    struct sim_policy *own = (struct sim_policy *)(void *)policy;
    own->sim->policies--;
    free(own);
}

struct policy *sim_policy_new(struct sim *sim)
{
    struct sim_policy *own = sim_alloc(1, sizeof *own);
    own->sim = sim;
    own->policy.config = sim->settings;
    own->policy.decide = decide;
    own->policy.free = policy_free;
    atomic_init(&own->policy.references, 1);
    sim->policies++;
    return &own->policy;
}

/* "…@D0.r1.example" goes to relay 1; error, retry and discard are what they say. */
static void decide(const struct policy *policy, struct span path, struct address *address,
                   struct decision *decision)
{
    const struct sim *sim = ((const struct sim_policy *)(const void *)policy)->sim;
    unsigned long long relay = 0;
    *decision = (struct decision){.kind = DECISION_REPLY, .code = 501, .enhanced = "5.1.3"};
    decision->text = "bad address";
    if (address_parse(path, false, false, address) != ADDRESS_OK) {
        return;
    }
    struct span domain = address->domain;
    if (span_equal_fold(domain, SPAN("error.example"))) {
        decision->code = 550;
        decision->enhanced = "5.1.1";
        decision->text = "no such user";
    } else if (span_equal_fold(domain, SPAN("retry.example"))) {
        decision->code = 450;
        decision->enhanced = "4.0.0";
        decision->text = "not now";
    } else if (span_equal_fold(domain, SPAN("discard.example"))) {
        decision->kind = DECISION_DISCARD;
    } else if (domain.len > 4 &&
               span_number(span_first(span_skip(domain, 4), 1), sim->relay_count - 1, &relay)) {
        decision->kind = DECISION_RELAY;
        decision->relay = &sim->relays[relay].relay;
    }
}

/* ---- servers and relays ---- */

static void build_server(struct sim *sim, unsigned number)
{
    static const char *const addresses[] = {"198.51.100.%u", "127.0.0.%u", "2001:db8::%u",
                                            "10.0.0.%u"};
    char text[32];
    struct server *server = &sim->servers[number];
    snprintf(text, sizeof text, "%s", addresses[sim_below(sim, 4)]);
    text[strlen(text) - 2] = (char)('1' + number);
    text[strlen(text) - 1] = '\0';
    *server = (struct server){.sim = sim, .relay = number, .address = address_of(text, 25)};
    server->helo_only = sim_chance(sim, 5);
    server->pipelining = !server->helo_only && sim_chance(sim, 60);
    server->size = !server->helo_only && sim_chance(sim, 60);
    server->eight_bit = !server->helo_only && sim_chance(sim, 60);
    server->slow = (unsigned)(sim_chance(sim, 15) ? 3000 : 1 + sim_below(sim, 60));
    server->idle_timeout = sim_chance(sim, 50) ? 1 + sim_below(sim, 20000) : 0;
}

static void build_relay(struct sim *sim, unsigned number)
{
    struct sim_relay *own = &sim->relays[number];
    struct relay *relay = &own->relay;
    bool detour = sim_chance(sim, 15);
    struct nexthop *hop = &own->hops[detour];
    *own = (struct sim_relay){.down = sim_chance(sim, 4), .no_names = false};
    snprintf(own->name, sizeof own->name, "r%u", number);
    *hop = (struct nexthop){.kind = NEXTHOP_ADDRESS, .port = 25, .priority = detour};
    hop->address = own->down ? sim->nowhere : sim->servers[number].address;
    if (sim_chance(sim, 30)) {
        hop->kind = NEXTHOP_HOST;
        snprintf(hop->host, sizeof hop->host, "r%u.example", number);
        own->no_names = !own->down && sim_chance(sim, 8);
    }
    if (detour) {
        own->hops[0] = (struct nexthop){.kind = NEXTHOP_ADDRESS, .port = 25};
        own->hops[0].address = sim->nowhere;
    }
    relay->name = own->name;
    relay->hops = own->hops;
    relay->hop_count = 1 + detour;
    relay->max_connections = sim->crowded ? 1 + (unsigned)sim_below(sim, 3) : RELAY_MAX_CONNECTIONS;
    relay->recipients_max = sim_chance(sim, 10) ? 1 + (unsigned)sim_below(sim, 3) : 0;
    relay->one_domain = sim_chance(sim, 15);
}

static void build_settings(struct sim *sim)
{
    struct config *config = config_defaults(SIM_HOST);
    if (config == NULL) {
        abort();
    }
    config->log_level = sim_chance(sim, 50) || sim->config.trace ? LOG_INFO : LOG_ERROR;
    config->log_format = sim_chance(sim, 50) ? LOG_TEXT : LOG_JSON;
    config->split = sim_chance(sim, 5) ? SPLIT_DEFER : SPLIT_TOGETHER;
    if (sim_chance(sim, 20)) {
        config->limits.recipients = 4;
    }
    if (sim_chance(sim, 20)) {
        config->limits.message_size = 20000;
    }
    if (sim_chance(sim, 20)) {
        config->limits.errors = 3;
    }
    sim->settings = config;
}

void sim_build(struct sim *sim)
{
    sim->nowhere = address_of("192.0.2.99", 25);
    sim->crowded = sim_chance(sim, 10);
    sim->ptr_slow = sim_chance(sim, 10);
    sim->delay = (unsigned)(sim_chance(sim, 20) ? 200 : sim_below(sim, 20));
    sim->relay_count = 2 + (unsigned)sim_below(sim, SIM_RELAYS - 1);
    build_settings(sim);
    for (unsigned i = 0; i < sim->relay_count; i++) {
        build_server(sim, i);
        build_relay(sim, i);
    }
}
