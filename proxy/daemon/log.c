#include "proxy/daemon/log.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define BUFFER_SIZE ((size_t)1 << 20)
#define PREFIX_MAX  80
/* Bytes that a pipe which polls as writable takes without blocking (pipe(7), PIPE_BUF). */
#define CHUNK      4096
#define STALL_STEP 500 /* milliseconds between looks at whether log_stop has been called */
#define STALL_LIMIT                                                                                \
    2000 /* a descriptor that takes nothing for so long loses the rest at log_stop */

struct log {
    int fd;
    atomic_int level;
    atomic_int format;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    /* Under the mutex. */
    char *filling;
    size_t filled;
    uint64_t dropped; /* lines since the buffers were last exchanged */
    bool stopping;
    /* The thread's own. */
    char *writing;
};

static const char *const level_names[] = {
    [LOG_ERROR] = "error",
    [LOG_WARNING] = "warning",
    [LOG_INFO] = "info",
    [LOG_DEBUG] = "debug",
};

/* What stands in front of a record, whose first byte tells its format: so that a line is never half
 * of one and half of the other while a reload changes it. */
static void put_prefix(struct text *out, enum config_log_level level, bool json)
{
    struct timespec now;
    struct tm utc;
    char second[32] = "";

    clock_gettime(CLOCK_REALTIME, &now);
    if (gmtime_r(&now.tv_sec, &utc)) {
        strftime(second, sizeof(second), "%Y-%m-%dT%H:%M:%S", &utc);
    }
    text_printf(out, json ? "{\"time\":\"%s.%03ldZ\",\"level\":\"%s\"," : "%s.%03ldZ %s ", second,
                now.tv_nsec / 1000000, level_names[level]);
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

    for (;;) {
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
            return false;
        }
    }
}

/* A blocking write could keep the process from ending, and O_NONBLOCK would reach everyone who
 * shares the descriptor: so no more is written than is certain to be taken. */
static void write_out(struct log *log, struct span bytes)
{
    while (bytes.len > 0) {
        if (!wait_writable(log)) {
            return;
        }
        const ssize_t n = write(log->fd, bytes.ptr, bytes.len < CHUNK ? bytes.len : CHUNK);
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
    put_prefix(&text, LOG_WARNING, json);
    text_put(&text, record_end(&record));
    text_puts(&text, json ? "}\n" : "\n");
    write_out(log, text_span(&text));
}

static void *log_thread(void *argument)
{
    struct log *log = argument;

    pthread_mutex_lock(&log->mutex);
    for (;;) {
        while (log->filled == 0 && log->dropped == 0 && !log->stopping) {
            pthread_cond_wait(&log->wake, &log->mutex);
        }
        if (log->filled == 0 && log->dropped == 0) {
            break;
        }
        const struct span bytes = span_make(log->filling, log->filled);
        const uint64_t dropped = log->dropped;
        char *const empty = log->writing;
        log->writing = log->filling;
        log->filling = empty;
        log->filled = 0;
        log->dropped = 0;
        pthread_mutex_unlock(&log->mutex);
        write_out(log, bytes);
        if (dropped > 0) {
            write_dropped(log, dropped);
        }
        pthread_mutex_lock(&log->mutex);
    }
    pthread_mutex_unlock(&log->mutex);
    return NULL;
}

static void log_free(struct log *log)
{
    free(log->filling);
    free(log->writing);
    pthread_cond_destroy(&log->wake);
    pthread_mutex_destroy(&log->mutex);
    free(log);
}

struct log *log_start(int fd, enum config_log_level level, enum config_log_format format)
{
    struct log *log = calloc(1, sizeof(*log));
    sigset_t all, before;

    if (!log) {
        return NULL;
    }
    log->fd = fd;
    log_configure(log, level, format);
    pthread_mutex_init(&log->mutex, NULL);
    pthread_cond_init(&log->wake, NULL);
    log->filling = malloc(BUFFER_SIZE);
    log->writing = malloc(BUFFER_SIZE);
    /* The C library reads the time zone's file at the first conversion: not on an event loop. */
    tzset();
    /* The daemon's signals are its loop's, and a reader that went away is EPIPE here. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const bool started =
        log->filling && log->writing && pthread_create(&log->thread, NULL, log_thread, log) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!started) {
        log_free(log);
        return NULL;
    }
    return log;
}

void log_configure(struct log *log, enum config_log_level level, enum config_log_format format)
{
    atomic_store_explicit(&log->level, (int)level, memory_order_relaxed);
    atomic_store_explicit(&log->format, (int)format, memory_order_relaxed);
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

static void append(struct log *log, struct span bytes)
{
    memcpy(log->filling + log->filled, bytes.ptr, bytes.len);
    log->filled += bytes.len;
}

void log_write(struct log *log, enum config_log_level level, struct span record)
{
    char buffer[PREFIX_MAX];
    struct text prefix = TEXT(buffer);
    const bool json = record.len > 0 && record.ptr[0] == '"';
    const struct span end = json ? SPAN("}\n") : SPAN("\n");

    if ((int)level > atomic_load_explicit(&log->level, memory_order_relaxed)) {
        return;
    }
    put_prefix(&prefix, level, json);
    pthread_mutex_lock(&log->mutex);
    const bool was_idle = log->filled == 0 && log->dropped == 0;
    if (prefix.len + record.len + end.len > BUFFER_SIZE - log->filled) {
        log->dropped++;
    } else {
        append(log, text_span(&prefix));
        append(log, record);
        append(log, end);
    }
    if (was_idle) {
        pthread_cond_signal(&log->wake);
    }
    pthread_mutex_unlock(&log->mutex);
}

void log_event(struct log *log, enum config_log_level level, const char *event, ...)
{
    struct record record;
    va_list pairs;

    record_begin(&record, atomic_load_explicit(&log->format, memory_order_relaxed) == LOG_JSON
                              ? LOG_JSON
                              : LOG_TEXT);
    record_str(&record, "event", event);
    va_start(pairs, event);
    for (const char *key = va_arg(pairs, const char *); key; key = va_arg(pairs, const char *)) {
        record_str(&record, key, va_arg(pairs, const char *));
    }
    va_end(pairs);
    log_write(log, level, record_end(&record));
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
