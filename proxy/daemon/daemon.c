#include "proxy/daemon/daemon.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>
#include <uv.h>

#include "proxy/daemon/admin_service.h"
#include "proxy/daemon/burial.h"
#include "proxy/daemon/control.h"
#include "proxy/daemon/descriptors.h"
#include "proxy/daemon/early_signals.h"
#include "proxy/daemon/ledger_service.h"
#include "proxy/daemon/load.h"
#include "proxy/daemon/log.h"
#include "proxy/daemon/notify.h"
#include "proxy/daemon/pid_file.h"
#include "proxy/daemon/reload.h"
#include "proxy/daemon/repair.h"
#include "proxy/daemon/state_lock.h"
#include "proxy/daemon/status.h"
#include "proxy/daemon/version.h"
#include "proxy/daemon/worker.h"

/* reload requests that may wait for an outcome at once */
#define REQUESTS_MAX  64
#define SHUTTING_DOWN "splitmx is shutting down\n"

static const int signals[] = {SIGHUP, SIGTERM, SIGINT};
#define SIGNALS (sizeof signals / sizeof signals[0])

enum daemon_state {
    DAEMON_STARTING, /* the workers' first switch */
    DAEMON_SERVING,
    DAEMON_PREPARING, /* the pool's thread */
    DAEMON_SWITCHING, /* the workers */
    DAEMON_DRAINING,  /* the workers */
};

struct daemon {
    char *where; /* the configuration, absolute */
    enum daemon_state state;
    uv_loop_t loop;
    uv_signal_t signals[SIGNALS];
    uv_async_t done;
    uv_work_t work, first_work;
    atomic_uint done_count; /* workers that have carried out the order under way */
    struct log *log;
    struct control *control;
    struct admin_service admin;
    struct ledger_store *ledger;
    struct shared shared;
    struct in_force now;
    struct worker *workers[SOCKETS_WORKERS_MAX];
    unsigned worker_count; /* that run */
    struct reload reload;
    struct status_reload outcome; /* of the last reload */
    struct burial burial;
    _Atomic(const struct prepared *) damaged; /* whose table a look-up has found damaged */
    bool is_broken;                           /* that in force is: mail is put off */
    struct repair repair;
    uv_timer_t repair_timer;
    atomic_bool is_over; /* the loops have ended */
    bool is_preparing;   /* the pool's thread reads what is in force */
    bool reload_again;
    bool stop_wanted;
    time_t started;
    /* Who waits for the outcome of the reload under way, and of the one after it. */
    struct control_request *waiting[REQUESTS_MAX], *next[REQUESTS_MAX];
    unsigned waiting_count, next_count;
};

static void reload_begin(struct daemon *d);
static void reload_want(struct daemon *d);
static void answer_waiting(struct daemon *d, int status, const char *text);

/* ---- workers ---- */

static void on_worker_done(void *context)
{
    struct daemon *d = context;
    atomic_fetch_add(&d->done_count, 1);
    uv_async_send(&d->done);
}

static void workers_switch(struct daemon *d, struct prepared *prepared, struct socket_set *sockets)
{
    atomic_store(&d->done_count, 0);
    for (unsigned i = 0; i < d->worker_count; i++) {
        worker_switch(d->workers[i], prepared, sockets);
    }
}

/* A reload under way is given up: nobody waits for its files. */
static void drain_begin(struct daemon *d)
{
    answer_waiting(d, 1, SHUTTING_DOWN);
    memcpy(d->waiting, d->next, sizeof d->next);
    d->waiting_count = d->next_count;
    d->next_count = 0;
    answer_waiting(d, 1, SHUTTING_DOWN);
    log_event(d->log, LOG_INFO, "draining", NULL);
    notify_stopping();
    d->state = DAEMON_DRAINING;
    atomic_store(&d->done_count, 0);
    for (unsigned i = 0; i < d->worker_count; i++) {
        worker_drain(d->workers[i], d->now.prepared->config->timeouts.drain);
    }
}

/* ---- reload ---- */

static void answer_waiting(struct daemon *d, int status, const char *text)
{
    for (unsigned i = 0; i < d->waiting_count; i++) {
        control_answer(d->waiting[i], status, span_of(text));
    }
    d->waiting_count = 0;
}

