#include "proxy/net/ledger_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "config/folder.h"
#include "proxy/net/ledger_reader.h"

#define NEW_SUFFIX ".new"
#define ASIDE      LEDGER_NAME ".broken-"
#define MAP_LEAST  (UINT64_C(64) << 20)
#define MAP_FACTOR 4          /* pages half full, and the old version beside the new */
#define BATCH      (16 << 20) /* LMDB holds what a transaction has changed in memory */
#define PROBE      65536

/* Says why, for those who only know that it failed. */
static bool fail(struct ledger_file *file, const char *what, int error)
{
    struct text why = TEXT(file->why);
    text_printf(&why, "%s: %s", what, mdb_strerror(error));
    return false;
}

bool ledger_file_init(struct ledger_file *file, const char *directory)
{
    *file = (struct ledger_file){0};
    struct text name = TEXT(file->directory);
    text_puts(&name, directory);
    snprintf(file->path, sizeof file->path, "%s/" LEDGER_NAME, file->directory);
    snprintf(file->new_path, sizeof file->new_path, "%s/" LEDGER_NAME NEW_SUFFIX, file->directory);
    return !name.full;
}

/* What root makes here, by a command, is its user's who runs the daemon: the directory's. */
static int hand_over(const struct ledger_file *file, int fd)
{
    struct stat directory;
    if (geteuid() != 0) {
        return 0;
    }
    if (stat(file->directory, &directory) != 0 ||
        fchown(fd, directory.st_uid, directory.st_gid) != 0) {
        return errno;
    }
    return 0;
}

static uint64_t map_for(uint64_t max_size)
{
    return (MAP_LEAST + max_size * MAP_FACTOR) & ~UINT64_C(0xffff);
}

static bool fail_to_map(struct ledger_file *file, uint64_t map, int error)
{
    struct text why = TEXT(file->why);
    text_printf(&why, "no %llu MiB of address space, which `ledger: max-size` takes: %s",
                (unsigned long long)(map >> 20), mdb_strerror(error));
    return false;
}

/* Of a write that the disk took only in part LMDB says EIO. Whether there is room can be asked. */
static int why_not_written(const struct ledger_file *file, int error)
{
    if (error != EIO) {
        return error;
    }
    int fd = open(file->directory, O_TMPFILE | O_WRONLY | O_CLOEXEC, S_IRUSR | S_IWUSR);
    struct stat st;
    if (fd < 0) {
        return error;
    }
    off_t size = stat(file->is_new ? file->new_path : file->path, &st) == 0 ? st.st_size : 0;
    int probed = posix_fallocate(fd, 0, size + PROBE);
    close(fd);
    return probed == ENOSPC || probed == EFBIG || probed == EDQUOT ? probed : error;
}

static int open_env(struct ledger_file *file)
{
    int fd = -1;
    int rc = mdb_env_create(&file->env);
    if (rc == 0) {
        rc = mdb_env_set_mapsize(file->env, (size_t)file->map);
    }
    if (rc == 0) { /* nobody reads it before it has its name: synced once, before that */
        rc = mdb_env_open(file->env, file->new_path,
                          MDB_NOSUBDIR | MDB_NOLOCK | MDB_NOTLS | MDB_NOSYNC, S_IRUSR | S_IWUSR);
    }
    if (rc == 0) {
        rc = mdb_env_get_fd(file->env, &fd);
    }
    return rc == 0 ? hand_over(file, fd) : rc;
}

static int begin_txn(struct ledger_file *file)
{
    int rc = mdb_txn_begin(file->env, NULL, 0, &file->txn);
    if (rc == 0) {
        rc = mdb_dbi_open(file->txn, NULL, 0, &file->dbi);
    }
    file->is_changed = false;
    file->batch = 0;
    return rc;
}

