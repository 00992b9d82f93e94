/* confine: what a process can and cannot do behind the kernel's filters, tried in a child, for
 * there is no way back; and which folders a list has. */
#include "tests/unit/folder_fixture.h"

#include <ftw.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "config/sanitizer.h"
#include "proxy/daemon/confine.h"
#include "proxy/daemon/landlock.h"
#include "proxy/daemon/syscalls.h"

/* A child that says which line was not as it should be, by its exit status. */
#define REQUIRE(condition)                                                                         \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            dprintf(STDERR_FILENO, "%s:%d: %s (%s)\n", __FILE__, __LINE__, #condition,             \
                    strerror(errno));                                                              \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

static void in_child(void (*test)(void))
{
    int status = 0;
    const pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        REQUIRE(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
        test();
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static bool fails_with(long result, int error)
{
    return result == -1 && errno == error;
}

/* ---- system calls ---- */

static void *in_thread(void *argument)
{
    return fails_with(syscall(SYS_ptrace, PTRACE_TRACEME, 0, 0, 0), ENOSYS) ? argument : NULL;
}

static void what_a_filter_forbids(void)
{
    char name[] = "true";
    char *const arguments[] = {name, NULL};
    void *memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(memory != MAP_FAILED);
    REQUIRE(syscalls_confine());
    REQUIRE(fails_with(execv("/bin/true", arguments), ENOSYS));
    REQUIRE(fails_with(syscall(SYS_execveat, -1, "/bin/true", arguments, NULL, 0), ENOSYS));
    REQUIRE(fails_with(syscall(SYS_ptrace, PTRACE_TRACEME, 0, 0, 0), ENOSYS));
    REQUIRE(fails_with(syscall(SYS_process_vm_readv, getppid(), NULL, 0, NULL, 0, 0), ENOSYS));
    REQUIRE(fails_with(unshare(CLONE_NEWUSER), ENOSYS));
    REQUIRE(fails_with(syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0), ENOSYS));
    REQUIRE(fails_with(syscall(SYS_clone3, NULL, 0), ENOSYS));
    REQUIRE(fails_with(syscall(SYS_bpf, 0, NULL, 0), ENOSYS));
    REQUIRE(fails_with(syscall(SYS_setuid, 0), ENOSYS));
    REQUIRE(fails_with(syscall(SYS_chroot, "/"), ENOSYS));
    REQUIRE(fails_with(syscall(SYS_io_uring_setup, 1, NULL), ENOSYS));
    REQUIRE(fails_with(syscall(SYS_prctl, PR_SET_DUMPABLE, 1, 0, 0, 0), ENOSYS));
    REQUIRE(fails_with(syscall(SYS_socket, AF_PACKET, SOCK_RAW, 0), ENOSYS));
    REQUIRE(fails_with(syscall(SYS_socket, AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER), ENOSYS));
#if defined(__x86_64__) && !defined(__ILP32__)
    REQUIRE(fails_with(syscall(0x40000000 + 59), ENOSYS)); /* execve as x32 has it */
#endif
    REQUIRE(fails_with(syscall(SYS_socket, AF_VSOCK, SOCK_STREAM, 0), ENOSYS));
    REQUIRE(fails_with(mprotect(memory, 4096, PROT_READ | PROT_EXEC), ENOSYS));
    REQUIRE(mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
                MAP_FAILED &&
            errno == ENOSYS);
}

/* What is allowed is above all shown by mail that flows; here, what comes seldom. */
static void what_a_filter_allows(void)
{
    pthread_t thread;
    char done = 0;
    void *result = NULL;
    int status = 0;
    REQUIRE(syscalls_confine());
    REQUIRE(pthread_create(&thread, NULL, in_thread, &done) == 0);
    REQUIRE(pthread_join(thread, &result) == 0 && result == &done);
    const pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
        _exit(7);
    }
    REQUIRE(waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 7);
    REQUIRE(socket(AF_INET6, SOCK_STREAM, 0) >= 0 && socket(AF_UNIX, SOCK_DGRAM, 0) >= 0);
    REQUIRE(socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE) >= 0);
    REQUIRE(raise(0) == 0);
}

