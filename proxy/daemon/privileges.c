#include "proxy/daemon/privileges.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/magic.h>
#include <pwd.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "proxy/daemon/config_files.h"
#include "proxy/daemon/control.h"
#include "proxy/daemon/readable.h"
#include "proxy/net/ledger_file.h"

static struct diag_place user_place(const struct config *config)
{
    return config_place(config, &config->user);
}

/* The configured user, found; false with the error that names the fix. */
static bool find_user(const struct config *config, struct account *out, struct diag_list *diags)
{
    const char *name = config->user.text;

    switch (account_find(name, out)) {
    case ACCOUNT_FOUND:
        break;
    case ACCOUNT_MISSING:
        if (name[strspn(name, "0123456789")] == '\0') {
            diag_error(
                diags, user_place(config),
                "`user` is a user's name, such as splitmx, and no number: no user is called %s",
                name);
            return false;
        }
        diag_error(diags, user_place(config),
                   "user %s does not exist: make it with `useradd --system --user-group "
                   "--no-create-home %s`, or name another with `user:`",
                   name, name);
        return false;
    case ACCOUNT_FAILED:
        diag_error(diags, user_place(config), "cannot look up the user %s: %s", name,
                   strerror(errno));
        return false;
    }
    if (out->uid == 0) {
        diag_error(diags, user_place(config),
                   "`user: %s` has all privileges: name one that has none, such as splitmx", name);
        account_release(out);
        return false;
    }
    return true;
}

/* ---- the state directory ---- */

/* The state directory as it is judged. */
struct state_look {
    const char *path;
    struct diag_place place;
    /* Whom it shall belong to, and whether we may write there is no matter: root in a container may
     * not (no CAP_DAC_OVERRIDE). NULL: ourselves. */
    const struct account *user;
    enum privileges_for purpose;
    struct diag_list *diags;
};

/* What another process owns there, and a daemon could neither use nor take away. */
static void look_at_socket(const struct state_look *look)
{
    struct stat status;
    char *path = NULL;

    if (asprintf(&path, "%s/" CONTROL_SOCKET, look->path) < 0) {
        diag_error(look->diags, DIAG_NOWHERE, "out of memory");
        return;
    }
    if (lstat(path, &status) == 0 && !S_ISSOCK(status.st_mode)) {
        diag_error(look->diags, look->place,
                   "%s is in the way of the daemon's socket, and is %s: move it away, or name "
                   "another `state-directory:`",
                   path, S_ISDIR(status.st_mode) ? "a folder" : "no socket");
    }
    free(path);
}

/* The ledger cannot do with what another user's daemon, or root's copying, has left. */
static void look_at_ledger(const struct state_look *look, const char *name)
{
    struct stat status;
    char *path = NULL;

    if (asprintf(&path, "%s/%s", look->path, name) < 0) {
        diag_error(look->diags, DIAG_NOWHERE, "out of memory");
        return;
    }
    const uid_t uid = look->user ? look->user->uid : geteuid();
    if (lstat(path, &status) == 0 && S_ISREG(status.st_mode) &&
        (status.st_uid != uid || (status.st_mode & (S_IRUSR | S_IWUSR)) != (S_IRUSR | S_IWUSR))) {
        diag_warning(look->diags, look->place,
                     "%s cannot be read and written by %s: until it can, each transaction has one "
                     "server only: chown %s %s && chmod 600 %s",
                     path, look->user ? look->user->name : "this user",
                     look->user ? look->user->name : "USER", path, path);
    }
    free(path);
}

/* Who can write there says where mail goes; who can only look sees no more than names. */
static void look_at_mode(const struct state_look *look, mode_t mode)
{
    if ((mode & (S_IWGRP | S_IWOTH)) != 0) {
        diag_error(look->diags, look->place,
                   "%s may be written to by %s, who could then say where mail goes: chmod 700 %s, "
                   "or name a folder in it, to be made",
                   look->path, (mode & S_IWOTH) != 0 ? "everyone" : "its group", look->path);
    } else if ((mode & S_IRWXO) != 0) {
        diag_warning(look->diags, look->place, "%s is open to everyone: chmod 700 %s", look->path,
                     look->path);
    }
}

