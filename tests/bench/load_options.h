/*
 * load_options: what the load generator is asked to do, from its command line.
 */
#ifndef SPLITMX_TESTS_BENCH_LOAD_OPTIONS_H
#define SPLITMX_TESTS_BENCH_LOAD_OPTIONS_H

#include <stdint.h>

#include "config/net_address.h"

#define LOAD_RECIPIENTS 100

struct load_options {
    struct net_address address;
    uint64_t messages; /* 0: no end but that of the time */
    uint64_t seconds;  /* 0: no end but that of the messages */
    uint64_t sessions; /* at once */
    uint64_t keep;     /* messages a connection; 0: without end */
    uint64_t size;     /* octets of a message */
    uint64_t rate;     /* messages a second; 0: each session as fast as it can */
    uint64_t idle;     /* sessions to be held, instead of messages; 0: none */
    const char *sender;
    const char *recipients[LOAD_RECIPIENTS]; /* of each message, all of them */
    size_t recipient_count;
    bool pipelining;
    bool starttls;
    bool resume;
};

/* False when they make no sense; then the usage has been printed. Texts are argv's own. */
bool load_options_take(struct load_options *options, int argc, char **argv);

#endif
