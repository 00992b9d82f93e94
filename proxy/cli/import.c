#include "routing/import.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proxy/cli/cli.h"
#include "proxy/cli/options.h"

static const struct command command = {
    .name = "import",
    .usage = " MAP [-o FILE]",
    .help =
        "Writes a Postfix transport map (texthash format) as routes in YAML that say the same.\n"
        "MAP may be - for standard input.\n",
    .options = OPTION_OUTPUT,
    .operand = "the MAP",
    .least = 1,
    .most = 1,
};

static int failed(const char *path, const char *what)
{
    fprintf(stderr, "%s: %s%s\n", path, what, strerror(errno));
    return CLI_FAILED;
}

/* A file made by mkstemp is the caller's alone. `old`, where there is one, is to be replaced: its
 * mode is kept, and whose it is. */
static bool take_after(int fd, const struct stat *old, const char *path)
{
    const mode_t mask = umask(0);
    struct stat new;

    umask(mask);
    if (!old) {
        return fchmod(fd, (mode_t)(0666 & ~mask)) == 0 || (failed(path, ""), false);
    }
    /* The owner first: a change of it may take bits of the mode away. */
    const bool same = fstat(fd, &new) == 0 && new.st_uid == old->st_uid &&new.st_gid == old->st_gid;
    if (!same && fchown(fd, old->st_uid, old->st_gid) != 0) {
        failed(path, "left as it was, for its owner and group could not be kept: ");
        return false;
    }
    return fchmod(fd, old->st_mode & 07777) == 0 || (failed(path, ""), false);
}

static bool write_out(const char *map, FILE *out, const char *path, struct diag_list *diags)
{
    if (!import_to_yaml(map, out, path, diags)) {
        return false;
    }
    /* A pipe or a device has nothing to be synced. */
    return fsync(fileno(out)) == 0 || errno == EINVAL || errno == EROFS ||
           (failed(path, "cannot be written: "), false);
}

/* The file is there whole or not at all. `path` is where it is, no symbolic link; `old` describes
 * it, NULL where there is none yet. */
static int replace(const char *map, const char *path, const struct stat *old,
                   struct diag_list *diags)
{
    char *temporary = NULL;
    FILE *out = NULL;
    int fd = -1, result = CLI_FAILED;

    if (asprintf(&temporary, "%s.XXXXXX", path) < 0) {
        return failed(path, "");
    }
    fd = mkstemp(temporary);
    out = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (!out) {
        failed(temporary, "");
    } else if (write_out(map, out, path, diags) && take_after(fd, old, path)) {
        result = rename(temporary, path) == 0 ? CLI_OK : failed(path, "");
    }
    if (out) {
        fclose(out);
    } else if (fd >= 0) {
        close(fd);
    }
    if (fd >= 0 && result != CLI_OK) {
        unlink(temporary);
    }
    free(temporary);
    return result;
}

/* A device or a pipe stays what it is. */
static int write_through(const char *map, const char *path, struct diag_list *diags)
{
    const int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
    FILE *out = fd >= 0 ? fdopen(fd, "w") : NULL;

    if (!out) {
        failed(path, "cannot be opened: ");
        if (fd >= 0) {
            close(fd);
        }
        return CLI_FAILED;
    }
    const bool written = write_out(map, out, path, diags);
    fclose(out);
    return written ? CLI_OK : CLI_FAILED;
}

static int import_to_file(const char *map, const char *path, struct diag_list *diags)
{
    struct stat status;
    int result;

    if (stat(path, &status) != 0) {
        if (errno == ENOENT && lstat(path, &status) == 0) {
            fprintf(stderr, "%s: a symbolic link to what is not there\n", path);
            return CLI_FAILED;
        }
        return errno == ENOENT ? replace(map, path, NULL, diags) : failed(path, "");
    }
    if (!S_ISREG(status.st_mode)) {
        return write_through(map, path, diags);
    }
    char *target = realpath(path, NULL); /* what a symbolic link leads to; the link stays */
    result = target ? replace(map, target, &status, diags) : failed(path, "");
    free(target);
    return result;
}

static int import_to_stdout(const char *map, struct diag_list *diags)
{
    return import_to_yaml(map, stdout, "standard output", diags) ? CLI_OK : CLI_FAILED;
}

int cli_import(int argc, char **argv)
{
    struct options options;
    const int done = options_parse(&command, argc, argv, &options);
    if (done != OPTIONS_FINE) {
        return done;
    }
    struct diag_list *diags = diag_list_new();
    const char *map = options.operands[0];
    const int result =
        options.output ? import_to_file(map, options.output, diags) : import_to_stdout(map, diags);
    diag_print(diags, stderr);
    diag_list_free(diags);
    return result;
}
