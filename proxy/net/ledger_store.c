#include "proxy/net/ledger_store.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "proxy/net/ledger_file.h"
#include "proxy/net/ledger_reader.h"

#define LINGER         10          /* milliseconds, for what nobody waits for */
#define RETRY          1000        /* milliseconds between attempts to become usable */
#define TELL_AGAIN     60000       /* milliseconds, at least, until another reason is logged */
#define CHUNK          (64 * 1024) /* octets that are taken of the ledger at once */
#define NO_MEMORY_MOST 30          /* attempts to read the file that fail for want of memory */
#define FULL           "it is full (`ledger: max-size`)"

struct ledger_store {
    struct ledger_store_options options;
    struct ledger *ledger;
    pthread_t thread;
    bool is_started;
    pthread_mutex_t mutex; /* of these */
    pthread_cond_t wake;
    bool is_pending, is_soon, is_stopping;
    uint64_t max_size;
    char why[LEDGER_WHY];
    /* The thread's own; before it starts, the loader's. */
    struct ledger_file file;
    int lock;                  /* -1: not ours */
    bool is_loaded, is_broken; /* what was there is read; and is to be set aside */
    bool is_writable;          /* the file is open, and holds what the ledger has given */
    bool is_full;
    uint64_t told_full_at;  /* 0: never */
    unsigned no_memory;     /* attempts */
    uint64_t told_at;       /* that it is unusable; 0: it was not told since it was usable */
    bool is_given;          /* the ledger had something to write */
    uint64_t restored;      /* sets */
    uint64_t last_restored; /* its number */
    uint64_t dropped;       /* sets for which there was no room */
    char broken_why[LEDGER_WHY];
};

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void tell(const struct ledger_store *store, struct ledger_event event)
{
    event.file = store->file.path;
    store->options.on_event(store->options.context, &event);
}

/* ---- whether it is usable ---- */

static void set_why(struct ledger_store *store, const char *why)
{
    pthread_mutex_lock(&store->mutex);
    struct text text = TEXT(store->why);
    text_puts(&text, why);
    pthread_mutex_unlock(&store->mutex);
}

/* Told once, and again when it has another reason; but a disk that is full in many words is not
 * told by the second. */
static void unusable(struct ledger_store *store, const char *why)
{
    const uint64_t now = now_ms();
    const bool again = strcmp(store->why, why) != 0 && now - store->told_at >= TELL_AGAIN;
    store->is_writable = false;
    set_why(store, why);
    ledger_failed(store->ledger); /* who waited, and asks why, is told */
    if (store->told_at == 0 || again) {
        store->told_at = now;
        tell(store, (struct ledger_event){LOG_ERROR, "ledger-unusable", .why = why});
    }
}

static void usable(struct ledger_store *store)
{
    set_why(store, "");
    if (store->told_at != 0) {
        store->told_at = 0;
        tell(store, (struct ledger_event){LOG_WARNING, "ledger-usable", .why = NULL});
    }
}

/* Told when it fills up; one that comes and goes at its bound is not told each time. */
static void look_at_room(struct ledger_store *store)
{
    struct ledger_state state;
    ledger_tell(store->ledger, &state);
    const uint64_t now = now_ms();
    if (!state.usable && !store->is_full &&
        (store->told_full_at == 0 || now - store->told_full_at >= TELL_AGAIN)) {
        store->told_full_at = now;
        tell(store, (struct ledger_event){LOG_ERROR, "ledger-full", .why = FULL});
    }
    store->is_full = !state.usable;
}

/* ---- writing ---- */

static void put(void *context, uint64_t set, struct span record)
{
    struct ledger_store *store = context;
    store->is_given = true;
    ledger_file_put(&store->file, set, record);
}

/* What has changed goes to the file. Returns up to where; 0: memory is short. */
static uint64_t take_all(struct ledger_store *store)
{
    uint64_t taken = 0;
    do {
        store->is_given = false;
        taken = ledger_take(store->ledger, CHUNK, put, store);
    } while (taken == 0 && store->is_given && store->file.error == 0);
    return taken;
}

static uint64_t max_size_of(struct ledger_store *store)
{
    pthread_mutex_lock(&store->mutex);
    uint64_t size = store->max_size;
    pthread_mutex_unlock(&store->mutex);
    return size;
}

/* One group, into a file that was begun or created: all that has changed. */
static bool write_group(struct ledger_store *store)
{
    const uint64_t taken = take_all(store);
    if (!ledger_file_commit(&store->file)) {
        return false;
    }
    if (taken == 0) {
        snprintf(store->file.why, sizeof store->file.why, "out of memory");
        return false;
    }
    store->is_writable = true;
    ledger_written(store->ledger, taken);
    look_at_room(store);
    return true;
}

