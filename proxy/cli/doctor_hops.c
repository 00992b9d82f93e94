#include "proxy/cli/doctor_hops.h"

#include <stdlib.h>

#include "proxy/cli/doctor_state.h"

static void on_resolved(void *context, const struct resolver_answer *answer)
{
    struct hop *hop = context;
    struct text why = TEXT(hop->why);
    hop->resolution = NULL;
    hop->status = answer->status;
    if (answer->status != RESOLVER_OK) {
        text_puts(&why, answer->why);
    } else {
        hop->addresses = calloc(answer->count, sizeof *hop->addresses);
        if (hop->addresses == NULL) {
            check_fail(hop->check);
        } else {
            hop->count = answer->count;
            memcpy(hop->addresses, answer->addresses, answer->count * sizeof *hop->addresses);
        }
    }
    check_release(hop->check);
}

void hops_begin(struct hops *hops, struct check *check, const struct relay *relay,
                struct span domain)
{
    struct world *world = &check->doctor->net.world;
    for (size_t i = 0; i < relay->hop_count && i < NEXTHOPS_MAX; i++) {
        struct hop *hop = &hops->items[hops->count++];
        hop->check = check;
        hop->hop = &relay->hops[i];
        if (hop->hop->kind == NEXTHOP_DOMAIN && domain.len == 0) {
            continue;
        }
        check_hold(check);
        hop->resolution = world->ops->resolve(world, hop->hop, domain, on_resolved, hop);
        if (hop->resolution == NULL) {
            check_fail(check);
            check_release(check);
        }
    }
}

void hops_cut(struct hops *hops)
{
    for (size_t i = 0; i < hops->count; i++) {
        struct hop *hop = &hops->items[i];
        struct text why = TEXT(hop->why);
        if (hop->resolution == NULL) {
            continue;
        }
        struct world *world = &hop->check->doctor->net.world;
        world->ops->resolve_cancel(world, hop->resolution);
        hop->resolution = NULL;
        hop->status = RESOLVER_FAIL;
        text_puts(&why, "the name servers have not answered in time");
        check_release(hop->check);
    }
}

void hops_release(struct hops *hops)
{
    for (size_t i = 0; i < hops->count; i++) {
        free(hops->items[i].addresses);
    }
    hops->count = 0;
}

void hop_address_put(const struct resolver_address *at, struct text *out)
{
    char address[NET_ADDRESS_TEXT], literal[NET_ADDRESS_TEXT];
    net_address_text_port(&at->address, address, sizeof address);
    net_address_text(&at->address, literal, sizeof literal);
    if (at->host[0] != '\0' && strcmp(at->host, literal) != 0) {
        text_printf(out, "%s ", at->host);
    }
    text_puts(out, address);
}