/* Whoever checks need not be who runs: what only this user may not do is no error then. */
static void tell_no_access(const struct state_look *look, int error)
{
    if (error == EACCES && look->purpose == PRIVILEGES_TO_CHECK && geteuid() != 0) {
        diag_warning(look->diags, look->place,
                     "this user cannot write to the state directory %s; whoever runs splitmx must",
                     look->path);
    } else {
        diag_error(look->diags, look->place, "cannot write to the state directory %s: %s",
                   look->path, strerror(error));
    }
}

static void look_at_directory(const struct state_look *look, const struct stat *status)
{
    const struct account *user = look->user;

    if (!S_ISDIR(status->st_mode)) {
        diag_error(look->diags, look->place, "%s is not a directory", look->path);
    } else if (user && (status->st_uid != user->uid || (status->st_mode & S_IRWXU) != S_IRWXU)) {
        diag_error(look->diags, look->place,
                   "%s must belong to %s, who must be able to write to it: chown -R %s: %s && "
                   "chmod 700 %s",
                   look->path, user->name, user->name, look->path, look->path);
    } else if (!user && access(look->path, R_OK | W_OK | X_OK) != 0) {
        tell_no_access(look, errno);
    } else {
        look_at_mode(look, status->st_mode);
        look_at_socket(look);
        look_at_ledger(look, LEDGER_NAME);
        look_at_ledger(look, LEDGER_LOCK);
    }
}

/* Whether mkdir would succeed; 0, or the errno that it would fail with. */
static int would_make(const char *path)
{
    struct statfs system;
    char *parent = span_dup(span_of(path));
    int error = ENOMEM;

    if (!parent) {
        return error;
    }
    /* dirname(3) would do, but for its slashes at the end that we keep out of the path. */
    for (size_t end = strlen(parent); end > 1 && parent[end - 1] == '/'; end--) {
        parent[end - 1] = '\0';
    }
    const size_t slash = span_rfind(span_of(parent), '/');
    parent[slash > 0 ? slash : 1] = '\0';
    if (access(parent, W_OK | X_OK) != 0 || statfs(parent, &system) != 0) {
        error = errno;
    } else {
        /* Their access bits promise root what they do not keep. */
        error = system.f_type == PROC_SUPER_MAGIC || system.f_type == SYSFS_MAGIC ? EPERM : 0;
    }
    free(parent);
    return error;
}

static void look_at_state_directory(const struct state_look *look)
{
    struct stat status;

    if (stat(look->path, &status) == 0) {
        look_at_directory(look, &status);
        return;
    }
    const int error = errno == ENOENT ? would_make(look->path) : errno;
    if (error == EACCES) {
        tell_no_access(look, error);
    } else if (error != 0) {
        diag_error(look->diags, look->place, "cannot make the state directory %s: %s", look->path,
                   strerror(error));
    }
}

static void give_state_directory(const struct config *config, struct diag_list *diags)
{
    const char *path = config->state_directory.text;
    struct account user;

    if (!find_user(config, &user, diags)) {
        rmdir(path);
        return;
    }
    if (chown(path, user.uid, user.gid) != 0) {
        const int error = errno;
        struct diag_place place = config_place(config, &config->state_directory);
        if (error == EPERM) { /* a container's root may have fewer rights than root */
            diag_error(diags, place,
                       "cannot give the state directory to %s: %s; this root lacks CAP_CHOWN: "
                       "grant it, or make %s before, belonging to %s, or start as %s",
                       user.name, strerror(error), path, user.name, user.name);
        } else {
            diag_error(diags, place, "cannot give the state directory to %s: %s", user.name,
                       strerror(error));
        }
        rmdir(path);
    }
    account_release(&user);
}

