#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

#include "config/text.h"
#include "routing/table_state.h"

/* Opening. */

void table_free(struct table *table)
{
    for (size_t i = 0; i < SNAPSHOTS; i++) {
        MDB_txn *txn = atomic_load(&table->snapshots[i].txn);
        if (txn) {
            mdb_txn_abort(txn);
        }
    }
    if (table->env) {
        mdb_env_close(table->env);
    }
    for (uint32_t i = 0; table->files && i < table->header.file_count; i++) {
        free(table->files[i]);
    }
    free(table->files);
    destinations_free(table->destinations);
    free(table->folder);
    free(table);
}

static bool get(const struct table *table, MDB_txn *txn, enum generation_db db, struct span key,
                struct span *value)
{
    MDB_val k = {key.len, (void *)(uintptr_t)key.ptr};
    MDB_val v;
    if (mdb_get(txn, table->dbis[db], &k, &v) != 0) {
        return false;
    }
    *value = span_make(v.mv_data, v.mv_size);
    return true;
}

bool table_get_number(const struct table *table, MDB_txn *txn, enum generation_db db,
                      uint32_t number, struct span *value)
{
    return get(table, txn, db, span_make((const char *)&number, sizeof(number)), value);
}

static bool read_meta(struct table *table, MDB_txn *txn)
{
    struct span header, stamps, path, packed;
    if (!get(table, txn, GENERATION_META, SPAN("header"), &header) ||
        header.len != sizeof(table->header)) {
        return false;
    }
    memcpy(&table->header, header.ptr, sizeof(table->header));
    if (table->header.format != GENERATION_FORMAT ||
        !get(table, txn, GENERATION_META, SPAN("sources"), &stamps) ||
        stamps.len != table->header.file_count * sizeof(struct source_stamp)) {
        return false;
    }
    table->stamps = stamps.ptr;
    table->files = calloc((size_t)table->header.file_count + 1, sizeof(char *));
    if (!table->files) {
        return false;
    }
    for (uint32_t i = 0; i < table->header.file_count; i++) {
        if (!table_get_number(table, txn, GENERATION_FILES, i, &path)) {
            return false;
        }
        table->files[i] = span_dup(path);
        if (!table->files[i]) {
            return false;
        }
    }
    for (uint32_t i = 0; i < table->header.destination_count; i++) {
        if (!table_get_number(table, txn, GENERATION_DESTINATIONS, i, &packed) ||
            packed.len <= sizeof(struct destination_places)) {
            return false;
        }
    }
    return true;
}

/* Only what the seal vouches for is shown to LMDB, which opens things by name. */
static bool open_env(struct table *table)
{
    char name[SEAL_PATH];
    int fd = seal_open(table->path, GENERATION_FORMAT, &table->mark);
    if (fd < 0) {
        return false;
    }
    seal_path(fd, name);
    bool ok = mdb_env_create(&table->env) == 0 &&
              mdb_env_set_maxdbs(table->env, GENERATION_DBS) == 0 &&
              mdb_env_open(table->env, access(name, R_OK) == 0 ? name : table->path,
                           MDB_RDONLY | MDB_NOSUBDIR | MDB_NOLOCK | MDB_NOTLS, 0600) == 0 &&
              mdb_env_get_fd(table->env, &table->fd) == 0 && seal_holds(table->fd, &table->mark);
    close(fd);
    return ok;
}

struct table *table_open(const char *path)
{
    MDB_txn *txn = NULL;
    struct table *table = calloc(1, sizeof(*table));
    struct text copy;
    if (!table) {
        return NULL;
    }
    atomic_init(&table->references, 1);
    copy = TEXT(table->path);
    text_puts(&copy, path);
    if (copy.full || !open_env(table) || mdb_txn_begin(table->env, NULL, MDB_RDONLY, &txn) != 0) {
        goto fail;
    }
    /* Only a commit makes the handles known to later transactions. */
    if (generation_open_dbs(txn, 0, table->dbis) != 0 || !read_meta(table, txn)) {
        mdb_txn_abort(txn);
        goto fail;
    }
    if (mdb_txn_commit(txn) == 0) {
        return table;
    }
fail:
    table_free(table);
    return NULL;
}

