#include "proxy/admin/metrics.h"

#include <stdlib.h>

#include "proxy/admin/exposition.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const struct labels none;

static struct labels one(const char *name, const char *value)
{
    return (struct labels){{{name, value}}};
}

static struct labels two(const char *name, const char *value, const char *other,
                         const char *other_value)
{
    return (struct labels){{{name, value}, {other, other_value}}};
}

static void put(struct exposition *out, const char *name, const char *type, const char *help,
                uint64_t value)
{
    exposition_family(out, name, type, help);
    exposition_sample(out, name, none, value);
}

static void put_process(struct exposition *out, const struct snapshot *s)
{
    exposition_family(out, "splitmx_build_info", "gauge", "1; the version is a label.");
    exposition_sample(out, "splitmx_build_info", one("version", s->version), 1);
    put(out, "splitmx_start_time_seconds", "gauge", "When the process started, in Unix time.",
        (uint64_t)s->started);
    put(out, "splitmx_workers", "gauge", "Event loops, each in a thread of its own.", s->workers);
    put(out, "splitmx_serving", "gauge", "1 while `splitmx healthcheck` says that it serves.",
        s->is_serving);
    put(out, "splitmx_ready", "gauge",
        "1 while new sessions are taken: not before the start is "
        "over, and not while it drains.",
        s->is_ready);
}

static void put_sessions(struct exposition *out, const struct snapshot *s)
{
    static const struct {
        const char *outcome;
        enum counter counter;
    } outcomes[] = {{"accepted", STAT_TRANSACTIONS_ACCEPTED},
                    {"deferred", STAT_TRANSACTIONS_DEFERRED},
                    {"rejected", STAT_TRANSACTIONS_REJECTED},
                    {"client_gone", STAT_TRANSACTIONS_LOST}};
    put(out, "splitmx_sessions_open", "gauge", "Clients that are connected.",
        s->counters[STAT_SESSIONS_OPEN]);
    put(out, "splitmx_sessions_total", "counter", "Sessions begun.", s->counters[STAT_SESSIONS]);
    put(out, "splitmx_sessions_refused_total", "counter",
        "Clients turned away: limits, or they spoke too early.",
        s->counters[STAT_SESSIONS_REFUSED]);
    exposition_family(out, "splitmx_transactions_total", "counter",
                      "Messages by what the client was told at their end.");
    for (size_t i = 0; i < COUNT(outcomes); i++) {
        exposition_sample(out, "splitmx_transactions_total", one("outcome", outcomes[i].outcome),
                          s->counters[outcomes[i].counter]);
    }
    put(out, "splitmx_message_bytes_total", "counter", "Octets of messages, as received.",
        s->counters[STAT_BYTES]);
}

/* ---- by relay ---- */

static void put_recipients(struct exposition *out, const struct snapshot *s)
{
    static const char name[] = "splitmx_recipients_total";
    exposition_family(out, name, "counter",
                      "Answers to RCPT by relay, the fallback's being its own; without a relay: "
                      "what splitmx answered by itself.");
    for (size_t i = 0; i < s->relay_count; i++) {
        const struct snapshot_relay *r = &s->relays[i];
        const bool own = r->name[0] == '\0';
        exposition_sample(out, name,
                          two("relay", r->name, "outcome", own ? "discarded" : "accepted"),
                          r->value[RELAY_RECIPIENTS_ACCEPTED]);
        exposition_sample(out, name, two("relay", r->name, "outcome", "deferred"),
                          r->value[RELAY_RECIPIENTS_DEFERRED]);
        exposition_sample(out, name, two("relay", r->name, "outcome", "rejected"),
                          r->value[RELAY_RECIPIENTS_REJECTED]);
    }
}

/* What only a relay has: not the one without a name, and the others only once there are any. */
static bool is_relay(const struct snapshot_relay *relay)
{
    return relay->name[0] != '\0';
}

static const struct by_relay {
    const char *name, *help;
    struct {
        const char *outcome; /* NULL: no such label */
        enum relay_counter counter;
    } of[4];
    unsigned count;
} by_relay[] = {
    {"splitmx_relay_messages_total",
     "Answers of relays to whole messages; unanswered: nobody knows what became of it.",
     {{"accepted", RELAY_MESSAGES_ACCEPTED},
      {"deferred", RELAY_MESSAGES_DEFERRED},
      {"rejected", RELAY_MESSAGES_REJECTED},
      {"unanswered", RELAY_MESSAGES_UNANSWERED}},
     4},
    {"splitmx_relay_message_bytes_total",
     "Octets of messages that relays accepted, as they were sent.",
     {{NULL, RELAY_BYTES}},
     1},
    {"splitmx_relay_connections_total",
     "Connections opened to relays; ready: mail could be sent.",
     {{"ready", RELAY_CONNECTIONS_READY}, {"failed", RELAY_CONNECTIONS_FAILED}},
     2},
    {"splitmx_relay_connections_reused_total",
     "Times that a connection of the pool was taken.",
     {{NULL, RELAY_CONNECTIONS_REUSED}},
     1},
};

