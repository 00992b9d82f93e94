#include "proxy/daemon/admin_service.h"

#include <stdlib.h>

#include "proxy/daemon/question.h"
#include "proxy/daemon/version.h"

/* ---- what it shows ---- */

static bool gather_counts(const struct status *status, struct snapshot *out)
{
    for (unsigned i = 0; i < status->worker_count; i++) {
        if (!snapshot_add(out, worker_stats(status->workers[i]))) {
            return false;
        }
    }
    const struct shared *shared = status->shared;
    for (unsigned i = 0; i < atomic_load(&shared->worlds_used); i++) {
        out->pool_idle += atomic_load(&shared->worlds[i].idle);
    }
    out->pool_waiting = atomic_load(&shared->waiting);
    return true;
}

static bool gather_relays(const struct status *status, struct snapshot *out)
{
    const struct relay_set *relays = status->prepared->relays;
    out->limits = calloc(relay_count(relays) + 1, sizeof *out->limits);
    for (size_t i = 0; out->limits != NULL && i < relay_count(relays); i++) {
        const struct relay *relay = relay_at(relays, i);
        struct snapshot_limit *limit = &out->limits[out->limit_count++];
        struct text name = TEXT(limit->name);
        text_puts(&name, relay->name);
        text_putc(&name, '\0');
        if (!snapshot_name(out, limit->name)) {
            return false;
        }
        limit->connections_max = relay->max_connections;
        limit->paced = relay->paced;
        limit->slowed = status_paced_to(status, relay) != PACE_NO_LIMIT;
    }
    return out->limits != NULL;
}

static bool gather_endpoints(const struct status *status, struct snapshot *out)
{
    struct health_status found;
    for (size_t cursor = 0; health_next(status->shared->health, &cursor, &found);) {
        struct snapshot_endpoint endpoint = {
            .proxy = found.endpoint.proxy, .state = found.state, .failures = found.failures};
        net_address_text_port(&found.endpoint.address, endpoint.address, sizeof endpoint.address);
        if (!snapshot_add_endpoint(out, &endpoint)) {
            return false;
        }
    }
    return true;
}

static void gather_rest(const struct status *status, struct snapshot *out)
{
    struct ledger_store_state ledger;
    ledger_store_tell(status->ledger, &ledger);
    out->version = SPLITMX_VERSION;
    out->started = status->started;
    out->workers = status->worker_count;
    out->ledger = ledger.ledger;
    out->ledger_max_size = ledger.max_size;
    out->routes = table_routes(status->prepared->table);
    out->generation = table_generation(status->prepared->table);
    out->is_damaged = status->is_broken;
    out->reload.failed = status->reload->failed;
    out->reload.good = status->reload->count - status->reload->failed;
    out->reload.last = status->reload->at;
    out->reload.last_good = status->reload->good_at;
    out->reload.last_is_good = status->reload->ok;
}

/* ---- for the status page ---- */

static void tell_hop(const struct status *status, const struct relay *relay,
                     const struct nexthop *hop, struct snapshot_hop *out)
{
    struct health_status found;
    out->proxy = relay->identity == IDENTITY_PROXY;
    if (hop->kind != NEXTHOP_ADDRESS) {
        status_hop_text(hop, out->text, sizeof out->text);
        return;
    }
    net_address_text_port(&hop->address, out->text, sizeof out->text);
    const struct health_endpoint endpoint = {.address = hop->address, .proxy = out->proxy};
    out->is_known = health_of(status->shared->health, &endpoint, &found);
    if (out->is_known) {
        out->state = found.state;
        out->failures = found.failures;
    }
}

/* The limits are there, in the order of the relays. */
static void gather_hops(const struct status *status, struct snapshot *out)
{
    for (size_t i = 0; i < out->limit_count; i++) {
        const struct relay *relay = relay_at(status->prepared->relays, i);
        struct snapshot_limit *limit = &out->limits[i];
        limit->hops = calloc(relay->hop_count + 1, sizeof *limit->hops);
        for (size_t h = 0; limit->hops != NULL && h < relay->hop_count; h++) {
            tell_hop(status, relay, &relay->hops[h], &limit->hops[limit->hop_count++]);
        }
    }
}

static void gather_page(const struct admin_service *service, const struct status *status,
                        struct snapshot *out)
{
    const char *errors = status->reload->errors;
    gather_hops(status, out);
    out->hostname = strdup(status->prepared->config->hostname.text);
    out->reload_errors = errors != NULL ? strdup(errors) : NULL;
    out->history = service->history != NULL ? history_copy(service->history) : NULL;
    if (service->transactions != NULL) {
        out->transactions = transactions_text(service->transactions, TRANSACTIONS_ALL);
        out->refusals = transactions_text(service->transactions, TRANSACTIONS_REFUSALS);
    }
}

/* ---- where mail for an address goes ---- */

