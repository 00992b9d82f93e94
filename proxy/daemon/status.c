#include "proxy/daemon/status.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <uv.h>

#include "proxy/daemon/version.h"

static uint64_t total(const struct status *status, enum counter counter)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < status->worker_count; i++) {
        sum += stats_get(worker_stats(status->workers[i]), counter);
    }
    return sum;
}

void status_hop_text(const struct nexthop *hop, char *out, size_t cap)
{
    if (hop->kind == NEXTHOP_DOMAIN) {
        snprintf(out, cap, "MX of the recipient's domain");
    } else {
        nexthop_text(hop, out, cap);
    }
}

/* Connections to a relay's literal addresses; for names they are not known by relay. */
static unsigned connections_of(const struct status *status, const struct relay *relay)
{
    unsigned sum = 0;
    for (size_t i = 0; i < relay->hop_count; i++) {
        const struct nexthop *hop = &relay->hops[i];
        if (hop->kind == NEXTHOP_ADDRESS) {
            sum += quota_count(status->shared->endpoints, &hop->address,
                               (size_t)net_address_length(&hop->address));
        }
    }
    return sum;
}

void status_reload_next(struct status_reload *reload, bool ok, char *text)
{
    free(reload->errors);
    reload->at = time(NULL);
    reload->ok = ok;
    reload->count++;
    reload->failed += ok ? 0 : 1;
    reload->good_at = ok ? reload->at : reload->good_at;
    reload->errors = ok ? NULL : text;
}

/* Mail moves without a ledger, too. */
bool status_health(const struct status *status, char line[STATUS_HEALTH])
{
    struct ledger_store_state ledger;
    ledger_store_tell(status->ledger, &ledger);
    if (!status->is_serving) {
        snprintf(line, STATUS_HEALTH, "not serving\n");
    } else if (status->is_broken) {
        snprintf(line, STATUS_HEALTH, "the routing table is damaged: recipients get 451\n");
    } else if (!ledger.ledger.usable) {
        snprintf(line, STATUS_HEALTH, "serving; warning: the ledger cannot be used: %s\n",
                 ledger.why);
    } else {
        snprintf(line, STATUS_HEALTH, "serving\n");
    }
    return status->is_serving && !status->is_broken;
}

/* ---- endpoints that were found wanting ---- */

struct endpoint {
    char address[NET_ADDRESS_TEXT];
    const char *state;
    unsigned failures;
    uint64_t seconds; /* in this state */
    bool proxy;       /* spoken to with a PROXY header; without one it is another */
};

/* The next that is known; false at the end. `cursor` begins as 0. */
static bool next_endpoint(const struct status *status, size_t *cursor, struct endpoint *out)
{
    struct health_status found;
    if (!health_next(status->shared->health, cursor, &found)) {
        return false;
    }
    uint64_t now = uv_hrtime() / 1000000; /* the loops' clock */
    net_address_text_port(&found.endpoint.address, out->address, sizeof out->address);
    out->state = health_state_text(found.state);
    out->failures = found.failures;
    out->proxy = found.endpoint.proxy;
    out->seconds = now > found.since ? (now - found.since) / 1000 : 0;
    return true;
}

/* ---- JSON ---- */

static json_t *endpoints_json(const struct status *status)
{
    json_t *list = json_array();
    struct endpoint endpoint;
    for (size_t cursor = 0; next_endpoint(status, &cursor, &endpoint);) {
        json_array_append_new(list,
                              json_pack("{s:s, s:b, s:s, s:I, s:I}", "address", endpoint.address,
                                        "proxy", (int)endpoint.proxy, "state", endpoint.state,
                                        "failures", (json_int_t)endpoint.failures, "seconds",
                                        (json_int_t)endpoint.seconds));
    }
    return list;
}

static json_t *number(uint64_t n)
{
    return json_integer((json_int_t)n);
}

unsigned status_paced_to(const struct status *status, const struct relay *relay)
{
    if (!relay->paced) {
        return PACE_NO_LIMIT;
    }
    return pace_allowed(pacing_of(status->shared->pacing, span_of(relay->name)),
                        relay->max_connections, uv_hrtime() / 1000000);
}

static json_t *relay_json(const struct status *status, const struct relay *relay)
{
    unsigned paced = status_paced_to(status, relay);
    json_t *hops = json_array();
    for (size_t i = 0; i < relay->hop_count; i++) {
        char text[300];
        status_hop_text(&relay->hops[i], text, sizeof text);
        json_array_append_new(hops, json_string(text));
    }
    return json_pack("{s:s, s:o, s:I, s:I, s:o}", "name", relay->name, "next_hops", hops,
                     "connections", (json_int_t)connections_of(status, relay), "max_connections",
                     (json_int_t)relay->max_connections, "slowed_to",
                     paced == PACE_NO_LIMIT ? json_null() : number(paced));
}