static void put_counters(struct exposition *out, const struct snapshot *s,
                         const struct by_relay *family)
{
    exposition_family(out, family->name, "counter", family->help);
    for (size_t i = 0; i < s->relay_count; i++) {
        const struct snapshot_relay *relay = &s->relays[i];
        for (unsigned n = 0; is_relay(relay) && n < family->count; n++) {
            const char *outcome = family->of[n].outcome;
            struct labels labels = outcome != NULL ? two("relay", relay->name, "outcome", outcome)
                                                   : one("relay", relay->name);
            exposition_sample(out, family->name, labels, relay->value[family->of[n].counter]);
        }
    }
}

static const struct {
    const char *name, *help;
} times[RELAY_TIMES] = {
    [RELAY_TIME_CONNECT] = {"splitmx_relay_connect_seconds",
                            "From opening a connection until it could be sent mail: TCP, TLS and "
                            "greeting."},
    [RELAY_TIME_RECIPIENT] = {"splitmx_relay_recipient_seconds",
                              "Time of a relay's answer to RCPT (for the first, to MAIL too)."},
    [RELAY_TIME_END_OF_DATA] = {"splitmx_relay_end_of_data_seconds",
                                "Time of a relay's answer to a message, from its end on."},
};

static void put_times(struct exposition *out, const struct snapshot *s, enum relay_time time)
{
    exposition_family(out, times[time].name, "histogram", times[time].help);
    for (size_t i = 0; i < s->relay_count; i++) {
        if (is_relay(&s->relays[i])) {
            exposition_histogram(out, times[time].name, one("relay", s->relays[i].name),
                                 &s->relays[i].time[time]);
        }
    }
}

static void put_limits(struct exposition *out, const struct snapshot *s)
{
    exposition_family(out, "splitmx_relay_connections_max", "gauge",
                      "What `max-connections` of a relay says, for each endpoint.");
    for (size_t i = 0; i < s->limit_count; i++) {
        exposition_sample(out, "splitmx_relay_connections_max", one("relay", s->limits[i].name),
                          s->limits[i].connections_max);
    }
    exposition_family(out, "splitmx_relay_slowed", "gauge",
                      "1 while a relay is sent less, because it has asked for that.");
    for (size_t i = 0; i < s->limit_count; i++) {
        if (s->limits[i].paced) {
            exposition_sample(out, "splitmx_relay_slowed", one("relay", s->limits[i].name),
                              s->limits[i].slowed);
        }
    }
}

/* ---- connections to relays ---- */

/* A series for each state, one of which is 1. */
static void put_states(struct exposition *out, const char *name, const struct snapshot *s,
                       enum health_state state)
{
    for (size_t i = 0; i < s->endpoint_count; i++) {
        const struct snapshot_endpoint *e = &s->endpoints[i];
        exposition_sample(out, name, two("endpoint", e->address, "proxy", e->proxy ? "yes" : "no"),
                          e->state == state);
    }
}

static void put_endpoints(struct exposition *out, const struct snapshot *s)
{
    exposition_family(out, "splitmx_endpoint_down", "gauge",
                      "1 while an address of a relay is taken for dead, and probed.");
    put_states(out, "splitmx_endpoint_down", s, HEALTH_OPEN);
    exposition_family(out, "splitmx_endpoint_suspect", "gauge",
                      "1 while an address of a relay has failed, and is tried still.");
    put_states(out, "splitmx_endpoint_suspect", s, HEALTH_SUSPECT);
    exposition_family(out, "splitmx_endpoint_failures", "gauge", "Failures in a row.");
    for (size_t i = 0; i < s->endpoint_count; i++) {
        const struct snapshot_endpoint *e = &s->endpoints[i];
        exposition_sample(out, "splitmx_endpoint_failures",
                          two("endpoint", e->address, "proxy", e->proxy ? "yes" : "no"),
                          e->failures);
    }
}

