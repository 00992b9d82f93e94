/* The commands that talk to the daemon: where it is, and its answer. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "config/config.h"
#include "config/diag.h"
#include "config/yaml.h"
#include "proxy/cli/ask.h"
#include "proxy/cli/cli.h"
#include "proxy/cli/options.h"
#include "proxy/daemon/control.h"

#define STATE_KEY     "state-directory"
#define STATE_DEFAULT "/var/lib/splitmx"

/* The folder of the configuration, as config_load resolves it. */
static char *absolute(const char *config_path, struct span value)
{
    char *folder = NULL, *resolved, *joined = NULL;
    const struct span path = span_of(config_path);
    const size_t slash = span_rfind(path, '/');

    if (value.len > 0 && value.ptr[0] == '/') {
        return span_dup(value);
    }
    folder = slash < path.len ? span_dup(span_first(path, slash + 1)) : span_dup(SPAN("."));
    resolved = folder ? realpath(folder, NULL) : NULL;
    if (resolved && asprintf(&joined, "%s/%.*s", strcmp(resolved, "/") == 0 ? "" : resolved,
                             SPAN_ARGS(value)) < 0) {
        joined = NULL;
    }
    free(folder);
    free(resolved);
    return joined;
}

/* The value by YAML's rules; NULL when the key is not found before the end or an error. *broken:
 * the file is no YAML. */
static char *find_in_yaml(const char *config_path, bool *broken, struct diag_list *diags)
{
    struct yaml_reader *reader = yaml_open(config_path, diags);
    char *found = NULL;

    *broken = true;
    if (!reader) {
        return NULL;
    }
    struct yaml_event event = yaml_next(reader);
    while (event.kind == YAML_MAP || event.kind == YAML_SCALAR_VALUE) {
        if (event.kind == YAML_SCALAR_VALUE) {
            const bool wanted = span_equal(event.value, SPAN(STATE_KEY));
            event = yaml_next(reader);
            if (wanted && event.kind == YAML_SCALAR_VALUE && event.value.len > 0) {
                found = absolute(config_path, event.value);
                break;
            }
            yaml_skip(reader, event);
        }
        event = yaml_next(reader);
    }
    *broken = event.kind == YAML_BAD;
    yaml_close(reader);
    return found;
}

/* In a file that is no YAML as a whole: the line that says it. */
static char *find_in_lines(const char *config_path)
{
    struct stat status;
    const bool regular = stat(config_path, &status) == 0 && S_ISREG(status.st_mode);
    FILE *file = regular ? fopen(config_path, "re") : NULL;
    char line[YAML_SCALAR + 64], *found = NULL;

    while (file && !found && fgets(line, sizeof(line), file)) {
        struct span rest = span_of(line);
        if (!span_starts_fold(rest, SPAN(STATE_KEY ":"))) {
            continue;
        }
        rest = span_skip(rest, sizeof(STATE_KEY));
        rest = span_trim(span_first(rest, span_find(rest, '\n')));
        if (rest.len > 1 && (rest.ptr[0] == '"' || rest.ptr[0] == '\'')) {
            const char quote = rest.ptr[0];
            rest = span_skip(rest, 1);
            rest = span_first(rest, span_find(rest, quote));
        } else {
            rest = span_trim(span_first(rest, span_find(rest, '#')));
        }
        if (rest.len > 0) {
            found = absolute(config_path, rest);
        }
    }
    if (file) {
        fclose(file);
    }
    return found;
}

char *ask_state_directory(const char *config_path)
{
    struct diag_list *diags = diag_list_new();
    bool broken = true;
    char *found =
        config_is_there(config_path, diags) ? find_in_yaml(config_path, &broken, diags) : NULL;

    if (!found && broken) {
        found = find_in_lines(config_path);
        if (!found) {
            diag_print(diags, stderr);
        }
    } else if (!found) {
        found = span_dup(SPAN(STATE_DEFAULT));
    }
    diag_list_free(diags);
    return found;
}

bool ask_is_nobody(int error)
{
    return error == ENOENT || error == ECONNREFUSED || error == ENOTDIR;
}

