#include "routing/route.h"

#include <stdio.h>

#include "proxy/cli/cli.h"
#include "proxy/cli/explain.h"
#include "proxy/cli/options.h"

static const struct command command = {
    .name = "route",
    .usage = " [-c FILE] [--json] ADDRESS…",
    .help = "Explains where mail for each ADDRESS goes: the key that matched and where it is\n"
            "written, the relay and its next hops, or the action. From the table in force; one is\n"
            "built for the answer when there is none or its files have changed.\n",
    .options = OPTION_CONFIG | OPTION_JSON,
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
        fprintf(stderr, "no table is in force in %s: this is what the files say\n", directory);
        break;
    }
    return table_load(config, relays, NULL, 0, diags);
}

/* An address as it stands in mail and logs, without its angle brackets. */
static struct span bare(struct span address)
{
    bool angled = address.len > 2 && address.ptr[0] == '<' && address.ptr[address.len - 1] == '>';
    return angled ? span_make(address.ptr + 1, address.len - 2) : address;
}

/* False when the table could not be read. */
static bool explain_all(const struct config *config, const struct relay_set *relays,
                        const struct table *table, const struct options *options)
{
    bool fine = true;

    for (int i = 0; i < options->operand_count; i++) {
        struct address address = {0};
        struct decision decision;
        const struct span asked = bare(span_of(options->operands[i]));
        const struct explanation explanation = {asked, &address, &decision};

        route_decide(config, relays, table, asked, &address, &decision);
        if (options->json) {
            explain_json(&explanation, stdout);
        } else {
            explain_text(&explanation, stdout);
        }
        if (decision.broken) {
            fprintf(stderr, "the table cannot be read\n");
            fine = false;
        }
    }
    return fine;
}

int cli_route(int argc, char **argv)
{
    struct options options;
    const int done = options_parse(&command, argc, argv, &options);
    if (done != OPTIONS_FINE) {
        return done;
    }
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
        result = explain_all(config, relays, table, &options) ? CLI_OK : CLI_FAILED;
    } else {
        /* Warnings are the business of check, when the question has its answer. */
        diag_print(diags, stderr);
        result = diag_only_machine(diags) ? CLI_FAILED : CLI_CONFIG;
    }
    table_unref(table);
    relay_set_free(relays);
    config_unref(config);
    diag_list_free(diags);
    return result;
}
