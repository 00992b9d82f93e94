/*
 * pid_file: splitmx.pid in the state directory, for scripts that send signals. The control socket,
 * not this file, says whether a daemon runs.
 */
#ifndef SPLITMX_PROXY_DAEMON_PID_FILE_H
#define SPLITMX_PROXY_DAEMON_PID_FILE_H

#include <stdbool.h>

/* Written whole or not at all. False with errno set. */
bool pid_file_write(const char *directory);
void pid_file_remove(const char *directory);

#endif
