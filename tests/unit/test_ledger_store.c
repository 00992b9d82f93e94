/* ledger_store: what was said to be durable is, whatever becomes of the process or of its file. */
#include <stdbool.h>

#include "tests/unit/folder_fixture.h"

#include <lmdb.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

#include "proxy/net/ledger_file.h"
#include "proxy/net/ledger_store.h"
#include "proxy/session/world.h"

#define WINDOW   (UINT64_C(5) * 24 * 60 * 60 * 1000)
#define MAX_SIZE (4 << 20)
#define PATIENCE 20000 /* milliseconds: far more than anything takes */

static const unsigned char message[MESSAGE_IDENTITY_SIZE] = "a message";

/* ---- what the store says ---- */

static struct {
    pthread_mutex_t mutex;
    char lines[4096];
    struct text text;
} events = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static void on_event(void *context, const struct ledger_event *event)
{
    (void)context;
    pthread_mutex_lock(&events.mutex);
    text_printf(&events.text, "%s%s%s%s%s\n", event->name, event->why != NULL ? " why=" : "",
                event->why != NULL ? event->why : "", event->kept_as != NULL ? " kept-as=" : "",
                event->kept_as != NULL ? event->kept_as : "");
    pthread_mutex_unlock(&events.mutex);
}

/* Now or in a moment: who waits for the disk may hear first. */
static bool was_told(const char *what)
{
    bool told = false;
    for (int i = 0; i < PATIENCE && !told; i++) {
        pthread_mutex_lock(&events.mutex);
        told = strstr(events.lines, what) != NULL;
        pthread_mutex_unlock(&events.mutex);
        poll(NULL, 0, told ? 0 : 1);
    }
    return told;
}

/* ---- a world that waits for its ticket ---- */

struct waiter {
    struct world world;
    struct ledger_ticket ticket;
    pthread_mutex_t mutex;
    pthread_cond_t woken;
    bool is_woken, is_done, durable;
};

static void wake(struct world *world)
{
    struct waiter *waiter = (struct waiter *)(void *)world;
    pthread_mutex_lock(&waiter->mutex);
    waiter->is_woken = true;
    pthread_cond_signal(&waiter->woken);
    pthread_mutex_unlock(&waiter->mutex);
}

static const struct world_ops ops = {.wake = wake};

static void on_done(void *owner, bool durable)
{
    struct waiter *waiter = owner;
    waiter->is_done = true;
    waiter->durable = durable;
}

static void make_entries(struct ledger_entry entry[2])
{
    entry[0] = (struct ledger_entry){SPAN("a@example.com"), SPAN("local"), true};
    entry[1] = (struct ledger_entry){SPAN("b@example.com"), SPAN("kingmailer"), false};
}

static struct ledger_split split_of(const char *sender, const struct ledger_entry *entries)
{
    return (struct ledger_split){
        .sender = span_of(sender), .entries = entries, .count = 2, .identity = message};
}

/* Whether the split is durable when this returns. */
static bool record_and_wait(struct ledger *ledger, const char *sender)
{
    struct ledger_entry entry[2];
    struct waiter waiter = {.world = {.ops = &ops}};
    pthread_mutex_init(&waiter.mutex, NULL);
    pthread_cond_init(&waiter.woken, NULL);
    waiter.ticket =
        (struct ledger_ticket){.world = &waiter.world, .on_done = on_done, .owner = &waiter};
    make_entries(entry);
    struct ledger_split split = split_of(sender, entry);
    if (!ledger_record(ledger, &split, time(NULL), &waiter.ticket)) {
        return false;
    }
    pthread_mutex_lock(&waiter.mutex);
    while (!waiter.is_done) {
        while (!waiter.is_woken) {
            pthread_cond_wait(&waiter.woken, &waiter.mutex);
        }
        waiter.is_woken = false;
        pthread_mutex_unlock(&waiter.mutex);
        ledger_collect(ledger, &waiter.world);
        pthread_mutex_lock(&waiter.mutex);
    }
    pthread_mutex_unlock(&waiter.mutex);
    pthread_cond_destroy(&waiter.woken);
    pthread_mutex_destroy(&waiter.mutex);
    return waiter.durable;
}