static json_t *counters_json(const struct status *status)
{
    static const struct {
        const char *group, *name;
        enum counter counter;
    } fields[] = {
        {"sessions", "open", STAT_SESSIONS_OPEN},
        {"sessions", "total", STAT_SESSIONS},
        {"sessions", "refused", STAT_SESSIONS_REFUSED},
        {"transactions", "accepted", STAT_TRANSACTIONS_ACCEPTED},
        {"transactions", "deferred", STAT_TRANSACTIONS_DEFERRED},
        {"transactions", "rejected", STAT_TRANSACTIONS_REJECTED},
        {"transactions", "client_gone", STAT_TRANSACTIONS_LOST},
        {"recipients", "accepted", STAT_RECIPIENTS_ACCEPTED},
        {"recipients", "deferred", STAT_RECIPIENTS_DEFERRED},
        {"recipients", "rejected", STAT_RECIPIENTS_REJECTED},
        {"recipients", "discarded", STAT_RECIPIENTS_DISCARDED},
        {"upstreams", "open", STAT_UPSTREAMS_OPEN},
        {"upstreams", "opened", STAT_UPSTREAMS_OPENED},
        {"upstreams", "reused", STAT_UPSTREAMS_REUSED},
    };
    json_t *all = json_object();
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        json_t *group = json_object_get(all, fields[i].group);
        if (group == NULL) {
            group = json_object();
            json_object_set_new(all, fields[i].group, group);
        }
        json_object_set_new(group, fields[i].name, number(total(status, fields[i].counter)));
    }
    json_object_set_new(all, "bytes", number(total(status, STAT_BYTES)));
    return all;
}

static json_t *ledger_json(const struct status *status)
{
    struct ledger_store_state state;
    ledger_store_tell(status->ledger, &state);
    return json_pack("{s:b, s:s?, s:o, s:o, s:o, s:o, s:o}", "usable", state.ledger.usable, "why",
                     state.ledger.usable ? NULL : state.why, "sets", number(state.ledger.sets),
                     "recipients", number(state.ledger.recipients), "records",
                     number(state.ledger.records), "size", number(state.ledger.size), "max_size",
                     number(state.max_size));
}

static json_t *confinement_json(const struct confinement *confinement)
{
    return json_pack("{s:I, s:b, s:b, s:b, s:i, s:b, s:s?}", "uid", (json_int_t)confinement->user,
                     "binds_low_ports", confinement->binds_low_ports, "no_new_privileges",
                     confinement->no_new_privileges, "system_calls", confinement->syscalls,
                     "landlock", confinement->landlock, "no_core_dumps", confinement->no_core,
                     "missing", confinement->missing[0] != '\0' ? confinement->missing : NULL);
}

static json_t *reload_json(const struct status_reload *reload)
{
    return json_pack("{s:I, s:b, s:I, s:s?}", "at", (json_int_t)reload->at, "ok", reload->ok,
                     "count", (json_int_t)reload->count, "errors", reload->errors);
}

char *status_json(const struct status *status)
{
    const struct prepared *prepared = status->prepared;
    json_t *root = counters_json(status);
    json_t *relays = json_array();
    for (size_t i = 0; i < relay_count(prepared->relays); i++) {
        json_array_append_new(relays, relay_json(status, relay_at(prepared->relays, i)));
    }
    json_object_set_new(root, "version", json_string(SPLITMX_VERSION));
    json_object_set_new(root, "pid", number((uint64_t)getpid()));
    json_object_set_new(root, "hostname", json_string(prepared->config->hostname.text));
    json_object_set_new(root, "configuration", json_string(status->path));
    json_object_set_new(root, "workers", number(status->worker_count));
    json_object_set_new(root, "uptime_seconds", number((uint64_t)(time(NULL) - status->started)));
    json_object_set_new(root, "relays", relays);
    json_object_set_new(root, "endpoints", endpoints_json(status));
    json_object_set_new(root, "routes",
                        json_pack("{s:I, s:I, s:b}", "count",
                                  (json_int_t)table_routes(prepared->table), "generation",
                                  (json_int_t)table_generation(prepared->table), "damaged",
                                  status->is_broken));
    json_object_set_new(root, "ledger", ledger_json(status));
    json_object_set_new(root, "confinement", confinement_json(status->confinement));
    json_object_set_new(root, "reload", reload_json(status->reload));
    char *text = json_dumps(root, JSON_COMPACT | JSON_PRESERVE_ORDER);
    json_decref(root);
    return text;
}

/* ---- text ---- */

