/*
 * load_text: all that the load generator says, written once: of each message only the number in its
 * Message-ID is new. Pure, immutable once made.
 */
#ifndef SPLITMX_TESTS_BENCH_LOAD_TEXT_H
#define SPLITMX_TESTS_BENCH_LOAD_TEXT_H

#include "tests/bench/load_options.h"

#define LOAD_NUMBER 16 /* hexadecimal digits of a message's number */

struct load_text {
    struct span mail;                        /* "MAIL FROM:<…>" CRLF */
    struct span recipients[LOAD_RECIPIENTS]; /* "RCPT TO:<…>" CRLF, each */
    struct span envelope;                    /* those and DATA, all together */
    struct span before; /* a message up to its number, which follows as LOAD_NUMBER digits */
    struct span after;  /* the rest, with the end of data */
    size_t recipient_count;
    size_t size; /* octets of a message, without the end of data */
    char *bytes; /* what these are of */
};

/* `run` makes the numbers of this run others than those of any other. A message too small for its
 * own header becomes as large as that. False when memory is short. */
bool load_text_init(struct load_text *text, const struct load_options *options, uint64_t run);
void load_text_release(struct load_text *text);

/* The digits, without a NUL. */
void load_text_number(char out[LOAD_NUMBER], uint64_t number);

#endif
