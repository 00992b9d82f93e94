#include "proxy/cli/cli.h"
#include "proxy/cli/options.h"

#define PATIENCE 10000 /* milliseconds without a sign of life; large tables may take longer */

static const struct command command = {
    .name = "reload",
    .usage = " [-c FILE]",
    .help = "Makes the running daemon read its configuration and routes again, waits for the\n"
            "outcome and prints its errors. On any error the daemon keeps what it had and the\n"
            "status is 1. The configuration only says which daemon: it may be broken.\n",
    .options = OPTION_CONFIG,
};

int cli_reload(int argc, char **argv)
{
    struct options options;
    const int done = options_parse(&command, argc, argv, &options);

    if (done != OPTIONS_FINE) {
        return done;
    }
    const int served = options_served(&options, PATIENCE);
    if (served != CLI_OK) {
        return served;
    }
    return options_ask(&options, "reload", "reloaded: ", PATIENCE);
}