static void put_counters(FILE *out, const struct status *status)
{
    fprintf(out,
            "sessions      %llu open, %llu since the start, %llu refused\n"
            "transactions  %llu accepted, %llu deferred, %llu rejected, %llu left by the client\n"
            "recipients    %llu accepted, %llu deferred, %llu rejected, %llu discarded\n"
            "upstreams     %llu open, %llu opened, %llu times reused\n",
            (unsigned long long)total(status, STAT_SESSIONS_OPEN),
            (unsigned long long)total(status, STAT_SESSIONS),
            (unsigned long long)total(status, STAT_SESSIONS_REFUSED),
            (unsigned long long)total(status, STAT_TRANSACTIONS_ACCEPTED),
            (unsigned long long)total(status, STAT_TRANSACTIONS_DEFERRED),
            (unsigned long long)total(status, STAT_TRANSACTIONS_REJECTED),
            (unsigned long long)total(status, STAT_TRANSACTIONS_LOST),
            (unsigned long long)total(status, STAT_RECIPIENTS_ACCEPTED),
            (unsigned long long)total(status, STAT_RECIPIENTS_DEFERRED),
            (unsigned long long)total(status, STAT_RECIPIENTS_REJECTED),
            (unsigned long long)total(status, STAT_RECIPIENTS_DISCARDED),
            (unsigned long long)total(status, STAT_UPSTREAMS_OPEN),
            (unsigned long long)total(status, STAT_UPSTREAMS_OPENED),
            (unsigned long long)total(status, STAT_UPSTREAMS_REUSED));
}

static void put_relays(FILE *out, const struct status *status)
{
    const struct relay_set *relays = status->prepared->relays;
    for (size_t i = 0; i < relay_count(relays); i++) {
        const struct relay *relay = relay_at(relays, i);
        fprintf(out, "relay         %s:", relay->name);
        for (size_t h = 0; h < relay->hop_count; h++) {
            char text[300];
            status_hop_text(&relay->hops[h], text, sizeof text);
            fprintf(out, "%s %s", h == 0 ? "" : ",", text);
        }
        fprintf(out, ", %u of %u connections", connections_of(status, relay),
                relay->max_connections);
        unsigned paced = status_paced_to(status, relay);
        if (paced != PACE_NO_LIMIT) {
            fprintf(out, ", slowed down to %u at once", paced);
        }
        fputc('\n', out);
    }
}

/* Those that are well say nothing. */
static void put_endpoints(FILE *out, const struct status *status)
{
    struct endpoint endpoint;
    for (size_t cursor = 0; next_endpoint(status, &cursor, &endpoint);) {
        if (strcmp(endpoint.state, "ok") != 0) {
            fprintf(out, "endpoint      %s is %s for %llu s, %u failures in a row\n",
                    endpoint.address, endpoint.state, (unsigned long long)endpoint.seconds,
                    endpoint.failures);
        }
    }
}

static void put_ledger(FILE *out, const struct status *status)
{
    struct ledger_store_state state;
    ledger_store_tell(status->ledger, &state);
    fprintf(out, "ledger        %llu sets, %llu recipients, %llu acceptances, %llu of %llu KiB\n",
            (unsigned long long)state.ledger.sets, (unsigned long long)state.ledger.recipients,
            (unsigned long long)state.ledger.records,
            (unsigned long long)(state.ledger.size + 1023) / 1024,
            (unsigned long long)state.max_size / 1024);
    if (!state.ledger.usable) {
        fprintf(
            out,
            "              CANNOT BE USED: %s; a transaction has one server only until it can\n",
            state.why);
    }
}

static void put_confinement(FILE *out, const struct confinement *confinement)
{
    char *text = confine_text(confinement);
    fprintf(out, "confined      %s\n", text != NULL ? text : "out of memory");
    free(text);
}

static void put_reload(FILE *out, const struct status_reload *reload)
{
    char when[64];
    struct tm parts;
    strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S UTC", gmtime_r(&reload->at, &parts));
    fprintf(out, "last %-8s %s, %s\n", reload->count == 0 ? "start" : "reload", when,
            reload->ok ? "fine" : "FAILED; what was in force before still is");
    if (reload->errors != NULL) {
        fputs(reload->errors, out);
    }
}

char *status_text(const struct status *status)
{
    const struct prepared *prepared = status->prepared;
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (out == NULL) {
        return NULL;
    }
    fprintf(out, "splitmx %s on %s, pid %ld, %u worker%s, up %llu s\n", SPLITMX_VERSION,
            prepared->config->hostname.text, (long)getpid(), status->worker_count,
            status->worker_count == 1 ? "" : "s",
            (unsigned long long)(time(NULL) - status->started));
    fprintf(out, "configuration %s\n", status->path);
    put_counters(out, status);
    put_relays(out, status);
    put_endpoints(out, status);
    fprintf(out, "routes        %llu, generation %llu%s\n",
            (unsigned long long)table_routes(prepared->table),
            (unsigned long long)table_generation(prepared->table),
            status->is_broken ? ", DAMAGED: recipients get 451 until it is built again" : "");
    put_ledger(out, status);
    put_confinement(out, status->confinement);
    put_reload(out, status->reload);
    if (fclose(out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}
