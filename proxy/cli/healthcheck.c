#include <stddef.h>

#include "proxy/cli/cli.h"
#include "proxy/cli/options.h"

#define PATIENCE 5000 /* milliseconds: a container's own limit is rarely less */

static const struct command command = {
    .name = "healthcheck",
    .usage = " [-c FILE]",
    .help = "Exits 0 if the daemon runs and answers, 1 if not: for health checks of containers.\n",
    .options = OPTION_CONFIG,
};

int cli_healthcheck(int argc, char **argv)
{
    struct options options;
    const int done = options_parse(&command, argc, argv, &options);

    return done == OPTIONS_FINE ? options_ask(&options, "health", NULL, PATIENCE) : done;
}
