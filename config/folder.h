/*
 * folder: what has to be sure of a folder's entries. Blocks as files do: never in an event loop.
 */
#ifndef SPLITMX_CONFIG_FOLDER_H
#define SPLITMX_CONFIG_FOLDER_H

#include <stdbool.h>

/* What was made, renamed or removed in it is on the disk. 0, or an errno. */
int folder_sync(const char *folder);

/* Whether what is at this path, a file or a folder, is still the one that the descriptor has. */
bool folder_has(const char *path, int fd);

#endif