bool ledger_file_create(struct ledger_file *file, uint64_t max_size)
{
    file->is_new = true;
    file->error = 0;
    file->map = map_for(max_size);
    if (file->map > SIZE_MAX) {
        return fail_to_map(file, file->map, ENOMEM);
    }
    unlink(file->new_path); /* of one who died */
    int rc = open_env(file);
    if (rc == ENOMEM) {
        return fail_to_map(file, file->map, rc);
    }
    if (rc == 0) {
        rc = begin_txn(file);
        file->is_changed = true; /* the head, at least */
    }
    return rc == 0 || fail(file, file->new_path, why_not_written(file, rc));
}

static bool is_as_left(const struct ledger_file *file)
{
    struct stat now;
    return stat(file->path, &now) == 0 && now.st_dev == file->left.st_dev &&
           now.st_ino == file->left.st_ino && now.st_size == file->left.st_size &&
           now.st_mtim.tv_sec == file->left.st_mtim.tv_sec &&
           now.st_mtim.tv_nsec == file->left.st_mtim.tv_nsec;
}

/* After a reload with a higher `max-size`. */
static bool grow(struct ledger_file *file, uint64_t max_size)
{
    uint64_t map = map_for(max_size);
    if (map <= file->map) {
        return true;
    }
    int rc = map > SIZE_MAX ? ENOMEM : mdb_env_set_mapsize(file->env, (size_t)map);
    if (rc != 0) {
        return fail_to_map(file, map, rc);
    }
    file->map = map;
    return true;
}

bool ledger_file_begin(struct ledger_file *file, uint64_t max_size)
{
    if (!is_as_left(file)) {
        struct text why = TEXT(file->why);
        text_printf(&why, "%s: somebody has removed, replaced or changed it", file->path);
        return false;
    }
    if (!grow(file, max_size)) {
        return false;
    }
    file->error = 0;
    int rc = begin_txn(file);
    return rc == 0 || fail(file, file->path, rc);
}

/* The head says how many sets there are, so that one that lacks some is known. */
static int put_head(struct ledger_file *file)
{
    unsigned char number[LEDGER_KEY], head[LEDGER_HEAD];
    MDB_val key = {sizeof number, number}, value = {sizeof head, head}, found;
    MDB_stat count;
    ledger_key(number, 0);
    int rc = mdb_stat(file->txn, file->dbi, &count);
    if (rc == 0) {
        const bool there = mdb_get(file->txn, file->dbi, &key, &found) == 0;
        ledger_head(head, count.ms_entries - (there ? 1 : 0));
        rc = mdb_put(file->txn, file->dbi, &key, &value, 0);
    }
    return rc;
}

static int end_txn(struct ledger_file *file)
{
    int rc = file->error;
    if (rc == 0 && file->is_changed) {
        rc = put_head(file);
    }
    if (rc == 0) {
        rc = mdb_txn_commit(file->txn);
    } else if (file->txn != NULL) {
        mdb_txn_abort(file->txn);
    }
    file->txn = NULL;
    return rc;
}

static int put_one(struct ledger_file *file, uint64_t set, struct span record)
{
    unsigned char number[LEDGER_KEY];
    MDB_val key = {sizeof number, number};
    ledger_key(number, set);
    if (record.len == 0) {
        int rc = mdb_del(file->txn, file->dbi, &key, NULL);
        file->is_changed = file->is_changed || rc == 0;
        return rc == MDB_NOTFOUND ? 0 : rc;
    }
    MDB_val value = {LEDGER_KEY + record.len, NULL};
    int rc = mdb_put(file->txn, file->dbi, &key, &value, MDB_RESERVE);
    if (rc == 0) {
        char *to = value.mv_data;
        memcpy(to, number, LEDGER_KEY);
        memcpy(to + LEDGER_KEY, record.ptr, record.len);
        file->is_changed = true;
    }
    return rc;
}

void ledger_file_put(struct ledger_file *file, uint64_t set, struct span record)
{
    if (file->error == 0 && file->batch > BATCH) {
        file->error = end_txn(file);
        if (file->error == 0) {
            file->error = begin_txn(file);
        }
    }
    if (file->error == 0) {
        file->error = put_one(file, set, record);
        file->batch += record.len;
    }
}