/* Serves, and does what had to wait until it could. */
static void serve_on(struct daemon *d)
{
    d->state = DAEMON_SERVING;
    notify_ready();
    if (d->stop_wanted) {
        drain_begin(d);
    } else if (d->reload_again) {
        reload_begin(d);
    }
}

/* ---- a damaged table ---- */

/* From any thread, for a look-up in the table of `from`. */
static void on_damage(const struct prepared *from, void *context)
{
    struct daemon *d = context;
    if (atomic_exchange(&d->damaged, from) == NULL && !atomic_load(&d->is_over)) {
        uv_async_send(&d->done);
    }
}

static void on_repair_due(uv_timer_t *timer)
{
    struct daemon *d = timer->data;
    if (d->is_broken && !d->stop_wanted) {
        reload_want(d);
    }
}

/* Somebody has written to the table's file, or cut it: 451 until a reload has built it again. Where
 * a reload does not help, it may not be the only thing that is done. */
static void repair_begin(struct daemon *d)
{
    char what[96] = "recipients get 451; it is built again now";
    const uint64_t wait = repair_plan(&d->repair, uv_now(&d->loop));
    if (wait > 0) {
        snprintf(what, sizeof what, "recipients get 451; it is built again in %llu s",
                 (unsigned long long)(wait + 999) / 1000);
    }
    log_event(d->log, LOG_ERROR, "table-damaged", "state-directory",
              d->now.prepared->config->state_directory.text, "what", what, NULL);
    d->is_broken = true;
    uv_timer_start(&d->repair_timer, on_repair_due, wait, 0);
}

/* Looks whether what is in force is damaged; what others had in force does not matter any more. */
static void damage_look(struct daemon *d)
{
    const bool told = atomic_exchange(&d->damaged, NULL) == d->now.prepared;
    if (!d->is_broken && !d->stop_wanted && d->state != DAEMON_STARTING &&
        (told || !table_intact(d->now.prepared->table))) {
        repair_begin(d);
    }
}

/* ---- reload ---- */

/* A reload, good or bad, is over: says so, and does what had to wait for it. */
static void reload_end(struct daemon *d, bool ok, char *text)
{
    status_reload_next(&d->outcome, ok, text);
    log_diags(d->log, d->reload.diags);
    log_event(d->log, ok ? LOG_INFO : LOG_ERROR, ok ? "reloaded" : "reload-failed", "config",
              d->where, NULL);
    answer_waiting(d, ok ? 0 : 1, text != NULL ? text : "out of memory\n");
    if (ok) {
        free(text);
    }
    diag_list_free(d->reload.diags);
    d->reload = (struct reload){0};
    repair_ended(&d->repair, uv_now(&d->loop));
    if (d->is_broken && !d->stop_wanted) {
        repair_begin(d);
    }
    serve_on(d);
}

static void attach(struct daemon *d, struct prepared *prepared)
{
    prepared->bury_context = &d->burial;
    prepared->bury = burial_add;
    prepared->damage_context = d;
    prepared->on_damage = on_damage;
}

/* Every worker has switched: the old set goes. */
static void reload_switched(struct daemon *d)
{
    struct prepared *old = d->now.prepared;
    struct socket_set *old_sockets = d->now.sockets, *old_admin = d->now.admin_sockets;
    char *text = reload_text(&d->reload);
    d->now.prepared = d->reload.prepared;
    d->is_broken = false;
    uv_timer_stop(&d->repair_timer);
    d->now.sockets = d->reload.bound;
    d->now.admin_sockets = d->reload.admin_bound;
    admin_service_switch(&d->admin, d->now.admin_sockets);
    if (old->table != d->now.prepared->table &&
        table_generation(old->table) != table_generation(d->now.prepared->table)) {
        table_supersede(old->table);
    }
    policy_unref(&old->policy);
    sockets_free(old_sockets);
    sockets_free(old_admin);
    const struct config *config = d->now.prepared->config;
    log_configure(d->log, config->log_level, config->log_format);
    ledger_store_configure(d->ledger, config->ledger_retry_window, config->ledger_max_size);
    reload_end(d, true, text);
}

static void on_first_work(uv_work_t *work)
{
    (void)work;
}

