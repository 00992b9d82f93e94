#include "routing/generation.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "config/folder.h"
#include "routing/seal.h"

#define MAP_LEAST   ((uint64_t)64 << 20)
#define MAP_FACTOR  4 /* pages not full, branch pages, pages freed by earlier batches */
#define BATCH       8192 /* puts a transaction: bounds the dirty pages, and how long they are written */
#define PROBE       4096
#define PROBE_MOST  (1 << 20) /* no write that LMDB makes at once is longer */
#define NAME_PREFIX "routes-"
#define NAME_SUFFIX ".lmdb"
#define UNFINISHED  ".tmp"

static const char *const db_names[GENERATION_DBS] = {"meta", "files", "destinations", "domains",
                                                     "routes"};

struct generation_writer {
    char path[GENERATION_PATH];       /* the name it will have */
    char unfinished[GENERATION_PATH]; /* the name it has */
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbis[GENERATION_DBS];
    unsigned puts; /* in txn */
    int error;     /* LMDB's, the first */
};

int generation_open_dbs(MDB_txn *txn, unsigned flags, MDB_dbi dbis[GENERATION_DBS])
{
    int rc = 0;
    for (int i = 0; rc == 0 && i < GENERATION_DBS; i++) {
        bool numbered = i == GENERATION_FILES || i == GENERATION_DESTINATIONS;
        rc = mdb_dbi_open(txn, db_names[i], flags | (numbered ? MDB_INTEGERKEY : 0), &dbis[i]);
    }
    return rc;
}

bool generation_path(char out[GENERATION_PATH], const char *folder, uint64_t number)
{
    int n = snprintf(out, GENERATION_PATH, "%s/" NAME_PREFIX "%llu" NAME_SUFFIX, folder,
                     (unsigned long long)number);
    return n > 0 && n < GENERATION_PATH;
}

static bool has_prefix(struct span name)
{
    return span_starts(name, SPAN(NAME_PREFIX));
}

/* The number in "routes-N.lmdb"; 0 for any other name. */
static uint64_t number_of(const char *name)
{
    unsigned long long number;
    struct span s = span_of(name);
    if (!has_prefix(s) || !span_ends(s, SPAN(NAME_SUFFIX))) {
        return 0;
    }
    s = span_skip(s, strlen(NAME_PREFIX));
    if (s.len <= strlen(NAME_SUFFIX)) {
        return 0;
    }
    s = span_first(s, s.len - strlen(NAME_SUFFIX));
    return span_number(s, UINT64_MAX / 2, &number) ? number : 0;
}

uint64_t generation_newest(const char *folder)
{
    uint64_t newest = 0;
    DIR *dir = opendir(folder);
    if (!dir) {
        return 0;
    }
    for (struct dirent *entry = readdir(dir); entry; entry = readdir(dir)) {
        uint64_t number = number_of(entry->d_name);
        newest = number > newest ? number : newest;
    }
    closedir(dir);
    return newest;
}

void generation_clean(const char *folder, uint64_t keep, uint64_t keep_too)
{
    DIR *dir = opendir(folder);
    if (!dir) {
        return;
    }
    for (struct dirent *entry = readdir(dir); entry; entry = readdir(dir)) {
        struct span name = span_of(entry->d_name);
        uint64_t number = number_of(entry->d_name);
        bool unfinished = has_prefix(name) && span_ends(name, SPAN(UNFINISHED));
        if (unfinished || (number > 0 && number != keep && number != keep_too)) {
            unlinkat(dirfd(dir), entry->d_name, 0);
        }
    }
    closedir(dir);
}

static int begin(struct generation_writer *writer, uint64_t bytes)
{
    uint64_t map = MAP_LEAST + bytes * MAP_FACTOR;
    int rc = mdb_env_create(&writer->env);
    if (rc == 0) {
        rc = mdb_env_set_maxdbs(writer->env, GENERATION_DBS);
    }
    if (rc == 0) {
        rc = mdb_env_set_mapsize(writer->env, (size_t)map & ~(size_t)0xffff);
    }
    if (rc == 0) { /* synced once, at the end; no reader knows the file before */
        rc = mdb_env_open(writer->env, writer->unfinished,
                          MDB_NOSUBDIR | MDB_NOLOCK | MDB_NOTLS | MDB_NOSYNC, 0600);
    }
    if (rc == 0) {
        rc = mdb_txn_begin(writer->env, NULL, 0, &writer->txn);
    }
    if (rc == 0) {
        rc = generation_open_dbs(writer->txn, MDB_CREATE, writer->dbis);
    }
    return rc;
}

