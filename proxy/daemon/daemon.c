#include "proxy/daemon/daemon.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>
#include <uv.h>

#include "proxy/daemon/control.h"
#include "proxy/daemon/descriptors.h"
#include "proxy/daemon/early_signals.h"
#include "proxy/daemon/log.h"
#include "proxy/daemon/notify.h"
#include "proxy/daemon/pid_file.h"
#include "proxy/daemon/privileges.h"
#include "proxy/daemon/reload.h"
#include "proxy/daemon/state_lock.h"
#include "proxy/daemon/status.h"
#include "proxy/daemon/survey.h"
#include "proxy/daemon/version.h"
#include "proxy/daemon/worker.h"

#define EXIT_CONFIG 78
/* reload requests that may wait for an outcome at once */
#define REQUESTS_MAX 64
#define REPAIR_EVERY 60000 /* milliseconds */

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
    const char *path;
    enum daemon_state state;
    uv_loop_t loop;
    uv_signal_t signals[SIGNALS];
    int lock; /* of the state directory, until the process ends */
    unsigned descriptors;
    uv_async_t done;
    uv_work_t work;
    atomic_uint done_count; /* workers that have carried out the order under way */
    struct log *log;
    struct control *control;
    struct shared shared;
    struct prepared *prepared;
    struct socket_set *sockets;
    struct worker *workers[SOCKETS_WORKERS_MAX];
    unsigned worker_count;
    struct reload reload;
    struct status_reload outcome;      /* of the last reload */
    _Atomic(struct prepared *) buried; /* no longer used by anybody; see prepare.h */
    atomic_bool is_damaged;            /* a look-up has found the table's file changed */
    uint64_t repaired;                 /* when that last began a reload, of the loop's clock */
    struct prepared *burials;          /* being freed in the pool's thread */
    uv_work_t burial;
    bool is_burying;
    atomic_bool is_over; /* the loops have ended: anything may block */
    bool reload_again;
    bool stop_wanted;
    time_t started;
    /* Who waits for the outcome of the reload under way, and of the one after it. */
    struct control_request *waiting[REQUESTS_MAX], *next[REQUESTS_MAX];
    unsigned waiting_count, next_count;
};

static void reload_begin(struct daemon *d);

/* ---- what a reload has replaced, freed where waiting for files does no harm ---- */

static void on_bury(struct prepared *prepared, void *context)
{
    struct daemon *d = context;
    if (atomic_load(&d->is_over)) {
        prepared_free(prepared);
        return;
    }
    prepared->next_buried = atomic_load(&d->buried);
    while (!atomic_compare_exchange_weak(&d->buried, &prepared->next_buried, prepared)) {
        continue;
    }
    uv_async_send(&d->done);
}

static void free_list(struct prepared *list)
{
    while (list != NULL) {
        struct prepared *next = list->next_buried;
        prepared_free(list);
        list = next;
    }
}

static void on_burial(uv_work_t *work)
{
    struct daemon *d = work->data;
    free_list(d->burials);
}

static void bury_next(struct daemon *d);

static void on_burial_over(uv_work_t *work, int status)
{
    struct daemon *d = work->data;
    (void)status;
    d->is_burying = false;
    bury_next(d);
}

static void bury_next(struct daemon *d)
{
    if (d->is_burying || atomic_load(&d->buried) == NULL) {
        return;
    }
    d->burials = atomic_exchange(&d->buried, NULL);
    d->is_burying = true;
    d->burial.data = d;
    uv_queue_work(&d->loop, &d->burial, on_burial, on_burial_over);
}

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

