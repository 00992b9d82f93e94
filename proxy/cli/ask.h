/*
 * ask: the commands that talk to the daemon: where it is, and its answer. options.h has what most
 * of them need.
 */
#ifndef SPLITMX_PROXY_CLI_ASK_H
#define SPLITMX_PROXY_CLI_ASK_H

#include <stdbool.h>
#include <stddef.h>

/*
 * The state directory that this configuration names, also when the rest of it is broken: a reload
 * has to reach the daemon to be told what is wrong. Owned by the caller; NULL with errors printed
 * when the file cannot be read.
 */
char *ask_state_directory(const char *config_path);

/* The daemon's status, or -1 with *error when there is none; its text, which the caller frees: NULL
 * when memory is short. */
int ask_daemon(const char *directory, const char *verb, unsigned timeout, char **answer,
               size_t *length, int *error);

/* Whether both names lead to one file. */
bool ask_is_same_file(const char *a, const char *b);

/* Whether by this error no daemon runs. */
bool ask_is_nobody(int error);
void ask_tell_unreachable(const char *directory, const char *config_path, unsigned timeout,
                          int error);

#endif
