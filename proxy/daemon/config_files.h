/*
 * config_files: the files that a configuration names, itself among them: all that a start or a
 * reload reads of the operator's.
 */
#ifndef SPLITMX_PROXY_DAEMON_CONFIG_FILES_H
#define SPLITMX_PROXY_DAEMON_CONFIG_FILES_H

#include "config/config.h"

/* An absolute path, and where it is written. */
typedef void config_files_visit(void *context, const char *path, struct diag_place place);

/* Calls `visit` for each. False: no memory. */
bool config_files(const struct config *config, config_files_visit *visit, void *context);

#endif