/* References. */

struct table *table_ref(struct table *table)
{
    atomic_fetch_add_explicit(&table->references, 1, memory_order_relaxed);
    return table;
}

void table_unref(struct table *table)
{
    if (!table || atomic_fetch_sub_explicit(&table->references, 1, memory_order_acq_rel) != 1) {
        return;
    }
    /* Without a newer one the file is in force again, opened by another table. */
    if (table->folder && atomic_load(&table->superseded) &&
        generation_newest(table->folder) > table->header.generation) {
        unlink(table->path);
    }
    table_free(table);
}

void table_supersede(struct table *table)
{
    atomic_store(&table->superseded, true);
}

uint64_t table_routes(const struct table *table)
{
    return table->header.routes;
}

uint64_t table_generation(const struct table *table)
{
    return table->header.generation;
}

/* Look-ups. */

bool table_intact(const struct table *table)
{
    return seal_holds(table->fd, &table->mark);
}

/* Slots near the processor's number first, so that threads seldom meet. */
MDB_txn *table_snapshot_take(const struct table *table)
{
    struct snapshot *slots = ((struct table *)(uintptr_t)table)->snapshots;
    int cpu = sched_getcpu();
    MDB_txn *txn = NULL;
    for (size_t i = 0; i < SNAPSHOTS; i++) {
        size_t at = (i + (cpu > 0 ? (size_t)cpu : 0)) % SNAPSHOTS;
        if (!atomic_load_explicit(&slots[at].txn, memory_order_relaxed)) {
            continue;
        }
        txn = atomic_exchange_explicit(&slots[at].txn, NULL, memory_order_acquire);
        if (txn) {
            return txn;
        }
    }
    return mdb_txn_begin(table->env, NULL, MDB_RDONLY, &txn) == 0 ? txn : NULL;
}

void table_snapshot_give(const struct table *table, MDB_txn *txn)
{
    struct snapshot *slots = ((struct table *)(uintptr_t)table)->snapshots;
    int cpu = sched_getcpu();
    for (size_t i = 0; i < SNAPSHOTS; i++) {
        size_t at = (i + (cpu > 0 ? (size_t)cpu : 0)) % SNAPSHOTS;
        MDB_txn *empty = NULL;
        if (atomic_compare_exchange_strong_explicit(&slots[at].txn, &empty, txn,
                                                    memory_order_release, memory_order_relaxed)) {
            return;
        }
    }
    mdb_txn_abort(txn);
}

struct search {
    const struct table *table;
    MDB_txn *txn;
    struct table_hit *hit;
    table_tracer *tracer; /* or NULL */
    void *context;
};

static enum table_found find_route(const struct search *search, struct span key)
{
    const struct table *table = search->table;
    struct generation_route route;
    MDB_val k = {key.len, (void *)(uintptr_t)key.ptr};
    MDB_val v;
    struct text text = TEXT(search->hit->key);
    int rc = mdb_get(search->txn, table->dbis[GENERATION_ROUTES], &k, &v);
    if (rc == MDB_NOTFOUND) {
        return TABLE_MISS;
    }
    if (rc != 0 || v.mv_size != sizeof(route)) {
        return TABLE_BROKEN;
    }
    memcpy(&route, v.mv_data, sizeof(route));
    const struct destination *destination = destinations_at(table->destinations, route.destination);
    if (!destination || route.file >= table->header.file_count) {
        return TABLE_BROKEN;
    }
    text_put(&text, key);
    search->hit->destination = destination;
    search->hit->file = table->files[route.file];
    search->hit->line = route.line;
    return TABLE_HIT;
}

static enum table_found find_key(const struct search *search, struct span key)
{
    enum table_found found = find_route(search, key);
    if (search->tracer) {
        search->tracer(search->context, key, found);
    }
    return found;
}

/* local@domain, both folded already. */
static enum table_found find_mailbox(const struct search *search, struct span local,
                                     struct span domain)
{
    char buffer[ADDRESS_MAX + 2];
    struct text key = TEXT(buffer);
    text_put(&key, local);
    text_putc(&key, '@');
    text_put(&key, domain);
    return key.full ? TABLE_MISS : find_key(search, text_span(&key));
}