static bool record_in_passing(struct ledger *ledger, const char *sender)
{
    struct ledger_entry entry[2];
    make_entries(entry);
    struct ledger_split split = split_of(sender, entry);
    return ledger_record(ledger, &split, time(NULL), NULL);
}

static bool knows(struct ledger *ledger, const char *sender)
{
    return ledger_accepted(ledger, span_of(sender), SPAN("a@example.com"), message, time(NULL));
}

/* ---- stores ---- */

static struct ledger_store *store_with(uint64_t max_size)
{
    const struct ledger_store_options options = {.directory = folder,
                                                 .seed = 7,
                                                 .retry_window = WINDOW,
                                                 .max_size = max_size,
                                                 .on_event = on_event};
    struct ledger_store *store = ledger_store_new(&options);
    assert_non_null(store);
    events.text = TEXT(events.lines);
    ledger_store_load(store);
    assert_true(ledger_store_start(store));
    return store;
}

static struct ledger_store *store_make(void)
{
    return store_with(MAX_SIZE);
}

static bool is_usable(struct ledger_store *store)
{
    return ledger_usable(ledger_store_ledger(store));
}

static bool await_usable(struct ledger_store *store, bool wanted)
{
    for (int i = 0; i < PATIENCE && is_usable(store) != wanted; i++) {
        poll(NULL, 0, 1);
    }
    return is_usable(store) == wanted;
}

/* That of the last transaction in the file. */
static uint64_t transactions(void)
{
    char path[PATH_CAP];
    MDB_env *env;
    MDB_envinfo info;
    in_folder(path, LEDGER_NAME);
    assert_int_equal(mdb_env_create(&env), 0);
    assert_int_equal(mdb_env_open(env, path, MDB_NOSUBDIR | MDB_NOLOCK | MDB_RDONLY, 0), 0);
    assert_int_equal(mdb_env_info(env, &info), 0);
    mdb_env_close(env);
    return info.me_last_txnid;
}

static void assert_kept(const char *sender)
{
    struct ledger_store *store = store_make();
    assert_true(is_usable(store));
    if (!knows(ledger_store_ledger(store), sender)) {
        fail_msg("%s is not known any more", sender);
    }
    assert_true(ledger_store_free(store));
}

/* ---- tests ---- */

static void what_was_said_to_be_durable_is_there_after_a_restart(void **state)
{
    (void)state;
    struct ledger_store *store = store_make();
    assert_true(is_usable(store));
    assert_true(record_and_wait(ledger_store_ledger(store), "s@x.org"));
    assert_true(ledger_store_free(store));
    assert_kept("s@x.org");
    assert_string_equal(events.lines, "");
}

static void what_is_settled_in_passing_is_never_written(void **state)
{
    (void)state;
    struct ledger_store *store = store_make();
    struct ledger *ledger = ledger_store_ledger(store);
    const uint64_t before = transactions();
    assert_true(record_in_passing(ledger, "s@x.org"));
    ledger_settle(ledger, SPAN("s@x.org"), SPAN("a@example.com"), message);
    ledger_settle(ledger, SPAN("s@x.org"), SPAN("b@example.com"), message);
    assert_true(ledger_is_empty(ledger));
    assert_true(ledger_store_free(store));
    assert_int_equal(transactions(), before);
}

static void what_nobody_waits_for_is_written_after_a_moment(void **state)
{
    (void)state;
    struct ledger_store *store = store_make();
    const uint64_t before = transactions();
    assert_true(record_in_passing(ledger_store_ledger(store), "s@x.org"));
    for (int i = 0; i < PATIENCE && transactions() == before; i++) {
        poll(NULL, 0, 1);
    }
    assert_int_equal(transactions(), before + 1);
    assert_true(ledger_store_free(store));
}

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void what_nobody_waits_for_comes_in_groups_and_who_waits_is_served_at_once(void **state)
{
    char sender[32];
    uint64_t shortest = PATIENCE;
    (void)state;
    struct ledger_store *store = store_make();
    const uint64_t before = transactions(), begin = now_ms();
    for (int i = 0; i < 50; i++) {
        snprintf(sender, sizeof sender, "s%d@x.org", i);
        assert_true(record_in_passing(ledger_store_ledger(store), sender));
        poll(NULL, 0, 1);
    }
    assert_true(transactions() - before <= (now_ms() - begin) / 10 + 1);
    for (int i = 0; i < 50; i++) { /* one of them, at least, is not kept up by the disk */
        const uint64_t from = now_ms();
        snprintf(sender, sizeof sender, "w%d@x.org", i);
        assert_true(record_and_wait(ledger_store_ledger(store), sender));
        const uint64_t took = now_ms() - from;
        shortest = took < shortest ? took : shortest;
    }
    assert_true(shortest < 10);
    assert_true(ledger_store_free(store));
}

