#include "proxy/daemon/log.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "config/civil.h"
#include "proxy/daemon/log_ring.h"

#define PREFIX_MAX 80
/* Bytes that a pipe which polls as writable takes without blocking (pipe(7), PIPE_BUF). */
#define CHUNK 4096
/* A line that finds the thread asleep is written at once. Those of so long afterwards,
 * milliseconds, are written together: waking a thread costs more than writing a line. */
#define GATHER     10
#define STALL_STEP 500 /* milliseconds between looks at whether log_stop has been called */
#define STALL_LIMIT                                                                                \
    2000 /* a descriptor that takes nothing for so long loses the rest at log_stop */

struct log_lane {
    struct log_lane *next;
    struct log *log;
    _Atomic uint64_t dropped; /* lines, since the thread last looked */
    struct log_ring ring;
};

struct log {
    int fd;
    bool is_journal; /* begins each line with its priority */
    bool is_file;    /* takes whatever it is given, without waiting for a reader */
    bool is_stuck;   /* took nothing when the log was to stop: what is left is lost */
    atomic_int level;
    atomic_int format;
    _Atomic(struct log_lane *) lanes;
    struct log_lane *common;    /* of all threads that have none of their own */
    pthread_mutex_t common_use; /* held by who writes to it */
    pthread_t thread;
    pthread_mutex_t watch_use; /* of the two below; held while something is shown */
    void (*see)(void *context, struct span bytes);
    void *see_context;
    atomic_bool asleep; /* the thread has found every lane empty */
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    bool stopping; /* under the mutex */
};

static const char *const level_names[] = {
    [LOG_ERROR] = "error",
    [LOG_WARNING] = "warning",
    [LOG_INFO] = "info",
    [LOG_DEBUG] = "debug",
};

/* Priorities as syslog(3) has them; sd-daemon(3) has them so in front of a line. */
static const char *const priorities[] = {
    [LOG_ERROR] = "<3>",
    [LOG_WARNING] = "<4>",
    [LOG_INFO] = "<6>",
    [LOG_DEBUG] = "<7>",
};

/* What the descriptor leads to is the journal: systemd says which file that is, for a stream that
 * has been sent elsewhere since then is none of its (systemd.exec(5), JOURNAL_STREAM). */
static bool is_journal(int fd)
{
    const char *stream = getenv("JOURNAL_STREAM");
    char buffer[64];
    struct text ours = TEXT(buffer);
    struct stat found;

    if (stream == NULL || fstat(fd, &found) != 0) {
        return false;
    }
    text_printf(&ours, "%llu:%llu", (unsigned long long)found.st_dev,
                (unsigned long long)found.st_ino);
    return span_equal(text_span(&ours), span_of(stream));
}

/* What stands in front of a record, whose first byte tells its format: so that a line is never half
 * of one and half of the other while a reload changes it. */
static void put_prefix(const struct log *log, struct text *out, enum config_log_level level,
                       bool json)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    const struct civil civil = civil_from_time(now.tv_sec);
    text_puts(out, log->is_journal ? priorities[level] : "");
    text_puts(out, json ? "{\"time\":\"" : "");
    text_digits(out, civil.year, 4);
    text_putc(out, '-');
    text_digits(out, civil.month + 1, 2);
    text_putc(out, '-');
    text_digits(out, civil.day, 2);
    text_putc(out, 'T');
    civil_put_clock(&civil, out);
    text_putc(out, '.');
    text_digits(out, (uint64_t)now.tv_nsec / 1000000, 3);
    text_puts(out, json ? "Z\",\"level\":\"" : "Z ");
    text_puts(out, level_names[level]);
    text_puts(out, json ? "\"," : " ");
}

static bool is_stopping(struct log *log)
{
    pthread_mutex_lock(&log->mutex);
    const bool stopping = log->stopping;
    pthread_mutex_unlock(&log->mutex);
    return stopping;
}

/* False when the descriptor is broken, or takes nothing while we are asked to stop. */
static bool wait_writable(struct log *log)
{
    int waited = 0;

    while (!log->is_file) {
        struct pollfd poller = {.fd = log->fd, .events = POLLOUT};
        const int ready = poll(&poller, 1, STALL_STEP);
        if (ready > 0) {
            return (poller.revents & (POLLNVAL | POLLERR)) == 0;
        }
        if (ready < 0 && errno != EINTR) {
            return false;
        }
        waited = is_stopping(log) ? waited + STALL_STEP : 0;
        if (waited >= STALL_LIMIT) {
            log->is_stuck = true;
            return false;
        }
    }
    return true;
}

/* What is written at once: others may write to the same pipe, so it ends where a line does. */
static size_t chunk_length(const struct log *log, struct span bytes)
{
    if (bytes.len <= CHUNK || log->is_file) {
        return bytes.len;
    }
    const char *end = memrchr(bytes.ptr, '\n', CHUNK);
    return end != NULL ? (size_t)(end - bytes.ptr) + 1 : CHUNK;
}

/* A blocking write could keep the process from ending, and O_NONBLOCK would reach everyone who
 * shares the descriptor: so no more is written than is certain to be taken. */