void ask_tell_unreachable(const char *directory, const char *config_path, unsigned timeout,
                          int error)
{
    if (ask_is_nobody(error)) {
        fprintf(stderr,
                "no splitmx runs with state directory %s (%s says so; one that was started with "
                "another `" STATE_KEY "` has to be restarted)\n",
                directory, config_path);
    } else if (error == EACCES || error == EPERM) {
        fprintf(stderr,
                "cannot reach splitmx with state directory %s: only its user and root may\n",
                directory);
    } else if (error == ETIMEDOUT) {
        fprintf(stderr,
                "splitmx with state directory %s has not answered for %u s: it is stopped, or the "
                "machine is overloaded\n",
                directory, timeout / 1000);
    } else if (error == EPROTO || error == EPIPE || error == ECONNRESET) {
        fprintf(stderr, "splitmx with state directory %s ended without an answer\n", directory);
    } else {
        fprintf(stderr, "cannot reach splitmx with state directory %s: %s\n", directory,
                strerror(error));
    }
}

static void print_lines(FILE *out, struct span lines)
{
    fwrite(lines.ptr, 1, lines.len, out);
    if (lines.len > 0 && !span_ends(lines, SPAN("\n"))) {
        fputc('\n', out);
    }
}

static void print_fine(const char *prefix, struct span answer)
{
    if (prefix) {
        const struct span body = span_first(answer, answer.len > 0 ? answer.len - 1 : 0);
        const size_t end = span_rfind(body, '\n');
        const size_t above = end < body.len ? end + 1 : 0;
        print_lines(stderr, span_first(answer, above));
        answer = span_skip(answer, above);
        fputs(prefix, stdout);
    }
    print_lines(stdout, answer);
}

int ask_daemon(const char *directory, const char *verb, unsigned timeout, char **answer,
               size_t *length, int *error)
{
    FILE *memory = open_memstream(answer, length);

    *error = 0;
    if (!memory) {
        *answer = NULL;
        return -1;
    }
    const int told = control_ask(directory, verb, memory, timeout);
    *error = errno;
    if (fclose(memory) != 0) {
        free(*answer);
        *answer = NULL;
    }
    return told;
}

bool ask_is_same_file(const char *a, const char *b)
{
    struct stat one, other;
    if (stat(a, &one) == 0 && stat(b, &other) == 0 && one.st_dev == other.st_dev &&
        one.st_ino == other.st_ino) {
        return true;
    }
    /* It may be replaced between the two. */
    char *first = realpath(a, NULL), *second = realpath(b, NULL);
    const bool same = first && second && strcmp(first, second) == 0;
    free(first);
    free(second);
    return same;
}

int options_served(const struct options *options, unsigned timeout)
{
    char *directory = ask_state_directory(options->config), *answer = NULL;
    size_t length = 0;
    int error, served = CLI_OK;

    if (!directory) {
        return CLI_CONFIG;
    }
    if (ask_daemon(directory, CONTROL_CONFIGURATION, timeout, &answer, &length, &error) == 0 &&
        answer && !ask_is_same_file(options->config, answer)) {
        fprintf(stderr, "the splitmx with state directory %s serves %s, not %s\n", directory,
                answer, options->config);
        served = CLI_FAILED;
    }
    free(answer);
    free(directory);
    return served;
}

int options_ask(const struct options *options, const char *verb, const char *prefix,
                unsigned timeout)
{
    char *directory = ask_state_directory(options->config), *answer = NULL;
    size_t length = 0;
    int status = CLI_FAILED, error;

    if (!directory) {
        return CLI_CONFIG;
    }
    const int told = ask_daemon(directory, verb, timeout, &answer, &length, &error);
    if (!answer) {
        fprintf(stderr, "out of memory\n");
    } else if (told < 0) {
        ask_tell_unreachable(directory, options->config, timeout, error);
    } else if (told > 0) {
        print_lines(stderr, span_make(answer, length));
    } else {
        print_fine(prefix, span_make(answer, length));
        status = CLI_OK;
    }
    free(answer);
    free(directory);
    return status;
}