static void an_end_writes_what_nobody_has_waited_for(void **state)
{
    (void)state;
    struct ledger_store *store = store_make();
    assert_true(record_in_passing(ledger_store_ledger(store), "s@x.org"));
    assert_true(ledger_store_free(store));
    assert_kept("s@x.org");
}

struct crowd {
    pthread_t thread;
    struct ledger *ledger;
    int number;
    int durable;
};

#define CROWD 16
#define EACH  25

static void *many_wait(void *context)
{
    struct crowd *one = context;
    for (int i = 0; i < EACH; i++) {
        char sender[32];
        snprintf(sender, sizeof sender, "s%d.%d@x.org", one->number, i);
        one->durable += record_and_wait(one->ledger, sender) ? 1 : 0;
    }
    return NULL;
}

static void who_waits_at_the_same_time_shares_a_transaction(void **state)
{
    struct crowd crowd[CROWD];
    struct ledger_state told;
    (void)state;
    struct ledger_store *store = store_make();
    const uint64_t before = transactions();
    for (int i = 0; i < CROWD; i++) {
        crowd[i] = (struct crowd){.ledger = ledger_store_ledger(store), .number = i};
        assert_int_equal(pthread_create(&crowd[i].thread, NULL, many_wait, &crowd[i]), 0);
    }
    for (int i = 0; i < CROWD; i++) {
        pthread_join(crowd[i].thread, NULL);
        assert_int_equal(crowd[i].durable, EACH);
    }
    assert_true(transactions() - before < CROWD * EACH / 2);
    assert_true(ledger_store_free(store));
    store = store_make();
    ledger_tell(ledger_store_ledger(store), &told);
    assert_int_equal(told.sets, CROWD * EACH);
    assert_true(ledger_store_free(store));
}

/* ---- somebody lays hands on the file ---- */

static void damage_file(int how)
{
    char path[PATH_CAP], other[PATH_CAP];
    in_folder(path, LEDGER_NAME);
    in_folder(other, "other");
    switch (how) {
    case 0:
        assert_int_equal(unlink(path), 0);
        break;
    case 1:
        write_whole(other, "x", 1);
        assert_int_equal(rename(other, path), 0);
        break;
    case 2:
        assert_int_equal(truncate(path, 100), 0);
        break;
    default: { /* all of it, in place */
        char zeroes[4096] = {0};
        const off_t size = size_of(path);
        int fd = open(path, O_WRONLY);
        for (off_t at = 0; at < size; at += (off_t)sizeof zeroes) {
            assert_int_equal(pwrite(fd, zeroes, sizeof zeroes, at), sizeof zeroes);
        }
        close(fd);
    }
    }
}

static void a_file_that_somebody_has_laid_hands_on_is_made_anew_with_all_there_was(void **state)
{
    (void)state;
    for (int how = 0; how < 4; how++) {
        struct ledger_store *store = store_make();
        struct ledger *ledger = ledger_store_ledger(store);
        assert_true(record_and_wait(ledger, "one@x.org"));
        damage_file(how);
        assert_false(record_and_wait(ledger, "two@x.org"));
        assert_true(await_usable(store, true));
        assert_true(record_and_wait(ledger, "three@x.org"));
        assert_true(was_told("ledger-unusable why="));
        assert_true(was_told("ledger-usable"));
        assert_true(ledger_store_free(store));
        assert_kept("one@x.org");
        assert_kept("two@x.org");
        assert_kept("three@x.org");
        files_named("", true);
    }
}

