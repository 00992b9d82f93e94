/* splitmx ledger: of the daemon, or, where none runs, of its file. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "proxy/cli/ask.h"
#include "proxy/cli/cli.h"
#include "proxy/cli/options.h"
#include "proxy/daemon/ledger_print.h"
#include "proxy/daemon/ledger_service.h"
#include "proxy/net/ledger_file.h"
#include "proxy/net/ledger_reader.h"

#define PATIENCE 10000 /* milliseconds without a sign of life */

/* Of a file that is only listed, or written anew: what the daemon keeps is the daemon's to say. */
#define RETRY_WINDOW (UINT64_C(60) * 24 * 60 * 60 * 1000) /* milliseconds: the longest */

static const struct command command = {
    .name = "ledger",
    .usage = " [-c FILE] [--json] [--clear SET|all]",
    .help = "Lists the messages' senders and recipients that have to come again because only some\n"
            "of their servers have accepted: sets, each with its legs in order of turn. With\n"
            "--clear, forgets one set or all: what comes again is then delivered to all its\n"
            "servers. Asks the running daemon, or reads its file when none runs.\n",
    .options = OPTION_CONFIG | OPTION_JSON | OPTION_CLEAR,
};

struct request {
    const struct options *options;
    char *directory;
    unsigned long long clear; /* 0: all */
};

/* The number behind --clear; false, and told, when it is none. */
static bool parse_clear(struct request *request)
{
    const char *word = request->options->clear;
    if (word == NULL || strcmp(word, "all") == 0) {
        return true;
    }
    if (span_number(span_of(word), UINT64_MAX, &request->clear) && request->clear > 0) {
        return true;
    }
    fprintf(stderr, "splitmx ledger: --clear takes the number of a set, or `all`, not \"%s\"\n",
            word);
    return false;
}

static int tell_cleared(const struct request *request, unsigned long long cleared)
{
    if (cleared == 0 && request->clear != 0) {
        fprintf(stderr, "there is no set %llu\n", request->clear);
        return CLI_FAILED;
    }
    printf("forgotten: %llu set%s\n", cleared, cleared == 1 ? "" : "s");
    return CLI_OK;
}

/* ---- a daemon runs ---- */

/* One line off the front. */
static struct span take_line(struct span *rest)
{
    const size_t end = span_find(*rest, '\n');
    const struct span line = span_first(*rest, end);
    *rest = span_skip(*rest, end + 1);
    return line;
}

/* Prints a part of the list. False: it is none. */
static bool print_part(struct span part, unsigned long long *next, bool first)
{
    const struct span number = take_line(&part), why = take_line(&part);
    if (!span_number(number, UINT64_MAX, next)) {
        fprintf(stderr, "the running splitmx is of another version\n");
        return false;
    }
    if (first && why.len > 0) {
        fprintf(stderr, "warning: the ledger cannot be used: %.*s\n", SPAN_ARGS(why));
    }
    fwrite(part.ptr, 1, part.len, stdout);
    return true;
}

/* Asks once. The daemon's status, or -1: told, or, with *nobody, there is none. */
static int ask_once(const struct request *request, const char *verb, char **answer, size_t *length,
                    bool *nobody)
{
    int error;
    const int told = ask_daemon(request->directory, verb, PATIENCE, answer, length, &error);
    *nobody = told < 0 && *answer != NULL && ask_is_nobody(error);
    if (*answer == NULL) {
        fprintf(stderr, "out of memory\n");
        return -1;
    }
    if (told < 0 && !*nobody) {
        ask_tell_unreachable(request->directory, request->options->config, PATIENCE, error);
    } else if (told > 0) {
        fwrite(*answer, 1, *length, stderr);
    }
    return told;
}

static int list_of_daemon(const struct request *request, bool *nobody)
{
    const char *word = request->options->json ? LEDGER_LIST_JSON : LEDGER_LIST;
    unsigned long long from = 0;
    bool first = true, good = true;
    do {
        char verb[64], *answer = NULL;
        size_t length = 0;
        snprintf(verb, sizeof verb, "%s%llu", word, from);
        good = ask_once(request, verb, &answer, &length, nobody) == 0 &&
               print_part(span_make(answer, length), &from, first);
        free(answer);
        *nobody = *nobody && first;
        first = false;
    } while (good && from != 0);
    return good ? CLI_OK : CLI_FAILED;
}

static int clear_of_daemon(const struct request *request, bool *nobody)
{
    char verb[64], *answer = NULL;
    size_t length = 0;
    snprintf(verb, sizeof verb, LEDGER_CLEAR "%llu", request->clear);
    const int told = ask_once(request, verb, &answer, &length, nobody);
    if (told == 0) {
        fwrite(answer, 1, length, stdout);
    }
    free(answer);
    return told == 0 ? CLI_OK : CLI_FAILED;
}

