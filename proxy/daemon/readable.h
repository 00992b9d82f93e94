/*
 * readable: whether a user, once switched to, will be able to read a file, and which chgrp or chmod
 * is missing.
 *
 * By owner, groups and mode bits alone, asked of the file system as root. Thread: blocks on files.
 */
#ifndef SPLITMX_PROXY_DAEMON_READABLE_H
#define SPLITMX_PROXY_DAEMON_READABLE_H

#include <sys/types.h>

#include "config/diag.h"

/* A user with all groups. */
struct account {
    char *name;
    uid_t uid;
    gid_t gid;
    gid_t *groups; /* gid among them */
    size_t group_count;
};

enum account_found { ACCOUNT_FOUND, ACCOUNT_MISSING, ACCOUNT_FAILED /* errno */ };

/* On ACCOUNT_FOUND the caller releases it. */
enum account_found account_find(const char *name, struct account *out);
void account_release(struct account *account);

/*
 * An error for the first thing that is in the way of reading the file at the absolute path: a
 * folder that cannot be entered, the file itself; along the path as spelt and as resolved. What
 * does not exist, and what has an access control list, is not judged here.
 */
void readable_check(const char *path, const struct account *user, struct diag_place place,
                    struct diag_list *diags);

/* The same for entering a folder. */
void enterable_check(const char *path, const struct account *user, struct diag_place place,
                     struct diag_list *diags);

#endif
