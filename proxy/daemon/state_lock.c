#include "proxy/daemon/state_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

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

bool state_lock_holds(int fd, const char *directory)
{
    struct stat held, there;

    return fstat(fd, &held) == 0 && stat(directory, &there) == 0 && held.st_dev == there.st_dev &&
           held.st_ino == there.st_ino;
}
