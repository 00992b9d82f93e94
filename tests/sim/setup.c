/* What a world is made of: configuration and policy. */
#include <stdio.h>
#include <stdlib.h>

#include "tests/sim/handshake.h"
#include "tests/sim/message.h"

static void decide(const struct policy *policy, struct span path, struct address *address,
                   struct decision *decision);

/* ---- the policy ---- */

struct sim_policy {
    struct policy policy; /* first */
    struct sim *sim;
    struct tls_contexts *contexts;
};

static void policy_free(struct policy *policy)
{
    struct sim_policy *own = (struct sim_policy *)(void *)policy;
    own->sim->policies--;
    handshake_contexts_free(own->contexts);
    free(own);
}

struct policy *sim_policy_new(struct sim *sim)
{
    struct sim_policy *own = sim_alloc(1, sizeof *own);
    own->sim = sim;
    own->policy.config = sim->settings;
    own->contexts = handshake_contexts_new(sim);
    own->policy.tls = own->contexts;
    own->policy.own = &sim->own;
    own->policy.own_count = 1;
    own->policy.decide = decide;
    own->policy.free = policy_free;
    policy_init(&own->policy);
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
        decision->fallback = decision->relay->fallback;
        decision->unknown_recipient = decision->relay->unknown_recipient;
    }
}

static void build_settings(struct sim *sim)
{
    struct config *config = config_defaults(SIM_HOST);
    if (config == NULL) {
        abort();
    }
    config->log_level = sim_chance(sim, 25) || sim->config.trace ? LOG_INFO : LOG_ERROR;
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
    if (sim_chance(sim, 20)) {
        config->limits.received_hops = 2;
    }
    sim->settings = config;
}

void sim_build(struct sim *sim)
{
    sim->nowhere = sim_address("192.0.2.99", 25);
    sim->own = sim_address("192.0.2.25", 25);
    sim->crowded = sim_chance(sim, 10);
    sim->ptr_slow = sim_chance(sim, 10);
    sim->delay = (unsigned)(sim_chance(sim, 20) ? 200 : sim_below(sim, 20));
    sim->span = 1 + sim_below(sim, sim_chance(sim, 5) ? 1500000 : 60000);
    sim->relay_count = sim_chance(sim, 15) ? 2 : 3 + (unsigned)sim_below(sim, SIM_RELAYS - 2);
    build_settings(sim);
    upstreams_build(sim);
}
