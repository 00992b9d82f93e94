/*
 * exposition: the text format in which Prometheus reads metrics (version 0.0.4). Pure.
 */
#ifndef SPLITMX_PROXY_ADMIN_EXPOSITION_H
#define SPLITMX_PROXY_ADMIN_EXPOSITION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proxy/session/latency.h"

#define EXPOSITION_TYPE "text/plain; version=0.0.4; charset=utf-8"

/* What is written; begins as zeros. Text that memory was too short for is not there, and nothing
 * after it: `failed` says so (a stream of open_memstream would leave a hole and say nothing). */
struct exposition {
    char *text; /* ends with a NUL; the caller frees */
    size_t size, room;
    bool failed;
};

/* Up to two labels; a value may be any text in UTF-8. name NULL: no label. */
struct labels {
    struct {
        const char *name, *value;
    } pair[2];
};

/* Begins a family: its samples come next. `type`: counter, gauge or histogram. */
void exposition_family(struct exposition *out, const char *name, const char *type,
                       const char *help);

void exposition_sample(struct exposition *out, const char *name, struct labels labels,
                       uint64_t value);

/* All series of a histogram with these labels, of which there may be one. In seconds. */
void exposition_histogram(struct exposition *out, const char *name, struct labels labels,
                          const struct latency_sum *latency);

#endif
