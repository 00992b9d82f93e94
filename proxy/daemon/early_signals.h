/*
 * early_signals: what signals do from the first line of `run` until the main loop watches them.
 *
 * Thread: before any other thread starts.
 */
#ifndef SPLITMX_PROXY_DAEMON_EARLY_SIGNALS_H
#define SPLITMX_PROXY_DAEMON_EARLY_SIGNALS_H

/* SIGTERM and SIGINT end the process with 0, SIGHUP waits, SIGPIPE, SIGUSR1 and
 * SIGUSR2 are ignored for good. */
void early_signals_begin(void);

/* The loop watches: a SIGHUP that has waited is delivered. */
void early_signals_end(void);

#endif
