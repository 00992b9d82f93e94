#include <stdio.h>

#include "proxy/cli/cli.h"
#include "proxy/cli/options.h"
#include "proxy/daemon/prepare.h"
#include "proxy/daemon/privileges.h"
#include "proxy/daemon/survey.h"

static const struct command command = {
    .name = "check",
    .usage = " [-c FILE]",
    .help = "Loads the configuration and the routes as run would, prints every error and warning\n"
            "as file:line:column, and serves nothing. It writes nothing. Exits 78 on errors.\n",
    .options = OPTION_CONFIG,
};

static void print_fine(const char *path, const struct prepared *prepared)
{
    const unsigned long long routes = table_routes(prepared->table);
    const size_t relays = relay_count(prepared->relays);

    printf("%s: fine, %llu route%s, %zu relay%s\n", path, routes, routes == 1 ? "" : "s", relays,
           relays == 1 ? "" : "s");
}

int cli_check(int argc, char **argv)
{
    struct options options;
    const int done = options_parse(&command, argc, argv, &options);
    if (done != OPTIONS_FINE) {
        return done;
    }
    struct diag_list *diags = diag_list_new();
    struct prepared *prepared = NULL;
    struct config *config = survey_load(options.config, PRIVILEGES_TO_CHECK, diags);
    if (config) {
        prepared = prepare_config(config, PREPARE_TO_CHECK, NULL, diags);
        privileges_check(config, PRIVILEGES_TO_CHECK, diags);
    }
    diag_print(diags, stderr);
    const bool fine = prepared && diag_errors(diags) == 0;
    const int status = fine ? CLI_OK : diag_only_machine(diags) ? CLI_FAILED : CLI_CONFIG;
    if (fine) {
        print_fine(options.config, prepared);
    }
    if (prepared) {
        policy_unref(&prepared->policy);
    }
    config_unref(config);
    diag_list_free(diags);
    return status;
}