static void test_a_filtered_process_can_start_no_program_and_change_nothing_of_itself(void **state)
{
    (void)state;
    if (SANITIZED) {
        skip();
    }
    in_child(what_a_filter_forbids);
}

static void test_a_filtered_process_still_has_threads_children_and_sockets(void **state)
{
    (void)state;
    if (SANITIZED) {
        skip();
    }
    in_child(what_a_filter_allows);
}

/* ---- files ---- */

static char read_from[PATH_CAP], written_to[PATH_CAP], elsewhere[PATH_CAP];

static int make_folders(void **state)
{
    char path[PATH_CAP + 8];
    folder_make(state);
    in_folder(read_from, "read");
    in_folder(written_to, "written");
    in_folder(elsewhere, "elsewhere");
    const char *const all[] = {read_from, written_to, elsewhere};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(mkdir(all[i], 0700), 0);
        snprintf(path, sizeof path, "%s/file", all[i]);
        write_whole(path, "text", 4);
    }
    return 0;
}

static int remove_one(const char *path, const struct stat *status, int kind, struct FTW *place)
{
    (void)status;
    (void)kind;
    (void)place;
    return remove(path);
}

static int remove_folders(void **state)
{
    (void)state;
    return nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static int opened(const char *where, const char *name, int flags)
{
    char path[2 * PATH_CAP];
    snprintf(path, sizeof path, "%s/%s", where, name);
    return open(path, flags, 0600);
}

static bool opens(const char *where, const char *name, int flags)
{
    const int fd = opened(where, name, flags);
    return fd >= 0 && close(fd) == 0;
}

static struct folder_list *list_of(const char *where)
{
    struct folder_list *list = folder_list_new();
    char path[PATH_CAP + 8];
    snprintf(path, sizeof path, "%s/file", where);
    return list != NULL && folder_list_add_file(list, path) ? list : NULL;
}

static void confine_by_landlock(void)
{
    struct folder_list *readable = list_of(read_from), *writable = list_of(written_to);
    REQUIRE(readable != NULL && writable != NULL && landlock_confine(readable, writable) >= 1);
    folder_list_free(readable);
    folder_list_free(writable);
}

static void what_landlock_leaves(void)
{
    char old[PATH_CAP + 8], new[PATH_CAP + 8], own[64];
    confine_by_landlock();

    REQUIRE(opens(read_from, "file", O_RDONLY));
    REQUIRE(fails_with(opened(read_from, "file", O_WRONLY), EACCES));
    REQUIRE(fails_with(opened(read_from, "new", O_WRONLY | O_CREAT), EACCES));
    REQUIRE(fails_with(opened(elsewhere, "file", O_RDONLY), EACCES));
    REQUIRE(fails_with(opened("/etc", "passwd", O_RDONLY), EACCES));
    REQUIRE(opens("/dev", "null", O_RDWR));

    REQUIRE(opens(written_to, "file", O_RDWR | O_TRUNC));
    REQUIRE(opens(written_to, "new", O_RDWR | O_CREAT | O_EXCL));
    snprintf(old, sizeof old, "%s/new", written_to);
    snprintf(new, sizeof new, "%s/newer", written_to);
    REQUIRE(rename(old, new) == 0 && unlink(new) == 0);
    const int unnamed = opened(written_to, "", O_TMPFILE | O_RDWR);
    snprintf(own, sizeof own, "/proc/self/fd/%d", unnamed);
    REQUIRE(unnamed >= 0 && linkat(AT_FDCWD, own, AT_FDCWD, new, AT_SYMLINK_FOLLOW) == 0);
    REQUIRE(fails_with(symlink(new, old), EACCES) && fails_with(mkfifo(old, 0600), EACCES));
    snprintf(old, sizeof old, "%s/new", elsewhere);
    REQUIRE(fails_with(rename(new, old), EACCES) || errno == EXDEV);
}

static bool has_landlock(void)
{
    return syscall(SYS_landlock_create_ruleset, NULL, 0, 1 /* its version */) >= 1;
}

static void test_files_are_read_and_written_where_they_may_and_nowhere_else(void **state)
{
    (void)state;
    if (!has_landlock()) {
        skip();
    }
    in_child(what_landlock_leaves);
}

static void signals_beyond(void)
{
    confine_by_landlock();
    REQUIRE(fails_with(kill(getppid(), 0), EPERM));
    const pid_t pid = fork();
    if (pid == 0) {
        pause();
    }
    REQUIRE(pid > 0 && kill(pid, SIGKILL) == 0 && waitpid(pid, NULL, 0) == pid);
}

static void test_only_its_own_children_can_be_sent_signals(void **state)
{
    (void)state;
    if (syscall(SYS_landlock_create_ruleset, NULL, 0, 1) < 6) {
        skip();
    }
    in_child(signals_beyond);
}

/* ---- lists of folders ---- */

static void test_a_file_is_within_reach_as_spelt_and_as_it_leads(void **state)
{
    (void)state;
    char link[PATH_CAP + 8], file[PATH_CAP + 8], other[PATH_CAP + 8];
    struct folder_list *list = folder_list_new();
    assert_non_null(list);
    snprintf(link, sizeof link, "%s/link", read_from);
    snprintf(file, sizeof file, "%s/file", elsewhere);
    snprintf(other, sizeof other, "%s/file", written_to);
    assert_int_equal(symlink(file, link), 0);
    assert_true(folder_list_add_file(list, link));
    assert_true(folder_list_has(list, link));
    assert_true(folder_list_has(list, file));
    assert_false(folder_list_has(list, other));
    snprintf(file, sizeof file, "%s/file", read_from);
    assert_true(folder_list_has(list, file));
    folder_list_free(list);
}

static void test_what_is_below_is_within_reach_and_what_is_above_is_not(void **state)
{
    (void)state;
    char below[PATH_CAP + 16], absent[PATH_CAP + 16], above[PATH_CAP];
    struct folder_list *list = list_of(read_from);
    assert_non_null(list);
    snprintf(below, sizeof below, "%s/below", read_from);
    snprintf(absent, sizeof absent, "%s/absent", elsewhere);
    in_folder(above, "above");
    assert_int_equal(mkdir(below, 0700), 0);
    write_whole(above, "", 0);
    assert_true(folder_list_has(list, below));
    assert_false(folder_list_has(list, above));
    assert_false(folder_list_has(list, folder));
    assert_true(folder_list_has(list, absent)); /* who opens it will say that it is not there */
    folder_list_free(list);
}

static void test_another_folder_of_the_same_name_is_not_the_one(void **state)
{
    (void)state;
    char file[PATH_CAP + 8], away[PATH_CAP];
    struct folder_list *list = list_of(read_from);
    assert_non_null(list);
    snprintf(file, sizeof file, "%s/file", read_from);
    in_folder(away, "away");
    assert_true(folder_list_has(list, file));
    assert_int_equal(rename(read_from, away), 0);
    assert_int_equal(mkdir(read_from, 0700), 0);
    write_whole(file, "", 0);
    assert_false(folder_list_has(list, file));
    snprintf(file, sizeof file, "%s/file", away);
    assert_true(folder_list_has(list, file));
    folder_list_free(list);
}

#define WITH_FOLDERS(test) cmocka_unit_test_setup_teardown(test, make_folders, remove_folders)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_filtered_process_can_start_no_program_and_change_nothing_of_itself),
        cmocka_unit_test(test_a_filtered_process_still_has_threads_children_and_sockets),
        WITH_FOLDERS(test_files_are_read_and_written_where_they_may_and_nowhere_else),
        WITH_FOLDERS(test_only_its_own_children_can_be_sent_signals),
        WITH_FOLDERS(test_a_file_is_within_reach_as_spelt_and_as_it_leads),
        WITH_FOLDERS(test_what_is_below_is_within_reach_and_what_is_above_is_not),
        WITH_FOLDERS(test_another_folder_of_the_same_name_is_not_the_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