/* Of a write that the disk took only in part LMDB says what it likes. The next write says why. */
static int why_not_written(const char *path, int error)
{
    char block[PROBE] = {0};
    int fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
    if (fd < 0) {
        return error;
    }
    for (ssize_t n = 1, total = 0; n > 0 && total < PROBE_MOST; total += n) {
        n = write(fd, block, sizeof(block));
        error = n < 0 ? errno : error;
    }
    close(fd);
    return error;
}

/* It is the machine's trouble, not the configuration's: hence no place. */
static void report(const struct generation_writer *writer, int rc, struct diag_list *diags)
{
    if (rc == EIO || rc == ENOSPC) {
        rc = why_not_written(writer->unfinished, rc);
    }
    diag_machine(diags, "%s: the routing table cannot be written: %s%s", writer->unfinished,
                 mdb_strerror(rc),
                 rc == EFBIG
                     ? "; this process may write no larger file: raise `ulimit -f` (systemd: "
                       "LimitFSIZE=)"
                     : "");
}

struct generation_writer *generation_create(const char *path, uint64_t bytes,
                                            struct diag_list *diags)
{
    struct generation_writer *writer = calloc(1, sizeof(*writer));
    if (!writer) {
        diag_machine(diags, "out of memory");
        return NULL;
    }
    int len = snprintf(writer->path, sizeof(writer->path), "%s", path);
    int rc = ENAMETOOLONG;
    if (len > 0 && len < GENERATION_PATH - (int)strlen(UNFINISHED)) {
        memcpy(writer->unfinished, writer->path, (size_t)len);
        memcpy(writer->unfinished + len, UNFINISHED, sizeof(UNFINISHED));
        unlink(writer->unfinished); /* of a build that died */
        rc = begin(writer, bytes);
    }
    if (rc == 0) {
        return writer;
    }
    report(writer, rc, diags);
    generation_abort(writer);
    return NULL;
}

static int next_batch(struct generation_writer *writer)
{
    int rc = mdb_txn_commit(writer->txn);
    writer->txn = NULL;
    writer->puts = 0;
    return rc ? rc : mdb_txn_begin(writer->env, NULL, 0, &writer->txn);
}

bool generation_put(struct generation_writer *writer, enum generation_db db, struct span key,
                    struct span value)
{
    MDB_val k = {key.len, (void *)(uintptr_t)key.ptr};
    MDB_val v = {value.len, (void *)(uintptr_t)value.ptr};
    if (writer->error == 0 && writer->puts == BATCH) {
        writer->error = next_batch(writer);
    }
    if (writer->error == 0) {
        writer->error =
            mdb_put(writer->txn, writer->dbis[db], &k, &v, db == GENERATION_META ? 0 : MDB_APPEND);
    }
    writer->puts++;
    return writer->error == 0;
}

static int sync_folder(const char *path)
{
    char folder[GENERATION_PATH];
    size_t slash = span_rfind(span_of(path), '/');
    int n = snprintf(folder, sizeof(folder), "%.*s", (int)slash, path);
    if (n < 0 || path[slash] != '/') {
        return EINVAL;
    }
    return folder_sync(folder);
}

/* All pages are with the file; LMDB is done with it. */
static int seal(struct generation_writer *writer, struct quiet *quiet)
{
    int fd = open(writer->unfinished, O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        return errno;
    }
    int rc = seal_put(fd, GENERATION_FORMAT, quiet);
    close(fd);
    return rc;
}

bool generation_commit(struct generation_writer *writer, struct quiet *quiet,
                       struct diag_list *diags)
{
    int rc = writer->error;
    if (rc == 0) {
        rc = mdb_txn_commit(writer->txn);
        writer->txn = NULL;
    }
    if (rc == 0) {
        mdb_env_close(writer->env);
        writer->env = NULL;
        rc = seal(writer, quiet);
    }
    if (rc == 0 && rename(writer->unfinished, writer->path) != 0) {
        rc = errno;
    }
    if (rc == 0) {
        rc = sync_folder(writer->path);
    }
    if (rc != 0) {
        report(writer, rc, diags);
    }
    generation_abort(writer); /* frees; there is no unfinished file left when all went well */
    return rc == 0;
}

void generation_abort(struct generation_writer *writer)
{
    if (!writer) {
        return;
    }
    if (writer->txn) {
        mdb_txn_abort(writer->txn);
    }
    if (writer->env) {
        mdb_env_close(writer->env);
    }
    if (writer->unfinished[0]) {
        unlink(writer->unfinished);
    }
    free(writer);
}
