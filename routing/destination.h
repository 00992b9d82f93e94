/*
 * destination: what patterns lead to, packed for a generation and compiled against the
 * configuration.
 */
#ifndef SPLITMX_ROUTING_DESTINATION_H
#define SPLITMX_ROUTING_DESTINATION_H

#include <stdint.h>

#include "routing/import.h"
#include "routing/table.h"

/* Three texts with a NUL behind each, and the dialect. */
#define DESTINATION_PACKED (3 * (size_t)IMPORT_VALUE_MAX + 4)

enum destination_part {
    DESTINATION_TO,
    DESTINATION_FALLBACK,
    DESTINATION_UNKNOWN,
    DESTINATION_PARTS
};

/* Where a destination was written first. Stored in generations as it is. */
struct destination_places {
    uint32_t file;
    uint32_t line[DESTINATION_PARTS];
    uint32_t column[DESTINATION_PARTS];
};

/* The bytes that are the same exactly for the same destinations; out holds DESTINATION_PACKED.
 * Empty when it does not fit. */
struct span destination_pack(const struct import_route *route, char *out);

struct destinations; /* a table's, compiled; immutable once made */

struct destinations *destinations_new(uint32_t count);     /* NULL when memory is short */
void destinations_free(struct destinations *destinations); /* NULL is accepted */
const struct destination *destinations_at(const struct destinations *destinations,
                                          uint32_t number); /* NULL: out of range */

/* What destinations are compiled against, and where errors are placed. */
struct destination_context {
    const struct config *config;
    const struct relay_set *relays;
    const char *const *files; /* by number */
    uint32_t file_count;
    struct diag_list *diags;
};

/* Compiles number `number`; false when there was an error, which is told. */
bool destinations_compile(struct destinations *destinations, uint32_t number, struct span packed,
                          const struct destination_places *places,
                          const struct destination_context *context);

#endif
