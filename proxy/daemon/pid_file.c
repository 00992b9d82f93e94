#include "proxy/daemon/pid_file.h"

#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define NAME      "splitmx.pid"
#define TEMPORARY "splitmx.pid.new"

static const char *path_of(const char *directory, const char *name, char *path)
{
    snprintf(path, PATH_MAX, "%s/%s", directory, name);
    return path;
}

bool pid_file_write(const char *directory)
{
    char path[PATH_MAX];
    char temporary[PATH_MAX];
    FILE *file = fopen(path_of(directory, TEMPORARY, temporary), "we");
    if (file == NULL) {
        return false;
    }
    bool written =
        fchmod(fileno(file), S_IRUSR | S_IWUSR) == 0 && fprintf(file, "%ld\n", (long)getpid()) > 0;
    if (fclose(file) != 0 || !written || rename(temporary, path_of(directory, NAME, path)) != 0) {
        unlink(temporary);
        return false;
    }
    return true;
}

void pid_file_remove(const char *directory)
{
    char path[PATH_MAX];
    unlink(path_of(directory, NAME, path));
}
