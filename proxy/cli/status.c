#include <stddef.h>

#include "proxy/cli/cli.h"
#include "proxy/cli/options.h"

#define PATIENCE 10000 /* milliseconds */

static const struct command command = {
    .name = "status",
    .usage = " [-c FILE] [--json]",
    .help = "Prints the running daemon's sessions, relays, routes and last reload.\n",
    .options = OPTION_CONFIG | OPTION_JSON,
};

int cli_status(int argc, char **argv)
{
    struct options options;
    const int done = options_parse(&command, argc, argv, &options);

    if (done != OPTIONS_FINE) {
        return done;
    }
    return options_ask(&options, options.json ? "status-json" : "status", NULL, PATIENCE);
}