static void on_work(uv_work_t *work)
{
    struct daemon *d = work->data;
    reload_prepare(&d->reload);
}

static void on_prepared(uv_work_t *work, int status)
{
    struct daemon *d = work->data;
    (void)status;
    d->is_preparing = false;
    if (d->state == DAEMON_DRAINING) {
        reload_drop(&d->reload);
        return;
    }
    if (d->reload.prepared != NULL && !admin_service_prepare(&d->admin, d->reload.admin_bound)) {
        diag_machine(d->reload.diags, "`admin`: out of memory, threads or descriptors");
        reload_let_go(&d->reload);
    }
    if (d->reload.prepared == NULL) {
        reload_end(d, false, reload_text(&d->reload));
        return;
    }
    attach(d, d->reload.prepared); /* before any worker has it: they call what it sets */
    d->state = DAEMON_SWITCHING;
    workers_switch(d, d->reload.prepared, d->reload.bound);
}

/* What others need to find us by, where somebody has removed it. */
static void restore_files(struct daemon *d)
{
    int error = control_restore(d->control);
    if (error != 0) {
        log_event(d->log, LOG_WARNING, "control-socket-not-restored", "why", strerror(-error),
                  NULL);
    }
    if (!pid_file_write(d->now.prepared->config->state_directory.text)) {
        log_event(d->log, LOG_WARNING, "pid-file-not-written", "why", strerror(errno), NULL);
    }
}

static bool has_state_directory(struct daemon *d, struct diag_list *diags)
{
    const struct config *config = d->now.prepared->config;
    return confine_reaches_state(&d->now.confinement, config, diags) &&
           state_lock_keep(&d->now.lock, config, diags);
}

static void reload_begin(struct daemon *d)
{
    struct diag_list *diags = diag_list_new();
    d->reload_again = false;
    const bool refused = diags == NULL || !has_state_directory(d, diags);
    if (!refused) {
        restore_files(d);
    }
    memcpy(d->waiting, d->next, sizeof d->next);
    d->waiting_count = d->next_count;
    d->next_count = 0;
    d->reload = (struct reload){.path = d->where,
                                .in_force = d->now.prepared,
                                .sockets = d->now.sockets,
                                .admin_sockets = d->now.admin_sockets,
                                .workers = d->worker_count,
                                .connections_max = d->now.prepared->config->limits.connections,
                                .confinement = &d->now.confinement,
                                .refused = refused,
                                .diags = diags};
    d->state = DAEMON_PREPARING;
    d->is_preparing = true;
    notify_reloading();
    d->work.data = d;
    uv_queue_work(&d->loop, &d->work, on_work, on_prepared);
}

/* One runs at a time; those wanted meanwhile are folded into one more. */
static void reload_want(struct daemon *d)
{
    if (d->state == DAEMON_SERVING) {
        reload_begin(d);
    } else {
        d->reload_again = true;
    }
}

/* ---- events ---- */

static void close_all(struct daemon *d)
{
    atomic_store(&d->is_over, true);
    control_close(d->control);
    admin_service_close(&d->admin);
    for (size_t i = 0; i < SIGNALS; i++) {
        uv_close((uv_handle_t *)&d->signals[i], NULL);
        signal(signals[i], SIG_IGN); /* what is left to do is short, and ends with 0 */
    }
    uv_close((uv_handle_t *)&d->repair_timer, NULL);
    uv_close((uv_handle_t *)&d->done, NULL);
    burial_close(&d->burial);
    if (d->is_preparing) {
        uv_stop(&d->loop);
    }
}

static void serving(struct daemon *d)
{
    struct record record;
    char *confined = confine_text(&d->now.confinement);
    log_begin(d->log, &record, "ready");
    record_str(&record, "version", SPLITMX_VERSION);
    record_str(&record, "hostname", d->now.prepared->config->hostname.text);
    record_number(&record, "routes", table_routes(d->now.prepared->table));
    record_str(&record, "confined", confined);
    log_end(d->log, LOG_INFO, &record);
    free(confined);
    serve_on(d);
}