static void a_folder_that_is_gone_is_waited_for(void **state)
{
    char moved[PATH_CAP];
    struct ledger_store_state told;
    (void)state;
    struct ledger_store *store = store_make();
    assert_true(record_and_wait(ledger_store_ledger(store), "one@x.org"));
    snprintf(moved, sizeof moved, "%s-moved", folder);
    assert_int_equal(rename(folder, moved), 0);
    assert_false(record_and_wait(ledger_store_ledger(store), "two@x.org"));
    assert_false(is_usable(store));
    ledger_store_tell(store, &told);
    assert_true(told.why[0] != '\0');
    assert_int_equal(mkdir(folder, 0700), 0);
    assert_true(await_usable(store, true));
    ledger_store_tell(store, &told);
    assert_string_equal(told.why, "");
    assert_true(ledger_store_free(store));
    assert_kept("one@x.org");
    assert_kept("two@x.org");
    files_named("", true);
    assert_int_equal(rmdir(folder), 0);
    assert_int_equal(rename(moved, folder), 0);
}

/* ---- a disk that takes no more ---- */

static void fill_and_go_on(struct ledger_store *store, void (*more)(void), const char *why)
{
    struct ledger *ledger = ledger_store_ledger(store);
    struct ledger_store_state told;
    int i = 0;
    char sender[32];
    do {
        snprintf(sender, sizeof sender, "s%d@x.org", ++i);
    } while (record_and_wait(ledger, sender) && i < 100000);
    assert_true(i < 100000);
    assert_false(is_usable(store));
    ledger_store_tell(store, &told);
    if (strstr(told.why, why) == NULL) {
        fail_msg("%s, not %s", told.why, why);
    }
    assert_false(record_and_wait(ledger, "meanwhile@x.org"));
    more();
    assert_true(await_usable(store, true));
    assert_true(record_and_wait(ledger, "after@x.org"));
    assert_true(ledger_store_free(store));
    assert_true(was_told("ledger-usable"));
    assert_kept("s1@x.org");
    assert_kept(sender);
    assert_kept("meanwhile@x.org");
    assert_kept("after@x.org");
}

static void set_file_limit(rlim_t limit)
{
    struct rlimit both;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &both), 0);
    both.rlim_cur = limit < both.rlim_max ? limit : both.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &both), 0);
}

static void lift_limit(void)
{
    set_file_limit(RLIM_INFINITY);
}

static void a_file_that_may_not_grow_makes_it_unusable_until_it_may(void **state)
{
    (void)state;
    signal(SIGXFSZ, SIG_IGN); /* as the program does */
    struct ledger_store *store = store_make();
    set_file_limit(100 * 1024);
    fill_and_go_on(store, lift_limit, "File too large");
}

static void make_room(void)
{
    char path[PATH_CAP];
    in_folder(path, "ballast");
    assert_int_equal(unlink(path), 0);
}

static void a_full_disk_makes_it_unusable_until_there_is_room(void **state)
{
    char path[PATH_CAP];
    static const char ballast[1500 << 10];
    (void)state;
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("none", folder, "tmpfs", 0, "size=2M") != 0) {
        skip(); /* that takes root */
    }
    in_folder(path, "ballast");
    write_whole(path, ballast, sizeof ballast);
    fill_and_go_on(store_make(), make_room, "No space left");
    assert_int_equal(umount(folder), 0);
}

static void a_ledger_that_is_full_is_told_and_takes_no_more(void **state)
{
    char sender[32];
    struct ledger_store_state told;
    (void)state;
    struct ledger_store *store = store_with(64 << 10);
    for (int i = 0; i < 1000 && is_usable(store); i++) {
        snprintf(sender, sizeof sender, "s%d@x.org", i);
        record_and_wait(ledger_store_ledger(store), sender);
    }
    assert_false(is_usable(store));
    assert_true(was_told("ledger-full"));
    ledger_store_tell(store, &told);
    assert_non_null(strstr(told.why, "full"));
    ledger_store_configure(store, WINDOW, MAX_SIZE); /* a reload */
    assert_true(is_usable(store));
    assert_true(record_and_wait(ledger_store_ledger(store), "more@x.org"));
    assert_true(ledger_store_free(store));
    /* and one that has less room than the file has sets */
    store = store_with(32 << 10);
    assert_true(was_told("forgotten"));
    assert_true(knows(ledger_store_ledger(store), "s0@x.org"));
    assert_true(ledger_store_free(store));
}