/* ---- none runs: its file ---- */

static void on_event(void *context, const struct ledger_event *event)
{
    (void)context;
    if (event->kept_as != NULL) {
        fprintf(stderr, "%s was damaged (%s), and is kept as %s\n", event->file, event->why,
                event->kept_as);
    } else if (event->why != NULL) {
        fprintf(stderr, "%s: %s\n", event->file, event->why);
    }
}

/* Whatever is in a file of this size. */
static uint64_t room_for(const struct ledger_file *file)
{
    struct stat st;
    return (UINT64_C(64) << 20) + (stat(file->path, &st) == 0 ? 4 * (uint64_t)st.st_size : 0);
}

static int clear_file(const struct request *request, const struct ledger_file *file)
{
    const struct ledger_store_options options = {.directory = request->directory,
                                                 .retry_window = RETRY_WINDOW,
                                                 .max_size = room_for(file),
                                                 .on_event = on_event};
    struct ledger_store *store = ledger_store_new(&options);
    unsigned long long cleared = 0;
    if (store == NULL) {
        fprintf(stderr, "out of memory\n");
        return CLI_FAILED;
    }
    bool good = ledger_store_load(store);
    if (good) {
        cleared = ledger_clear(ledger_store_ledger(store), request->clear);
    }
    good = ledger_store_free(store) && good;
    return good ? tell_cleared(request, cleared) : CLI_FAILED;
}

struct listing {
    struct ledger *ledger;
    time_t now;
};

static bool on_set(void *context, uint64_t set, struct span record)
{
    const struct listing *listing = context;
    return ledger_restore(listing->ledger, set, record);
}

static void on_changed(void *store, bool soon)
{
    (void)store;
    (void)soon;
}

static int list_file(const struct request *request, const struct ledger_file *file)
{
    char reason[LEDGER_WHY];
    struct text why = TEXT(reason);
    const struct ledger_options options = {
        .retry_window = RETRY_WINDOW / 1000, .max_size = SIZE_MAX, .changed = on_changed};
    struct listing listing = {.ledger = ledger_new(&options), .now = time(NULL)};
    if (listing.ledger == NULL) {
        fprintf(stderr, "out of memory\n");
        return CLI_FAILED;
    }
    const enum ledger_read result = ledger_read(file->path, on_set, &listing, &why);
    ledger_print(listing.ledger, 0, request->options->json, listing.now, SIZE_MAX, stdout);
    ledger_free(listing.ledger);
    if (result == LEDGER_READ_FINE) {
        return CLI_OK;
    }
    fprintf(stderr, "%s: %s\n", file->path, reason);
    return CLI_FAILED;
}

/* As long as the lock is held no daemon begins to write: it goes on trying, and has it at once
 * when we end. */
static int without_daemon(const struct request *request)
{
    struct ledger_file file;
    struct stat st;
    if (!ledger_file_init(&file, request->directory)) {
        fprintf(stderr, "%s: the path is too long\n", request->directory);
        return CLI_FAILED;
    }
    if (lstat(file.path, &st) != 0 && (errno == ENOENT || errno == ENOTDIR)) {
        fprintf(stderr, "no splitmx runs with state directory %s, and there is no ledger in it\n",
                request->directory);
        return request->options->clear != NULL ? tell_cleared(request, 0) : CLI_OK;
    }
    if (request->options->clear != NULL) {
        return clear_file(request, &file);
    }
    const int lock = ledger_file_lock(&file);
    if (lock < 0) {
        fprintf(stderr, "%s/" LEDGER_LOCK ": %s\n", request->directory,
                errno == EWOULDBLOCK ? "another process has it locked; try again"
                                     : strerror(errno));
        return CLI_FAILED;
    }
    const int status = list_file(request, &file);
    close(lock);
    return status;
}

int cli_ledger(int argc, char **argv)
{
    struct options options;
    struct request request = {.options = &options};
    const int done = options_parse(&command, argc, argv, &options);
    bool nobody = false;

    if (done != OPTIONS_FINE) {
        return done;
    }
    if (!parse_clear(&request)) {
        return CLI_USAGE;
    }
    request.directory = ask_state_directory(options.config);
    if (request.directory == NULL) {
        return CLI_CONFIG;
    }
    int status = options.clear != NULL ? clear_of_daemon(&request, &nobody)
                                       : list_of_daemon(&request, &nobody);
    if (nobody) {
        status = without_daemon(&request);
    }
    free(request.directory);
    return status;
}
