#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "proxy/cli/cli.h"
#include "proxy/cli/doctor_state.h"
#include "proxy/cli/options.h"
#include "proxy/daemon/privileges.h"
#include "proxy/daemon/quote.h"
#include "proxy/daemon/survey.h"

static const struct command command = {
    .name = "doctor",
    .usage = " [-c FILE] [--json] [DOMAIN…]",
    .help =
        "Looks at what has to be true outside of splitmx for each DOMAIN, or every domain that\n"
        "mail is accepted for: MX records and their order, what lower MX hosts would bounce,\n"
        "names of our addresses (PTR), certificates, whether each relay can be reached and\n"
        "protects itself. Asks mail servers, but sends no mail. Takes up to a minute. Prints a\n"
        "line for each finding (ok, note, warning, error), or an object with --json; exits 1\n"
        "when one is an error.\n",
    .options = OPTION_CONFIG | OPTION_JSON,
    .operand = "a DOMAIN",
    .most = -1,
};

/* ---- findings ---- */

static const char *const level_words[] = {
    [LEVEL_OK] = "ok",
    [LEVEL_NOTE] = "note",
    [LEVEL_WARNING] = "warning",
    [LEVEL_ERROR] = "error",
};

/* Green, as it is, yellow, red (ECMA-48 8.3.117). */
static const char *const level_colors[] = {
    [LEVEL_OK] = "\x1b[32m",
    [LEVEL_NOTE] = "",
    [LEVEL_WARNING] = "\x1b[1;33m",
    [LEVEL_ERROR] = "\x1b[1;31m",
};

/* Terminals only, and not where NO_COLOR says otherwise (no-color.org). */
static bool may_color(void)
{
    const char *no_color = getenv("NO_COLOR"), *terminal = getenv("TERM");
    return isatty(STDOUT_FILENO) && (no_color == NULL || no_color[0] == '\0') && terminal != NULL &&
           strcmp(terminal, "dumb") != 0;
}

static void print_text(const struct check *check, const struct finding *finding, bool colored)
{
    const char *color = colored ? level_colors[finding->level] : "";
    printf("%s%-8s%s ", color, level_words[finding->level], color[0] != '\0' ? "\x1b[0m" : "");
    print_plain(stdout, span_of(check->subject));
    fputs(": ", stdout);
    print_plain(stdout, span_of(finding->text));
    putchar('\n');
}

static void print_json(const struct check *check, const struct finding *finding)
{
    printf("{\"level\":\"%s\",\"subject\":", level_words[finding->level]);
    json_put_string(stdout, span_of(check->subject));
    fputs(",\"text\":", stdout);
    json_put_string(stdout, span_of(finding->text));
    fputs("}\n", stdout);
}

static void doctor_print(struct doctor *doctor, const struct check *check,
                         const struct finding *finding)
{
    doctor->warnings += finding->level == LEVEL_WARNING;
    doctor->errors += finding->level == LEVEL_ERROR;
    if (doctor->json) {
        print_json(check, finding);
    } else {
        print_text(check, finding, doctor->colored);
    }
}

void check_say(struct check *check, enum level level, const char *format, ...)
{
    char line[3000];
    struct finding *findings =
        realloc(check->findings, (check->count + 1) * sizeof *check->findings);
    va_list arguments;
    if (findings == NULL) {
        check_fail(check);
        return;
    }
    check->findings = findings;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    char *copy = span_dup(span_of(line));
    if (copy == NULL) {
        check_fail(check);
        return;
    }
    findings[check->count++] = (struct finding){level, copy};
}

/* Those of the checks that are over, as far as none before them is not. */
static void doctor_print_over(struct doctor *doctor)
{
    while (*doctor->unprinted != NULL && (*doctor->unprinted)->over) {
        const struct check *check = *doctor->unprinted;
        for (size_t i = 0; i < check->count; i++) {
            doctor_print(doctor, check, &check->findings[i]);
        }
        doctor->unprinted = &(*doctor->unprinted)->next;
    }
    fflush(stdout);
}

