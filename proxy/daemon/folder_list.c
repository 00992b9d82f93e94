#include "proxy/daemon/folder_list.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/span.h"

struct place {
    char *path;
    dev_t device;
    ino_t inode;
};

struct folder_list {
    struct place *places;
    size_t count;
};

struct folder_list *folder_list_new(void)
{
    return calloc(1, sizeof(struct folder_list));
}

void folder_list_free(struct folder_list *list)
{
    for (size_t i = 0; list && i < list->count; i++) {
        free(list->places[i].path);
    }
    free(list ? list->places : NULL);
    free(list);
}

static bool has_place(const struct folder_list *list, const struct stat *status)
{
    for (size_t i = 0; i < list->count; i++) {
        if (list->places[i].device == status->st_dev && list->places[i].inode == status->st_ino) {
            return true;
        }
    }
    return false;
}

bool folder_list_add(struct folder_list *list, const char *path)
{
    struct stat status;

    if (stat(path, &status) != 0 || !S_ISDIR(status.st_mode) || has_place(list, &status)) {
        return true;
    }
    struct place *grown = realloc(list->places, (list->count + 1) * sizeof(*grown));
    if (!grown) {
        return false;
    }
    list->places = grown;
    grown[list->count] = (struct place){span_dup(span_of(path)), status.st_dev, status.st_ino};
    return grown[list->count++].path != NULL;
}

/* Cuts an absolute path to the folder above; false at the root. */
static bool cut_to_folder(char *path)
{
    const size_t slash = span_rfind(span_of(path), '/');

    if (strcmp(path, "/") == 0 || slash >= strlen(path)) {
        return false;
    }
    path[slash > 0 ? slash : 1] = '\0';
    return true;
}

static bool add_folder_of(struct folder_list *list, char *path)
{
    return !cut_to_folder(path) || folder_list_add(list, path);
}

bool folder_list_add_file(struct folder_list *list, const char *path)
{
    char *spelt = span_dup(span_of(path));
    bool fine = spelt && add_folder_of(list, spelt);
    char *resolved = realpath(path, NULL);

    if (resolved) {
        fine = fine && add_folder_of(list, resolved);
    } else {
        fine = fine && errno != ENOMEM;
    }
    free(resolved);
    free(spelt);
    return fine;
}

bool folder_list_has(const struct folder_list *list, const char *path)
{
    struct stat status;
    char *at = realpath(path, NULL);
    bool found = !at;

    while (!found) {
        found = stat(at, &status) == 0 && has_place(list, &status);
        if (!found && !cut_to_folder(at)) {
            break;
        }
    }
    free(at);
    return found;
}

bool folder_list_each(const struct folder_list *list, bool (*visit)(void *context, int fd),
                      void *context)
{
    bool fine = true;

    for (size_t i = 0; fine && i < list->count; i++) {
        const int fd = open(list->places[i].path, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (fd >= 0) { /* or else it has just gone */
            fine = visit(context, fd);
            close(fd);
        }
    }
    return fine;
}
