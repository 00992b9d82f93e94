#include "proxy/cli/options.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "config/diag.h"
#include "config/span.h"
#include "proxy/cli/cli.h"

static const struct {
    struct option option;
    unsigned bit;
    const char *help;
} known[] = {
    {{"config", required_argument, NULL, 'c'},
     OPTION_CONFIG,
     "  -c, --config FILE  the configuration (default: " CLI_DEFAULT_CONFIG ")\n"},
    {{"json", no_argument, NULL, 'j'}, OPTION_JSON, "      --json         print JSON\n"},
    {{"output", required_argument, NULL, 'o'},
     OPTION_OUTPUT,
     "  -o, --output FILE  write to FILE (replaced at once) instead of standard output\n"},
    {{"clear", required_argument, NULL, 'k'},
     OPTION_CLEAR,
     "      --clear SET    forget this set, or `all`\n"},
    {{"probe", no_argument, NULL, 'p'},
     OPTION_PROBE,
     "      --probe        ask the server that would be asked (no mail is sent)\n"},
    {{"accounts", no_argument, NULL, 'A'},
     OPTION_MAILBOXES,
     "      --accounts     each FILE is like postfix-accounts.cf, whatever its name\n"},
    {{"virtual", no_argument, NULL, 'V'},
     OPTION_MAILBOXES,
     "      --virtual      each FILE is like postfix-virtual.cf\n"},
    {{"to", required_argument, NULL, 't'},
     OPTION_MAILBOXES,
     "      --to RELAY     where accounts and aliases go (default: local)\n"},
    {{"help", no_argument, NULL, 'h'}, 0, "  -h, --help         print this\n"},
};

#define KNOWN (sizeof(known) / sizeof(known[0]))

static bool takes(const struct command *command, size_t i)
{
    return known[i].bit == 0 || (command->options & known[i].bit) != 0;
}

static void print_help(const struct command *command)
{
    printf("usage: splitmx %s%s\n\n%s\n", command->name, command->usage, command->help);
    for (size_t i = 0; i < KNOWN; i++) {
        if (takes(command, i)) {
            fputs(known[i].help, stdout);
        }
    }
}

static int usage_error(const struct command *command)
{
    fprintf(stderr, "usage: splitmx %s%s\n", command->name, command->usage);
    return CLI_USAGE;
}

/* What getopt_long has stopped at: `word` is the argument that holds it. */
static int wrong_option(const struct command *command, const struct option *longs, int found,
                        const char *word)
{
    const bool is_long = word[0] == '-' && word[1] == '-';
    const char *names[KNOWN + 1] = {NULL};
    const char *nearest = NULL;

    for (size_t i = 0; longs[i].name; i++) {
        names[i] = longs[i].name;
    }
    if (is_long) {
        nearest = diag_nearest(word + 2, names);
    }
    fprintf(stderr, "splitmx %s: ", command->name);
    if (found == ':') {
        fprintf(stderr, "%s needs a value\n", word);
    } else if (is_long && nearest) {
        fprintf(stderr, "there is no option %s: did you mean --%s?\n", word, nearest);
    } else if (is_long) {
        fprintf(stderr, "there is no option %s\n", word);
    } else {
        fprintf(stderr, "there is no option -%c%s%s\n", optopt,
                strchr(word, '@')
                    ? ": an address that begins with a hyphen has -- in front, as in -- "
                    : "",
                strchr(word, '@') ? word : "");
    }
    return usage_error(command);
}

static int check_operands(const struct command *command, const struct options *options)
{
    if (options->operand_count < command->least) {
        fprintf(stderr, "splitmx %s: %s is missing\n", command->name, command->operand);
        return usage_error(command);
    }
    if (command->most >= 0 && options->operand_count > command->most) {
        const char *word = options->operands[command->most];
        const bool file = command->most == 0 && (command->options & OPTION_CONFIG) != 0;
        fprintf(stderr, "splitmx %s: \"%s\" is too much%s%s\n", command->name, word,
                file ? "; a configuration is named by -c, as in -c " : "", file ? word : "");
        return usage_error(command);
    }
    return OPTIONS_FINE;
}

int options_parse(const struct command *command, int argc, char **argv, struct options *out)
{
    struct option longs[KNOWN + 1] = {{NULL, 0, NULL, 0}};
    /* A leading colon: a missing value is told from an unknown option. */
    const char *shorts = (command->options & OPTION_OUTPUT) != 0   ? ":ho:"
                         : (command->options & OPTION_CONFIG) != 0 ? ":hc:"
                                                                   : ":h";
    size_t count = 0;
    int found;

    *out = (struct options){.config = CLI_DEFAULT_CONFIG, .to = "local"};
    for (size_t i = 0; i < KNOWN; i++) {
        if (takes(command, i)) {
            longs[count++] = known[i].option;
        }
    }
    opterr = 0;
    while ((found = getopt_long(argc, argv, shorts, longs, NULL)) != -1) {
        switch (found) {
        case 'c':
            if (optarg[0] == '\0') {
                fprintf(stderr, "splitmx %s: the name of the configuration is empty\n",
                        command->name);
                return usage_error(command);
            }
            out->config = optarg;
            break;
        case 'o':
            out->output = optarg;
            break;
        case 'k':
            out->clear = optarg;
            break;
        case 't':
            out->to = optarg;
            break;
        case 'A':
            out->accounts = true;
            break;
        case 'V':
            out->is_virtual = true;
            break;
        case 'j':
            out->json = true;
            break;
        case 'p':
            out->probe = true;
            break;
        case 'h':
            print_help(command);
            return CLI_OK;
        default:
            return wrong_option(command, longs, found, argv[optind > 1 ? optind - 1 : 1]);
        }
    }
    out->operands = argv + optind;
    out->operand_count = argc - optind;
    return check_operands(command, out);
}
