/* privileges: who may read what after the switch, and the switch itself (as root, in a child). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <linux/capability.h>
#include <pwd.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "config/text.h"
#include "proxy/daemon/privileges.h"
#include "proxy/daemon/readable.h"

#define PATH_CAP 512

struct place {
    char folder[PATH_CAP];
    struct config *config;
    struct diag_list *diags;
};

static const char *path_in(const struct place *place, const char *name)
{
    static char path[PATH_CAP + 64];
    struct text text = TEXT(path);
    text_printf(&text, "%s/%s", place->folder, name);
    return path;
}

static void set_text(struct config_text *out, const char *value)
{
    free(out->text);
    out->text = span_dup(span_of(value));
    assert_non_null(out->text);
}

static int set_up(void **state)
{
    struct place *place = calloc(1, sizeof(*place));
    assert_non_null(place);
    struct text folder = TEXT(place->folder);
    text_puts(&folder, "/tmp/splitmx-privileges-XXXXXX");
    assert_non_null(mkdtemp(place->folder));
    assert_int_equal(chmod(place->folder, 0755), 0);
    place->config = config_defaults("mx.example.com");
    place->diags = diag_list_new();
    assert_non_null(place->config);
    set_text(&place->config->user, "nobody");
    set_text(&place->config->state_directory, path_in(place, "state"));
    *state = place;
    return 0;
}

static int tear_down(void **state)
{
    struct place *place = *state;
    unlink(path_in(place, "sub/link"));
    unlink(path_in(place, "sub/file"));
    unlink(path_in(place, "file"));
    unlink(path_in(place, "state"));
    rmdir(path_in(place, "state"));
    rmdir(path_in(place, "sub"));
    assert_int_equal(rmdir(place->folder), 0);
    diag_list_free(place->diags);
    config_unref(place->config);
    free(place);
    return 0;
}

static void make_file(const char *path, mode_t mode)
{
    const int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
}

/* Somebody else than who runs this. */
static struct account stranger(gid_t *groups, size_t count)
{
    static char name[] = "stranger";
    return (struct account){.name = name,
                            .uid = geteuid() + 4711,
                            .gid = count > 0 ? groups[0] : 0,
                            .groups = groups,
                            .group_count = count};
}

/* The only error, or none when said is NULL. */
static void assert_told(struct place *place, const char *said, const char *fix)
{
    if (!said) {
        assert_int_equal(diag_count(place->diags), 0);
        return;
    }
    assert_int_equal(diag_count(place->diags), 1);
    const char *text = diag_at(place->diags, 0)->text;
    if (!strstr(text, said) || !strstr(text, fix)) {
        fail_msg("%s", text);
    }
    diag_list_free(place->diags);
    place->diags = diag_list_new();
}

static void judge(struct place *place, const char *path, const struct account *user,
                  const char *said, const char *fix)
{
    readable_check(path, user, (struct diag_place){"x.yaml", 1, 1}, place->diags);
    assert_told(place, said, fix);
}

static void what_everyone_may_read_is_fine(void **state)
{
    struct place *place = *state;
    gid_t groups[] = {4711};
    const struct account user = stranger(groups, 1);
    make_file(path_in(place, "file"), 0644);
    judge(place, path_in(place, "file"), &user, NULL, NULL);
    judge(place, path_in(place, "missing"), &user, NULL, NULL);
}

static void a_file_of_another_group_needs_chgrp_and_chmod(void **state)
{
    struct place *place = *state;
    gid_t groups[] = {4711};
    const struct account user = stranger(groups, 1);
    make_file(path_in(place, "file"), 0600);
    judge(place, path_in(place, "file"), &user, "read", "chgrp stranger /tmp/");
    judge(place, path_in(place, "file"), &user, "read", " && chmod g+r /tmp/");
}

static void a_file_of_a_group_of_the_user_needs_chmod_alone(void **state)
{
    struct place *place = *state;
    struct stat status;
    make_file(path_in(place, "file"), 0604); /* the group's bits decide, not everyone's */
    assert_int_equal(stat(path_in(place, "file"), &status), 0);
    gid_t groups[] = {4711, status.st_gid};
    const struct account user = stranger(groups, 2);
    judge(place, path_in(place, "file"), &user, "read", ": chmod g+r /tmp/");
    assert_int_equal(chmod(path_in(place, "file"), 0640), 0);
    judge(place, path_in(place, "file"), &user, NULL, NULL);
}

