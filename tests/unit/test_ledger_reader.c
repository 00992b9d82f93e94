/* ledger_reader and ledger_file: what was written is read, and nothing that has become of a file
 * ends the process that asks. */
#include <stdbool.h>

#include "tests/unit/folder_fixture.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "proxy/net/ledger_file.h"
#include "proxy/net/ledger_reader.h"

#define SETS     60
#define MAX_SIZE (1 << 20)

/* A record that can be told from a damaged one. Some are longer than a page. */
static size_t make_record(uint64_t set, char *out)
{
    size_t len = set % 20 == 0 ? 5000 : 40 + set;
    for (size_t i = 0; i < len; i++) {
        out[i] = (char)(set * 31 + i * 7);
    }
    return len;
}

struct found {
    bool there[SETS + 2];
    unsigned count;
    unsigned refused;
};

static bool take(void *context, uint64_t set, struct span record)
{
    struct found *found = context;
    char expected[6000];
    if (set == 0 || set > SETS || found->there[set] ||
        !span_equal(record, span_make(expected, make_record(set, expected)))) {
        found->refused++;
        return false;
    }
    found->there[set] = true;
    found->count++;
    return true;
}

static enum ledger_read read_it(struct found *found, char why[LEDGER_WHY])
{
    char path[PATH_CAP];
    struct text text = text_over(why, LEDGER_WHY);
    in_folder(path, LEDGER_NAME);
    *found = (struct found){.count = 0};
    return ledger_read(path, take, found, &text);
}

static void put_some(struct ledger_file *file, uint64_t first, uint64_t last)
{
    char record[6000];
    for (uint64_t set = first; set <= last; set++) {
        ledger_file_put(file, set, span_make(record, make_record(set, record)));
    }
}

/* With all sets, in three transactions. */
static void write_file(void)
{
    struct ledger_file file;
    assert_true(ledger_file_init(&file, folder));
    assert_true(ledger_file_create(&file, MAX_SIZE));
    put_some(&file, 1, 30);
    assert_true(ledger_file_commit(&file));
    assert_true(ledger_file_begin(&file, MAX_SIZE));
    put_some(&file, 25, SETS);
    ledger_file_put(&file, SETS + 1, SPAN("gone again"));
    assert_true(ledger_file_commit(&file));
    assert_true(ledger_file_begin(&file, MAX_SIZE));
    ledger_file_put(&file, SETS + 1, SPAN(""));
    ledger_file_put(&file, SETS + 7, SPAN("")); /* was never there */
    assert_true(ledger_file_commit(&file));
    ledger_file_close(&file);
}

static void what_was_written_is_read(void **state)
{
    struct found found;
    char why[LEDGER_WHY];
    (void)state;
    assert_int_equal(read_it(&found, why), LEDGER_READ_NONE);
    write_file();
    assert_int_equal(read_it(&found, why), LEDGER_READ_FINE);
    assert_int_equal(found.count, SETS);
    assert_int_equal(files_named("", false), 1);
}

static void an_empty_ledger_is_fine(void **state)
{
    struct ledger_file file;
    struct found found;
    char why[LEDGER_WHY];
    (void)state;
    assert_true(ledger_file_init(&file, folder));
    assert_true(ledger_file_create(&file, MAX_SIZE));
    assert_true(ledger_file_commit(&file));
    ledger_file_close(&file);
    assert_int_equal(read_it(&found, why), LEDGER_READ_FINE);
    assert_int_equal(found.count, 0);
}

static void the_file_is_for_its_user_only(void **state)
{
    char path[PATH_CAP];
    struct stat st;
    (void)state;
    write_file();
    in_folder(path, LEDGER_NAME);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
}

static void a_new_file_that_was_not_completed_leaves_the_old_one(void **state)
{
    struct ledger_file file;
    struct found found;
    char why[LEDGER_WHY];
    (void)state;
    write_file();
    assert_true(ledger_file_init(&file, folder));
    assert_true(ledger_file_create(&file, MAX_SIZE));
    put_some(&file, 1, 3);
    assert_int_equal(files_named("", false), 2);
    ledger_file_close(&file);
    assert_int_equal(files_named("", false), 1);
    assert_int_equal(read_it(&found, why), LEDGER_READ_FINE);
    assert_int_equal(found.count, SETS);
}