static void drain_begin(struct daemon *d)
{
    log_event(d->log, LOG_INFO, "draining", NULL);
    notify_stopping();
    d->state = DAEMON_DRAINING;
    atomic_store(&d->done_count, 0);
    for (unsigned i = 0; i < d->worker_count; i++) {
        worker_drain(d->workers[i], d->prepared->config->timeouts.drain);
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

/* A reload, good or bad, is over: says so, and does what had to wait for it. */
static void reload_end(struct daemon *d, bool ok, char *text)
{
    free(d->outcome.errors);
    d->outcome = (struct status_reload){
        .at = time(NULL), .ok = ok, .count = d->outcome.count + 1, .errors = ok ? NULL : text};
    log_diags(d->log, d->reload.diags);
    log_event(d->log, ok ? LOG_INFO : LOG_ERROR, ok ? "reloaded" : "reload-failed", "config",
              d->path, NULL);
    answer_waiting(d, ok ? 0 : 1, text != NULL ? text : "out of memory\n");
    if (ok) {
        free(text);
    }
    diag_list_free(d->reload.diags);
    d->reload = (struct reload){0};
    serve_on(d);
}

/* Somebody has written to the table's file, or cut it: 451 until a reload has built it again. */
static void on_damage(void *context)
{
    struct daemon *d = context;
    if (!atomic_exchange(&d->is_damaged, true) && !atomic_load(&d->is_over)) {
        uv_async_send(&d->done);
    }
}

static void attach(struct daemon *d)
{
    d->prepared->bury_context = d;
    d->prepared->bury = on_bury;
    d->prepared->damage_context = d;
    d->prepared->on_damage = on_damage;
}

/* Every worker has switched: the old set goes. */
static void reload_switched(struct daemon *d)
{
    struct prepared *old = d->prepared;
    struct socket_set *old_sockets = d->sockets;
    char *text = reload_text(&d->reload);
    d->prepared = d->reload.prepared;
    attach(d);
    d->sockets = d->reload.bound;
    if (old->table != d->prepared->table &&
        table_generation(old->table) != table_generation(d->prepared->table)) {
        table_supersede(old->table);
    }
    policy_unref(&old->policy);
    sockets_free(old_sockets);
    log_configure(d->log, d->prepared->config->log_level, d->prepared->config->log_format);
    reload_end(d, true, text);
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
    if (d->reload.prepared == NULL) {
        reload_end(d, false, reload_text(&d->reload));
        return;
    }
    d->state = DAEMON_SWITCHING;
    workers_switch(d, d->reload.prepared, d->reload.bound);
}

/* What others need to find us by, where somebody has removed it. */
static void restore_files(struct daemon *d)
{
    const char *directory = d->prepared->config->state_directory.text;
    int error = control_restore(d->control);
    if (error != 0) {
        log_event(d->log, LOG_WARNING, "control-socket-not-restored", "why", strerror(-error),
                  NULL);
    }
    if (!pid_file_write(directory)) {
        log_event(d->log, LOG_WARNING, "pid-file-not-written", "why", strerror(errno), NULL);
    }
}

static void reload_begin(struct daemon *d)
{
    d->reload_again = false;
    restore_files(d);
    memcpy(d->waiting, d->next, sizeof d->next);
    d->waiting_count = d->next_count;
    d->next_count = 0;
    d->reload = (struct reload){.path = d->path,
                                .in_force = d->prepared,
                                .sockets = d->sockets,
                                .workers = d->worker_count,
                                .connections_max = d->prepared->config->limits.connections,
                                .diags = diag_list_new()};
    d->state = DAEMON_PREPARING;
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
    for (size_t i = 0; i < SIGNALS; i++) {
        uv_close((uv_handle_t *)&d->signals[i], NULL);
        signal(signals[i], SIG_IGN); /* what is left to do is short, and ends with 0 */
    }
    uv_close((uv_handle_t *)&d->done, NULL);
}

static void serving(struct daemon *d)
{
    char routes[24];
    snprintf(routes, sizeof routes, "%llu", (unsigned long long)table_routes(d->prepared->table));
    log_event(d->log, LOG_INFO, "ready", "version", SPLITMX_VERSION, "hostname",
              d->prepared->config->hostname.text, "routes", routes, NULL);
    serve_on(d);
}

/* At most once in REPAIR_EVERY: where a reload cannot help, each recipient would begin one. What is
 * passed over here the next recipient says again. */
static void repair(struct daemon *d)
{
    uint64_t now = uv_now(&d->loop);
    bool damaged = atomic_exchange(&d->is_damaged, false);
    if (!damaged || d->state != DAEMON_SERVING ||
        (d->repaired != 0 && now - d->repaired < REPAIR_EVERY)) {
        return;
    }
    d->repaired = now;
    log_event(d->log, LOG_ERROR, "table-damaged", "state-directory",
              d->prepared->config->state_directory.text, "what", "recipients get 451, reloading",
              NULL);
    reload_begin(d);
}

/* Workers have carried out an order; when all have, the next step. */
static void on_done(uv_async_t *async)
{
    struct daemon *d = async->data;
    bury_next(d);
    repair(d);
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
        if (d->state == DAEMON_SERVING) {
            drain_begin(d);
        }
    }
}

static void answer_status(struct daemon *d, struct control_request *request, bool json)
{
    struct status status = {.prepared = d->prepared,
                            .workers = d->workers,
                            .worker_count = d->worker_count,
                            .shared = &d->shared,
                            .reload = &d->outcome,
                            .started = d->started};
    char *text = json ? status_json(&status) : status_text(&status);
    control_answer(request, text != NULL ? 0 : 1, span_of(text != NULL ? text : "out of memory"));
    free(text);
}

static void on_request(void *context, struct control_request *request, struct span verb)
{
    struct daemon *d = context;
    if (span_equal(verb, SPAN("status"))) {
        answer_status(d, request, false);
    } else if (span_equal(verb, SPAN("status-json"))) {
        answer_status(d, request, true);
    } else if (span_equal(verb, SPAN("health"))) {
        bool fine = d->state != DAEMON_STARTING && d->state != DAEMON_DRAINING;
        control_answer(request, fine ? 0 : 1, fine ? SPAN("serving\n") : SPAN("not serving\n"));
    } else if (!span_equal(verb, SPAN("reload"))) {
        control_answer(request, 1, SPAN("unknown request\n"));
    } else if (d->state == DAEMON_DRAINING || d->stop_wanted) {
        control_answer(request, 1, SPAN("splitmx is shutting down\n"));
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

static unsigned count_workers(const struct config *config)
{
    unsigned count = config->workers != 0 ? config->workers : uv_available_parallelism();
    return count < SOCKETS_WORKERS_MAX ? count : SOCKETS_WORKERS_MAX;
}

/* From here on no other splitmx touches what is in the state directory. */
static bool take_state_directory(struct daemon *d, const struct config *config,
                                 struct diag_list *diags)
{
    d->lock = state_lock(config->state_directory.text);
    if (d->lock < 0) {
        diag_error(diags, config_place(config, &config->state_directory), "%s: %s",
                   config->state_directory.text,
                   errno == EWOULDBLOCK ? "another splitmx runs with this state directory"
                                        : strerror(errno));
    }
    return d->lock >= 0;
}

/* Everything that may fail because of what the operator wrote, before any thread starts. 0, or the
 * exit status. */
static int load(struct daemon *d, struct diag_list *diags)
{
    int status = EXIT_CONFIG;
    struct config *config = survey_load(d->path, PRIVILEGES_TO_RUN, diags);
    if (config == NULL) {
        return status;
    }
    privileges_check(config, PRIVILEGES_TO_RUN, diags);
    if (diag_errors(diags) != 0) {
        survey_rest(config, diags);
        goto done;
    }
    privileges_state_directory(config, diags);
    if (diag_errors(diags) != 0 || !privileges_drop(config, diags)) {
        goto done;
    }
    /* What is wrong from here on need not be what is written. */
    if (!take_state_directory(d, config, diags)) {
        status = EXIT_FAILURE;
        goto done;
    }
    d->prepared = prepare_config(config, PREPARE_TO_SERVE, NULL, diags);
    if (d->prepared == NULL) {
        status = diag_only_machine(diags) ? EXIT_FAILURE : EXIT_CONFIG;
        goto done;
    }
    d->worker_count = count_workers(config);
    d->descriptors = descriptors_raise();
    descriptors_check(config, d->worker_count, d->descriptors, diags);
    d->sockets = sockets_bind(config, NULL, d->worker_count, diags);
    status = d->sockets != NULL ? EXIT_SUCCESS : EXIT_FAILURE;
done:
    config_unref(config);
    return status;
}

static bool start_workers(struct daemon *d)
{
    uint64_t seed = 0;
    unsigned wanted = d->worker_count;
    if (getrandom(&seed, sizeof seed, 0) != (ssize_t)sizeof seed ||
        !shared_init(&d->shared, d->prepared->config->limits.connections, seed)) {
        return false;
    }
    for (d->worker_count = 0; d->worker_count < wanted; d->worker_count++) {
        if (getrandom(&seed, sizeof seed, 0) != (ssize_t)sizeof seed) {
            return false;
        }
        struct worker_options options = {.index = d->worker_count,
                                         .log = d->log,
                                         .shared = &d->shared,
                                         .descriptors = d->descriptors,
                                         .seed = seed,
                                         .on_done = on_worker_done,
                                         .context = d};
        d->workers[d->worker_count] = worker_start(&options, d->prepared);
        if (d->workers[d->worker_count] == NULL) {
            return false;
        }
    }
    return true;
}

static bool start(struct daemon *d)
{
    const struct config *config = d->prepared->config;
    int error = 0;
    uv_loop_init(&d->loop);
    uv_async_init(&d->loop, &d->done, on_done);
    d->done.data = d;
    signals_watch(d);
    d->control = control_listen(&d->loop, config->state_directory.text, on_request, d, &error);
    if (d->control == NULL) {
        fprintf(stderr, "splitmx: %s/" CONTROL_SOCKET ": %s\n", config->state_directory.text,
                strerror(-error));
        return false;
    }
    d->log = log_start(STDERR_FILENO, config->log_level, config->log_format);
    if (d->log == NULL || !start_workers(d)) {
        fprintf(stderr, "splitmx: out of memory, threads or descriptors\n");
        return false;
    }
    if (!pid_file_write(config->state_directory.text)) {
        log_event(d->log, LOG_WARNING, "pid-file-not-written", "why", strerror(errno), NULL);
    }
    attach(d);
    d->started = time(NULL);
    d->outcome = (struct status_reload){.at = d->started, .ok = true};
    workers_switch(d, d->prepared, d->sockets);
    return true;
}

static void release(struct daemon *d)
{
    for (unsigned i = 0; i < d->worker_count; i++) {
        worker_free(d->workers[i]);
    }
    sockets_free(d->sockets);
    pid_file_remove(d->prepared->config->state_directory.text);
    policy_unref(&d->prepared->policy);
    free_list(atomic_exchange(&d->buried, NULL));
    shared_release(&d->shared);
    free(d->outcome.errors);
    log_event(d->log, LOG_INFO, "stopped", NULL);
    log_stop(d->log);
    uv_loop_close(&d->loop);
}

int daemon_run(const char *path)
{
    struct daemon d = {.path = path};
    early_signals_begin();
    struct diag_list *diags = diag_list_new();
    int status = load(&d, diags);
    diag_print(diags, stderr);
    diag_list_free(diags);
    if (status != EXIT_SUCCESS) {
        if (d.prepared != NULL) {
            policy_unref(&d.prepared->policy);
        }
        return status;
    }
    if (!start(&d)) {
        return EXIT_FAILURE; /* the process ends: so do its threads */
    }
    uv_run(&d.loop, UV_RUN_DEFAULT);
    release(&d);
    return EXIT_SUCCESS;
}