/* Workers have carried out an order; when all have, the next step. */
static void on_done(uv_async_t *async)
{
    struct daemon *d = async->data;
    if (atomic_load(&d->damaged) != NULL) {
        damage_look(d);
    }
    if (atomic_load(&d->done_count) < d->worker_count) {
        return;
    }
    switch (d->state) {
    case DAEMON_STARTING:
        serving(d);
        break;
    case DAEMON_SWITCHING:
        reload_switched(d);
        break;
    case DAEMON_DRAINING:
        close_all(d);
        break;
    case DAEMON_SERVING:
    case DAEMON_PREPARING:
        break; /* a wake-up more than there were orders */
    }
}

static void on_signal(uv_signal_t *handle, int number)
{
    struct daemon *d = handle->data;
    if (number == SIGHUP) {
        if (d->state != DAEMON_DRAINING) {
            reload_want(d);
        }
    } else if (!d->stop_wanted) {
        d->stop_wanted = true;
        if (d->state == DAEMON_SERVING || d->state == DAEMON_PREPARING) {
            drain_begin(d);
        }
    }
}

/* Looks at the table: who sends no more mail, for our health is bad, would never see it mended. */
static struct status status_of(void *context)
{
    struct daemon *d = context;
    damage_look(d);
    return (struct status){.prepared = d->now.prepared,
                           .workers = d->workers,
                           .worker_count = d->worker_count,
                           .path = d->where,
                           .is_broken = d->is_broken,
                           .is_serving = d->state != DAEMON_STARTING && d->state != DAEMON_DRAINING,
                           .confinement = &d->now.confinement,
                           .shared = &d->shared,
                           .ledger = d->ledger,
                           .reload = &d->outcome,
                           .started = d->started};
}

static void answer_status(struct daemon *d, struct control_request *request, bool json)
{
    const struct status status = status_of(d);
    char *text = json ? status_json(&status) : status_text(&status);
    control_answer(request, text != NULL ? 0 : 1, span_of(text != NULL ? text : "out of memory"));
    free(text);
}

static void answer_health(struct daemon *d, struct control_request *request)
{
    char line[STATUS_HEALTH];
    const struct status status = status_of(d);
    const bool healthy = status_health(&status, line);
    control_answer(request, healthy ? 0 : 1, span_of(line));
}

static void on_request(void *context, struct control_request *request, struct span verb)
{
    struct daemon *d = context;
    if (ledger_service_answer(d->ledger, request, verb)) {
        return;
    }
    if (span_equal(verb, SPAN("status"))) {
        answer_status(d, request, false);
    } else if (span_equal(verb, SPAN("status-json"))) {
        answer_status(d, request, true);
    } else if (span_equal(verb, SPAN("health"))) {
        answer_health(d, request);
    } else if (span_equal(verb, SPAN(CONTROL_CONFIGURATION))) {
        control_answer(request, 0, span_of(d->where));
    } else if (!span_equal(verb, SPAN("reload"))) {
        control_answer(request, 1, SPAN("unknown request\n"));
    } else if (d->state == DAEMON_DRAINING || d->stop_wanted) {
        control_answer(request, 1, SPAN(SHUTTING_DOWN));
    } else if (d->next_count == REQUESTS_MAX) {
        control_answer(request, 1, SPAN("too many reloads are waiting\n"));
    } else {
        d->next[d->next_count++] = request;
        reload_want(d);
    }
}

/* ---- start ---- */

/* A SIGHUP that has come since is delivered here: a reload follows the start. */
static void signals_watch(struct daemon *d)
{
    for (size_t i = 0; i < SIGNALS; i++) {
        uv_signal_init(&d->loop, &d->signals[i]);
        d->signals[i].data = d;
        uv_signal_start(&d->signals[i], on_signal, signals[i]);
    }
    early_signals_end();
}

static bool start_workers(struct daemon *d)
{
    uint64_t seed = 0;
    const unsigned wanted = d->now.workers;
    const struct config *config = d->now.prepared->config;
    d->ledger = ledger_service_start(config, d->log);
    if (d->ledger == NULL || getrandom(&seed, sizeof seed, 0) != (ssize_t)sizeof seed ||
        !shared_init(&d->shared, config->limits.connections, seed,
                     ledger_store_ledger(d->ledger))) {
        return false;
    }
    for (d->worker_count = 0; d->worker_count < wanted; d->worker_count++) {
        if (getrandom(&seed, sizeof seed, 0) != (ssize_t)sizeof seed) {
            return false;
        }
        struct worker_options options = {.index = d->worker_count,
                                         .log = d->log,
                                         .shared = &d->shared,
                                         .descriptors = d->now.descriptors,
                                         .seed = seed,
                                         .on_done = on_worker_done,
                                         .context = d};
        d->workers[d->worker_count] = worker_start(&options, d->now.prepared);
        if (d->workers[d->worker_count] == NULL) {
            return false;
        }
    }
    return true;
}