static void write_changes(struct ledger_store *store)
{
    if (!ledger_file_begin(&store->file, max_size_of(store)) || !write_group(store)) {
        ledger_file_close(&store->file);
        unusable(store, store->file.why);
    }
}

/* ---- becoming usable ---- */

/* Another process may have it: one that was started on this folder before, or a command. */
static bool hold_lock(struct ledger_store *store)
{
    if (store->lock >= 0 && ledger_file_locked(&store->file, store->lock)) {
        return true;
    }
    if (store->lock >= 0) { /* the folder is another now */
        close(store->lock);
    }
    store->lock = ledger_file_lock(&store->file);
    if (store->lock < 0) {
        snprintf(store->file.why, sizeof store->file.why, LEDGER_LOCK ": %s",
                 errno == EWOULDBLOCK ? "another process has it locked" : strerror(errno));
    }
    return store->lock >= 0;
}

static bool restore(void *context, uint64_t set, struct span record)
{
    struct ledger_store *store = context;
    struct ledger_state state;
    if (set <= store->last_restored) { /* by an attempt that was cut short */
        return store->no_memory > 0;
    }
    if (ledger_restore(store->ledger, set, record)) {
        store->last_restored = set;
        store->restored++;
        return true;
    }
    ledger_tell(store->ledger, &state);
    if (state.size < max_size_of(store)) {
        return false;
    }
    store->dropped++;
    return true;
}

/* False: not now. */
static bool read_old(struct ledger_store *store)
{
    struct text why = TEXT(store->file.why);
    switch (ledger_read(store->file.path, restore, store, &why)) {
    case LEDGER_READ_FINE:
    case LEDGER_READ_NONE:
        break;
    case LEDGER_READ_NOT_NOW:
        return false;
    case LEDGER_READ_NO_MEMORY:
        if (++store->no_memory < NO_MEMORY_MOST) {
            return false;
        }
        store->is_broken = true;
        break;
    case LEDGER_READ_BROKEN:
        store->is_broken = true;
        break;
    }
    struct text broken = TEXT(store->broken_why);
    text_printf(&broken, "%s; sets kept: %llu", store->file.why,
                (unsigned long long)store->restored);
    store->is_loaded = true;
    ledger_failed(store->ledger); /* all of it has to be written anew */
    return true;
}

static bool set_aside(struct ledger_store *store)
{
    char name[LEDGER_PATH_MAX + 64];
    struct text kept = TEXT(name);
    if (!ledger_file_set_aside(&store->file, &kept)) {
        return false;
    }
    store->is_broken = false;
    tell(store, (struct ledger_event){LOG_ERROR, "ledger-broken", .kept_as = name,
                                      .why = store->broken_why});
    return true;
}

/* All that is known goes to a new file, in place of what there was. */
static bool renew(struct ledger_store *store)
{
    return hold_lock(store) && (store->is_loaded || read_old(store)) &&
           (!store->is_broken || set_aside(store)) &&
           ledger_file_create(&store->file, max_size_of(store)) && write_group(store);
}

bool ledger_store_load(struct ledger_store *store)
{
    if (!renew(store)) {
        ledger_file_close(&store->file);
        unusable(store, store->file.why);
        return false;
    }
    usable(store);
    if (store->dropped > 0) {
        char why[LEDGER_WHY];
        snprintf(why, sizeof why, FULL "; sets of the old file that are forgotten: %llu",
                 (unsigned long long)store->dropped);
        tell(store, (struct ledger_event){LOG_ERROR, "ledger-full", .why = why});
        store->dropped = 0;
    }
    return true;
}

/* ---- the thread ---- */

/* From any thread, with the ledger's lock held. */
static void on_changed(void *context, bool soon)
{
    struct ledger_store *store = context;
    pthread_mutex_lock(&store->mutex);
    const bool wakes = !store->is_pending || (soon && !store->is_soon);
    store->is_pending = true;
    store->is_soon = store->is_soon || soon;
    if (wakes) {
        pthread_cond_signal(&store->wake);
    }
    pthread_mutex_unlock(&store->mutex);
}

/* With the mutex: sleeps until woken. False: the time is over. */
static bool sleep_until(struct ledger_store *store, uint64_t deadline)
{
    const struct timespec until = {.tv_sec = (time_t)(deadline / 1000),
                                   .tv_nsec = (long)(deadline % 1000) * 1000000};
    return pthread_cond_timedwait(&store->wake, &store->mutex, &until) != ETIMEDOUT;
}

