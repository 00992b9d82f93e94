#include "routing/route.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "proxy/cli/cli.h"
#include "proxy/cli/explain.h"
#include "proxy/cli/options.h"
#include "proxy/daemon/prepare.h"

/* Milliseconds that name servers have, where nobody is probed. */
#define LOOKUP_PATIENCE 5000

static const struct command command = {
    .name = "route",
    .usage = " [-c FILE] [--json] [--probe] ADDRESS…",
    .help =
        "Explains where mail for each ADDRESS goes: the keys looked for, the one that matched\n"
        "and where it is written, the relay, its next hops and what they lead to, their health\n"
        "as the running daemon has it, and what is done when they fail; or the action. From\n"
        "the table in force; one is built for the answer when there is none or its files have\n"
        "changed. With --probe the server is asked (MAIL FROM:<>, RCPT, never DATA), and the\n"
        "exit status is 1 unless it would accept every ADDRESS.\n",
    .options = OPTION_CONFIG | OPTION_JSON | OPTION_PROBE,
    .operand = "an ADDRESS",
    .least = 1,
    .most = -1,
};

/* The table in force, or one built for this answer alone; NULL with errors in diags. */
static struct table *open_table(const struct config *config, const struct relay_set *relays,
                                struct diag_list *diags)
{
    const char *directory = config->state_directory.text;
    struct diag_list *unused = diag_list_new();
    enum table_state state;
    /* What is wrong with a table in force is no error here: one is built anew. */
    struct table *table = table_open_current(config, relays, directory, &state, unused);

    diag_list_free(unused);
    if (table) {
        return table;
    }
    switch (state) {
    case TABLE_CURRENT: /* but for a relay that the configuration no longer has */
    case TABLE_STALE:
        fprintf(stderr,
                "the table in force in %s is older than its files: "
                "this is what they say now\n",
                directory);
        break;
    case TABLE_DAMAGED:
        fprintf(stderr, "the table in %s is damaged: this is what the files say\n", directory);
        break;
    case TABLE_NONE:
        fprintf(stderr, "%s in %s: this is what the files say\n",
                access(directory, X_OK) != 0 && errno == EACCES
                    ? "this user may not read which table is in force"
                    : "no table is in force",
                directory);
        break;
    }
    return table_load(config, relays, NULL, 0, diags);
}

/* ---- the questions ---- */

struct questions {
    struct doctor doctor; /* first: the world's callbacks find us by it */
    struct inquiry **inquiries;
    size_t count;
    bool probe;
};

static bool questions_begin(struct doctor *doctor)
{
    struct questions *questions = (struct questions *)(void *)doctor;
    struct check **first = doctor->last;

    for (size_t i = 0; i < questions->count; i++) {
        if (inquiry_is_open(questions->inquiries[i])) {
            inquiry_add(questions->inquiries[i], doctor, questions->probe);
        }
    }
    for (struct check *check = *first; check != NULL; check = check->next) {
        check_begin(check);
    }
    return true;
}

static void questions_cut(struct doctor *doctor)
{
    for (struct check *check = doctor->checks; check != NULL; check = check->next) {
        inquiry_cut((struct inquiry *)(void *)check);
    }
}

static bool questions_read(struct questions *questions, const struct config *config,
                           const struct relay_set *relays, const struct table *table,
                           const struct options *options)
{
    questions->probe = options->probe;
    questions->inquiries = calloc((size_t)options->operand_count, sizeof(struct inquiry *));
    for (int i = 0; questions->inquiries && i < options->operand_count; i++) {
        struct inquiry *inquiry = inquiry_new(config, relays, table, span_of(options->operands[i]));
        if (!inquiry) {
            break;
        }
        inquiry_settle(inquiry);
        questions->inquiries[questions->count++] = inquiry;
    }
    if (questions->count == (size_t)options->operand_count) {
        return true;
    }
    fputs("out of memory\n", stderr);
    return false;
}

static void questions_free(struct questions *questions)
{
    for (size_t i = 0; i < questions->count; i++) {
        inquiry_free(questions->inquiries[i]);
    }
    free(questions->inquiries);
    free(questions);
}

