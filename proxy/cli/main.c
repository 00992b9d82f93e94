/* splitmx: the program; finds the command. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "config/diag.h"
#include "proxy/cli/cli.h"
#include "proxy/daemon/version.h"
#include "tls/memory.h"

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *what;
} commands[] = {
    {"run", cli_run, "serve, in the foreground"},
    {"check", cli_check, "load everything as run would, print every error, serve nothing"},
    {"route", cli_route, "explain where mail for an address goes"},
    {"import", cli_import,
     "turn transport maps, or docker-mailserver's accounts and aliases, into YAML"},
    {"reload", cli_reload, "make the running daemon read its files again"},
    {"status", cli_status, "what the running daemon does"},
    {"ledger", cli_ledger, "messages that only some of their servers have accepted"},
    {"doctor", cli_doctor, "look at what has to be true outside: DNS, certificates, servers"},
    {"healthcheck", cli_healthcheck, "whether it runs and answers"},
};

#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

static void print_usage(FILE *out)
{
    fputs("usage: splitmx COMMAND [OPTION…] [ARGUMENT…]\n\n", out);
    for (size_t i = 0; i < COMMANDS; i++) {
        fprintf(out, "  %-12s %s\n", commands[i].name, commands[i].what);
    }
    fputs("\n  --help       print this; splitmx COMMAND --help: its options\n"
          "  --version    print the version\n",
          out);
}

/* What other programs call it. */
static const char *meant_by(const char *word)
{
    static const struct {
        const char *word, *answer;
    } others[] = {
        {"help", "did you mean --help?"},
        {"version", "did you mean --version?"},
        {"start", "`run` serves, in the foreground, until SIGTERM"},
        {"serve", "did you mean \"run\"?"},
        {"stop", "SIGTERM ends the daemon, from your service manager"},
        {"restart", "that is your service manager's; \"reload\" takes changed files into service"},
        {"test", "did you mean \"check\"?"},
        {"explain", "did you mean \"route\"?"},
        {"lookup", "did you mean \"route\"?"},
    };
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        if (strcmp(word, others[i].word) == 0) {
            return others[i].answer;
        }
    }
    return NULL;
}

static void unknown_option(const char *word)
{
    static const char *const options[] = {"--help", "--version", NULL};
    const char *nearest = diag_nearest(word, options);
    if (nearest) {
        fprintf(stderr, "splitmx: there is no option %s: did you mean %s?\n", word, nearest);
    } else {
        fprintf(stderr,
                "splitmx: there is no option %s before the command; options stand behind it, as in "
                "splitmx check -c FILE\n",
                word);
    }
}

static int unknown_command(const char *word)
{
    const char *names[COMMANDS + 1] = {NULL};

    for (size_t i = 0; i < COMMANDS; i++) {
        names[i] = commands[i].name;
    }
    const char *nearest = word[0] == '-' ? NULL : diag_nearest(word, names);
    const char *meant = meant_by(word);
    if (meant) {
        fprintf(stderr, "splitmx: there is no command \"%s\": %s\n", word, meant);
    } else if (nearest) {
        fprintf(stderr, "splitmx: there is no command \"%s\": did you mean \"%s\"?\n", word,
                nearest);
    } else if (word[0] == '-') {
        unknown_option(word);
    } else {
        fprintf(stderr, "splitmx: there is no command \"%s\"\n", word);
    }
    fputs("splitmx --help lists the commands\n", stderr);
    return CLI_USAGE;
}

/* A file or socket that got the number of one of the three would be written to as it. What is
 * opened here for reading is an error to write to. */
static void open_standard(void)
{
    int fd;
    do {
        fd = open("/dev/null", O_RDONLY);
    } while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd > STDERR_FILENO) {
        close(fd);
    }
}

/* A file that may grow no more is told like a full disk (EFBIG), not by the end of the process. */
static void ignore_file_size(void)
{
    signal(SIGXFSZ, SIG_IGN);
}

static int run(int argc, char **argv)
{
    if (argc < 2) {
        print_usage(stderr);
        return CLI_USAGE;
    }
    const char *word = argv[1];
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
        print_usage(stdout);
        return CLI_OK;
    }
    if (strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0) {
        puts("splitmx " SPLITMX_VERSION);
        return CLI_OK;
    }
    for (size_t i = 0; i < COMMANDS; i++) {
        if (strcmp(word, commands[i].name) == 0) {
            return commands[i].run(argc - 1, argv + 1);
        }
    }
    return unknown_command(word);
}

int main(int argc, char **argv)
{
    tls_memory_watch();
    open_standard();
    ignore_file_size();
    const int status = run(argc, argv);
    const bool flushed = fflush(stdout) == 0;
    if (flushed && !ferror(stdout)) {
        return status;
    }
    fprintf(stderr, "splitmx: cannot write to standard output%s%s\n", flushed ? "" : ": ",
            flushed ? "" : strerror(errno));
    return status == CLI_OK ? CLI_FAILED : status;
}
