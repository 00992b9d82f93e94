/*
 * sim: runs session code in simulated worlds until enough split transactions have been seen.
 *
 *   sim [--seed S] [--runs N] [--world W] [--faults F] [--twice] [--trace]
 */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/sim/sim.h"

struct options {
    uint64_t seed, runs, world, faults;
    bool one_world, twice, trace;
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
        default:
            good = false;
            break;
        }
    }
    return good && optind == argc;
}

static struct sim_totals run(const struct options *options)
{
    struct sim_totals totals = {0};
    struct sim_config config = {.seed = options->seed,
                                .number = options->world,
                                .trace = options->trace,
                                .faults = (unsigned)options->faults};
    do {
        sim_run(&config, &totals);
        config.number++;
    } while (!options->one_world && totals.splits < options->runs);
    printf("seed=%" PRIu64 " worlds=%" PRIu64 " sessions=%" PRIu64 " transactions=%" PRIu64
           " accepted=%" PRIu64 " rejected=%" PRIu64 " deferred=%" PRIu64 " gone=%" PRIu64
           " unsettled=%" PRIu64 " events=%" PRIu64 " trace=%016" PRIx64 "\n",
           options->seed, config.number - options->world, totals.sessions, totals.transactions,
           totals.accepted, totals.rejected, totals.deferred, totals.gone, totals.unsettled,
           totals.events, totals.hash);
    return totals;
}

int main(int argc, char **argv)
{
    struct options options = {.seed = 1, .runs = 1000};
    if (!take_options(argc, argv, &options)) {
        fprintf(stderr,
                "usage: sim [--seed S] [--runs N] [--world W] [--faults F] [--twice] [--trace]\n");
        return 64;
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
    printf("%" PRIu64 " passed, 0 failed\n", first.splits);
    return 0;
}
