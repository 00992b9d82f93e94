#include "proxy/admin/page_json.h"

#include <jansson.h>
#include <stdlib.h>

#include "config/text.h"
#include "proxy/admin/history.h"
#include "proxy/admin/transactions.h"
#include "proxy/wire/utf8.h"

static json_t *number(uint64_t n)
{
    return json_integer((json_int_t)n);
}

/* Bytes that are no UTF-8, as a file's name may have, become U+FFFD: jansson takes none. */
static json_t *string(struct span value)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (out == NULL) {
        return NULL;
    }
    while (value.len > 0) {
        const size_t valid = utf8_length(value);
        if (valid > 0) {
            fwrite(value.ptr, 1, valid, out);
        } else {
            fputs("\xef\xbf\xbd", out);
        }
        value = span_skip(value, valid > 0 ? valid : 1);
    }
    json_t *json = fclose(out) == 0 ? json_stringn(text, size) : NULL;
    free(text);
    return json;
}

static json_t *lines_json(const char *lines)
{
    json_t *list = json_array();
    for (struct span rest = span_of(lines != NULL ? lines : ""); rest.len > 0;) {
        const struct span line = span_first(rest, span_find(rest, '\n'));
        rest = span_skip(rest, line.len + 1);
        json_array_append_new(list, string(line));
    }
    return list;
}

/* ---- relays ---- */

static json_t *endpoint_json(const char *address, bool proxy, const char *state, unsigned failures)
{
    return json_pack("{s:s, s:b, s:s?, s:I}", "address", address, "proxy", proxy, "state", state,
                     "failures", (json_int_t)failures);
}

static json_t *hops_json(const struct snapshot_limit *limit)
{
    json_t *list = json_array();
    for (size_t i = 0; limit != NULL && limit->hops != NULL && i < limit->hop_count; i++) {
        const struct snapshot_hop *hop = &limit->hops[i];
        json_array_append_new(list,
                              endpoint_json(hop->text, hop->proxy,
                                            hop->is_known ? health_state_text(hop->state) : NULL,
                                            hop->failures));
    }
    return list;
}

static const struct snapshot_limit *limit_of(const struct snapshot *s, const char *relay)
{
    for (size_t i = 0; i < s->limit_count; i++) {
        if (strcmp(s->limits[i].name, relay) == 0) {
            return &s->limits[i];
        }
    }
    return NULL;
}

/* One without a limit is none of the configuration in force: it was, or is written in a pattern. */
static json_t *relay_json(const struct snapshot_relay *relay, const struct snapshot_limit *limit)
{
    const uint64_t *value = relay->value;
    return json_pack("{s:o, s:o, s:b, s:b, s:{s:o, s:o, s:o}, s:o, s:o}", "name",
                     string(span_of(relay->name)), "connections_max",
                     limit != NULL ? number(limit->connections_max) : json_null(), "paced",
                     limit != NULL && limit->paced, "slowed", limit != NULL && limit->slowed,
                     "recipients", "accepted", number(value[RELAY_RECIPIENTS_ACCEPTED]), "deferred",
                     number(value[RELAY_RECIPIENTS_DEFERRED]), "refused",
                     number(value[RELAY_RECIPIENTS_REJECTED]), "bytes", number(value[RELAY_BYTES]),
                     "endpoints", hops_json(limit));
}

static json_t *relays_json(const struct snapshot *s)
{
    json_t *list = json_array();
    for (size_t i = 0; i < s->relay_count; i++) {
        if (s->relays[i].name[0] != '\0') {
            const struct snapshot_limit *limit = limit_of(s, s->relays[i].name);
            json_array_append_new(list, relay_json(&s->relays[i], limit));
        }
    }
    return list;
}

static json_t *endpoints_json(const struct snapshot *s)
{
    json_t *list = json_array();
    for (size_t i = 0; i < s->endpoint_count; i++) {
        const struct snapshot_endpoint *endpoint = &s->endpoints[i];
        json_array_append_new(list, endpoint_json(endpoint->address, endpoint->proxy,
                                                  health_state_text(endpoint->state),
                                                  endpoint->failures));
    }
    return list;
}

/* ---- the last hour ---- */

static json_t *sessions_json(const struct history *history)
{
    json_t *list = json_array();
    for (unsigned i = 0; i < history_steps(history); i++) {
        json_array_append_new(list, number(history_sessions(history, i)));
    }
    return list;
}

static json_t *series_json(const struct history *history, unsigned relay,
                           enum history_series series)
{
    json_t *list = json_array();
    for (unsigned i = 0; i < history_steps(history); i++) {
        const uint32_t value = history_value(history, relay, series, i);
        json_array_append_new(list, value == HISTORY_NOTHING ? json_null() : number(value));
    }
    return list;
}

