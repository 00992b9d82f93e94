#include "routing/import.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/config.h"
#include "proxy/cli/cli.h"
#include "proxy/cli/options.h"

static const struct command command = {
    .name = "import",
    .usage = " [--accounts | --virtual] [--to RELAY] FILE… [-o FILE]",
    .help =
        "Writes files as routes in YAML that say the same: Postfix transport maps (the text that\n"
        "postmap reads), and docker-mailserver's postfix-accounts.cf and postfix-virtual.cf, "
        "which\n"
        "are known by these names. Of the latter it is told what could not be carried over.\n"
        "FILE may be - for standard input. Of equal addresses the first is taken.\n\n"
        "  splitmx import postfix-accounts.cf postfix-virtual.cf -o routes.yaml\n"
        "  postmap -s hash:/etc/postfix/transport | splitmx import -\n",
    .options = OPTION_OUTPUT | OPTION_MAILBOXES,
    .operand = "the FILE to be read",
    .least = 1,
    .most = -1,
};

/* What is imported, and what has come of it. */
struct work {
    struct import_job job;
    struct import_outcome outcome;
    struct diag_list *diags;
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

static bool write_out(struct work *work, FILE *out, const char *path)
{
    if (!import_to_yaml(&work->job, out, path, &work->outcome, work->diags)) {
        return false;
    }
    /* A pipe or a device has nothing to be synced. */
    return fsync(fileno(out)) == 0 || errno == EINVAL || errno == EROFS ||
           (failed(path, "cannot be written: "), false);
}

/* The file is there whole or not at all. `path` is where it is, no symbolic link; `old` describes
 * it, NULL where there is none yet. */
static int replace(struct work *work, const char *path, const struct stat *old)
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
        failed(path, "");
    } else if (write_out(work, out, path) && take_after(fd, old, path)) {
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
static int write_through(struct work *work, const char *path)
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
    const bool written = write_out(work, out, path);
    fclose(out);
    return written ? CLI_OK : CLI_FAILED;
}

static int import_to_file(struct work *work, const char *path)
{
    struct stat status;
    int result;

    if (stat(path, &status) != 0) {
        if (errno == ENOENT && lstat(path, &status) == 0) {
            fprintf(stderr, "%s: a symbolic link to what is not there\n", path);
            return CLI_FAILED;
        }
        return errno == ENOENT ? replace(work, path, NULL) : failed(path, "");
    }
    if (!S_ISREG(status.st_mode)) {
        return write_through(work, path);
    }
    char *target = realpath(path, NULL); /* what a symbolic link leads to; the link stays */
    result = target ? replace(work, target, &status) : failed(path, "");
    free(target);
    return result;
}

static int import_to_stdout(struct work *work)
{
    return import_to_yaml(&work->job, stdout, "standard output", &work->outcome, work->diags)
               ? CLI_OK
               : CLI_FAILED;
}

/* What was said of each line is above it. */
static void sum_up(const struct import_outcome *outcome)
{
    fprintf(stderr, "splitmx import: %zu route%s written; ", outcome->routes,
            outcome->routes == 1 ? "" : "s");
    if (outcome->left_out > 0) {
        fprintf(stderr, "%zu line%s not carried over, see above", outcome->left_out,
                outcome->left_out == 1 ? "" : "s");
    } else {
        fputs("every line carried over", stderr);
    }
    if (outcome->elsewhere > 0) {
        fprintf(stderr, "; %zu target%s elsewhere", outcome->elsewhere,
                outcome->elsewhere == 1 ? "" : "s");
    }
    fputc('\n', stderr);
}

/* Each error is above it. What a disk or standard output did not take says so by itself. */
static void tell_nothing_written(const struct diag_list *diags)
{
    const size_t errors = diag_errors(diags);
    if (errors > 0 && !diag_only_machine(diags)) {
        fprintf(stderr, "splitmx import: nothing is written: %zu error%s\n", errors,
                errors == 1 ? "" : "s");
    }
}

/* OPTIONS_FINE, or the exit status. */
static int check_to(const char *to)
{
    struct transport transport;
    char why[512];
    size_t where;
    if (!transport_parse(span_of(to), TRANSPORT_YAML, &transport, why, sizeof(why), &where)) {
        fprintf(stderr, "splitmx import: --to: %s\n", why);
        return CLI_USAGE;
    }
    const bool fine =
        transport.kind != TRANSPORT_RELAY || config_is_relay_name(span_of(transport.text));
    transport_release(&transport);
    if (!fine) {
        fprintf(stderr,
                "splitmx import: --to: `%s` cannot be a relay's name; that has letters, digits, "
                "`-` and `_`, and a host is written smtp:[host]\n",
                to);
    }
    return fine ? OPTIONS_FINE : CLI_USAGE;
}

static int check_kinds(const struct options *options)
{
    if (options->accounts && options->is_virtual) {
        fputs(
            "splitmx import: --accounts and --virtual exclude each other: they say what all FILEs "
            "are; without them files are known by their names, postfix-accounts.cf and "
            "postfix-virtual.cf\n",
            stderr);
        return CLI_USAGE;
    }
    return check_to(options->to);
}

int cli_import(int argc, char **argv)
{
    struct options options;
    int done = options_parse(&command, argc, argv, &options);
    if (done == OPTIONS_FINE) {
        done = check_kinds(&options);
    }
    if (done != OPTIONS_FINE) {
        return done;
    }
    struct work work = {.job = {.paths = (const char *const *)options.operands,
                                .count = (size_t)options.operand_count,
                                .kind = options.accounts     ? IMPORT_ACCOUNTS
                                        : options.is_virtual ? IMPORT_VIRTUAL
                                                             : IMPORT_NAMED,
                                .to = options.to},
                        .diags = diag_list_new()};
    const bool to_file = options.output && strcmp(options.output, IMPORT_STDIN) != 0;
    const int result = to_file ? import_to_file(&work, options.output) : import_to_stdout(&work);
    diag_print(work.diags, stderr);
    if (result != CLI_OK) {
        tell_nothing_written(work.diags);
    } else if (work.outcome.mailboxes) {
        sum_up(&work.outcome);
    }
    diag_list_free(work.diags);
    return result;
}