static void more_room_after_a_reload_is_used(void **state)
{
    char sender[300];
    (void)state;
    struct ledger_store *store = store_with(1 << 20);
    ledger_store_configure(store, WINDOW, 512 << 20);
    memset(sender, 'x', sizeof sender); /* more than the map of the first had room for */
    for (int i = 0; i < 150000; i++) {
        snprintf(sender + 250, sizeof sender - 250, "%d@x.org", i);
        if (!record_in_passing(ledger_store_ledger(store), sender)) {
            fail_msg("%d: %s", i, events.lines);
        }
    }
    assert_true(record_and_wait(ledger_store_ledger(store), "last@x.org"));
    assert_true(ledger_store_free(store));
    char path[PATH_CAP];
    in_folder(path, LEDGER_NAME);
    assert_true(size_of(path) > 68 << 20);
    assert_string_equal(events.lines, "");
}

/* ---- what is found at the start ---- */

static void a_broken_file_is_set_aside_and_what_can_be_read_is_kept(void **state)
{
    char path[PATH_CAP], sender[32];
    struct ledger_state told;
    size_t len;
    (void)state;
    struct ledger_store *store = store_make();
    for (int i = 0; i < 40; i++) {
        snprintf(sender, sizeof sender, "sender-%d@x.org", i);
        assert_true(record_in_passing(ledger_store_ledger(store), sender));
    }
    assert_true(ledger_store_free(store));
    in_folder(path, LEDGER_NAME);
    char *bytes = read_whole(path, &len);
    for (char *at = bytes; (at = memmem(at, len - (size_t)(at - bytes), "sender-7@", 9)); at++) {
        *at = 'S';
    }
    write_whole(path, bytes, len);
    free(bytes);
    store = store_make();
    assert_true(is_usable(store));
    assert_true(was_told("ledger-broken why=1 set cannot be understood; sets kept: 39 kept-as="));
    ledger_tell(ledger_store_ledger(store), &told);
    assert_int_equal(told.sets, 39);
    assert_true(knows(ledger_store_ledger(store), "sender-6@x.org"));
    assert_false(knows(ledger_store_ledger(store), "sender-7@x.org"));
    assert_int_equal(files_named(LEDGER_NAME ".broken-", false), 1);
    assert_true(ledger_store_free(store));
    assert_kept("sender-39@x.org");
    assert_string_equal(events.lines, ""); /* the new file is a good one */
}

static void rubbish_in_place_of_the_file_does_not_keep_mail_up(void **state)
{
    char path[PATH_CAP];
    (void)state;
    in_folder(path, LEDGER_NAME);
    write_whole(path, "rubbish", 7);
    struct ledger_store *store = store_make();
    assert_true(is_usable(store));
    assert_true(was_told("ledger-broken"));
    assert_true(record_and_wait(ledger_store_ledger(store), "s@x.org"));
    assert_true(ledger_store_free(store));
    assert_kept("s@x.org");
}

/* A process of its own that holds the lock until it is killed. */
static pid_t hold_lock(void)
{
    struct ledger_file file;
    int pipes[2];
    char byte;
    assert_true(ledger_file_init(&file, folder));
    assert_int_equal(pipe(pipes), 0);
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that fails leaves nobody behind */
        _exit(ledger_file_lock(&file) >= 0 && write(pipes[1], "l", 1) == 1 && pause() ? 0 : 1);
    }
    assert_int_equal(read(pipes[0], &byte, 1), 1);
    close(pipes[0]);
    close(pipes[1]);
    return pid;
}

static void who_comes_second_has_no_ledger_until_the_first_has_gone(void **state)
{
    struct ledger_store_state told;
    (void)state;
    struct ledger_store *store = store_make();
    assert_true(record_and_wait(ledger_store_ledger(store), "s@x.org"));
    assert_true(ledger_store_free(store));
    pid_t pid = hold_lock();
    store = store_make();
    assert_false(is_usable(store));
    ledger_store_tell(store, &told);
    assert_string_equal(told.why, "ledger.lock: another process has it locked");
    assert_true(was_told("ledger-unusable"));
    assert_false(knows(ledger_store_ledger(store), "s@x.org"));
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_true(await_usable(store, true));
    assert_true(knows(ledger_store_ledger(store), "s@x.org"));
    assert_true(ledger_store_free(store));
}