/* Complete: from here on it is the ledger, and each commit is durable by itself. */
static int publish(struct ledger_file *file)
{
    int rc = mdb_env_sync(file->env, 1);
    if (rc == 0) {
        rc = mdb_env_set_flags(file->env, MDB_NOSYNC, 0);
    }
    if (rc == 0 && rename(file->new_path, file->path) != 0) {
        rc = errno;
    }
    if (rc == 0) {
        file->is_new = false;
        rc = folder_sync(file->directory);
    }
    return rc;
}

bool ledger_file_commit(struct ledger_file *file)
{
    int fd = -1;
    int rc = end_txn(file);
    if (rc == 0 && file->is_new) {
        rc = publish(file);
    }
    if (rc == 0) {
        rc = mdb_env_get_fd(file->env, &fd);
    }
    if (rc == 0 && fstat(fd, &file->left) != 0) {
        rc = errno;
    }
    return rc == 0 ||
           fail(file, file->is_new ? file->new_path : file->path, why_not_written(file, rc));
}

void ledger_file_close(struct ledger_file *file)
{
    if (file->txn != NULL) {
        mdb_txn_abort(file->txn);
    }
    if (file->env != NULL) {
        mdb_env_close(file->env);
    }
    if (file->is_new) {
        unlink(file->new_path);
    }
    file->txn = NULL;
    file->env = NULL;
    file->is_new = false;
}

/* ---- broken ones ---- */

static bool is_aside(const struct dirent *entry)
{
    struct span name = span_of(entry->d_name);
    return span_starts(name, SPAN(ASIDE));
}

/* The oldest of at least `most`, or an empty name: they are named by their time. */
static bool oldest_aside(const char *directory, size_t most, char *out, size_t cap)
{
    size_t count = 0;
    out[0] = '\0';
    DIR *dir = opendir(directory);
    if (dir == NULL) {
        return false;
    }
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        if (is_aside(entry)) {
            count++;
            if (out[0] == '\0' || strcmp(entry->d_name, out) < 0) {
                snprintf(out, cap, "%s", entry->d_name);
            }
        }
    }
    closedir(dir);
    return count > most;
}

static void remove_old(const struct ledger_file *file)
{
    char name[NAME_MAX + 1], path[LEDGER_PATH_MAX + NAME_MAX];
    while (oldest_aside(file->directory, LEDGER_SPARE, name, sizeof name)) {
        snprintf(path, sizeof path, "%s/%s", file->directory, name);
        if (unlink(path) != 0) {
            return;
        }
    }
}

bool ledger_file_set_aside(struct ledger_file *file, struct text *kept)
{
    char stamp[32];
    struct tm parts;
    time_t now = time(NULL);
    strftime(stamp, sizeof stamp, "%Y%m%dT%H%M%SZ", gmtime_r(&now, &parts));
    text_printf(kept, "%s/" ASIDE "%s", file->directory, stamp);
    if (kept->full || rename(file->path, kept->ptr) != 0) {
        return fail(file, "a broken ledger cannot be set aside", kept->full ? ENAMETOOLONG : errno);
    }
    remove_old(file);
    return true;
}

/* ---- the lock ---- */

int ledger_file_lock(const struct ledger_file *file)
{
    char path[LEDGER_PATH_MAX];
    snprintf(path, sizeof path, "%s/" LEDGER_LOCK, file->directory);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, S_IRUSR | S_IWUSR);
    int error = fd >= 0 ? hand_over(file, fd) : errno;
    if (error == 0 && flock(fd, LOCK_EX | LOCK_NB) != 0) {
        error = errno;
    }
    if (error != 0 && fd >= 0) {
        close(fd);
    }
    errno = error;
    return error == 0 ? fd : -1;
}

bool ledger_file_locked(const struct ledger_file *file, int fd)
{
    char path[LEDGER_PATH_MAX];
    snprintf(path, sizeof path, "%s/" LEDGER_LOCK, file->directory);
    return folder_has(path, fd);
}