static void write_out(struct log *log, struct span bytes)
{
    while (bytes.len > 0 && !log->is_stuck) {
        if (!wait_writable(log)) {
            return;
        }
        const ssize_t n = write(log->fd, bytes.ptr, chunk_length(log, bytes));
        if (n > 0) {
            bytes = span_skip(bytes, (size_t)n);
        } else if (n < 0 && errno != EINTR && errno != EAGAIN) {
            return;
        }
    }
}

static void write_dropped(struct log *log, uint64_t dropped)
{
    struct record record;
    char line[PREFIX_MAX + 128];
    struct text text = TEXT(line);
    const bool json = atomic_load_explicit(&log->format, memory_order_relaxed) == LOG_JSON;

    record_begin(&record, json ? LOG_JSON : LOG_TEXT);
    record_str(&record, "event", "log-lines-dropped");
    record_number(&record, "lines", dropped);
    put_prefix(log, &text, LOG_WARNING, json);
    text_put(&text, record_end(&record));
    text_puts(&text, json ? "}\n" : "\n");
    write_out(log, text_span(&text));
}

/* ---- the thread ---- */

static void show(struct log *log, struct span bytes)
{
    pthread_mutex_lock(&log->watch_use);
    if (log->see) {
        log->see(log->see_context, bytes);
    }
    pthread_mutex_unlock(&log->watch_use);
}

/* Writes what the lane holds; false when that was nothing. */
static bool lane_drain(struct log *log, struct log_lane *lane)
{
    const uint64_t dropped = atomic_exchange(&lane->dropped, 0);
    bool any = dropped != 0;
    struct span bytes = log_ring_peek(&lane->ring);
    while (bytes.len > 0) {
        show(log, bytes);
        write_out(log, bytes);
        log_ring_take(&lane->ring, bytes.len);
        bytes = log_ring_peek(&lane->ring);
        any = true;
    }
    if (dropped > 0) {
        write_dropped(log, dropped);
    }
    return any;
}

static bool drain(struct log *log)
{
    bool any = false;
    for (struct log_lane *lane = atomic_load(&log->lanes); lane; lane = lane->next) {
        any |= lane_drain(log, lane);
    }
    return any;
}

static bool is_empty(struct log *log)
{
    for (struct log_lane *lane = atomic_load(&log->lanes); lane; lane = lane->next) {
        if (log_ring_peek(&lane->ring).len > 0 || atomic_load(&lane->dropped) > 0) {
            return false;
        }
    }
    return true;
}

/* Until there is a line. It says that it sleeps and then looks once more, as lane_wake puts a line
 * and then looks whether it sleeps: one of the two sees the other. */
static void sleep_until_woken(struct log *log)
{
    pthread_mutex_lock(&log->mutex);
    atomic_store(&log->asleep, true);
    while (atomic_load(&log->asleep) && is_empty(log) && !log->stopping) {
        pthread_cond_wait(&log->wake, &log->mutex);
    }
    atomic_store(&log->asleep, false);
    pthread_mutex_unlock(&log->mutex);
}

static void gather(struct log *log)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += GATHER * 1000000L;
    until.tv_sec += until.tv_nsec / 1000000000L;
    until.tv_nsec %= 1000000000L;
    pthread_mutex_lock(&log->mutex);
    while (!log->stopping && pthread_cond_timedwait(&log->wake, &log->mutex, &until) == 0) {
    }
    pthread_mutex_unlock(&log->mutex);
}

static void *log_thread(void *argument)
{
    struct log *log = argument;

    for (;;) {
        const bool last = is_stopping(log); /* asked before the last look into the lanes */
        if (drain(log)) {
            gather(log);
        } else if (last) {
            return NULL;
        } else {
            sleep_until_woken(log);
        }
    }
}

/* ---- life ---- */

static void log_free(struct log *log)
{
    struct log_lane *lane = atomic_load(&log->lanes);
    while (lane) {
        struct log_lane *next = lane->next;
        free(lane);
        lane = next;
    }
    pthread_cond_destroy(&log->wake);
    pthread_mutex_destroy(&log->mutex);
    pthread_mutex_destroy(&log->common_use);
    pthread_mutex_destroy(&log->watch_use);
    free(log);
}

static void init_wake(pthread_cond_t *wake)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(wake, &attributes);
    pthread_condattr_destroy(&attributes);
}

struct log *log_start(int fd, enum config_log_level level, enum config_log_format format)
{
    struct log *log = calloc(1, sizeof(*log));
    struct stat found;
    sigset_t all, before;

