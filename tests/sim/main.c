/*
 * sim: runs session code in simulated worlds until enough transactions have been seen: of exact
 * worlds (message.h) split ones, of those with queues (queues.h) any.
 *
 *   sim [--queues] [--seed S] [--runs N] [--world W] [--faults F] [--twice] [--trace | --shrink]
 */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/sim/queues.h"
#include "tests/sim/shrink.h"

struct options {
    uint64_t seed, runs, world, faults;
    bool queues, one_world, twice, trace, shrink;
};

static bool take_number(const char *text, uint64_t *out)
{
    unsigned long long number = 0;
    bool good = span_number(span_of(text), UINT64_MAX, &number);
    *out = number;
    return good;
}

static bool take_options(int argc, char **argv, struct options *options)
{
    static const struct option known[] = {
        {"seed", required_argument, NULL, 's'},
        {"runs", required_argument, NULL, 'n'},
        {"world", required_argument, NULL, 'w'},
        {"twice", no_argument, NULL, '2'},
        {"faults", required_argument, NULL, 'f'},
        {"trace", no_argument, NULL, 't'},
        {"queues", no_argument, NULL, 'q'},
        {"shrink", no_argument, NULL, 'k'},
        {0},
    };
    bool good = true;
    for (int c; good && (c = getopt_long(argc, argv, "n:", known, NULL)) != -1;) {
        switch (c) {
        case 's':
            good = take_number(optarg, &options->seed);
            break;
        case 'n':
            good = take_number(optarg, &options->runs);
            break;
        case 'w':
            good = options->one_world = take_number(optarg, &options->world);
            break;
        case 'f':
            good = take_number(optarg, &options->faults) && options->faults <= 10000;
            break;
        case '2':
            options->twice = true;
            break;
        case 't':
            options->trace = true;
            break;
        case 'q':
            options->queues = true;
            break;
        case 'k':
            options->shrink = true;
            break;
        default:
            good = false;
            break;
        }
    }
    return good && optind == argc && (!options->shrink || (options->queues && options->one_world));
}

static struct sim_config config_of(const struct options *options)
{
    return (struct sim_config){.seed = options->seed,
                               .number = options->world,
                               .trace = options->trace,
                               .faults = (unsigned)options->faults,
                               .queues = options->queues};
}

static void tell_exact(const struct sim_totals *totals)
{
    printf(" sessions=%" PRIu64 " transactions=%" PRIu64 " accepted=%" PRIu64 " rejected=%" PRIu64
           " deferred=%" PRIu64 " gone=%" PRIu64 " unsettled=%" PRIu64,
           totals->sessions, totals->transactions, totals->accepted, totals->rejected,
           totals->deferred, totals->gone, totals->unsettled);
}

static void tell_queues(const struct queue_totals *totals)
{
    uint64_t twice = 0;
    printf(" transactions=%" PRIu64 " answered=%" PRIu64 " unsettled=%" PRIu64
           " already-accepted=%" PRIu64 " copies=%" PRIu64 " faults=%" PRIu64 " crashes=%" PRIu64
           " jumps=%" PRIu64 " not-durable=%" PRIu64 " given-up=%" PRIu64,
           totals->attempts, totals->outcomes, totals->unsettled, totals->from_record,
           totals->copies, totals->faults, totals->crashes, totals->jumps, totals->untold,
           totals->given_up);
    for (int i = 0; i < CAUSES; i++) {
        twice += totals->causes[i];
    }
    printf("\ncopies too many=%" PRIu64 ":", twice);
    for (int i = 0; i < CAUSES; i++) {
        printf("%s %s=%" PRIu64, i != 0 ? "," : "", books_cause((enum cause)i), totals->causes[i]);
    }
    printf("\n");
}

static uint64_t passed(const struct options *options, const struct sim_totals *totals)
{
    return options->queues ? totals->transactions : totals->splits;
}

static struct sim_totals run(const struct options *options)
{
    struct queue_totals queues = {0};
    struct sim_totals totals = {.queues = &queues};
    struct sim_config config = config_of(options);
    do {
        sim_run(&config, &totals);
        config.number++;
    } while (!options->one_world && passed(options, &totals) < options->runs);
    printf("seed=%" PRIu64 " worlds=%" PRIu64, options->seed, config.number - options->world);
    if (options->queues) {
        tell_queues(&queues);
    } else {
        tell_exact(&totals);
    }
    printf(" events=%" PRIu64 " trace=%016" PRIx64 "\n", totals.events, totals.hash);
    return totals;
}

int main(int argc, char **argv)
{
    struct options options = {.seed = 1, .runs = 1000};
    if (!take_options(argc, argv, &options)) {
        fprintf(stderr, "usage: sim [--queues] [--seed S] [--runs N] [--world W] [--faults F] "
                        "[--twice] [--trace | --shrink]\n");
        return 64;
    }
    if (options.shrink) {
        struct sim_config config = config_of(&options);
        return shrink(&config);
    }
    struct sim_totals first = run(&options);
    if (options.twice) {
        struct sim_totals second = run(&options);
        if (second.hash != first.hash) {
            printf("FAILED seed=%" PRIu64 ": not the same trace twice\n0 passed, 1 failed\n",
                   options.seed);
            return 1;
        }
    }
    printf("%" PRIu64 " passed, 0 failed\n", passed(&options, &first));
    return 0;
}
