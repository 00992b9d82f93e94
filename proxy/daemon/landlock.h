/*
 * landlock: what of the file system this process, and all that come from it, can still open
 * (landlock(7), Linux 5.13 and newer).
 *
 * Thread: before any other thread starts, for each thread is confined by itself. No-new-privileges
 * must be set.
 */
#ifndef SPLITMX_PROXY_DAEMON_LANDLOCK_H
#define SPLITMX_PROXY_DAEMON_LANDLOCK_H

#include "proxy/daemon/folder_list.h"

/*
 * From here on files can be read in the folders of `readable` only, and written, made and removed
 * in those of `writable` only (folders can be listed everywhere); nothing can be executed, and no
 * process outside be sent a signal.
 * Descriptors that are open stay as they are. Returns the version of what the kernel offers, 0 with
 * errno when nothing has changed (ENOSYS, EOPNOTSUPP: this kernel has it not, or not switched on).
 */
int landlock_confine(const struct folder_list *readable, const struct folder_list *writable);

#endif