    if (!log) {
        return NULL;
    }
    log->fd = fd;
    log->is_journal = is_journal(fd);
    log->is_file = fstat(fd, &found) == 0 && S_ISREG(found.st_mode);
    log_configure(log, level, format);
    pthread_mutex_init(&log->mutex, NULL);
    pthread_mutex_init(&log->common_use, NULL);
    pthread_mutex_init(&log->watch_use, NULL);
    init_wake(&log->wake);
    log->common = log_lane_open(log);
    /* The daemon's signals are its loop's, and a reader that went away is EPIPE here. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const bool started = log->common && pthread_create(&log->thread, NULL, log_thread, log) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!started) {
        log_free(log);
        return NULL;
    }
    return log;
}

struct log_lane *log_lane_open(struct log *log)
{
    struct log_lane *lane = aligned_alloc(alignof(struct log_lane), sizeof(*lane));
    if (!lane) {
        return NULL;
    }
    memset(lane, 0,
           offsetof(struct log_lane, ring.bytes)); /* the rest is touched when it is used */
    lane->log = log;
    lane->next = atomic_load(&log->lanes);
    while (!atomic_compare_exchange_weak(&log->lanes, &lane->next, lane)) {
    }
    return lane;
}

void log_configure(struct log *log, enum config_log_level level, enum config_log_format format)
{
    atomic_store_explicit(&log->level, (int)level, memory_order_relaxed);
    atomic_store_explicit(&log->format, (int)format, memory_order_relaxed);
}

void log_watch(struct log *log, void (*see)(void *context, struct span bytes), void *context)
{
    pthread_mutex_lock(&log->watch_use);
    log->see = see;
    log->see_context = context;
    pthread_mutex_unlock(&log->watch_use);
}

void log_stop(struct log *log)
{
    pthread_mutex_lock(&log->mutex);
    log->stopping = true;
    pthread_cond_signal(&log->wake);
    pthread_mutex_unlock(&log->mutex);
    pthread_join(log->thread, NULL);
    log_free(log);
}

/* ---- writing ---- */

static void lane_wake(struct log *log)
{
    atomic_thread_fence(memory_order_seq_cst); /* see sleep_until_woken */
    if (!atomic_load_explicit(&log->asleep, memory_order_relaxed) ||
        !atomic_exchange(&log->asleep, false)) {
        return;
    }
    pthread_mutex_lock(&log->mutex);
    pthread_cond_signal(&log->wake);
    pthread_mutex_unlock(&log->mutex);
}

void log_write(struct log_lane *lane, enum config_log_level level, struct span record)
{
    struct log *log = lane->log;
    char buffer[PREFIX_MAX];
    struct text prefix = TEXT(buffer);
    const bool json = record.len > 0 && record.ptr[0] == '"';

    if ((int)level > atomic_load_explicit(&log->level, memory_order_relaxed)) {
        return;
    }
    put_prefix(log, &prefix, level, json);
    const struct span line[] = {text_span(&prefix), record, json ? SPAN("}\n") : SPAN("\n")};
    if (!log_ring_put(&lane->ring, line, 3)) {
        atomic_fetch_add_explicit(&lane->dropped, 1, memory_order_relaxed);
    }
    lane_wake(log);
}

void log_begin(struct log *log, struct record *record, const char *event)
{
    record_begin(record, atomic_load_explicit(&log->format, memory_order_relaxed) == LOG_JSON
                             ? LOG_JSON
                             : LOG_TEXT);
    record_str(record, "event", event);
}

void log_end(struct log *log, enum config_log_level level, struct record *record)
{
    pthread_mutex_lock(&log->common_use);
    log_write(log->common, level, record_end(record));
    pthread_mutex_unlock(&log->common_use);
}

void log_event(struct log *log, enum config_log_level level, const char *event, ...)
{
    struct record record;
    va_list pairs;

    log_begin(log, &record, event);
    va_start(pairs, event);
    for (const char *key = va_arg(pairs, const char *); key; key = va_arg(pairs, const char *)) {
        record_str(&record, key, va_arg(pairs, const char *));
    }
    va_end(pairs);
    log_end(log, level, &record);
}

/* "file:line:column" as diag_format writes it, in one piece for those who search for it. */
static void put_place(const struct diag *diag, struct text *out)
{
    text_puts(out, diag->file);
    if (diag->line > 0) {
        text_printf(out, ":%u", diag->line);
    }
    if (diag->line > 0 && diag->column > 0) {
        text_printf(out, ":%u", diag->column);
    }
}

void log_diags(struct log *log, const struct diag_list *diags)
{
    for (size_t i = 0; i < diag_count(diags); i++) {
        const struct diag *diag = diag_at(diags, i);
        const enum config_log_level level = diag->level == DIAG_ERROR ? LOG_ERROR : LOG_WARNING;
        char buffer[1024];
        struct text place = TEXT(buffer);
        if (diag->file) {
            put_place(diag, &place);
            log_event(log, level, "configuration", "place", buffer, "message", diag->text, NULL);
        } else {
            log_event(log, level, "configuration", "message", diag->text, NULL);
        }
    }
}

/* ---- before there is a log ---- */

void log_early_error(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "%ssplitmx: ", is_journal(STDERR_FILENO) ? priorities[LOG_ERROR] : "");
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
}

void log_early_diags(const struct diag_list *diags)
{
    if (is_journal(STDERR_FILENO)) {
        diag_print_marked(diags, stderr, priorities[LOG_ERROR], priorities[LOG_WARNING]);
    } else {
        diag_print(diags, stderr);
    }
}