void privileges_state_directory(const struct config *config, struct diag_list *diags)
{
    const char *path = config->state_directory.text;
    sigset_t all, before;

    /* A stop between the two steps would leave it to root. */
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    if (mkdir(path, S_IRWXU) != 0) {
        if (errno != EEXIST) {
            diag_error(diags, config_place(config, &config->state_directory),
                       "cannot make the state directory %s: %s", path, strerror(errno));
        }
    } else if (geteuid() == 0) {
        give_state_directory(config, diags);
    }
    sigprocmask(SIG_SETMASK, &before, NULL);
}

/* ---- what a reload reads ---- */

struct reader {
    const struct account *user;
    struct diag_list *diags;
};

static void check_file(void *context, const char *path, struct diag_place place)
{
    const struct reader *reader = context;
    readable_check(path, reader->user, place, reader->diags);
}

void privileges_check(const struct config *config, enum privileges_for purpose,
                      struct diag_list *diags)
{
    struct account user;
    struct state_look look = {.path = config->state_directory.text,
                              .place = config_place(config, &config->state_directory),
                              .purpose = purpose,
                              .diags = diags};

    if (geteuid() != 0) {
        look_at_state_directory(&look);
        return;
    }
    if (!find_user(config, &user, diags)) {
        return;
    }
    struct reader reader = {&user, diags};
    if (!config_files(config, check_file, &reader)) {
        diag_error(diags, DIAG_NOWHERE, "out of memory");
    }
    look.user = &user;
    const size_t before = diag_errors(diags);
    look_at_state_directory(&look);
    if (diag_errors(diags) == before) {
        enterable_check(look.path, &user, look.place, diags);
    }
    account_release(&user);
}

/* ---- the switch ---- */

/* Only this right is kept, where we have it (a container may have taken it away before). */
static bool keep_one_capability(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {{0, 0, 0}};
    const unsigned bind_low = 1u << CAP_NET_BIND_SERVICE;

    if (syscall(SYS_capget, &header, data) != 0) {
        return false;
    }
    const unsigned kept = data[0].permitted & bind_low;
    for (size_t i = 0; i < _LINUX_CAPABILITY_U32S_3; i++) {
        data[i] = (struct __user_cap_data_struct){0, 0, 0};
    }
    data[0].permitted = data[0].effective = kept;
    return syscall(SYS_capset, &header, data) == 0;
}

/* Nothing that this process could ever execute gets more. */
static bool limit_capabilities(void)
{
    for (unsigned long capability = 0; capability < 64; capability++) {
        /* EINVAL: beyond the last that this kernel knows. EPERM: we may not, and have less already.
         */
        if (capability != CAP_NET_BIND_SERVICE &&
            prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0 && errno != EINVAL && errno != EPERM) {
            return false;
        }
    }
    return true;
}

/* NULL, or what failed, with errno. */
static const char *switch_to(const struct account *user)
{
    if (!limit_capabilities()) {
        return "limit capabilities";
    }
    if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) != 0) {
        return "keep capabilities";
    }
    if (setgroups(user->group_count, user->groups) != 0) {
        return "set groups";
    }
    if (setresgid(user->gid, user->gid, user->gid) != 0) {
        return "set the group";
    }
    if (setresuid(user->uid, user->uid, user->uid) != 0) {
        return "set the user";
    }
    if (!keep_one_capability()) {
        return "drop capabilities";
    }
    if (prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0) != 0) {
        return "end the keeping of capabilities";
    }
    if (setuid(0) == 0 || setgid(0) == 0 || geteuid() != user->uid) {
        errno = EPERM;
        return "make sure that there is no way back to root";
    }
    return NULL;
}

bool privileges_drop(const struct config *config, struct diag_list *diags)
{
    if (geteuid() == 0) {
        struct account user;
        if (!find_user(config, &user, diags)) {
            return false;
        }
        const char *failed = switch_to(&user);
        if (failed) {
            diag_error(diags, user_place(config), "cannot become the user %s: cannot %s: %s",
                       user.name, failed, strerror(errno));
        }
        account_release(&user);
        if (failed) {
            return false;
        }
    }
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
        diag_error(diags, DIAG_NOWHERE, "cannot set no-new-privileges: %s", strerror(errno));
        return false;
    }
    return true;
}
