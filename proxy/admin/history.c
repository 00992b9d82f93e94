#include "proxy/admin/history.h"

#include <stdlib.h>

struct relay_history {
    char name[RELAY_STATS_NAME];
    uint64_t accepted, failed; /* in all, at the end of the last step */
    struct latency_sum time;
    uint32_t step[HISTORY_SERIES][HISTORY_STEPS];
};

struct history {
    bool begun;
    unsigned count, next; /* steps that are there, and the place of the one to come */
    time_t end;
    uint64_t sessions; /* in all, at the end of the last step */
    uint32_t opened[HISTORY_STEPS];
    unsigned relay_count;
    struct relay_history *relays[HISTORY_RELAYS];
};

struct history *history_new(void)
{
    return calloc(1, sizeof(struct history));
}

void history_free(struct history *history)
{
    if (history != NULL) {
        for (unsigned i = 0; i < history->relay_count; i++) {
            free(history->relays[i]);
        }
        free(history);
    }
}

struct history *history_copy(const struct history *history)
{
    struct history *copy = malloc(sizeof *copy);
    if (copy == NULL) {
        return NULL;
    }
    *copy = *history;
    for (copy->relay_count = 0; copy->relay_count < history->relay_count; copy->relay_count++) {
        struct relay_history *relay = malloc(sizeof *relay);
        if (relay == NULL) {
            history_free(copy);
            return NULL;
        }
        *relay = *history->relays[copy->relay_count];
        copy->relays[copy->relay_count] = relay;
    }
    return copy;
}

/* ---- a step ---- */

/* Of the steps before nothing is known of its times, and there was no mail. NULL: no room. */
static struct relay_history *relay_of(struct history *history, const char *name)
{
    for (unsigned i = 0; i < history->relay_count; i++) {
        if (strcmp(history->relays[i]->name, name) == 0) {
            return history->relays[i];
        }
    }
    if (history->relay_count == HISTORY_RELAYS) {
        return NULL;
    }
    struct relay_history *relay = calloc(1, sizeof *relay);
    if (relay != NULL) {
        memcpy(relay->name, name, strlen(name));
        for (unsigned i = 0; i < HISTORY_STEPS; i++) {
            relay->step[HISTORY_P50][i] = relay->step[HISTORY_P99][i] = HISTORY_NOTHING;
        }
        history->relays[history->relay_count++] = relay;
    }
    return relay;
}

static uint32_t difference(uint64_t now, uint64_t before)
{
    const uint64_t n = now - before;
    return n < HISTORY_NOTHING ? (uint32_t)n : HISTORY_NOTHING - 1;
}

/* As if the times within a bucket were spread evenly; of the last, which has no end, its beginning.
 */
static uint32_t quantile(const struct latency_sum *times, unsigned percent)
{
    uint64_t count = 0, below = 0;
    for (unsigned i = 0; i <= LATENCY_BOUNDS; i++) {
        count += times->bucket[i];
    }
    if (count == 0) {
        return HISTORY_NOTHING;
    }
    const uint64_t rank = (count * percent + 99) / 100; /* the first is 1 */
    unsigned at = 0;
    while (below + times->bucket[at] < rank) {
        below += times->bucket[at++];
    }
    const uint32_t from = at == 0 ? 0 : latency_bounds[at - 1];
    if (at == LATENCY_BOUNDS) {
        return from;
    }
    const uint64_t width = latency_bounds[at] - from;
    return from + (uint32_t)(width * (rank - below) / times->bucket[at]);
}

static uint64_t failures(const struct snapshot_relay *relay)
{
    return relay->value[RELAY_RECIPIENTS_DEFERRED] + relay->value[RELAY_RECIPIENTS_REJECTED] +
           relay->value[RELAY_MESSAGES_DEFERRED] + relay->value[RELAY_MESSAGES_REJECTED] +
           relay->value[RELAY_MESSAGES_UNANSWERED];
}

static void sample_relay(struct relay_history *relay, const struct snapshot_relay *now,
                         unsigned place)
{
    const struct latency_sum *time = &now->time[RELAY_TIME_END_OF_DATA];
    struct latency_sum step;
    for (unsigned i = 0; i <= LATENCY_BOUNDS; i++) {
        step.bucket[i] = time->bucket[i] - relay->time.bucket[i];
    }
    relay->step[HISTORY_ACCEPTED][place] =
        difference(now->value[RELAY_MESSAGES_ACCEPTED], relay->accepted);
    relay->step[HISTORY_FAILED][place] = difference(failures(now), relay->failed);
    relay->step[HISTORY_P50][place] = quantile(&step, 50);
    relay->step[HISTORY_P99][place] = quantile(&step, 99);
}

void history_sample(struct history *history, const struct snapshot *counts, time_t now)
{
    const unsigned place = history->next;
    for (size_t i = 0; i < counts->relay_count; i++) {
        const struct snapshot_relay *from = &counts->relays[i];
        /* Without a name: what splitmx answered by itself. */
        struct relay_history *relay = from->name[0] != '\0' ? relay_of(history, from->name) : NULL;
        if (relay == NULL) {
            continue;
        }
        if (history->begun) {
            sample_relay(relay, from, place);
        }
        relay->accepted = from->value[RELAY_MESSAGES_ACCEPTED];
        relay->failed = failures(from);
        relay->time = from->time[RELAY_TIME_END_OF_DATA];
    }
    if (history->begun) {
        history->opened[place] = difference(counts->counters[STAT_SESSIONS], history->sessions);
        history->next = (place + 1) % HISTORY_STEPS;
        history->count += history->count < HISTORY_STEPS;
        history->end = now;
    }
    history->sessions = counts->counters[STAT_SESSIONS];
    history->begun = true;
}

/* ---- reading ---- */

static unsigned place_of(const struct history *history, unsigned step)
{
    return (history->next + HISTORY_STEPS - history->count + step) % HISTORY_STEPS;
}

unsigned history_steps(const struct history *history)
{
    return history->count;
}

time_t history_end(const struct history *history)
{
    return history->end;
}

uint32_t history_sessions(const struct history *history, unsigned step)
{
    return history->opened[place_of(history, step)];
}

unsigned history_relays(const struct history *history)
{
    return history->relay_count;
}

const char *history_name(const struct history *history, unsigned relay)
{
    return history->relays[relay]->name;
}

uint32_t history_value(const struct history *history, unsigned relay, enum history_series series,
                       unsigned step)
{
    return history->relays[relay]->step[series][place_of(history, step)];
}