static bool start(struct daemon *d, const struct diag_list *warnings)
{
    const struct config *config = d->now.prepared->config;
    int error = 0;
    uv_loop_init(&d->loop);
    const bool reserved = descriptors_reserve(&d->loop, config, d->now.descriptors);
    uv_async_init(&d->loop, &d->done, on_done);
    d->done.data = d;
    uv_timer_init(&d->loop, &d->repair_timer);
    d->repair_timer.data = d;
    burial_init(&d->burial, &d->loop);
    /* The pool's threads are made with its first work, and libuv ends the process when they cannot
     * be: here, not in a reload. */
    uv_queue_work(&d->loop, &d->first_work, on_first_work, NULL);
    signals_watch(d);
    d->control = control_listen(&d->loop, config->state_directory.text, on_request, d, &error);
    if (d->control == NULL) {
        log_early_error("%s/" CONTROL_SOCKET ": %s", config->state_directory.text,
                        strerror(-error));
        return false;
    }
    d->log = log_start(STDERR_FILENO, config->log_level, config->log_format);
    if (d->log == NULL || !reserved ||
        !admin_service_start(&d->admin, &d->loop, d->log, d->now.admin_sockets, status_of, d) ||
        !start_workers(d)) {
        log_early_error("out of memory, threads or descriptors");
        return false;
    }
    log_diags(d->log, warnings);
    if (!pid_file_write(config->state_directory.text)) {
        log_event(d->log, LOG_WARNING, "pid-file-not-written", "why", strerror(errno), NULL);
    }
    attach(d, d->now.prepared);
    d->started = time(NULL);
    d->outcome = (struct status_reload){.at = d->started, .ok = true, .good_at = d->started};
    workers_switch(d, d->now.prepared, d->now.sockets);
    return true;
}

static void release(struct daemon *d)
{
    for (unsigned i = 0; i < d->worker_count; i++) {
        worker_free(d->workers[i]);
    }
    sockets_free(d->now.sockets);
    sockets_free(d->now.admin_sockets);
    confine_release(&d->now.confinement);
    pid_file_remove(d->now.prepared->config->state_directory.text);
    policy_unref(&d->now.prepared->policy);
    burial_release(&d->burial);
    shared_release(&d->shared);
    ledger_store_free(d->ledger);
    free(d->outcome.errors);
    log_event(d->log, LOG_INFO, "stopped", NULL);
    log_stop(d->log);
    uv_loop_close(&d->loop);
}

/* A thread still reads what is in force, or waits for a file that it may never have: it ends with
 * the process, and nothing that it uses is taken away before. */
static _Noreturn void leave(struct daemon *d)
{
    for (unsigned i = 0; i < d->worker_count; i++) {
        worker_free(d->workers[i]);
    }
    ledger_store_free(d->ledger);
    pid_file_remove(d->now.prepared->config->state_directory.text);
    log_event(d->log, LOG_INFO, "stopped", NULL);
    log_stop(d->log);
    _exit(EXIT_SUCCESS);
}

int daemon_run(const char *path)
{
    struct daemon d = {.where = load_where(path)};
    early_signals_begin();
    if (d.where == NULL) {
        log_early_error("out of memory");
        return EXIT_FAILURE;
    }
    struct diag_list *diags = diag_list_new();
    int status = load_all(path, &d.now, diags);
    if (status == EXIT_SUCCESS && !start(&d, diags)) {
        return EXIT_FAILURE; /* the process ends: so do its threads */
    }
    diag_list_free(diags);
    if (status != EXIT_SUCCESS) {
        free(d.where);
        return status;
    }
    uv_run(&d.loop, UV_RUN_DEFAULT);
    if (d.is_preparing) {
        leave(&d);
    }
    release(&d);
    free(d.where);
    return EXIT_SUCCESS;
}