/* What the first check has found the others need. */
void doctor_begin(struct doctor *doctor)
{
    struct check **first = doctor->last;
    doctor_addresses(doctor);
    doctor_certificates(doctor);
    doctor_domains(doctor);
    doctor_postmaster(doctor);
    doctor_relays(doctor);
    for (struct check *check = *first; check != NULL; check = check->next) {
        check_begin(check);
    }
}

static void doctor_sum_up(const struct doctor *doctor)
{
    printf("%u error%s, %u warning%s\n", doctor->errors, doctor->errors == 1 ? "" : "s",
           doctor->warnings, doctor->warnings == 1 ? "" : "s");
}

static void doctor_release(struct doctor *doctor)
{
    doctor_free_checks(doctor);
    for (size_t i = 0; i < doctor->domain_count; i++) {
        for (size_t k = 0; k < doctor->domains[i].sampled; k++) {
            free(doctor->domains[i].sample[k]);
        }
    }
    for (size_t i = 0; doctor->certificates != NULL && i < doctor_config(doctor)->certificate_count;
         i++) {
        tls_inspection_free(doctor->certificates[i]);
    }
    free(doctor->certificates);
    free(doctor->domains);
    free(doctor->machine);
}

static int examine(struct prepared *prepared, const struct options *options)
{
    int status = CLI_FAILED;
    struct doctor *doctor = calloc(1, sizeof *doctor);
    if (doctor == NULL) {
        fputs("out of memory\n", stderr);
        return CLI_FAILED;
    }
    doctor_init(doctor, prepared, doctor_hostname);
    doctor->on_over = doctor_print_over;
    doctor->json = options->json;
    doctor->colored = !options->json && may_color();
    if (!doctor_read_table(doctor, options->operands, options->operand_count)) {
        fputs("the table cannot be read\n", stderr);
    } else if (!doctor_run(doctor, DOCTOR_DEADLINE)) {
        fputs("nothing can be asked: descriptors or memory are short\n", stderr);
    } else {
        if (!doctor->json) {
            doctor_sum_up(doctor);
        }
        if (doctor->broken) {
            fputs("memory was short: not everything was found out\n", stderr);
        }
        status = doctor->errors == 0 && !doctor->broken ? CLI_OK : CLI_FAILED;
    }
    doctor_release(doctor);
    free(doctor);
    return status;
}

static int check_domains(const struct options *options)
{
    char folded[DNS_NAME_MAX + 1];
    for (int i = 0; i < options->operand_count; i++) {
        if (!name_fold(span_of(options->operands[i]), folded)) {
            fprintf(stderr, "splitmx doctor: \"%s\" is not a domain\n", options->operands[i]);
            return CLI_USAGE;
        }
    }
    return OPTIONS_FINE;
}

int cli_doctor(int argc, char **argv)
{
    struct options options;
    int status = options_parse(&command, argc, argv, &options);
    if (status == OPTIONS_FINE) {
        status = check_domains(&options);
    }
    if (status != OPTIONS_FINE) {
        return status;
    }
    signal(SIGPIPE, SIG_IGN);
    struct diag_list *diags = diag_list_new();
    struct prepared *prepared = NULL;
    struct config *config = survey_load(options.config, PRIVILEGES_TO_CHECK, diags);
    if (config != NULL) {
        prepared = prepare_config(config, PREPARE_TO_CHECK, NULL, diags);
    }
    if (prepared != NULL) {
        /* Warnings of what is written are the business of check. */
        status = examine(prepared, &options);
        policy_unref(&prepared->policy);
    } else {
        diag_print(diags, stderr);
        status = diag_only_machine(diags) ? CLI_FAILED : CLI_CONFIG;
    }
    config_unref(config);
    diag_list_free(diags);
    return status;
}