static void put_upstreams(struct exposition *out, const struct snapshot *s)
{
    put(out, "splitmx_upstreams_open", "gauge", "Connections to relays, those of the pool too.",
        s->counters[STAT_UPSTREAMS_OPEN]);
    put(out, "splitmx_upstreams_opened_total", "counter",
        "Connections to relays that were begun, those of probes too.",
        s->counters[STAT_UPSTREAMS_OPENED]);
    put(out, "splitmx_upstreams_reused_total", "counter",
        "Times that a connection of the pool was taken.", s->counters[STAT_UPSTREAMS_REUSED]);
    put(out, "splitmx_pool_idle", "gauge", "Connections that wait in the pool.", s->pool_idle);
    put(out, "splitmx_pool_waiting", "gauge", "Recipients that wait for one of `max-connections`.",
        s->pool_waiting);
}

static void put_tls(struct exposition *out, const struct snapshot *s)
{
    static const char name[] = "splitmx_tls_handshakes_total";
    static const char failed[] = "splitmx_tls_handshakes_failed_total";
    exposition_family(out, name, "counter", "TLS connections by version and by who is there.");
    exposition_sample(out, name, two("peer", "client", "version", "1.2"),
                      s->counters[STAT_TLS_CLIENTS_1_2]);
    exposition_sample(out, name, two("peer", "client", "version", "1.3"),
                      s->counters[STAT_TLS_CLIENTS_1_3]);
    exposition_sample(out, name, two("peer", "relay", "version", "1.2"),
                      s->counters[STAT_TLS_UPSTREAMS_1_2]);
    exposition_sample(out, name, two("peer", "relay", "version", "1.3"),
                      s->counters[STAT_TLS_UPSTREAMS_1_3]);
    exposition_family(out, failed, "counter", "TLS handshakes that failed.");
    exposition_sample(out, failed, one("peer", "client"), s->counters[STAT_TLS_CLIENTS_FAILED]);
    exposition_sample(out, failed, one("peer", "relay"), s->counters[STAT_TLS_UPSTREAMS_FAILED]);
}

/* ---- what is in force ---- */

static void put_routes(struct exposition *out, const struct snapshot *s)
{
    put(out, "splitmx_routes", "gauge", "Patterns of the routing table.", s->routes);
    put(out, "splitmx_routes_generation", "gauge", "Number of the routing table in force.",
        s->generation);
    put(out, "splitmx_routes_damaged", "gauge",
        "1 while the routing table is damaged, and recipients get 451.", s->is_damaged);
}

static void put_reloads(struct exposition *out, const struct snapshot *s)
{
    exposition_family(out, "splitmx_reloads_total", "counter", "Reloads since the start.");
    exposition_sample(out, "splitmx_reloads_total", one("outcome", "good"), s->reload.good);
    exposition_sample(out, "splitmx_reloads_total", one("outcome", "failed"), s->reload.failed);
    put(out, "splitmx_reload_last_good", "gauge",
        "1 where the last reload (or the start) was good.", s->reload.last_is_good);
    put(out, "splitmx_reload_last_timestamp_seconds", "gauge",
        "When the last reload (or the start) was over, in Unix time.", (uint64_t)s->reload.last);
    put(out, "splitmx_reload_last_good_timestamp_seconds", "gauge",
        "When the last good reload (or the start) was over, in Unix time.",
        (uint64_t)s->reload.last_good);
}

static void put_ledger(struct exposition *out, const struct snapshot *s)
{
    put(out, "splitmx_ledger_usable", "gauge",
        "1 while the ledger can be used; else no transaction has several servers.",
        s->ledger.usable);
    put(out, "splitmx_ledger_sets", "gauge", "Splits that have not settled.", s->ledger.sets);
    put(out, "splitmx_ledger_recipients", "gauge", "Recipients of those.", s->ledger.recipients);
    put(out, "splitmx_ledger_records", "gauge", "Acceptances on record.", s->ledger.records);
    put(out, "splitmx_ledger_size_bytes", "gauge", "Memory that the ledger has.", s->ledger.size);
    put(out, "splitmx_ledger_size_max_bytes", "gauge", "Memory that it may have.",
        s->ledger_max_size);
}

char *metrics_text(const struct snapshot *snapshot, size_t *size)
{
    struct exposition text = {0};
    struct exposition *out = &text;
    put_process(out, snapshot);
    put_sessions(out, snapshot);
    put_recipients(out, snapshot);
    for (size_t i = 0; i < COUNT(by_relay); i++) {
        put_counters(out, snapshot, &by_relay[i]);
    }
    for (unsigned time = 0; time < RELAY_TIMES; time++) {
        put_times(out, snapshot, (enum relay_time)time);
    }
    put_limits(out, snapshot);
    put_endpoints(out, snapshot);
    put_upstreams(out, snapshot);
    put_tls(out, snapshot);
    put_routes(out, snapshot);
    put_reloads(out, snapshot);
    put_ledger(out, snapshot);
    if (text.failed) {
        free(text.text);
        return NULL;
    }
    *size = text.size;
    return text.text;
}
