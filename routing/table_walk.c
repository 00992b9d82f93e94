#include "routing/table_walk.h"

#include "routing/table_state.h"

/* What a walk does with each entry; *go_on false ends it. False: the table is broken. */
struct walk {
    const struct table *table;
    bool (*entry)(const struct walk *walk, struct span key, struct span value, bool *go_on);
    table_visit_route *visit_route;
    table_visit_domain *visit_domain;
    void *context;
};

static bool walk_entries(const struct walk *walk, MDB_txn *txn, enum generation_db db)
{
    MDB_cursor *cursor = NULL;
    MDB_val key, value;
    bool go_on = true;
    int rc = mdb_cursor_open(txn, walk->table->dbis[db], &cursor);
    if (rc != 0) {
        return false;
    }
    rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST);
    while (rc == 0 && go_on) {
        if (!walk->entry(walk, span_make(key.mv_data, key.mv_size),
                         span_make(value.mv_data, value.mv_size), &go_on)) {
            rc = MDB_CORRUPTED;
        } else {
            rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
        }
    }
    mdb_cursor_close(cursor);
    return rc == 0 || rc == MDB_NOTFOUND;
}

static bool walk_run(const struct walk *walk, enum generation_db db)
{
    MDB_txn *txn = table_intact(walk->table) ? table_snapshot_take(walk->table) : NULL;
    bool fine = txn != NULL && walk_entries(walk, txn, db);
    if (txn != NULL) {
        table_snapshot_give(walk->table, txn);
    }
    return fine;
}

static bool on_route(const struct walk *walk, struct span key, struct span value, bool *go_on)
{
    struct generation_route route;
    if (value.len != sizeof route) {
        return false;
    }
    memcpy(&route, value.ptr, sizeof route);
    const struct destination *destination =
        destinations_at(walk->table->destinations, route.destination);
    *go_on = destination != NULL && walk->visit_route(walk->context, key, destination);
    return destination != NULL;
}

static bool on_domain(const struct walk *walk, struct span key, struct span value, bool *go_on)
{
    (void)value;
    *go_on = walk->visit_domain(walk->context, key);
    return true;
}

bool table_walk_routes(const struct table *table, table_visit_route *visit, void *context)
{
    const struct walk walk = {
        .table = table, .entry = on_route, .visit_route = visit, .context = context};
    return walk_run(&walk, GENERATION_ROUTES);
}

bool table_walk_domains(const struct table *table, table_visit_domain *visit, void *context)
{
    const struct walk walk = {
        .table = table, .entry = on_domain, .visit_domain = visit, .context = context};
    return walk_run(&walk, GENERATION_DOMAINS);
}
