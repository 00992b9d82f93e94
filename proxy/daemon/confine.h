/*
 * confine: from here on this process can do what it needs and little else, whoever gets hold of it:
 * system calls by a list (syscalls), files by folder (landlock), no core file, and nobody of its
 * own user looks into its memory.
 *
 * What the kernel does not have is left out; `splitmx status` says what is in force.
 *
 * Thread: confine() before any other thread starts, after privileges_drop(); the rest in any.
 */
#ifndef SPLITMX_PROXY_DAEMON_CONFINE_H
#define SPLITMX_PROXY_DAEMON_CONFINE_H

#include <sys/types.h>

#include "config/config.h"
#include "proxy/daemon/folder_list.h"

struct confinement {
    bool no_new_privileges;
    bool binds_low_ports; /* CAP_NET_BIND_SERVICE, the only capability that may be left */
    bool no_core;
    bool syscalls;
    int landlock;                 /* the kernel's version of it; 0: not in force */
    struct folder_list *readable; /* with it: what can be read, */
    struct folder_list *writable; /* and written: the state directory */
    uid_t user;
    char missing[96]; /* what is not in force, and why; "": nothing is missing */
};

/* The state directory must exist. What cannot be done is left out, and said in `missing`; false: no
 * memory, told. In a program built with a sanitizer, which needs more, nothing is done. */
bool confine(const struct config *config, struct confinement *out, struct diag_list *diags);
void confine_release(struct confinement *confinement);

/* Whether a file can be read, or an error that a restart is needed. What does not exist is not
 * judged. */
bool confine_reaches(const struct confinement *confinement, const char *path,
                     struct diag_place place, struct diag_list *diags);

/* The same for writing into the state directory. */
bool confine_reaches_state(const struct confinement *confinement, const struct config *config,
                           struct diag_list *diags);

/* The same as the first, for each file of a configuration. */
void confine_check(const struct confinement *confinement, const struct config *config,
                   struct diag_list *diags);

/* "no new privileges, system calls filtered, …"; the caller frees. NULL: no memory. */
char *confine_text(const struct confinement *confinement);

#endif
