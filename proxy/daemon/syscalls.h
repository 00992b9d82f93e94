/*
 * syscalls: the system calls that this process, and all that come from it, can still make
 * (seccomp(2)): an allow-list.
 *
 * Thread: before any other thread starts. No-new-privileges must be set.
 */
#ifndef SPLITMX_PROXY_DAEMON_SYSCALLS_H
#define SPLITMX_PROXY_DAEMON_SYSCALLS_H

#include <stdbool.h>

/*
 * What is not on the list fails with ENOSYS, as on a kernel that lacks it: every library has an
 * answer to that, and a newer one that tries something newer goes on with what it did before. No
 * program can be started, no memory made executable, no other kind of socket opened. False with
 * errno when nothing has changed.
 */
bool syscalls_confine(void);

#endif
