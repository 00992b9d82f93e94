#include "proxy/admin/snapshot.h"

#include <stdlib.h>

#include "proxy/admin/history.h"

struct snapshot *snapshot_new(void)
{
    return calloc(1, sizeof(struct snapshot));
}

void snapshot_free(struct snapshot *snapshot)
{
    if (snapshot == NULL) {
        return;
    }
    for (size_t i = 0; i < snapshot->limit_count; i++) {
        free(snapshot->limits[i].hops);
    }
    free(snapshot->relays);
    free(snapshot->limits);
    free(snapshot->endpoints);
    free(snapshot->status);
    free(snapshot->hostname);
    free(snapshot->reload_errors);
    history_free(snapshot->history);
    free(snapshot->transactions);
    free(snapshot->refusals);
    free(snapshot->route);
    free(snapshot);
}

/* Workers have met the relays in different orders. */
static struct snapshot_relay *relay_of(struct snapshot *snapshot, const char *name)
{
    for (size_t i = 0; i < snapshot->relay_count; i++) {
        if (strcmp(snapshot->relays[i].name, name) == 0) {
            return &snapshot->relays[i];
        }
    }
    if (snapshot->relay_count == snapshot->relay_room) {
        size_t room = snapshot->relay_room == 0 ? 16 : 2 * snapshot->relay_room;
        struct snapshot_relay *more = realloc(snapshot->relays, room * sizeof *more);
        if (more == NULL) {
            return NULL;
        }
        snapshot->relays = more;
        snapshot->relay_room = room;
    }
    struct snapshot_relay *relay = &snapshot->relays[snapshot->relay_count++];
    *relay = (struct snapshot_relay){0};
    memcpy(relay->name, name, strlen(name));
    return relay;
}

/* No relay of the configuration, and no direct transport, has such a name. */
#define OTHERS "(others)"

static const char *name_of(const struct relay_table *table, unsigned index)
{
    return index == RELAY_STATS_OTHERS ? OTHERS : table->entry[index].name;
}

bool snapshot_name(struct snapshot *snapshot, const char *relay)
{
    return relay_of(snapshot, relay) != NULL;
}

static bool has_counted(const struct relay_stats *stats)
{
    uint64_t sum = 0;
    for (unsigned c = 0; c < RELAY_COUNTERS; c++) {
        sum += relay_stats_get(stats, (enum relay_counter)c);
    }
    return sum != 0;
}

bool snapshot_add(struct snapshot *snapshot, const struct stats *stats)
{
    for (unsigned i = 0; i < STAT_COUNT; i++) {
        snapshot->counters[i] += stats_get(stats, (enum counter)i);
    }
    const unsigned count = relay_stats_count(&stats->relays);
    const struct relay_stats *others = &stats->relays.entry[RELAY_STATS_OTHERS];
    for (unsigned i = 0; i < count; i++) {
        const struct relay_stats *from = &stats->relays.entry[i];
        if (from == others && !has_counted(from)) {
            continue; /* all have found room */
        }
        struct snapshot_relay *to = relay_of(snapshot, name_of(&stats->relays, i));
        if (to == NULL) {
            return false;
        }
        for (unsigned c = 0; c < RELAY_COUNTERS; c++) {
            to->value[c] += relay_stats_get(from, (enum relay_counter)c);
        }
        for (unsigned t = 0; t < RELAY_TIMES; t++) {
            latency_add_up(&from->time[t], &to->time[t]);
        }
    }
    return true;
}

bool snapshot_add_endpoint(struct snapshot *snapshot, const struct snapshot_endpoint *endpoint)
{
    const size_t count = snapshot->endpoint_count;
    if ((count & (count - 1)) == 0) { /* a power of two: full */
        struct snapshot_endpoint *more =
            realloc(snapshot->endpoints, (count == 0 ? 1 : 2 * count) * sizeof *more);
        if (more == NULL) {
            return false;
        }
        snapshot->endpoints = more;
    }
    snapshot->endpoints[snapshot->endpoint_count++] = *endpoint;
    return true;
}