static void the_owners_bits_count_for_the_owner(void **state)
{
    struct place *place = *state;
    gid_t groups[] = {4711};
    struct account user = stranger(groups, 1);
    user.uid = geteuid();
    make_file(path_in(place, "file"), 0044);
    judge(place, path_in(place, "file"), &user, "read", "chmod u+r /tmp/");
}

static void a_folder_that_cannot_be_entered_is_told_instead_of_the_file(void **state)
{
    struct place *place = *state;
    gid_t groups[] = {4711};
    const struct account user = stranger(groups, 1);
    assert_int_equal(mkdir(path_in(place, "sub"), 0700), 0);
    make_file(path_in(place, "sub/file"), 0644);
    judge(place, path_in(place, "sub/file"), &user, "enter", "/sub && chmod g+x /tmp/");
}

static void a_link_is_followed_to_what_is_in_the_way(void **state)
{
    struct place *place = *state;
    gid_t groups[] = {4711};
    const struct account user = stranger(groups, 1);
    char target[PATH_CAP];
    struct text text = TEXT(target);
    assert_int_equal(mkdir(path_in(place, "sub"), 0700), 0);
    make_file(path_in(place, "sub/file"), 0644);
    text_puts(&text, path_in(place, "sub/file"));
    assert_int_equal(symlink(target, path_in(place, "file")), 0);
    judge(place, path_in(place, "file"), &user, "enter", "/sub && chmod g+x");
}

/* As run does, without the routes, which are not there. */
static void make_state(struct place *place)
{
    struct config *config = place->config;
    const size_t routes = config->routes.count;
    config->routes.count = 0;
    privileges_check(config, PRIVILEGES_TO_RUN, place->diags);
    if (diag_errors(place->diags) == 0) {
        privileges_state_directory(config, place->diags);
    }
    config->routes.count = routes;
}

static void the_state_directory_is_made_for_its_user_alone(void **state)
{
    struct place *place = *state;
    const struct passwd *nobody = getpwnam("nobody");
    struct stat status;
    make_state(place);
    assert_told(place, NULL, NULL);
    assert_int_equal(stat(path_in(place, "state"), &status), 0);
    assert_int_equal(status.st_mode & 07777, 0700);
    assert_int_equal(status.st_uid, geteuid() == 0 ? nobody->pw_uid : geteuid());
    make_state(place); /* again: it is there */
    assert_told(place, NULL, NULL);
}

static void checking_does_not_make_it(void **state)
{
    struct place *place = *state;
    privileges_check(place->config, PRIVILEGES_TO_CHECK, place->diags);
    assert_told(place, NULL, NULL);
    assert_int_equal(access(path_in(place, "state"), F_OK), -1);
}

static void judge_state(struct place *place, const char *path, const char *said, const char *fix)
{
    set_text(&place->config->state_directory, path);
    privileges_check(place->config, PRIVILEGES_TO_CHECK, place->diags);
    assert_true(diag_errors(place->diags) > 0);
    assert_told(place, said, fix);
}

static void a_state_directory_that_cannot_be_used_is_an_error(void **state)
{
    struct place *place = *state;
    make_file(path_in(place, "file"), 0644);
    judge_state(place, path_in(place, "file"), "not a directory", "");
    judge_state(place, path_in(place, "file/state"), "cannot make", "Not a directory");
    judge_state(place, path_in(place, "none/state"), "cannot make", "No such file");
    judge_state(place, "/dev/null", "not a directory", "");
    judge_state(place, "/dev/null/state", "cannot make", "Not a directory");
    if (geteuid() == 0) {
        judge_state(place, "/proc/state", "cannot make", "not permitted");
        judge_state(place, "/proc", "/proc must belong to nobody", "chown");
    }
}

static void a_state_directory_of_someone_else_names_the_chown(void **state)
{
    struct place *place = *state;
    if (geteuid() != 0) {
        skip();
    }
    assert_int_equal(mkdir(path_in(place, "state"), 0755), 0);
    make_state(place);
    assert_told(place, "must belong to nobody", "chown -R nobody: /tmp/");
}

static void judge_mode(struct place *place, mode_t mode, size_t errors, const char *said)
{
    assert_int_equal(chmod(path_in(place, "state"), mode), 0);
    make_state(place);
    assert_int_equal(diag_errors(place->diags), errors);
    assert_told(place, said, "chmod 700 /tmp/");
}

static void a_state_directory_is_closed_to_others(void **state)
{
    struct place *place = *state;
    make_state(place);
    judge_mode(place, 0777, 1, "everyone, who could then say where mail goes");
    judge_mode(place, 01777, 1, "everyone");
    judge_mode(place, 0770, 1, "its group");
    judge_mode(place, 0755, 0, "open to everyone");
    judge_mode(place, 0750, 0, NULL);
}

