#include "routing/import.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proxy/cli/cli.h"
#include "proxy/cli/options.h"

static const struct command command = {
    .name = "import",
    .usage = " MAP [-o FILE]",
    .help =
        "Writes a Postfix transport map (texthash format) as routes in YAML that say the same.\n",
    .options = OPTION_OUTPUT,
    .operand = "the MAP",
    .least = 1,
    .most = 1,
};

/* A file made by mkstemp is for its owner alone: give it the mode of the one that it replaces, or
 * that of any new file. */
static bool set_mode(int fd, const char *path)
{
    struct stat status;
    const mode_t mask = umask(0);

    umask(mask);
    const mode_t mode = stat(path, &status) == 0 ? status.st_mode & 0777 : (mode_t)(0666 & ~mask);
    return fchmod(fd, mode) == 0;
}

static int failed(const char *path)
{
    fprintf(stderr, "%s: %s\n", path, strerror(errno));
    return CLI_FAILED;
}

/* The file is there whole or not at all. */
static int import_to_file(const char *map, const char *path, struct diag_list *diags)
{
    char *temporary = NULL;
    FILE *out = NULL;
    int result = CLI_FAILED;

    if (asprintf(&temporary, "%s.XXXXXX", path) < 0) {
        return failed(path);
    }
    const int fd = mkstemp(temporary);
    out = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (!out) {
        failed(temporary);
        if (fd >= 0) {
            close(fd);
            unlink(temporary);
        }
        free(temporary);
        return CLI_FAILED;
    }
    const bool fine = import_to_yaml(map, out, diags);
    const bool written = fflush(out) == 0 && !ferror(out) && set_mode(fd, path) && fsync(fd) == 0;
    if (fine && !written) {
        failed(temporary);
    }
    fclose(out);
    if (fine && written) {
        result = rename(temporary, path) == 0 ? CLI_OK : failed(path);
    }
    if (result != CLI_OK) {
        unlink(temporary);
    }
    free(temporary);
    return result;
}

static int import_to_stdout(const char *map, struct diag_list *diags)
{
    return import_to_yaml(map, stdout, diags) ? CLI_OK : CLI_FAILED;
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
