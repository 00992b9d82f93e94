#include "proxy/daemon/readable.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "config/span.h"

#define PASSWD_BUFFER 16384
#define GROUPS_FIRST  32

/* All groups of the user into out. */
static bool find_groups(struct account *out)
{
    int count = GROUPS_FIRST;

    for (;;) {
        const int room = count;
        gid_t *groups = realloc(out->groups, (size_t)room * sizeof(*groups));
        if (!groups) {
            return false;
        }
        out->groups = groups;
        if (getgrouplist(out->name, out->gid, groups, &count) >= 0) {
            out->group_count = (size_t)count;
            return true;
        }
        /* The database may grow in between; the count says what it had. */
        count = count > room ? count : room * 2;
    }
}

enum account_found account_find(const char *name, struct account *out)
{
    struct passwd entry, *found = NULL;
    char *buffer = malloc(PASSWD_BUFFER);
    enum account_found result = ACCOUNT_FAILED;

    *out = (struct account){.name = span_dup(span_of(name))};
    if (!buffer || !out->name) {
        errno = ENOMEM;
        goto done;
    }
    const int error = getpwnam_r(name, &entry, buffer, PASSWD_BUFFER, &found);
    if (!found) {
        /* getpwnam_r(3): some sources say these for "no such user". */
        const bool absent =
            error == 0 || error == ENOENT || error == ESRCH || error == EBADF || error == EPERM;
        result = absent ? ACCOUNT_MISSING : ACCOUNT_FAILED;
        errno = error;
        goto done;
    }
    out->uid = entry.pw_uid;
    out->gid = entry.pw_gid;
    if (find_groups(out)) {
        result = ACCOUNT_FOUND;
    }
done:
    free(buffer);
    if (result != ACCOUNT_FOUND) {
        const int kept = errno;
        account_release(out);
        errno = kept;
    }
    return result;
}

void account_release(struct account *account)
{
    free(account->name);
    free(account->groups);
    *account = (struct account){0};
}

static bool in_group(const struct account *user, gid_t group)
{
    for (size_t i = 0; i < user->group_count; i++) {
        if (user->groups[i] == group) {
            return true;
        }
    }
    return false;
}

static const char *group_name(const struct account *user, char *buffer, size_t cap)
{
    struct group entry, *found = NULL;
    getgrgid_r(user->gid, &entry, buffer, cap, &found);
    return found ? entry.gr_name : user->name;
}

/* One step of the path: `right` is S_IROTH for a file, S_IXOTH for a folder. False when it is in
 * the way, and told. */
static bool check_step(const char *path, mode_t right, const struct account *user,
                       struct diag_place place, struct diag_list *diags)
{
    const char letter = right == S_IROTH ? 'r' : 'x';
    const char *what = right == S_IROTH ? "read" : "enter";
    char buffer[4096];
    struct stat status;

    /* The kernel asks one class only, the first that fits (path_resolution(7)). */
    if (stat(path, &status) != 0) {
        return true;
    }
    const bool owner = status.st_uid == user->uid;
    const bool member = !owner && in_group(user, status.st_gid);
    const mode_t needed = owner ? right << 6 : member ? right << 3 : right;
    if ((status.st_mode & needed) != 0 || getxattr(path, "system.posix_acl_access", NULL, 0) > 0) {
        return true;
    }
    if (owner || member) {
        diag_error(diags, place, "%s, the user that splitmx runs as, cannot %s %s: chmod %c+%c %s",
                   user->name, what, path, owner ? 'u' : 'g', letter, path);
    } else {
        diag_error(diags, place,
                   "%s, the user that splitmx runs as, cannot %s %s: chgrp %s %s && chmod g+%c %s",
                   user->name, what, path, group_name(user, buffer, sizeof(buffer)), path, letter,
                   path);
    }
    return false;
}

/* Every folder of an absolute path, then what it leads to. */
static bool check_walk(const char *path, mode_t right, const struct account *user,
                       struct diag_place place, struct diag_list *diags)
{
    char *prefix = span_dup(span_of(path));
    bool fine = true;

    if (!prefix) {
        diag_error(diags, place, "out of memory");
        return false;
    }
    for (size_t i = 1; fine && prefix[i] != '\0'; i++) {
        if (prefix[i] == '/') {
            prefix[i] = '\0';
            fine = check_step(prefix, S_IXOTH, user, place, diags);
            prefix[i] = '/';
        }
    }
    free(prefix);
    return fine && check_step(path, right, user, place, diags);
}

static void check_path(const char *path, mode_t right, const struct account *user,
                       struct diag_place place, struct diag_list *diags)
{
    char *resolved = NULL;

    if (path[0] != '/' || !check_walk(path, right, user, place, diags)) {
        return;
    }
    resolved = realpath(path, NULL);
    if (resolved && strcmp(resolved, path) != 0) {
        check_walk(resolved, right, user, place, diags);
    }
    free(resolved);
}

void readable_check(const char *path, const struct account *user, struct diag_place place,
                    struct diag_list *diags)
{
    check_path(path, S_IROTH, user, place, diags);
}

void enterable_check(const char *path, const struct account *user, struct diag_place place,
                     struct diag_list *diags)
{
    check_path(path, S_IXOTH, user, place, diags);
}
