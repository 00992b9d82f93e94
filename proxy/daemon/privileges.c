#include "proxy/daemon/privileges.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "proxy/daemon/readable.h"

static struct diag_place user_place(const struct config *config)
{
    return config_place(config, &config->user);
}

static struct diag_place nowhere(void)
{
    return (struct diag_place){NULL, 0, 0};
}

/* The configured user, found; false with the error that names the fix. */
static bool find_user(const struct config *config, struct account *out, struct diag_list *diags)
{
    const char *name = config->user.text;

    switch (account_find(name, out)) {
    case ACCOUNT_FOUND:
        break;
    case ACCOUNT_MISSING:
        diag_error(diags, user_place(config),
                   "user %s does not exist: make it with `adduser --system --group --home "
                   "/var/lib/splitmx --no-create-home %s`, or name another with `user:`",
                   name, name);
        return false;
    case ACCOUNT_FAILED:
        diag_error(diags, user_place(config), "cannot look up the user %s: %s", name,
                   strerror(errno));
        return false;
    }
    if (out->uid == 0) {
        diag_error(diags, user_place(config),
                   "`user` is %s, which is root: name one without privileges", name);
        account_release(out);
        return false;
    }
    return true;
}

static void check_state_directory(const struct config *config, const struct account *user,
                                  const struct stat *status, struct diag_list *diags)
{
    const char *path = config->state_directory.text;
    const struct diag_place place = config_place(config, &config->state_directory);

    if (!S_ISDIR(status->st_mode)) {
        diag_error(diags, place, "%s is not a directory", path);
    } else if (user && (status->st_uid != user->uid || (status->st_mode & S_IRWXU) != S_IRWXU)) {
        diag_error(diags, place,
                   "%s must belong to %s, who must be able to write to it: chown -R %s: %s && "
                   "chmod 700 %s",
                   path, user->name, user->name, path, path);
    } else if (!user && access(path, R_OK | W_OK | X_OK) != 0) {
        diag_error(diags, place, "cannot write to %s: %s", path, strerror(errno));
    } else if ((status->st_mode & S_IWOTH) != 0) {
        diag_warning(diags, place,
                     "%s may be written to by everyone, who could then say where mail goes: "
                     "chmod 700 %s",
                     path, path);
    }
}

static void give_state_directory(const char *path, const struct account *user,
                                 struct diag_place place, struct diag_list *diags)
{
    if (chown(path, user->uid, user->gid) != 0) {
        diag_error(diags, place, "cannot give the state directory to %s: %s", user->name,
                   strerror(errno));
        rmdir(path);
    }
}

/* user: whom it shall belong to; NULL: ourselves. */
static void make_state_directory(const struct config *config, const struct account *user,
                                 struct diag_list *diags)
{
    const char *path = config->state_directory.text;
    const struct diag_place place = config_place(config, &config->state_directory);
    struct stat status;

    if (mkdir(path, S_IRWXU) == 0) {
        if (user) {
            give_state_directory(path, user, place, diags);
        }
    } else if (errno != EEXIST) {
        diag_error(diags, place, "cannot make the state directory %s: %s", path, strerror(errno));
    } else if (stat(path, &status) != 0) {
        diag_error(diags, place, "cannot use the state directory %s: %s", path, strerror(errno));
    } else {
        check_state_directory(config, user, &status, diags);
    }
}

void privileges_state_directory(const struct config *config, struct diag_list *diags)
{
    const size_t before = diag_errors(diags);
    struct account user;

    if (geteuid() != 0) {
        make_state_directory(config, NULL, diags);
        return;
    }
    if (!find_user(config, &user, diags)) {
        return;
    }
    make_state_directory(config, &user, diags);
    if (diag_errors(diags) == before) {
        enterable_check(config->state_directory.text, &user,
                        config_place(config, &config->state_directory), diags);
    }
    account_release(&user);
}

static void check_text(const struct config *config, const struct config_text *text,
                       const struct account *user, struct diag_list *diags)
{
    if (text->text) {
        readable_check(text->text, user, config_place(config, text), diags);
    }
}

static void check_config_file(const struct config *config, const struct account *user,
                              struct diag_list *diags)
{
    const char *slash = strrchr(config->path, '/');
    char *path = NULL;

    if (asprintf(&path, "%s/%s", config->folder, slash ? slash + 1 : config->path) < 0) {
        diag_error(diags, nowhere(), "out of memory");
        return;
    }
    readable_check(path, user, nowhere(), diags);
    free(path);
}

void privileges_check(const struct config *config, struct diag_list *diags)
{
    struct account user;

    if (geteuid() != 0 || !find_user(config, &user, diags)) {
        return;
    }
    check_config_file(config, &user, diags);
    for (size_t i = 0; i < config->routes.count; i++) {
        check_text(config, &config->routes.items[i], &user, diags);
    }
    for (size_t i = 0; i < config->certificate_count; i++) {
        check_text(config, &config->certificates[i].certificate, &user, diags);
        check_text(config, &config->certificates[i].private_key, &user, diags);
    }
    for (size_t i = 0; i < config->relay_count; i++) {
        check_text(config, &config->relays[i].ca_file, &user, diags);
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
        diag_error(diags, nowhere(), "cannot set no-new-privileges: %s", strerror(errno));
        return false;
    }
    return true;
}
