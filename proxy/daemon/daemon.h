/*
 * daemon: `splitmx run`: workers, signals, reload, control socket, drain (design: sections 8 and
 * 11).
 */
#ifndef SPLITMX_PROXY_DAEMON_DAEMON_H
#define SPLITMX_PROXY_DAEMON_DAEMON_H

/* Serves until SIGTERM or SIGINT. Returns the exit status: 0, 1 or 78. Errors have been printed to
 * standard error. */
int daemon_run(const char *config_path);

#endif
