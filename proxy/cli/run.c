#include "proxy/cli/cli.h"
#include "proxy/cli/options.h"
#include "proxy/daemon/daemon.h"

static const struct command command = {
    .name = "run",
    .usage = " [-c FILE]",
    .help = "Serves, in the foreground, until SIGTERM or SIGINT; SIGHUP reloads. The log goes to\n"
            "standard error; a service manager is told when it is ready.\n",
    .options = OPTION_CONFIG,
};

int cli_run(int argc, char **argv)
{
    struct options options;
    const int done = options_parse(&command, argc, argv, &options);

    return done == OPTIONS_FINE ? daemon_run(options.config) : done;
}
