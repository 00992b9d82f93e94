/*
 * table_walk: everything that is in a table, in the order of its keys. For commands: it reads the
 * whole file, so never on an event loop.
 */
#ifndef SPLITMX_ROUTING_TABLE_WALK_H
#define SPLITMX_ROUTING_TABLE_WALK_H

#include "routing/table.h"

/* One key as folded; valid during the call. False ends the walk. */
typedef bool table_visit_route(void *context, struct span key,
                               const struct destination *destination);
typedef bool table_visit_domain(void *context, struct span domain);

/* Every pattern. False: the table cannot be read (nothing may be asked of it then). */
bool table_walk_routes(const struct table *table, table_visit_route *visit, void *context);
/* Every domain that mail is accepted for; ".example.com" stands for its subdomains. */
bool table_walk_domains(const struct table *table, table_visit_domain *visit, void *context);

#endif