static void who_never_had_the_lock_leaves_the_file_alone(void **state)
{
    char path[PATH_CAP];
    struct stat before, after;
    (void)state;
    struct ledger_store *store = store_make();
    assert_true(record_and_wait(ledger_store_ledger(store), "s@x.org"));
    assert_true(ledger_store_free(store));
    in_folder(path, LEDGER_NAME);
    assert_int_equal(stat(path, &before), 0);
    pid_t pid = hold_lock();
    store = store_make();
    assert_true(ledger_store_free(store));
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_int_equal(stat(path, &after), 0);
    assert_int_equal(after.st_ino, before.st_ino);
    assert_int_equal(after.st_mtim.tv_nsec, before.st_mtim.tv_nsec);
}

/* ---- kill -9 ---- */

/* Writes the number of each set to the pipe once that is said to be durable, for ever. */
static _Noreturn void write_for_ever(int out, int begin)
{
    struct ledger_store *store = store_make();
    for (int i = begin;; i++) {
        char sender[32];
        snprintf(sender, sizeof sender, "s%d@x.org", i);
        if (!record_and_wait(ledger_store_ledger(store), sender) ||
            write(out, &i, sizeof i) != (ssize_t)sizeof i) {
            _exit(1);
        }
        if (i % 3 == 0) { /* pages are freed and used again */
            snprintf(sender, sizeof sender, "s%d@x.org", i - 1);
            ledger_settle(ledger_store_ledger(store), span_of(sender), SPAN("b@example.com"), NULL);
        }
    }
}

static void what_was_said_to_be_durable_outlives_a_kill_at_any_moment(void **state)
{
    int last = 0;
    (void)state;
    for (int round = 0; round < 25; round++) {
        int pipes[2], number, begin = last + 1;
        assert_int_equal(pipe(pipes), 0);
        pid_t pid = fork();
        if (pid == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            close(pipes[0]);
            write_for_ever(pipes[1], begin);
        }
        close(pipes[1]);
        assert_int_equal(read(pipes[0], &last, sizeof last), sizeof last);
        poll(NULL, 0, round);
        assert_int_equal(kill(pid, SIGKILL), 0);
        while (read(pipes[0], &number, sizeof number) == (ssize_t)sizeof number) {
            last = number;
        }
        close(pipes[0]);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        struct ledger_store *store = store_make();
        for (int i = 1; i <= last; i++) {
            char sender[32];
            snprintf(sender, sizeof sender, "s%d@x.org", i);
            if (!knows(ledger_store_ledger(store), sender)) {
                fail_msg("round %d: %d of %d is gone", round, i, last);
            }
        }
        assert_string_equal(events.lines, "");
        assert_true(ledger_store_free(store));
    }
}

#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, folder_make, folder_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_FOLDER(what_was_said_to_be_durable_is_there_after_a_restart),
        IN_FOLDER(what_is_settled_in_passing_is_never_written),
        IN_FOLDER(what_nobody_waits_for_is_written_after_a_moment),
        IN_FOLDER(what_nobody_waits_for_comes_in_groups_and_who_waits_is_served_at_once),
        IN_FOLDER(an_end_writes_what_nobody_has_waited_for),
        IN_FOLDER(who_waits_at_the_same_time_shares_a_transaction),
        IN_FOLDER(a_file_that_somebody_has_laid_hands_on_is_made_anew_with_all_there_was),
        IN_FOLDER(a_folder_that_is_gone_is_waited_for),
        IN_FOLDER(a_file_that_may_not_grow_makes_it_unusable_until_it_may),
        IN_FOLDER(a_full_disk_makes_it_unusable_until_there_is_room),
        IN_FOLDER(a_ledger_that_is_full_is_told_and_takes_no_more),
        IN_FOLDER(more_room_after_a_reload_is_used),
        IN_FOLDER(a_broken_file_is_set_aside_and_what_can_be_read_is_kept),
        IN_FOLDER(rubbish_in_place_of_the_file_does_not_keep_mail_up),
        IN_FOLDER(who_comes_second_has_no_ledger_until_the_first_has_gone),
        IN_FOLDER(who_never_had_the_lock_leaves_the_file_alone),
        IN_FOLDER(what_was_said_to_be_durable_outlives_a_kill_at_any_moment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
