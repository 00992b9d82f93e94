#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "proxy/cli/cli.h"
#include "proxy/cli/doctor_state.h"
#include "proxy/cli/options.h"
#include "proxy/daemon/descriptors.h"
#include "proxy/daemon/privileges.h"
#include "proxy/daemon/quote.h"
#include "proxy/daemon/survey.h"

static const struct command command = {
    .name = "doctor",
    .usage = " [-c FILE] [DOMAIN…]",
    .help =
        "Looks at what has to be true outside of splitmx for each DOMAIN, or every domain that\n"
        "mail is accepted for: MX records and their order, what lower MX hosts would bounce,\n"
        "names of our addresses (PTR), certificates, whether each relay can be reached and\n"
        "protects itself. Asks mail servers, but sends no mail. Takes up to a minute. Prints a\n"
        "line for each finding (ok, note, warning, error); exits 1 when one is an error.\n",
    .options = OPTION_CONFIG,
    .operand = "a DOMAIN",
    .most = -1,
};

/* ---- findings ---- */

static void doctor_print(struct doctor *doctor, const struct finding *finding)
{
    static const char *const words[] = {
        [LEVEL_OK] = "ok",
        [LEVEL_NOTE] = "note",
        [LEVEL_WARNING] = "warning",
        [LEVEL_ERROR] = "error",
    };
    doctor->warnings += finding->level == LEVEL_WARNING;
    doctor->errors += finding->level == LEVEL_ERROR;
    printf("%-8s ", words[finding->level]);
    print_plain(stdout, span_of(finding->text));
    putchar('\n');
}

void check_fail(struct check *check)
{
    check->doctor->broken = true;
}

void check_say(struct check *check, enum level level, const char *format, ...)
{
    char line[3000];
    struct text text = TEXT(line);
    struct finding *findings =
        realloc(check->findings, (check->count + 1) * sizeof *check->findings);
    va_list arguments;
    if (findings == NULL) {
        check_fail(check);
        return;
    }
    check->findings = findings;
    text_printf(&text, "%s: ", check->subject);
    va_start(arguments, format);
    vsnprintf(line + text.len, sizeof line - text.len, format, arguments);
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
            doctor_print(doctor, &check->findings[i]);
        }
        doctor->unprinted = &(*doctor->unprinted)->next;
    }
    fflush(stdout);
}

/* ---- checks ---- */

void check_add(struct doctor *doctor, struct check *check, const char *format, ...)
{
    va_list arguments;
    check->doctor = doctor;
    va_start(arguments, format);
    vsnprintf(check->subject, sizeof check->subject, format, arguments);
    va_end(arguments);
    *doctor->last = check;
    doctor->last = &check->next;
    doctor->open++;
}

static void on_turn(uv_timer_t *turn)
{
    struct doctor *doctor = turn->data;
    net_close(&doctor->net);
    dns_close(doctor->dns);
    uv_close((uv_handle_t *)&doctor->deadline, NULL);
    uv_close((uv_handle_t *)&doctor->turn, NULL);
}

static void check_run(struct check *check)
{
    struct doctor *doctor = check->doctor;
    do {
        check->pending = 1; /* so that an answer that comes at once does not end the stage */
        if (!check->step(check)) {
            check->over = true;
            doctor_print_over(doctor);
            if (--doctor->open == 0) { /* what has called us is on the stack still */
                uv_timer_start(&doctor->turn, on_turn, 0, 0);
            }
            return;
        }
        check->stage++;
    } while (--check->pending == 0);
}

void check_begin(struct check *check)
{
    check_run(check);
}

void check_hold(struct check *check)
{
    check->pending++;
}

void check_release(struct check *check)
{
    if (--check->pending == 0) {
        check_run(check);
    }
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

/* ---- the loop ---- */

static void on_deadline(uv_timer_t *deadline)
{
    struct doctor *doctor = deadline->data;
    net_enter(&doctor->net);
    call_queue_close(&doctor->calls);
}

static void on_log(void *context, enum config_log_level level, struct span record)
{
    (void)context;
    (void)level;
    (void)record;
}

static bool open_world(struct doctor *doctor, uint64_t seed)
{
    struct net_options options = {
        .policy = &doctor->prepared->policy,
        .shared = &doctor->shared,
        .resolver = prepared_resolver(doctor->prepared),
        .log = on_log,
        .seed = seed,
        .descriptors = descriptors_raise(),
    };
    options.resolver.seed = seed;
    doctor->dns =
        dns_new(&doctor->loop, options.resolver.servers, options.resolver.server_count, seed);
    if (doctor->dns == NULL) {
        return false;
    }
    if (!net_init(&doctor->net, &doctor->loop, &options)) {
        dns_close(doctor->dns);
        uv_run(&doctor->loop, UV_RUN_DEFAULT);
        return false;
    }
    return true;
}

/* False: there is no descriptor or memory for it. */
static bool doctor_run(struct doctor *doctor)
{
    uint64_t seed = 0;
    bool fine = false;
    if (getrandom(&seed, sizeof seed, 0) != (ssize_t)sizeof seed || uv_loop_init(&doctor->loop)) {
        return false;
    }
    if (shared_init(&doctor->shared, 1, seed, NULL)) {
        fine = open_world(doctor, seed);
    }
    if (fine) {
        uv_timer_init(&doctor->loop, &doctor->deadline);
        uv_timer_init(&doctor->loop, &doctor->turn);
        doctor->deadline.data = doctor->turn.data = doctor;
        uv_timer_start(&doctor->deadline, on_deadline, DOCTOR_DEADLINE, 0);
        if (!doctor_hostname(doctor)) {
            doctor->broken = true;
            uv_timer_start(&doctor->turn, on_turn, 0, 0);
        }
        uv_run(&doctor->loop, UV_RUN_DEFAULT);
        net_release(&doctor->net);
    }
    shared_release(&doctor->shared);
    uv_loop_close(&doctor->loop);
    return fine;
}

static void doctor_sum_up(const struct doctor *doctor)
{
    printf("%u error%s, %u warning%s\n", doctor->errors, doctor->errors == 1 ? "" : "s",
           doctor->warnings, doctor->warnings == 1 ? "" : "s");
}

static void doctor_release(struct doctor *doctor)
{
    while (doctor->checks != NULL) {
        struct check *check = doctor->checks;
        doctor->checks = check->next;
        for (size_t i = 0; i < check->count; i++) {
            free(check->findings[i].text);
        }
        free(check->findings);
        check->free(check);
    }
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
    doctor->prepared = prepared;
    doctor->last = doctor->unprinted = &doctor->checks;
    call_queue_init(&doctor->calls);
    if (!doctor_read_table(doctor, options->operands, options->operand_count)) {
        fputs("the table cannot be read\n", stderr);
    } else if (!doctor_run(doctor)) {
        fputs("nothing can be asked: descriptors or memory are short\n", stderr);
    } else {
        doctor_sum_up(doctor);
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
