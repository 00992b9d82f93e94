/*
 * log: the sink of all records: puts time and level in front and writes them to standard error
 * (design: section 10).
 *
 * Writing never blocks on the descriptor: the line is copied into a bounded buffer that a thread of
 * the log's own writes out. A thread that logs for every message has a lane, a buffer that it
 * shares with no other, and waits for nobody. When a buffer is full lines are dropped and counted,
 * and the count is logged when there is room again. Lines of one lane stay in order; those of two
 * may be some milliseconds out of it. Where the descriptor is the journal's (JOURNAL_STREAM) each
 * begins with its priority, as sd-daemon(3) has it: <3> error, <4> warning, <6> info, <7> debug.
 * Thread: log_write from the lane's own; log_event, log_end from all; the rest from the main
 * thread.
 */
#ifndef SPLITMX_PROXY_DAEMON_LOG_H
#define SPLITMX_PROXY_DAEMON_LOG_H

#include "config/config.h"
#include "config/diag.h"
#include "proxy/wire/record.h"

struct log;

/* NULL when the thread cannot be started. Writes to descriptor fd. */
struct log *log_start(int fd, enum config_log_level level, enum config_log_format format);
void log_configure(struct log *log, enum config_log_level level, enum config_log_format format);
/* From here on the log's thread shows what it writes, lane by lane, in pieces that may end within a
 * line. NULL: to nobody; nobody is being shown anything any more when it returns. */
void log_watch(struct log *log, void (*see)(void *context, struct span bytes), void *context);
/* Writes out what is buffered, ends the thread. */
void log_stop(struct log *log);

struct log_lane;

/* For one thread, until log_stop, which frees it. NULL: memory is short. */
struct log_lane *log_lane_open(struct log *log);

/* A record's inside, as record_end returns it, in the format the log was configured with. */
void log_write(struct log_lane *lane, enum config_log_level level, struct span record);

/* An event of the daemon's own whose values are not all text: begun, filled, and written by
 * log_end. */
void log_begin(struct log *log, struct record *record, const char *event);
void log_end(struct log *log, enum config_log_level level, struct record *record);

/* An event of the daemon's own: `pairs` are key, value, key, value, …, NULL. */
void log_event(struct log *log, enum config_log_level level, const char *event, ...)
    __attribute__((sentinel));

/* Every diagnostic as one event=configuration line. */
void log_diags(struct log *log, const struct diag_list *diags);

/* What `run` says on standard error before log_start, marked in the same way: "splitmx: " and a
 * line, which is an error; every diagnostic, as diag_print does. Main thread. */
void log_early_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_early_diags(const struct diag_list *diags);

#endif