/* domain, then .parent for each parent from the nearest up. A literal has no parents. */
static enum table_found find_domain(const struct search *search, struct span domain, bool literal)
{
    enum table_found found = find_key(search, domain);
    size_t dot = span_find(span_skip(domain, 1), '.') + 1;
    while (found == TABLE_MISS && !literal && dot < domain.len) {
        domain = span_skip(domain, dot);
        found = find_key(search, domain);
        dot = span_find(span_skip(domain, 1), '.') + 1;
    }
    return found;
}

static enum table_found find_all(const struct search *search, const struct address *address,
                                 char delimiter)
{
    char local_bytes[ADDRESS_MAX], domain_bytes[ADDRESS_MAX];
    enum table_found found = TABLE_MISS;
    struct span local = address_fold_local(address, local_bytes);
    struct span domain = address_fold(address->domain, domain_bytes);
    struct span user = address_without_extension(local, delimiter);
    if (local.len > 0) {
        found = find_mailbox(search, local, domain);
    }
    if (found == TABLE_MISS && user.len > 0) {
        found = find_mailbox(search, user, domain);
    }
    if (found == TABLE_MISS && domain.len > 0) {
        found = find_domain(search, domain, address->literal);
    }
    if (found == TABLE_MISS && !address->literal) {
        found = find_key(search, SPAN("*"));
    }
    return found;
}

enum table_found table_trace(const struct table *table, const struct address *address,
                             char delimiter, struct table_hit *hit, table_tracer *tracer,
                             void *context)
{
    *hit = (struct table_hit){0};
    if (address->local.len + address->domain.len > ADDRESS_MAX) {
        return TABLE_MISS;
    }
    struct search search = {table, table_snapshot_take(table), hit, tracer, context};
    if (!search.txn) {
        return TABLE_BROKEN;
    }
    enum table_found found = find_all(&search, address, delimiter);
    table_snapshot_give(table, search.txn);
    return found;
}

enum table_found table_lookup(const struct table *table, const struct address *address,
                              char delimiter, struct table_hit *hit)
{
    return table_trace(table, address, delimiter, hit, NULL, NULL);
}

static enum table_found has_domain(const struct table *table, MDB_txn *txn, struct span domain)
{
    MDB_val k = {domain.len, (void *)(uintptr_t)domain.ptr};
    MDB_val v;
    int rc = mdb_get(txn, table->dbis[GENERATION_DOMAINS], &k, &v);
    return rc == 0 ? TABLE_HIT : rc == MDB_NOTFOUND ? TABLE_MISS : TABLE_BROKEN;
}

enum table_found table_accepts_domain(const struct table *table, struct span domain)
{
    bool literal = domain.len > 0 && domain.ptr[0] == '[';
    if (domain.len == 0 || domain.len > ADDRESS_MAX) {
        return TABLE_MISS;
    }
    MDB_txn *txn = table_snapshot_take(table);
    if (!txn) {
        return TABLE_BROKEN;
    }
    enum table_found found = has_domain(table, txn, domain);
    size_t dot = span_find(span_skip(domain, 1), '.') + 1;
    while (found == TABLE_MISS && !literal && dot < domain.len) {
        domain = span_skip(domain, dot);
        found = has_domain(table, txn, domain);
        dot = span_find(span_skip(domain, 1), '.') + 1;
    }
    table_snapshot_give(table, txn);
    return found;
}

enum table_found table_find_postmaster(const struct table *table, const char *hostname,
                                       struct table_hit *hit)
{
    char folded[ADDRESS_MAX];
    struct span domain = span_of(hostname);
    *hit = (struct table_hit){0};
    if (domain.len == 0 || domain.len >= ADDRESS_MAX - strlen("postmaster@")) {
        return TABLE_MISS;
    }
    struct address address = {.local = SPAN("postmaster"), .domain = domain};
    enum table_found found = table_lookup(table, &address, '\0', hit);
    if (found == TABLE_HIT && span_equal(span_of(hit->key), SPAN("*"))) {
        return table_accepts_domain(table, address_fold(domain, folded));
    }
    return found;
}
