/*
 * table_build: from the route files of a configuration to a new generation.
 *
 * Blocks on files. Memory: two sorters' bounds and the distinct destinations.
 */
#ifndef SPLITMX_ROUTING_TABLE_BUILD_H
#define SPLITMX_ROUTING_TABLE_BUILD_H

#include <stdint.h>

#include "config/config.h"
#include "routing/quiet.h"
#include "routing/relay.h"

struct table_build {
    const struct config *config;
    const struct relay_set *relays;
    const char *folder;  /* where the generation and the spilled runs go */
    const char *path;    /* of the generation */
    uint64_t generation; /* its number */
    size_t run_bytes;    /* of the sorter of routes: SORTER_RUN_BYTES */
    struct quiet *quiet; /* NULL: as fast as it goes */
};

/* The error of a file of routes that cannot be read; `error` is the errno of the attempt. */
void table_tell_unreadable(const struct config *config, const struct config_text *file, int error,
                           struct diag_list *diags);

/* False when there was an error, which is in diags; then nothing is left behind. Files that change
 * while they are read are read again. */
bool table_build(const struct table_build *build, struct diag_list *diags);

#endif