static void what_is_in_the_way_of_the_socket_is_an_error(void **state)
{
    struct place *place = *state;
    make_state(place);
    make_file(path_in(place, "state/control.sock"), 0600);
    make_state(place);
    assert_told(place, "state/control.sock is in the way", "no socket: move it away");
    assert_int_equal(unlink(path_in(place, "state/control.sock")), 0);
    assert_int_equal(mkdir(path_in(place, "state/control.sock"), 0700), 0);
    make_state(place);
    assert_told(place, "state/control.sock is in the way", "a folder: move it away");
    assert_int_equal(rmdir(path_in(place, "state/control.sock")), 0);
}

static void a_user_that_does_not_exist_names_the_useradd(void **state)
{
    struct place *place = *state;
    if (geteuid() != 0) {
        skip();
    }
    set_text(&place->config->user, "no-such-user");
    privileges_check(place->config, PRIVILEGES_TO_RUN, place->diags);
    assert_told(place, "no-such-user does not exist",
                "useradd --system --user-group --no-create-home no-such-user");
    assert_false(privileges_drop(place->config, place->diags));
    assert_told(place, "no-such-user does not exist", "");
    set_text(&place->config->user, "root");
    privileges_check(place->config, PRIVILEGES_TO_RUN, place->diags);
    assert_told(place, "`user: root` has all privileges", "name one that has none");
}

static void routes_that_a_reload_could_not_read_are_an_error(void **state)
{
    struct place *place = *state;
    if (geteuid() != 0) {
        skip();
    }
    make_file(path_in(place, "file"), 0600);
    assert_int_equal(place->config->routes.count, 1);
    set_text(&place->config->routes.items[0], path_in(place, "file"));
    privileges_check(place->config, PRIVILEGES_TO_RUN, place->diags);
    assert_told(place, "nobody, the user that splitmx runs as, cannot read /tmp/",
                "chgrp nogroup /tmp/");
}

static unsigned long long effective(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {{0, 0, 0}};
    if (syscall(SYS_capget, &header, data) != 0) {
        return UINT64_MAX;
    }
    return data[0].effective | (unsigned long long)data[1].effective << 32 | data[0].permitted |
           (unsigned long long)data[1].permitted << 32;
}

/* The first promise that was not kept, in the child; 0: all were. */
static int drop_and_look(struct place *place)
{
    const bool root = geteuid() == 0;
    const unsigned long long bind_low = 1ull << CAP_NET_BIND_SERVICE;
    const unsigned long long before = effective();
    gid_t groups[64];
    if (!privileges_drop(place->config, place->diags)) {
        return 1;
    }
    if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1) {
        return 2;
    }
    if (!root) {
        return 0;
    }
    const struct passwd *nobody = getpwnam("nobody");
    if (geteuid() != nobody->pw_uid || getuid() != nobody->pw_uid || getegid() != nobody->pw_gid) {
        return 3;
    }
    if (effective() != (before & bind_low)) {
        return 4;
    }
    for (int i = getgroups(64, groups); i > 0; i--) {
        if (groups[i - 1] == 0) {
            return 5;
        }
    }
    return setuid(0) == 0 || seteuid(0) == 0 ? 6 : 0;
}

static void after_the_switch_there_is_no_way_back(void **state)
{
    int status = -1;
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        _exit(drop_and_look(*state));
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(what_everyone_may_read_is_fine),
        TEST(a_file_of_another_group_needs_chgrp_and_chmod),
        TEST(a_file_of_a_group_of_the_user_needs_chmod_alone),
        TEST(the_owners_bits_count_for_the_owner),
        TEST(a_folder_that_cannot_be_entered_is_told_instead_of_the_file),
        TEST(a_link_is_followed_to_what_is_in_the_way),
        TEST(the_state_directory_is_made_for_its_user_alone),
        TEST(checking_does_not_make_it),
        TEST(a_state_directory_that_cannot_be_used_is_an_error),
        TEST(a_state_directory_of_someone_else_names_the_chown),
        TEST(a_state_directory_is_closed_to_others),
        TEST(what_is_in_the_way_of_the_socket_is_an_error),
        TEST(a_user_that_does_not_exist_names_the_useradd),
        TEST(routes_that_a_reload_could_not_read_are_an_error),
        TEST(after_the_switch_there_is_no_way_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