/* LMDB holds what a transaction changes in memory: more than that is written in several. */
static void much_at_once_is_written_too(void **state)
{
    struct ledger_file file;
    static char record[1 << 20];
    (void)state;
    assert_true(ledger_file_init(&file, folder));
    assert_true(ledger_file_create(&file, 64 << 20));
    for (uint64_t set = 1; set <= 40; set++) {
        ledger_file_put(&file, set, span_make(record, sizeof record));
    }
    assert_true(ledger_file_commit(&file));
    assert_true(size_of(file.path) > 40 << 20);
    ledger_file_close(&file);
}

static void what_does_not_fit_is_an_error_and_not_a_crash(void **state)
{
    struct ledger_file file;
    static char record[1 << 20];
    (void)state;
    assert_true(ledger_file_init(&file, folder));
    assert_true(ledger_file_create(&file, MAX_SIZE));
    for (uint64_t set = 1; set <= 100; set++) {
        ledger_file_put(&file, set, span_make(record, sizeof record));
    }
    assert_false(ledger_file_commit(&file));
    assert_non_null(strstr(file.why, "MAP_FULL"));
    ledger_file_close(&file);
    assert_int_equal(files_named("", false), 0);
}

/* ---- damage ---- */

/* Whatever it holds: what is told is right, and who says that all is fine has all. In the first
 * two pages, LMDB's two roots, damage to one may leave the other: that of the last commit but one,
 * which had one set more, or that before. */
static void look_at_damaged(size_t offset)
{
    struct found found;
    char why[LEDGER_WHY] = "";
    switch (read_it(&found, why)) {
    case LEDGER_READ_FINE:
        if (found.count != SETS) {
            fail_msg("at %zu: fine, but %u sets", offset, found.count);
        }
        break;
    case LEDGER_READ_BROKEN:
    case LEDGER_READ_NO_MEMORY:
        assert_true(why[0] != '\0');
        break;
    case LEDGER_READ_NONE:
    case LEDGER_READ_NOT_NOW:
        fail_msg("at %zu: not there", offset);
    }
}

static void flipped_bytes_anywhere_end_nobody(void **state)
{
    char path[PATH_CAP];
    size_t len;
    (void)state;
    write_file();
    in_folder(path, LEDGER_NAME);
    char *bytes = read_whole(path, &len);
    for (size_t at = 0; at < len; at += 64) {
        const size_t where = at + at / 64 % 64; /* each place of a page's, in time */
        if (where >= len) {
            break;
        }
        const char flip = at % 128 == 0 ? (char)0xff : (char)(1 << (at / 64 % 8));
        bytes[where] ^= flip;
        write_whole(path, bytes, len);
        bytes[where] ^= flip;
        look_at_damaged(where);
    }
    free(bytes);
}

static void files_that_were_cut_end_nobody(void **state)
{
    char path[PATH_CAP];
    size_t len;
    (void)state;
    write_file();
    in_folder(path, LEDGER_NAME);
    char *bytes = read_whole(path, &len);
    assert_int_equal(len % 4096, 0);
    for (size_t cut = 0; cut <= len; cut += 2048) {
        write_whole(path, bytes, cut);
        look_at_damaged(cut);
    }
    free(bytes);
}

/* Changes a byte of every copy of the set; `at`: from its key on, behind which its number stands
 * once more, and its record. The set is short, so that all of it is in one page. */
static void damage_set(char set, size_t at, char flip)
{
    char path[PATH_CAP], twice[2 * LEDGER_KEY] = {0};
    size_t len;
    unsigned damaged = 0;
    twice[LEDGER_KEY - 1] = twice[2 * LEDGER_KEY - 1] = set;
    in_folder(path, LEDGER_NAME);
    char *bytes = read_whole(path, &len);
    for (char *from = bytes;
         (from = memmem(from, len - (size_t)(from - bytes), twice, sizeof twice)); from++) {
        from[at] ^= flip;
        damaged++;
    }
    assert_true(damaged > 0);
    write_whole(path, bytes, len);
    free(bytes);
}

static void damage_in_a_record_costs_that_record_only(void **state)
{
    char why[LEDGER_WHY];
    struct found found;
    (void)state;
    write_file();
    damage_set(47, 2 * LEDGER_KEY + 5, 1);
    assert_int_equal(read_it(&found, why), LEDGER_READ_BROKEN);
    assert_string_equal(why, "1 set cannot be understood");
    assert_int_equal(found.refused, 1);
    assert_int_equal(found.count, SETS - 1);
    assert_false(found.there[47]);
}

