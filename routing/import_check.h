/*
 * import_check: what both kinds of route file share: a route is checked, then given to the sink.
 *
 * Private to the import files.
 */
#ifndef SPLITMX_ROUTING_IMPORT_CHECK_H
#define SPLITMX_ROUTING_IMPORT_CHECK_H

#include "routing/import.h"
#include "routing/recent.h"

struct import_reader {
    const char *path;
    import_sink *sink;
    void *context;
    struct diag_list *diags;
    bool stopped; /* the sink wants no more */
    /* Destinations of which nothing is to be said, whatever pattern but `*` they stand under: a
     * table of millions has few, and each is taken apart once. */
    struct recent *fine;
    /* Lines that are left out are counted here, and told as warnings; NULL: they are errors. */
    size_t *left_out;
};

/* Checks a route whose key is as written, and gives it on with the key folded; an error is told
 * and the route left out. False when reading is to end. */
bool import_give(struct import_reader *reader, struct import_route route);

#define IMPORT_FINE_SLOTS 256 /* of `fine` */

void import_read_yaml(struct import_reader *reader);
void import_read_map(struct import_reader *reader);

#endif
