#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "config/text.h"
#include "routing/quiet.h"
#include "routing/sorter.h"
#include "routing/table_build.h"
#include "routing/table_state.h"

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
    MDB_txn *txn = table_snapshot_take(table);
    table->destinations = destinations_new(table->header.destination_count);
    if (!txn || !table->destinations) {
        diag_machine(diags, "out of memory");
        ok = false;
    }
    for (uint32_t i = 0; ok && i < table->header.destination_count; i++) {
        ok = table_get_number(table, txn, GENERATION_DESTINATIONS, i, &value) && value.len > fixed;
        if (!ok) { /* it was there a moment ago */
            diag_machine(diags, "%s: cannot be read", table->path);
            break;
        }
        memcpy(&places, value.ptr, fixed);
        destinations_compile(table->destinations, i, span_skip(value, fixed), &places, &context);
    }
    if (txn) {
        table_snapshot_give(table, txn);
    }
    return ok;
}

/* A generation that was opened, and what is to be found out about it, perhaps with much reading. */
struct source_check {
    const struct table *table;
    bool unchanged;
};

/* Whether all files are as they were, as far as can be seen without reading them. */
static bool sources_untouched(const struct source_check *check)
{
    for (uint32_t i = 0; i < check->table->header.file_count; i++) {
        struct source_stamp stamp;
        memcpy(&stamp, check->table->stamps + i * sizeof(stamp), sizeof(stamp));
        if (!stamp.settled || !source_untouched(check->table->files[i], &stamp)) {
            return false;
        }
    }
    return true;
}

static void check_sources(void *context, struct quiet *quiet)
{
    struct source_check *check = context;
    check->unchanged = true;
    for (uint32_t i = 0; check->unchanged && i < check->table->header.file_count; i++) {
        struct source_stamp stamp;
        memcpy(&stamp, check->table->stamps + i * sizeof(stamp), sizeof(stamp));
        check->unchanged = source_unchanged(check->table->files[i], &stamp, quiet);
    }
}

static bool sources_unchanged(const struct table *table, const struct config *config, bool quietly)
{
    unsigned char digest[SOURCE_DIGEST];
    struct source_check check = {.table = table};
    if (!source_digest_config(config, GENERATION_FORMAT, digest) ||
        memcmp(digest, table->header.config, SOURCE_DIGEST) != 0) {
        return false;
    }
    if (sources_untouched(&check)) {
        return true;
    }
    if (quietly) {
        quiet_run(check_sources, &check);
    } else {
        check_sources(&check, NULL);
    }
    return check.unchanged;
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
    MDB_txn *txn = table_snapshot_take(table);
    if (txn) {
        (void)mdb_stat(txn, table->dbis[GENERATION_DOMAINS], &stats);
        table_snapshot_give(table, txn);
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

/* Opens the newest generation if it is of these sources. `quietly`: mail is moved meanwhile. */
static struct table *open_newest(const struct config *config, const char *folder, uint64_t newest,
                                 bool quietly, enum table_state *state)
{
    char path[GENERATION_PATH];
    *state = TABLE_NONE;
    if (newest == 0 || !generation_path(path, folder, newest)) {
        return NULL;
    }
    struct table *table = table_open(path);
    *state = !table                                      ? TABLE_DAMAGED
             : sources_unchanged(table, config, quietly) ? TABLE_CURRENT
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
    struct table *table =
        open_newest(config, directory, generation_newest(directory), false, state);
    return table ? finish(table, config, relays, diags) : NULL;
}

struct build_job {
    struct table_build build;
    struct diag_list *diags;
    bool ok;
};

static void build_table(void *context, struct quiet *quiet)
{
    struct build_job *job = context;
    job->build.quiet = quiet;
    job->ok = table_build(&job->build, job->diags);
}

/* Builds generation `number` in the folder and opens it, not yet compiled. `quietly`: mail is moved
 * meanwhile. */
static struct table *build_and_open(const struct config *config, const struct relay_set *relays,
                                    const char *folder, uint64_t number, bool quietly,
                                    struct diag_list *diags)
{
    char path[GENERATION_PATH];
    if (!generation_path(path, folder, number)) {
        diag_error(diags, (struct diag_place){.file = folder}, "the path is too long");
        return NULL;
    }
    struct build_job job = {.build = {.config = config,
                                      .relays = relays,
                                      .folder = folder,
                                      .path = path,
                                      .generation = number,
                                      .run_bytes = SORTER_RUN_BYTES},
                            .diags = diags};
    if (quietly) {
        quiet_run(build_table, &job);
    } else {
        build_table(&job, NULL);
    }
    if (!job.ok) {
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
    struct table *table = build_and_open(config, relays, folder, 1, false, diags);
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
    struct table *table =
        newest < held ? NULL : open_newest(config, directory, newest, held != 0, &state);
    newest = newest < held ? held : newest;
    if (state == TABLE_DAMAGED) {
        warn_damaged(directory, newest, diags);
    }
    if (!table) {
        /* Without a table that can be used mail waits for the new one. */
        bool quietly = held != 0 && state == TABLE_STALE;
        table = build_and_open(config, relays, directory, newest + 1, quietly, diags);
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