/* ---- the answers ---- */

/* What can be asked of name and mail servers; NULL: all of it was. */
static const char *questions_ask(struct questions *questions, struct prepared *prepared)
{
    const struct config *config = prepared->config;
    const uint64_t patience = questions->probe ? config->timeouts.recipient : LOOKUP_PATIENCE;

    doctor_init(&questions->doctor, prepared, questions_begin);
    questions->doctor.on_time_out = questions_cut;
    if (!doctor_run(&questions->doctor, patience)) {
        return "descriptors or memory are short";
    }
    return questions->doctor.broken ? "memory is short" : NULL;
}

/* False when one would not be accepted, or the table could not be read. */
static bool explain_all(const struct questions *questions, const struct daemon_view *daemon,
                        const char *not_looked_up, bool json)
{
    bool fine = true;

    for (size_t i = 0; i < questions->count; i++) {
        const struct inquiry *inquiry = questions->inquiries[i];
        const struct explanation explanation = {inquiry, daemon, not_looked_up, questions->probe};
        if (json) {
            explain_json(&explanation, stdout);
        } else {
            explain_text(&explanation, stdout);
        }
        if (inquiry->question.decision.broken) {
            fprintf(stderr, "the table cannot be read\n");
            fine = false;
        }
        fine = fine && (!questions->probe || inquiry->verdict.accepted);
    }
    return fine;
}

static bool is_anything_open(const struct questions *questions)
{
    for (size_t i = 0; i < questions->count; i++) {
        if (inquiry_is_open(questions->inquiries[i])) {
            return true;
        }
    }
    return false;
}

/* `relays` and `table` are released here. */
static int answer(struct config *config, struct relay_set *relays, struct table *table,
                  const struct options *options, struct diag_list *diags)
{
    int result = CLI_FAILED;
    const char *missing = NULL;
    struct prepared *prepared = NULL;
    struct daemon_view *daemon = NULL;
    struct questions *questions = calloc(1, sizeof *questions);
    if (!questions) {
        fputs("out of memory\n", stderr);
        goto done;
    }
    if (!questions_read(questions, config, relays, table, options)) {
        goto done;
    }
    if (is_anything_open(questions)) {
        daemon = daemon_view_ask(config->state_directory.text, options->config);
        prepared = prepare_to_ask(config, relays, table, options->probe, diags);
        if (!prepared && options->probe) {
            diag_print(diags, stderr);
            result = diag_only_machine(diags) ? CLI_FAILED : CLI_CONFIG;
            goto done;
        }
        missing = prepared ? questions_ask(questions, prepared)
                           : "the name servers, or what this host listens on, cannot be found out";
    }
    if (missing && options->probe) {
        fprintf(stderr, "nobody can be asked: %s\n", missing);
        goto done;
    }
    result = explain_all(questions, daemon, missing, options->json) ? CLI_OK : CLI_FAILED;
done:
    daemon_view_free(daemon);
    if (questions) {
        questions_free(questions);
    }
    if (prepared) {
        policy_unref(&prepared->policy);
    } else {
        table_unref(table);
        relay_set_free(relays);
    }
    return result;
}

int cli_route(int argc, char **argv)
{
    struct options options;
    const int done = options_parse(&command, argc, argv, &options);
    if (done != OPTIONS_FINE) {
        return done;
    }
    signal(SIGPIPE, SIG_IGN);
    int result;
    struct relay_set *relays = NULL;
    struct table *table = NULL;
    struct diag_list *diags = diag_list_new();
    struct config *config = config_load(options.config, diags);
    if (config) {
        relays = relay_set_new(config, diags);
    }
    if (relays) {
        table = open_table(config, relays, diags);
    }
    if (table) {
        result = answer(config, relays, table, &options, diags);
    } else {
        /* Warnings are the business of check, when the question has its answer. */
        diag_print(diags, stderr);
        result = diag_only_machine(diags) ? CLI_FAILED : CLI_CONFIG;
        relay_set_free(relays);
    }
    config_unref(config);
    diag_list_free(diags);
    return result;
}
