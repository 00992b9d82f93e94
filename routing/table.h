/*
 * table: a generation of routes, one read-only LMDB file (design: section 4).
 *
 * A generation is built from the route files named in the configuration: parsed as a stream,
 * validated whole, sorted in bounded memory, written under a temporary name, synced, renamed, and
 * opened read-only without locks. Distinct destinations are interned in the file and compiled once
 * when it is opened, so a look-up allocates nothing. The file records what its sources were
 * (device, inode, size, times, SHA-256).
 *
 * Thread: building and opening block on files; never on an event loop. Look-ups may run on all
 * threads at once. Reference counts are atomic; the last unref of a superseded generation unlinks
 * its file.
 */
#ifndef SPLITMX_ROUTING_TABLE_H
#define SPLITMX_ROUTING_TABLE_H

#include "config/config.h"
#include "routing/address.h"
#include "routing/nexthop.h"
#include "routing/relay.h"

/* What the table says for a pattern. Owned by the table. */
struct destination {
    enum transport_kind kind;     /* TRANSPORT_RELAY never: names are resolved; SMTP: see relay */
    const struct relay *relay;    /* kind SMTP */
    const struct relay *fallback; /* the pattern's own, else the relay's; NULL: none */
    const struct relay *unknown_recipient; /* likewise */
    unsigned code;                         /* ERROR, RETRY */
    const char *enhanced;
    const char *text;
};

struct table;

/* A hit: what matched, where it was written. */
struct table_hit {
    const struct destination *destination;
    char key[ADDRESS_MAX + 2]; /* as folded; "*" */
    const char *file;          /* owned by the table */
    unsigned line;
};

enum table_found { TABLE_MISS, TABLE_HIT, TABLE_BROKEN /* LMDB said no: 451 4.3.0 */ };

/* The newest generation in a folder. */
enum table_state {
    TABLE_CURRENT,
    TABLE_NONE,
    TABLE_STALE,   /* its sources have changed since */
    TABLE_DAMAGED, /* the file is not what was built, or of another version */
};

/*
 * The table in force for this configuration: the newest generation in the state directory if its
 * sources are unchanged, else a new one, built. Relay names are checked against `relays` in either
 * case. A damaged generation is built again, with a warning. `directory`: where generations live;
 * NULL builds privately in a temporary folder that goes with the table (check, route). `held`: the
 * generation that this process has in force, 0 for none; any other but the one loaded is removed.
 * Beside one in force the new one is built at the lowest priority (routing/quiet).
 * NULL with errors in diags when anything is wrong.
 */
struct table *table_load(const struct config *config, const struct relay_set *relays,
                         const char *directory, uint64_t held, struct diag_list *diags);

/* Opens what is in force without building; NULL when it is not current, or with errors in diags. */
struct table *table_open_current(const struct config *config, const struct relay_set *relays,
                                 const char *directory, enum table_state *state,
                                 struct diag_list *diags);

struct table *table_ref(struct table *table);
void table_unref(struct table *table); /* NULL is accepted */

/* Says that a newer generation is in force: the file is unlinked once the last reference is gone.
 * Harmless when the newer table is the same generation opened again: the file then stays. */
void table_supersede(struct table *table);

uint64_t table_routes(const struct table *table);     /* number of patterns */
uint64_t table_generation(const struct table *table); /* rises by one each build */

/* Whether the file still is what was opened. To be asked before the look-ups below, which would
 * read behind its end if somebody has cut it; they may not be asked when it is not. */
bool table_intact(const struct table *table);

/* The look-up chain of section 4. domain_only: address has no local part to look for. */
enum table_found table_lookup(const struct table *table, const struct address *address,
                              char delimiter, struct table_hit *hit);

/* The same look-up, each key that is looked for told in turn, the one that is hit last. */
typedef void table_tracer(void *context, struct span key, enum table_found found);
enum table_found table_trace(const struct table *table, const struct address *address,
                             char delimiter, struct table_hit *hit, table_tracer *tracer,
                             void *context);

/* TABLE_HIT when mail for this (folded) domain is accepted: `domains:` or the default of law 4. */
enum table_found table_accepts_domain(const struct table *table, struct span folded_domain);

/* What the table says for postmaster@hostname, whatever `domains` says; but `*` only catches it
 * where mail for that domain is accepted. */
enum table_found table_find_postmaster(const struct table *table, const char *hostname,
                                       struct table_hit *hit);

#endif