/* Until there is something to do. False: the end. */
static bool await(struct ledger_store *store)
{
    pthread_mutex_lock(&store->mutex);
    while (store->is_writable && !store->is_pending && !store->is_stopping) {
        pthread_cond_wait(&store->wake, &store->mutex);
    }
    const uint64_t deadline = now_ms() + (store->is_writable ? LINGER : RETRY);
    while (!store->is_stopping && !(store->is_writable && store->is_soon) &&
           sleep_until(store, deadline)) {
        continue;
    }
    store->is_pending = store->is_soon = false;
    const bool goes_on = !store->is_stopping;
    pthread_mutex_unlock(&store->mutex);
    return goes_on;
}

static void write_or_renew(struct ledger_store *store)
{
    if (store->is_writable) {
        write_changes(store);
    } else {
        ledger_store_load(store);
    }
}

static void *run(void *context)
{
    struct ledger_store *store = context;
    while (await(store)) {
        write_or_renew(store);
    }
    return NULL;
}

/* ---- life ---- */

static bool init_wake(struct ledger_store *store)
{
    pthread_condattr_t attributes;
    if (pthread_condattr_init(&attributes) != 0) {
        return false;
    }
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    const bool good = pthread_cond_init(&store->wake, &attributes) == 0;
    pthread_condattr_destroy(&attributes);
    return good && pthread_mutex_init(&store->mutex, NULL) == 0;
}

/* On a machine of 32 bits no more than it can address. */
static size_t in_memory(uint64_t max_size)
{
    return max_size < SIZE_MAX ? (size_t)max_size : SIZE_MAX;
}

struct ledger_store *ledger_store_new(const struct ledger_store_options *options)
{
    struct ledger_store *store = calloc(1, sizeof *store);
    if (store == NULL) {
        return NULL;
    }
    const struct ledger_options ledger = {.seed = options->seed,
                                          .retry_window = options->retry_window / 1000,
                                          .max_size = in_memory(options->max_size),
                                          .changed = on_changed,
                                          .store = store};
    store->options = *options;
    store->max_size = options->max_size;
    store->lock = -1;
    if (!ledger_file_init(&store->file, options->directory) || !init_wake(store)) {
        free(store);
        return NULL;
    }
    store->ledger = ledger_new(&ledger);
    if (store->ledger == NULL) {
        ledger_store_free(store);
        return NULL;
    }
    return store;
}

struct ledger *ledger_store_ledger(const struct ledger_store *store)
{
    return store->ledger;
}

bool ledger_store_start(struct ledger_store *store)
{
    sigset_t all, before;
    sigfillset(&all); /* signals are the main thread's */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    store->is_started = pthread_create(&store->thread, NULL, run, store) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return store->is_started;
}

static void stop(struct ledger_store *store)
{
    pthread_mutex_lock(&store->mutex);
    store->is_stopping = true;
    pthread_cond_signal(&store->wake);
    pthread_mutex_unlock(&store->mutex);
    pthread_join(store->thread, NULL);
}

bool ledger_store_free(struct ledger_store *store)
{
    if (store == NULL) {
        return true;
    }
    if (store->is_started) {
        stop(store);
    }
    if (store->is_loaded) {
        write_or_renew(store);
    }
    const bool good = store->is_writable || !store->is_loaded;
    ledger_file_close(&store->file);
    if (store->lock >= 0) {
        close(store->lock);
    }
    ledger_free(store->ledger);
    pthread_cond_destroy(&store->wake);
    pthread_mutex_destroy(&store->mutex);
    free(store);
    return good;
}

/* ---- others ---- */

void ledger_store_configure(struct ledger_store *store, uint64_t retry_window, uint64_t max_size)
{
    pthread_mutex_lock(&store->mutex);
    store->max_size = max_size;
    pthread_mutex_unlock(&store->mutex);
    ledger_configure(store->ledger, retry_window / 1000, in_memory(max_size));
}

void ledger_store_tell(struct ledger_store *store, struct ledger_store_state *out)
{
    struct text why = TEXT(out->why);
    ledger_tell(store->ledger, &out->ledger);
    pthread_mutex_lock(&store->mutex);
    out->max_size = store->max_size;
    if (!out->ledger.usable) {
        text_puts(&why, store->why[0] != '\0' ? store->why : FULL);
    }
    pthread_mutex_unlock(&store->mutex);
}