static json_t *history_json(const struct history *history)
{
    static const char *const names[HISTORY_SERIES] = {"accepted", "failed", "p50", "p99"};
    if (history == NULL) {
        return json_null();
    }
    json_t *relays = json_object();
    for (unsigned i = 0; i < history_relays(history); i++) {
        json_t *relay = json_object();
        for (unsigned series = 0; series < HISTORY_SERIES; series++) {
            json_object_set_new(relay, names[series],
                                series_json(history, i, (enum history_series)series));
        }
        json_object_set_new(relays, history_name(history, i), relay);
    }
    const time_t end = history_end(history);
    return json_pack("{s:i, s:o, s:o, s:o}", "step", HISTORY_STEP, "end",
                     end != 0 ? number((uint64_t)end) : json_null(), "sessions",
                     sessions_json(history), "relays", relays);
}

/* ---- all of it ---- */

static json_t *messages_json(const struct snapshot *s)
{
    return json_pack("{s:o, s:o, s:o, s:o}", "accepted",
                     number(s->counters[STAT_TRANSACTIONS_ACCEPTED]), "deferred",
                     number(s->counters[STAT_TRANSACTIONS_DEFERRED]), "refused",
                     number(s->counters[STAT_TRANSACTIONS_REJECTED]), "client_gone",
                     number(s->counters[STAT_TRANSACTIONS_LOST]));
}

static json_t *reload_json(const struct snapshot *s)
{
    return json_pack("{s:o, s:o, s:o, s:b, s:o, s:o}", "count",
                     number(s->reload.good + s->reload.failed), "failed", number(s->reload.failed),
                     "last_at", number((uint64_t)s->reload.last), "last_ok", s->reload.last_is_good,
                     "last_good_at", number((uint64_t)s->reload.last_good), "errors",
                     lines_json(s->reload_errors));
}

/* As the command has it, in every detail. */
static json_t *ledger_json(const struct snapshot *s)
{
    json_t *status = s->status != NULL ? json_loads(s->status, 0, NULL) : NULL;
    json_t *ledger = json_incref(json_object_get(status, "ledger"));
    json_decref(status);
    return ledger != NULL ? ledger : json_null();
}

static void set(json_t *root, const char *key, json_t *value)
{
    json_object_set_new(root, key, value);
}

char *page_json(const struct snapshot *s)
{
    json_t *root = json_object();
    set(root, "version", json_string(s->version));
    set(root, "now", number((uint64_t)s->now));
    set(root, "started", number((uint64_t)s->started));
    set(root, "workers", number(s->workers));
    set(root, "hostname", s->hostname != NULL ? string(span_of(s->hostname)) : json_null());
    set(root, "serving", json_boolean(s->is_serving));
    set(root, "ready", json_boolean(s->is_ready));
    set(root, "health",
        string(span_first(span_of(s->health), span_find(span_of(s->health), '\n'))));
    set(root, "sessions",
        json_pack("{s:o, s:o}", "open", number(s->counters[STAT_SESSIONS_OPEN]), "total",
                  number(s->counters[STAT_SESSIONS])));
    set(root, "messages", messages_json(s));
    set(root, "recipients",
        json_pack("{s:o, s:o, s:o}", "accepted", number(s->counters[STAT_RECIPIENTS_ACCEPTED]),
                  "deferred", number(s->counters[STAT_RECIPIENTS_DEFERRED]), "refused",
                  number(s->counters[STAT_RECIPIENTS_REJECTED])));
    set(root, "relays", relays_json(s));
    set(root, "endpoints", endpoints_json(s));
    set(root, "pool",
        json_pack("{s:o, s:o}", "idle", number(s->pool_idle), "waiting", number(s->pool_waiting)));
    set(root, "routes",
        json_pack("{s:o, s:o, s:b}", "count", number(s->routes), "generation",
                  number(s->generation), "damaged", s->is_damaged));
    set(root, "reload", reload_json(s));
    set(root, "ledger", ledger_json(s));
    set(root, "history", history_json(s->history));
    set(root, "transactions", transactions_json(s->transactions, TRANSACTIONS_ALL));
    set(root, "refusals", transactions_json(s->refusals, TRANSACTIONS_REFUSALS));
    char *text = json_dumps(root, JSON_COMPACT | JSON_PRESERVE_ORDER);
    json_decref(root);
    return text;
}

char *page_json_error(const char *words)
{
    json_t *root = json_pack("{s:o}", "error", string(span_of(words)));
    char *text = json_dumps(root, JSON_COMPACT);
    json_decref(root);
    return text;
}
