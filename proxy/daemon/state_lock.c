#include "proxy/daemon/state_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include "config/folder.h"

int state_lock(const char *directory)
{
    const int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) != 0) {
        const int error = errno;
        close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

bool state_lock_keep(int *lock, const struct config *config, struct diag_list *diags)
{
    const char *directory = config->state_directory.text;

    if (folder_has(directory, *lock)) {
        return true;
    }
    const int other = state_lock(directory);
    if (other >= 0) {
        close(*lock);
        *lock = other;
        return true;
    }
    if (errno != EWOULDBLOCK) {
        return true; /* what needs it says so */
    }
    diag_error(diags, config_place(config, &config->state_directory),
               "%s: another splitmx runs with this state directory, which is not the one that "
               "this one was started with",
               directory);
    return false;
}
