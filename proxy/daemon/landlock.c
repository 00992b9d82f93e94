#include "proxy/daemon/landlock.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Newer than the headers of Debian 12. */
#define ACCESS_TRUNCATE  (UINT64_C(1) << 14) /* version 3 */
#define ACCESS_IOCTL_DEV (UINT64_C(1) << 15) /* version 5 */
#define SCOPE_SIGNAL     (UINT64_C(1) << 1)  /* version 6 */

#define READING LANDLOCK_ACCESS_FS_READ_FILE
/* What is set aside there may be a folder (REMOVE_DIR, MAKE_DIR). */
#define WRITING                                                                                    \
    (READING | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_FILE |                    \
     LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |   \
     LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_REFER | ACCESS_TRUNCATE)

/* What is forbidden where no rule allows it: all that version 1 knows, and what came later. */
#define VERSION_1 ((LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1)

/* struct landlock_ruleset_attr as it has grown; a kernel takes a longer one whose end is zero. */
struct attributes {
    uint64_t files, net, scoped;
};

struct ruleset {
    int fd;
    uint64_t known; /* rights that this kernel has */
};

static uint64_t known_rights(int version)
{
    return VERSION_1 | (version >= 2 ? LANDLOCK_ACCESS_FS_REFER : 0) |
           (version >= 3 ? ACCESS_TRUNCATE : 0) | (version >= 5 ? ACCESS_IOCTL_DEV : 0);
}

static bool allow(const struct ruleset *set, int fd, uint64_t rights)
{
    const struct landlock_path_beneath_attr rule = {.allowed_access = rights & set->known,
                                                    .parent_fd = fd};
    return syscall(SYS_landlock_add_rule, set->fd, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) == 0;
}

static bool allow_reading(void *context, int fd)
{
    return allow(context, fd, READING);
}

static bool allow_writing(void *context, int fd)
{
    return allow(context, fd, WRITING);
}

static bool allow_path(const struct ruleset *set, const char *path, uint64_t rights)
{
    const int fd = open(path, O_PATH | O_CLOEXEC);
    const bool fine = fd >= 0 && allow(set, fd, rights);

    if (fd >= 0) {
        close(fd);
    }
    return fine;
}

int landlock_confine(const struct folder_list *readable, const struct folder_list *writable)
{
    const int version =
        (int)syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    if (version < 1) {
        return 0;
    }
    const struct attributes attributes = {.files = known_rights(version),
                                          .scoped = version >= 6 ? SCOPE_SIGNAL : 0};
    struct ruleset set = {.known = attributes.files};
    set.fd = (int)syscall(SYS_landlock_create_ruleset, &attributes, sizeof(attributes), 0);
    if (set.fd < 0) {
        return 0;
    }
    /* "/" is what libuv holds open, to have one descriptor when there is no other; /dev/null is for
     * the child that reads a ledger. */
    const bool fine = folder_list_each(readable, allow_reading, &set) &&
                      folder_list_each(writable, allow_writing, &set) &&
                      allow_path(&set, "/", LANDLOCK_ACCESS_FS_READ_DIR) &&
                      allow_path(&set, "/dev/null",
                                 LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE) &&
                      syscall(SYS_landlock_restrict_self, set.fd, 0) == 0;
    const int error = errno;
    close(set.fd);
    errno = error;
    return fine ? version : 0;
}