static void a_damaged_number_is_no_other_sets(void **state)
{
    char why[LEDGER_WHY];
    struct found found;
    (void)state;
    write_file();
    damage_set(51, LEDGER_KEY - 1, 2);
    assert_int_equal(read_it(&found, why), LEDGER_READ_BROKEN);
    assert_string_equal(why, "1 set cannot be understood");
    assert_int_equal(found.refused, 0); /* nobody was asked about it */
    assert_int_equal(found.count, SETS - 1);
}

static void what_is_no_ledger_is_broken(void **state)
{
    struct found found;
    char path[PATH_CAP], why[LEDGER_WHY], noise[20000];
    (void)state;
    in_folder(path, LEDGER_NAME);
    write_whole(path, "", 0);
    assert_int_equal(read_it(&found, why), LEDGER_READ_BROKEN);
    for (size_t i = 0; i < sizeof noise; i++) {
        noise[i] = (char)(i * i >> 3);
    }
    write_whole(path, noise, sizeof noise);
    assert_int_equal(read_it(&found, why), LEDGER_READ_BROKEN);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(read_it(&found, why), LEDGER_READ_BROKEN);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(read_it(&found, why), LEDGER_READ_BROKEN);
    assert_string_equal(why, "it is no regular file");
}

static void somebody_elses_database_is_broken(void **state)
{
    struct found found;
    char path[PATH_CAP], why[LEDGER_WHY];
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi;
    char word[] = "abc";
    MDB_val key = {3, word}, value = {3, word};
    (void)state;
    in_folder(path, LEDGER_NAME);
    assert_int_equal(mdb_env_create(&env), 0);
    assert_int_equal(mdb_env_open(env, path, MDB_NOSUBDIR | MDB_NOLOCK, 0600), 0);
    assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
    assert_int_equal(mdb_dbi_open(txn, NULL, 0, &dbi), 0);
    assert_int_equal(mdb_put(txn, dbi, &key, &value, 0), 0);
    assert_int_equal(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
    assert_int_equal(read_it(&found, why), LEDGER_READ_BROKEN);
    assert_string_equal(why, "it is no ledger of this version");
    assert_int_equal(found.count, 0);
}

/* Sets that nothing points to any more are missed: the head has counted them. */
static void sets_that_are_missing_are_missed(void **state)
{
    struct found found;
    char path[PATH_CAP], why[LEDGER_WHY];
    unsigned char number[LEDGER_KEY];
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi;
    MDB_val key = {sizeof number, number};
    (void)state;
    write_file();
    in_folder(path, LEDGER_NAME);
    ledger_key(number, 33);
    assert_int_equal(mdb_env_create(&env), 0);
    assert_int_equal(mdb_env_open(env, path, MDB_NOSUBDIR | MDB_NOLOCK, 0600), 0);
    assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
    assert_int_equal(mdb_dbi_open(txn, NULL, 0, &dbi), 0);
    assert_int_equal(mdb_del(txn, dbi, &key, NULL), 0);
    assert_int_equal(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
    assert_int_equal(read_it(&found, why), LEDGER_READ_BROKEN);
    assert_string_equal(why, "1 set missing");
    assert_int_equal(found.count, SETS - 1);
}

static void a_file_that_may_not_be_read_is_not_broken(void **state)
{
    struct found found;
    char path[PATH_CAP], why[LEDGER_WHY];
    (void)state;
    write_file();
    in_folder(path, LEDGER_NAME);
    if (geteuid() == 0) { /* root may read all: as somebody else */
        assert_int_equal(chmod(folder, 0755), 0);
        assert_int_equal(seteuid(65534), 0);
    } else {
        assert_int_equal(chmod(path, 0), 0);
    }
    const enum ledger_read result = read_it(&found, why);
    if (geteuid() == 65534) {
        assert_int_equal(seteuid(0), 0);
    }
    assert_int_equal(result, LEDGER_READ_NOT_NOW);
    assert_string_equal(why, "Permission denied");
}

static void no_child_is_left_behind(void **state)
{
    struct found found;
    char path[PATH_CAP], why[LEDGER_WHY], page[8192] = {0};
    (void)state;
    write_file();
    read_it(&found, why);
    in_folder(path, LEDGER_NAME);
    write_whole(path, page, sizeof page);
    read_it(&found, why);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
}

/* ---- what others do to it ---- */

static void what_somebody_has_done_to_the_file_is_seen(void **state)
{
    struct ledger_file file;
    char other[PATH_CAP];
    (void)state;
    for (int how = 0; how < 4; how++) {
        write_file();
        assert_true(ledger_file_init(&file, folder));
        assert_true(ledger_file_create(&file, MAX_SIZE));
        assert_true(ledger_file_commit(&file));
        assert_true(ledger_file_begin(&file, MAX_SIZE));
        assert_true(ledger_file_commit(&file));
        in_folder(other, "other");
        switch (how) {
        case 0:
            assert_int_equal(unlink(file.path), 0);
            break;
        case 1:
            write_whole(other, "x", 1);
            assert_int_equal(rename(other, file.path), 0);
            break;
        case 2:
            assert_int_equal(truncate(file.path, 4096), 0);
            break;
        default: {
            int fd = open(file.path, O_WRONLY | O_APPEND);
            assert_int_equal(write(fd, "x", 1), 1);
            close(fd);
        }
        }
        assert_false(ledger_file_begin(&file, MAX_SIZE));
        assert_non_null(strstr(file.why, "somebody has removed, replaced or changed it"));
        ledger_file_close(&file);
        files_named("", true);
    }
}

static void a_lock_is_one_processs(void **state)
{
    struct ledger_file file;
    char path[PATH_CAP];
    int pipes[2], status;
    char byte;
    (void)state;
    assert_true(ledger_file_init(&file, folder));
    assert_int_equal(pipe(pipes), 0);
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that fails leaves nobody behind */
        close(pipes[0]);
        int fd = ledger_file_lock(&file);
        _exit(fd >= 0 && write(pipes[1], "l", 1) == 1 && pause() ? 0 : 1);
    }
    assert_int_equal(read(pipes[0], &byte, 1), 1);
    assert_int_equal(ledger_file_lock(&file), -1);
    assert_int_equal(errno, EWOULDBLOCK);
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    int lock = ledger_file_lock(&file);
    assert_true(lock >= 0);
    assert_true(ledger_file_locked(&file, lock));
    in_folder(path, LEDGER_LOCK);
    assert_int_equal(unlink(path), 0);
    assert_false(ledger_file_locked(&file, lock));
    close(lock);
    close(pipes[0]);
    close(pipes[1]);
}

static void the_last_three_broken_files_are_kept(void **state)
{
    struct ledger_file file;
    char path[PATH_CAP], name[PATH_CAP];
    struct text kept = TEXT(name);
    (void)state;
    assert_true(ledger_file_init(&file, folder));
    in_folder(path, LEDGER_NAME ".broken-20010101T000000Z");
    write_whole(path, "1", 1);
    in_folder(path, LEDGER_NAME ".broken-20020101T000000Z");
    write_whole(path, "2", 1);
    in_folder(path, LEDGER_NAME ".broken-20030101T000000Z");
    write_whole(path, "3", 1);
    in_folder(path, LEDGER_NAME);
    write_whole(path, "4", 1);
    assert_true(ledger_file_set_aside(&file, &kept));
    assert_int_equal(size_of(name), 1);
    assert_int_equal(files_named(LEDGER_NAME ".broken-", false), 3);
    assert_int_equal(files_named(LEDGER_NAME ".broken-2001", false), 0);
    assert_int_equal(files_named(LEDGER_NAME, false), 3);
    assert_false(ledger_file_set_aside(&file, &kept)); /* there is none */
    assert_non_null(strstr(file.why, "cannot be set aside"));
}

#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, folder_make, folder_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_FOLDER(what_was_written_is_read),
        IN_FOLDER(an_empty_ledger_is_fine),
        IN_FOLDER(the_file_is_for_its_user_only),
        IN_FOLDER(a_new_file_that_was_not_completed_leaves_the_old_one),
        IN_FOLDER(much_at_once_is_written_too),
        IN_FOLDER(what_does_not_fit_is_an_error_and_not_a_crash),
        IN_FOLDER(flipped_bytes_anywhere_end_nobody),
        IN_FOLDER(files_that_were_cut_end_nobody),
        IN_FOLDER(damage_in_a_record_costs_that_record_only),
        IN_FOLDER(a_damaged_number_is_no_other_sets),
        IN_FOLDER(what_is_no_ledger_is_broken),
        IN_FOLDER(somebody_elses_database_is_broken),
        IN_FOLDER(sets_that_are_missing_are_missed),
        IN_FOLDER(a_file_that_may_not_be_read_is_not_broken),
        IN_FOLDER(no_child_is_left_behind),
        IN_FOLDER(what_somebody_has_done_to_the_file_is_seen),
        IN_FOLDER(a_lock_is_one_processs),
        IN_FOLDER(the_last_three_broken_files_are_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
