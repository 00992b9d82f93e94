/*
 * folder_list: the folders that a confined process may read from.
 *
 * A folder is known by what it is (device and inode), as Landlock knows it: another one that comes
 * to stand under its name is not it.
 *
 * Thread: blocks on files.
 */
#ifndef SPLITMX_PROXY_DAEMON_FOLDER_LIST_H
#define SPLITMX_PROXY_DAEMON_FOLDER_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct folder_list;

struct folder_list *folder_list_new(void); /* NULL: no memory */
void folder_list_free(struct folder_list *list);

/* Adds the folder that a file is in: as its path is spelt, and where that leads. What does not
 * exist is left out. False: no memory. */
bool folder_list_add_file(struct folder_list *list, const char *path);
bool folder_list_add(struct folder_list *list, const char *path);

/* Whether what the path leads to is in one of the folders, or in one below. What does not exist is
 * not judged: true. */
bool folder_list_has(const struct folder_list *list, const char *path);

/* Calls `visit` with a descriptor (O_PATH) of each folder; stops at the first false, and returns
 * it. */
bool folder_list_each(const struct folder_list *list, bool (*visit)(void *context, int fd),
                      void *context);

#endif
