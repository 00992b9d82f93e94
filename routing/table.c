#include "routing/table.h"

#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "config/text.h"
#include "routing/destination.h"
#include "routing/generation.h"
#include "routing/seal.h"
#include "routing/sorter.h"
#include "routing/table_build.h"

#define SNAPSHOTS                                                                                  \
    64 /* read transactions kept; more look-ups than that at one time open their own */

struct table {
    atomic_uint references;
    atomic_bool superseded;
    char *folder; /* NULL: private, the file is gone already */
    char path[GENERATION_PATH];
    MDB_env *env;
    mdb_filehandle_t fd; /* the environment's */
    struct seal_mark mark;
    MDB_dbi dbis[GENERATION_DBS];
    struct generation_header header;
    const char *stamps; /* struct source_stamp of each file, in the map, perhaps unaligned */
    char **files;
    struct destinations *destinations;
    /* The file never changes, so a read transaction serves for ever; one look-up at a time has it.
     */
    _Atomic(MDB_txn *) snapshots[SNAPSHOTS];
};

/* Opening. */

static void table_free(struct table *table)
{
    for (size_t i = 0; i < SNAPSHOTS; i++) {
        MDB_txn *txn = atomic_load(&table->snapshots[i]);
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

static bool get_number(const struct table *table, MDB_txn *txn, enum generation_db db,
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
        if (!get_number(table, txn, GENERATION_FILES, i, &path)) {
            return false;
        }
        table->files[i] = span_dup(path);
        if (!table->files[i]) {
            return false;
        }
    }
    for (uint32_t i = 0; i < table->header.destination_count; i++) {
        if (!get_number(table, txn, GENERATION_DESTINATIONS, i, &packed) ||
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

/* The file as it is, its destinations not yet compiled. NULL when it is not whole. */
static struct table *table_open(const char *path)
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

static MDB_txn *snapshot_take(const struct table *table);
static void snapshot_give(const struct table *table, MDB_txn *txn);

/* False when there was an error, which is told. */
static bool compile(struct table *table, const struct config *config,
                    const struct relay_set *relays, struct diag_list *diags)
{
    size_t fixed = sizeof(struct destination_places);
    struct destination_context context = {config, relays, (const char *const *)table->files,
                                          table->header.file_count, diags};
    struct destination_places places;
    struct span value;
    bool ok = true;
    MDB_txn *txn = snapshot_take(table);
    table->destinations = destinations_new(table->header.destination_count);
    if (!txn || !table->destinations) {
        diag_machine(diags, "out of memory");
        ok = false;
    }
    for (uint32_t i = 0; ok && i < table->header.destination_count; i++) {
        ok = get_number(table, txn, GENERATION_DESTINATIONS, i, &value) && value.len > fixed;
        if (!ok) { /* it was there a moment ago */
            diag_machine(diags, "%s: cannot be read", table->path);
            break;
        }
        memcpy(&places, value.ptr, fixed);
        destinations_compile(table->destinations, i, span_skip(value, fixed), &places, &context);
    }
    if (txn) {
        snapshot_give(table, txn);
    }
    return ok;
}

static bool sources_unchanged(const struct table *table, const struct config *config)
{
    unsigned char digest[SOURCE_DIGEST];
    if (!source_digest_config(config, GENERATION_FORMAT, digest) ||
        memcmp(digest, table->header.config, SOURCE_DIGEST) != 0) {
        return false;
    }
    for (uint32_t i = 0; i < table->header.file_count; i++) {
        struct source_stamp stamp;
        memcpy(&stamp, table->stamps + i * sizeof(stamp), sizeof(stamp));
        if (!source_unchanged(table->files[i], &stamp)) {
            return false;
        }
    }
    return true;
}

static void warn_postmaster(const struct table *table, const struct config *config,
                            const struct relay_set *relays, struct diag_list *diags)
{
    struct table_hit hit;
    if (table_find_postmaster(table, config->hostname.text, &hit) == TABLE_MISS &&
        !relay_find(relays, SPAN("local"))) {
        diag_warning(diags, (struct diag_place){.file = config->path},
                     "no destination for postmaster: neither a route for postmaster@%s nor a relay "
                     "named `local`",
                     config->hostname.text);
    }
}

/* A map adds no domains, `*` spells none, and `{}` is taken at its word: then every recipient is
 * refused, which nobody wants. */
static void warn_nobody(const struct table *table, const struct config *config,
                        struct diag_list *diags)
{
    MDB_stat stats = {.ms_entries = 1};
    MDB_txn *txn = snapshot_take(table);
    if (txn) {
        (void)mdb_stat(txn, table->dbis[GENERATION_DOMAINS], &stats);
        snapshot_give(table, txn);
    }
    if (stats.ms_entries == 0) {
        diag_warning(diags, (struct diag_place){.file = config->path},
                     "mail is accepted for no domain: list them as `domains:`%s",
                     config->domains_given ? ""
                                           : " (a transport map adds none, nor does `*`; keys of "
                                             "YAML routes add theirs)");
    } else if (table->header.routes == 0) {
        diag_warning(diags, (struct diag_place){.file = config->path},
                     "there is no route: every recipient is refused");
    }
}

/* Compiles what was opened and says what is to be said of it; NULL on errors. */
static struct table *finish(struct table *table, const struct config *config,
                            const struct relay_set *relays, struct diag_list *diags)
{
    size_t before = diag_errors(diags);
    if (!compile(table, config, relays, diags) || diag_errors(diags) > before) {
        table_free(table);
        return NULL;
    }
    warn_nobody(table, config, diags);
    warn_postmaster(table, config, relays, diags);
    return table;
}

static bool set_folder(struct table *table, const char *folder)
{
    table->folder = span_dup(span_of(folder));
    return table->folder != NULL;
}

/* Opens the newest generation if it is of these sources. */
static struct table *open_newest(const struct config *config, const char *folder, uint64_t newest,
                                 enum table_state *state)
{
    char path[GENERATION_PATH];
    *state = TABLE_NONE;
    if (newest == 0 || !generation_path(path, folder, newest)) {
        return NULL;
    }
    struct table *table = table_open(path);
    *state = !table                             ? TABLE_DAMAGED
             : sources_unchanged(table, config) ? TABLE_CURRENT
                                                : TABLE_STALE;
    if (*state == TABLE_CURRENT && set_folder(table, folder)) {
        return table;
    }
    if (table) {
        table_free(table);
    }
    return NULL;
}

struct table *table_open_current(const struct config *config, const struct relay_set *relays,
                                 const char *directory, enum table_state *state,
                                 struct diag_list *diags)
{
    struct table *table = open_newest(config, directory, generation_newest(directory), state);
    return table ? finish(table, config, relays, diags) : NULL;
}

/* Builds generation `number` in the folder and opens it, not yet compiled. */
static struct table *build_and_open(const struct config *config, const struct relay_set *relays,
                                    const char *folder, uint64_t number, struct diag_list *diags)
{
    char path[GENERATION_PATH];
    if (!generation_path(path, folder, number)) {
        diag_error(diags, (struct diag_place){.file = folder}, "the path is too long");
        return NULL;
    }
    struct table_build build = {.config = config,
                                .relays = relays,
                                .folder = folder,
                                .path = path,
                                .generation = number,
                                .run_bytes = SORTER_RUN_BYTES};
    if (!table_build(&build, diags)) {
        return NULL;
    }
    struct table *table = table_open(path);
    if (!table) {
        diag_machine(diags, "%s: cannot be opened once written", path);
    }
    return table;
}

/* In a folder of its own, which is gone again when this returns; the open file lives on. */
static struct table *load_private(const struct config *config, const struct relay_set *relays,
                                  struct diag_list *diags)
{
    char folder[GENERATION_PATH], path[GENERATION_PATH];
    struct text text = TEXT(folder);
    const char *base = getenv("TMPDIR");
    text_puts(&text, base && base[0] == '/' ? base : "/tmp");
    text_puts(&text, "/splitmx-XXXXXX");
    if (text.full || !mkdtemp(folder)) {
        diag_machine(diags, "%s: a temporary folder cannot be made: %s", folder, strerror(errno));
        return NULL;
    }
    struct table *table = build_and_open(config, relays, folder, 1, diags);
    if (generation_path(path, folder, 1)) {
        unlink(path);
    }
    rmdir(folder);
    return table ? finish(table, config, relays, diags) : NULL;
}

static void warn_damaged(const char *folder, uint64_t number, struct diag_list *diags)
{
    char path[GENERATION_PATH];
    if (generation_path(path, folder, number)) {
        diag_warning(diags, (struct diag_place){.file = path},
                     "the file is damaged, or of another version of splitmx; the table is built "
                     "again from the route files");
    }
}

struct table *table_load(const struct config *config, const struct relay_set *relays,
                         const char *directory, uint64_t held, struct diag_list *diags)
{
    enum table_state state = TABLE_NONE;
    if (!directory) {
        return load_private(config, relays, diags);
    }
    uint64_t newest = generation_newest(directory);
    /* What is in force has lost its file: an older one is not gone back to, nor is its number. */
    struct table *table = newest < held ? NULL : open_newest(config, directory, newest, &state);
    newest = newest < held ? held : newest;
    if (state == TABLE_DAMAGED) {
        warn_damaged(directory, newest, diags);
    }
    if (!table) {
        table = build_and_open(config, relays, directory, newest + 1, diags);
        if (table && !set_folder(table, directory)) {
            diag_machine(diags, "out of memory");
            table_free(table);
            return NULL;
        }
    }
    if (table) {
        table = finish(table, config, relays, diags);
    }
    if (table) {
        generation_clean(directory, table->header.generation, held);
    }
    return table;
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

/* Slots near the processor's number first, so that threads seldom meet. NULL: LMDB said no. */
static MDB_txn *snapshot_take(const struct table *table)
{
    _Atomic(MDB_txn *) *slots = ((struct table *)(uintptr_t)table)->snapshots;
    int cpu = sched_getcpu();
    MDB_txn *txn = NULL;
    for (size_t i = 0; i < SNAPSHOTS; i++) {
        size_t at = (i + (cpu > 0 ? (size_t)cpu : 0)) % SNAPSHOTS;
        if (!atomic_load_explicit(&slots[at], memory_order_relaxed)) {
            continue;
        }
        txn = atomic_exchange_explicit(&slots[at], NULL, memory_order_acquire);
        if (txn) {
            return txn;
        }
    }
    return mdb_txn_begin(table->env, NULL, MDB_RDONLY, &txn) == 0 ? txn : NULL;
}

static void snapshot_give(const struct table *table, MDB_txn *txn)
{
    _Atomic(MDB_txn *) *slots = ((struct table *)(uintptr_t)table)->snapshots;
    int cpu = sched_getcpu();
    for (size_t i = 0; i < SNAPSHOTS; i++) {
        size_t at = (i + (cpu > 0 ? (size_t)cpu : 0)) % SNAPSHOTS;
        MDB_txn *empty = NULL;
        if (atomic_compare_exchange_strong_explicit(&slots[at], &empty, txn, memory_order_release,
                                                    memory_order_relaxed)) {
            return;
        }
    }
    mdb_txn_abort(txn);
}

struct search {
    const struct table *table;
    MDB_txn *txn;
    struct table_hit *hit;
};

static enum table_found find_key(const struct search *search, struct span key)
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

enum table_found table_lookup(const struct table *table, const struct address *address,
                              char delimiter, struct table_hit *hit)
{
    *hit = (struct table_hit){0};
    if (address->local.len + address->domain.len > ADDRESS_MAX) {
        return TABLE_MISS;
    }
    struct search search = {table, snapshot_take(table), hit};
    if (!search.txn) {
        return TABLE_BROKEN;
    }
    enum table_found found = find_all(&search, address, delimiter);
    snapshot_give(table, search.txn);
    return found;
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
    MDB_txn *txn = snapshot_take(table);
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
    snapshot_give(table, txn);
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
