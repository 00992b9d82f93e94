#include "proxy/daemon/confine.h"

#include <errno.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "config/sanitizer.h"
#include "proxy/daemon/config_files.h"
#include "proxy/daemon/landlock.h"
#include "proxy/daemon/prepare.h"
#include "proxy/daemon/syscalls.h"
#include "tls/context.h"

/* ---- what has to stay within reach ---- */

struct collecting {
    struct folder_list *readable;
    bool fine;
};

static void collect_file(void *context, const char *path, struct diag_place place)
{
    struct collecting *collecting = context;
    (void)place;
    collecting->fine = collecting->fine && folder_list_add_file(collecting->readable, path);
}

/* All that a reload opens again, and all that is written. False: no memory. */
static bool collect(const struct config *config, struct confinement *out)
{
    static const char *const system[] = {PREPARE_HOSTS_FILE, PREPARE_SERVERS_FILE};
    const char *store = tls_system_store();

    out->readable = folder_list_new();
    out->writable = folder_list_new();
    struct collecting collecting = {out->readable, out->readable && out->writable};
    collecting.fine = collecting.fine && config_files(config, collect_file, &collecting) &&
                      (!store || folder_list_add_file(out->readable, store)) &&
                      folder_list_add(out->writable, config->state_directory.text);
    for (size_t i = 0; collecting.fine && i < sizeof(system) / sizeof(system[0]); i++) {
        collecting.fine = folder_list_add_file(out->readable, system[i]);
    }
    return collecting.fine;
}

/* ---- the steps ---- */

static void note_missing(struct confinement *out, const char *what)
{
    const size_t len = strlen(out->missing);
    snprintf(out->missing + len, sizeof(out->missing) - len, "%s%s: %s", len > 0 ? "; " : "", what,
             strerror(errno));
}

static bool binds_low_ports(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {{0, 0, 0}};

    return syscall(SYS_capget, &header, data) == 0 &&
           (data[0].effective & (1u << CAP_NET_BIND_SERVICE)) != 0;
}

/* Keys, and mail, would be in it. Undumpable, a process cannot be traced by its own user either. */
static bool forbid_cores(void)
{
    const struct rlimit none = {0, 0};

    return setrlimit(RLIMIT_CORE, &none) == 0 && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0;
}

/* Each step takes away what the one before needed. */
static void confine_by_kernel(struct confinement *out)
{
    out->no_core = forbid_cores();
    if (!out->no_core) {
        note_missing(out, "core dumps off");
    }
    out->landlock = landlock_confine(out->readable, out->writable);
    if (out->landlock == 0) {
        note_missing(out, "Landlock");
    }
    out->syscalls = syscalls_confine();
    if (!out->syscalls) {
        note_missing(out, "seccomp");
    }
}

bool confine(const struct config *config, struct confinement *out, struct diag_list *diags)
{
    *out = (struct confinement){
        .no_new_privileges = prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1,
        .binds_low_ports = binds_low_ports(),
        .user = geteuid(),
    };
    tls_library_begin();
    if (SANITIZED) { /* it looks at its process through /proc and ptrace */
        snprintf(out->missing, sizeof(out->missing), "all else: this program has a sanitizer");
        return true;
    }
    if (!collect(config, out)) {
        confine_release(out);
        diag_machine(diags, "out of memory");
        return false;
    }
    confine_by_kernel(out);
    return true;
}

void confine_release(struct confinement *confinement)
{
    folder_list_free(confinement->readable);
    folder_list_free(confinement->writable);
    confinement->readable = confinement->writable = NULL;
}

/* ---- reload ---- */

static bool reaches(const struct confinement *confinement, const struct folder_list *folders,
                    const char *path, struct diag_place place, struct diag_list *diags)
{
    if (confinement->landlock == 0 || folder_list_has(folders, path)) {
        return true;
    }
    diag_error(diags, place,
               "%s is out of reach: since its start this process opens files only in the folders "
               "that it was started with (Landlock); that needs a restart",
               path);
    return false;
}

bool confine_reaches(const struct confinement *confinement, const char *path,
                     struct diag_place place, struct diag_list *diags)
{
    return reaches(confinement, confinement->readable, path, place, diags);
}

bool confine_reaches_state(const struct confinement *confinement, const struct config *config,
                           struct diag_list *diags)
{
    return reaches(confinement, confinement->writable, config->state_directory.text,
                   config_place(config, &config->state_directory), diags);
}

struct checking {
    const struct confinement *confinement;
    struct diag_list *diags;
};

static void check_file(void *context, const char *path, struct diag_place place)
{
    const struct checking *checking = context;
    confine_reaches(checking->confinement, path, place, checking->diags);
}

void confine_check(const struct confinement *confinement, const struct config *config,
                   struct diag_list *diags)
{
    struct checking checking = {confinement, diags};

    if (confinement->landlock == 0) {
        return;
    }
    if (!config_files(config, check_file, &checking)) {
        diag_machine(diags, "out of memory");
    }
}

/* ---- status ---- */

char *confine_text(const struct confinement *confinement)
{
    char landlock[48] = "", *text = NULL;

    if (confinement->landlock != 0) {
        snprintf(landlock, sizeof(landlock), ", files by folder (Landlock %d)",
                 confinement->landlock);
    }
    if (asprintf(&text, "uid %lu%s%s%s%s%s%s%s", (unsigned long)confinement->user,
                 confinement->binds_low_ports ? ", binds low ports" : "",
                 confinement->no_new_privileges ? ", no new privileges" : "",
                 confinement->syscalls ? ", system calls by list" : "", landlock,
                 confinement->no_core ? ", no core dumps" : "",
                 confinement->missing[0] != '\0' ? "; MISSING " : "", confinement->missing) < 0) {
        return NULL;
    }
    return text;
}
