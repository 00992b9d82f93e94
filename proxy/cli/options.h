/*
 * options: what the commands' options have in common: reading them, --help, and where the daemon
 * is.
 */
#ifndef SPLITMX_PROXY_CLI_OPTIONS_H
#define SPLITMX_PROXY_CLI_OPTIONS_H

#include <stdbool.h>

#define OPTION_CONFIG    (1u << 0) /* -c FILE, --config FILE */
#define OPTION_JSON      (1u << 1) /* --json */
#define OPTION_OUTPUT    (1u << 2) /* -o FILE, --output FILE */
#define OPTION_CLEAR     (1u << 3) /* --clear SET */
#define OPTION_MAILBOXES (1u << 4) /* --accounts, --virtual, --to RELAY */
#define OPTION_PROBE     (1u << 5) /* --probe */

/* What a command takes. */
struct command {
    const char *name;
    const char *usage;   /* behind "splitmx NAME" */
    const char *help;    /* what it does, lines with their ends */
    unsigned options;    /* OPTION_ bits */
    const char *operand; /* what an operand is called in messages; NULL: there are none */
    int least, most;     /* operands; most -1: any number */
};

struct options {
    const char *config; /* the default where -c is absent */
    const char *output; /* or NULL */
    const char *clear;  /* or NULL */
    const char *to;     /* `local` where --to is absent */
    bool json, probe, accounts, is_virtual;
    char **operands;
    int operand_count;
};

#define OPTIONS_FINE (-1)

/* OPTIONS_FINE, or the exit status with which the command ends now: help was asked for, or
 * something is wrong and told. */
int options_parse(const struct command *command, int argc, char **argv, struct options *out);

/*
 * Asks the daemon and prints its answer: to standard output, or to standard error when it says that
 * it failed. With a `prefix` only the last line goes to standard output, behind it: the lines above
 * it are warnings. Returns the exit status. timeout: milliseconds without a sign of life.
 */
int options_ask(const struct options *options, const char *verb, const char *prefix,
                unsigned timeout);

/* CLI_OK; or another exit status, and told, when the daemon of this configuration's state directory
 * serves another file, or the configuration cannot be read. A daemon that does not answer is
 * options_ask's to tell. */
int options_served(const struct options *options, unsigned timeout);

#endif