static void gather_route(const struct status *status, struct snapshot *out)
{
    const struct prepared *prepared = status->prepared;
    struct question question;
    char *text = NULL;
    size_t size = 0;
    if (!question_ask(&question, prepared->config, prepared->relays, prepared->table,
                      span_of(out->wish.address))) {
        return;
    }
    out->is_address = question.is_address;
    FILE *file = open_memstream(&text, &size);
    if (file != NULL) {
        if (question.is_address) {
            question_answer(&question, status->shared->health, uv_hrtime() / 1000000, file);
        } else {
            fputs(question.decision.text, file);
        }
        if (fclose(file) != 0) {
            free(text);
            text = NULL;
        }
    }
    out->route = text;
    question_release(&question);
}

/* ---- all of it ---- */

/* For other programs it ends with a line feed, as the command prints it. */
static bool gather_status(const struct status *status, struct snapshot *out)
{
    char *json = status_json(status);
    const bool made = json != NULL && asprintf(&out->status, "%s\n", json) >= 0;
    free(json);
    return made;
}

static struct snapshot *gather(struct admin_service *service)
{
    const struct status status = service->tell(service->context);
    struct snapshot *out = snapshot_new();
    if (out == NULL) {
        return NULL;
    }
    admin_source_wish(service->source, &out->wish);
    if (out->wish.address[0] != '\0') {
        gather_route(&status, out);
        return out;
    }
    out->now = time(NULL);
    out->is_serving = status_health(&status, out->health);
    out->is_ready = status.is_serving;
    gather_rest(&status, out);
    if (!gather_counts(&status, out) || !gather_relays(&status, out) ||
        !gather_endpoints(&status, out) || !gather_status(&status, out)) {
        snapshot_free(out);
        return NULL;
    }
    if (out->wish.page) {
        gather_page(service, &status, out);
    }
    return out;
}

static void on_wanted(uv_async_t *wanted)
{
    struct admin_service *service = wanted->data;
    admin_source_give(service->source, gather(service));
}

/* From the server's thread. */
static void want(void *context)
{
    struct admin_service *service = context;
    uv_async_send(&service->wanted);
}

/* ---- what is kept while there is a server ---- */

static void on_step(uv_timer_t *step)
{
    struct admin_service *service = step->data;
    const struct status status = service->tell(service->context);
    struct snapshot *counts = snapshot_new();
    if (counts != NULL && gather_counts(&status, counts)) {
        history_sample(service->history, counts, time(NULL));
    }
    snapshot_free(counts);
}

static void see(void *context, struct span bytes)
{
    transactions_see(context, bytes);
}

static void keep_begin(struct admin_service *service)
{
    if (service->history == NULL) {
        service->history = history_new();
        if (service->history != NULL) {
            on_step(&service->step);
            uv_timer_start(&service->step, on_step, HISTORY_STEP * 1000, HISTORY_STEP * 1000);
        }
    }
    if (service->transactions == NULL) {
        service->transactions = transactions_new();
        if (service->transactions != NULL) {
            log_watch(service->log, see, service->transactions);
        }
    }
}

static void keep_end(struct admin_service *service)
{
    uv_timer_stop(&service->step);
    log_watch(service->log, NULL, NULL);
    history_free(service->history);
    transactions_free(service->transactions);
    service->history = NULL;
    service->transactions = NULL;
}

/* ---- life ---- */

bool admin_service_start(struct admin_service *service, uv_loop_t *loop, struct log *log,
                         struct socket_set *sockets, struct status (*tell)(void *context),
                         void *context)
{
    service->tell = tell;
    service->context = context;
    service->log = log;
    service->source = admin_source_new(want, service);
    if (service->source == NULL) {
        return false;
    }
    uv_async_init(loop, &service->wanted, on_wanted);
    uv_timer_init(loop, &service->step);
    service->wanted.data = service->step.data = service;
    if (!admin_service_prepare(service, sockets)) {
        return false;
    }
    admin_service_switch(service, sockets);
    return true;
}

bool admin_service_prepare(struct admin_service *service, struct socket_set *sockets)
{
    if (sockets->count == 0 || sockets->groups[0].kept) {
        return true;
    }
    service->next = admin_start(sockets->groups[0].fds[0], service->source);
    sockets->groups[0].fds[0] = -1; /* handed over */
    return service->next != NULL;
}

void admin_service_switch(struct admin_service *service, const struct socket_set *sockets)
{
    if (sockets->count == 0 || !sockets->groups[0].kept) {
        admin_stop(service->server);
        service->server = service->next;
        service->next = NULL;
    }
    if (service->server != NULL) {
        keep_begin(service);
    } else {
        keep_end(service);
    }
}

void admin_service_close(struct admin_service *service)
{
    if (service->source != NULL) {
        admin_stop(service->server);
        admin_stop(service->next);
        service->server = service->next = NULL;
        keep_end(service);
        uv_close((uv_handle_t *)&service->step, NULL);
        uv_close((uv_handle_t *)&service->wanted, NULL);
        admin_source_free(service->source);
        service->source = NULL;
    }
}
