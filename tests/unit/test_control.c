/* control: questions to the daemon and their answers, over a real socket. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "config/text.h"
#include "proxy/daemon/control.h"

#define ASKERS 40

/* A daemon of sorts: answers "echo…" with the verb, keeps "later" until told. */
struct server {
    char directory[512];
    uv_loop_t loop;
    struct control *control;
    struct control_request *kept;
    uv_async_t wake;
    int verbs;
    atomic_int answered;
};

struct asker {
    pthread_t thread;
    struct server *server;
    const char *verb;
    unsigned timeout;
    int status;
    int error;
    char *text;
    size_t len;
};

static void *ask(void *argument)
{
    struct asker *asker = argument;
    FILE *out = open_memstream(&asker->text, &asker->len);
    asker->status = control_ask(asker->server->directory, asker->verb, out, asker->timeout);
    asker->error = errno;
    fclose(out);
    atomic_fetch_add(&asker->server->answered, 1);
    uv_async_send(&asker->server->wake);
    return NULL;
}

static void on_wake(uv_async_t *async)
{
    uv_stop(async->loop);
}

static void on_request(void *context, struct control_request *request, struct span verb)
{
    struct server *server = context;
    static char large[300000];
    server->verbs++;
    if (span_equal(verb, SPAN("later"))) {
        server->kept = request;
        uv_stop(&server->loop);
    } else if (span_equal(verb, SPAN("fail"))) {
        control_answer(request, 1, SPAN("routes.yaml:3:1: wrong\n"));
    } else if (span_equal(verb, SPAN("large"))) {
        memset(large, 'x', sizeof(large));
        control_answer(request, 0, span_make(large, sizeof(large)));
    } else if (span_equal(verb, SPAN("nothing"))) {
        control_answer(request, 0, SPAN(""));
    } else {
        control_answer(request, 0, verb);
    }
}

static int set_up(void **state)
{
    struct server *server = calloc(1, sizeof(*server));
    int error = -1;
    assert_non_null(server);
    struct text path = TEXT(server->directory);
    text_puts(&path, "/tmp/splitmx-control-XXXXXX");
    assert_non_null(mkdtemp(server->directory));
    uv_loop_init(&server->loop);
    uv_async_init(&server->loop, &server->wake, on_wake);
    server->control = control_listen(&server->loop, server->directory, on_request, server, &error);
    assert_non_null(server->control);
    assert_int_equal(error, 0);
    *state = server;
    return 0;
}

static int tear_down(void **state)
{
    struct server *server = *state;
    if (server->control) {
        control_close(server->control);
    }
    uv_close((uv_handle_t *)&server->wake, NULL);
    uv_run(&server->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&server->loop), 0);
    assert_int_equal(rmdir(server->directory), 0); /* so the socket is gone */
    free(server);
    return 0;
}

static void asker_start(struct asker *asker, struct server *server, const char *verb)
{
    *asker = (struct asker){.server = server, .verb = verb, .timeout = 20000};
    assert_int_equal(pthread_create(&asker->thread, NULL, ask, asker), 0);
}

static void serve_until_answered(struct server *server, int count)
{
    while (atomic_load(&server->answered) < count) {
        uv_run(&server->loop, UV_RUN_DEFAULT);
    }
    server->answered = 0;
}

static void asker_end(struct asker *asker)
{
    serve_until_answered(asker->server, 1);
    pthread_join(asker->thread, NULL);
}

static void assert_answer(struct server *server, const char *verb, int status, const char *text)
{
    struct asker asker;
    asker_start(&asker, server, verb);
    asker_end(&asker);
    assert_int_equal(asker.status, status);
    assert_string_equal(asker.text, text);
    free(asker.text);
}

static void an_answer_has_a_status_and_a_text(void **state)
{
    assert_answer(*state, "status", 0, "status");
    assert_answer(*state, "fail", 1, "routes.yaml:3:1: wrong\n");
    assert_answer(*state, "nothing", 0, "");
}

static void an_answer_may_be_large(void **state)
{
    struct asker asker;
    asker_start(&asker, *state, "large");
    asker_end(&asker);
    assert_int_equal(asker.status, 0);
    assert_int_equal(asker.len, 300000);
    free(asker.text);
}

static void an_answer_may_come_later(void **state)
{
    struct server *server = *state;
    struct asker asker;
    asker_start(&asker, server, "later");
    while (!server->kept) {
        uv_run(&server->loop, UV_RUN_DEFAULT);
    }
    control_answer(server->kept, 0, SPAN("done"));
    asker_end(&asker);
    assert_int_equal(asker.status, 0);
    assert_string_equal(asker.text, "done");
    free(asker.text);
}

static void more_askers_than_places_are_all_answered(void **state)
{
    struct server *server = *state;
    struct asker askers[ASKERS];
    for (int i = 0; i < ASKERS; i++) {
        asker_start(&askers[i], server, "echo");
    }
    serve_until_answered(server, ASKERS);
    for (int i = 0; i < ASKERS; i++) {
        pthread_join(askers[i].thread, NULL);
        assert_int_equal(askers[i].status, 0);
        assert_string_equal(askers[i].text, "echo");
        free(askers[i].text);
    }
}

static void the_socket_is_for_its_owner_alone(void **state)
{
    struct server *server = *state;
    struct stat status;
    char path[600];
    struct text text = TEXT(path);
    text_printf(&text, "%s/control.sock", server->directory);
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0600);
}

static void a_second_daemon_is_refused_and_the_first_lives_on(void **state)
{
    struct server *server = *state;
    int error = 0;
    assert_null(control_listen(&server->loop, server->directory, on_request, server, &error));
    assert_int_equal(error, -EADDRINUSE);
    assert_answer(server, "status", 0, "status");
}

/* What a daemon that was killed leaves behind. */
static void leave_stale(struct server *server)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct text path = TEXT(address.sun_path);
    const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    control_close(server->control);
    server->control = NULL;
    text_printf(&path, "%s/control.sock", server->directory);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    close(fd);
}

static void a_stale_socket_is_no_daemon_and_is_replaced(void **state)
{
    struct server *server = *state;
    int error = -1;
    leave_stale(server);
    assert_int_equal(control_ask(server->directory, "status", stderr, 1000), -1);
    assert_int_equal(errno, ECONNREFUSED);
    server->control = control_listen(&server->loop, server->directory, on_request, server, &error);
    assert_non_null(server->control);
    assert_answer(server, "status", 0, "status");
}

static void without_a_daemon_the_errno_says_so(void **state)
{
    struct server *server = *state;
    control_close(server->control);
    server->control = NULL;
    assert_int_equal(control_ask(server->directory, "status", stderr, 1000), -1);
    assert_int_equal(errno, ENOENT);
}

static void a_daemon_that_does_not_answer_is_not_waited_for(void **state)
{
    struct server *server = *state;
    assert_int_equal(control_ask(server->directory, "status", stderr, 50), -1);
    assert_int_equal(errno, ETIMEDOUT);
}

static void path_of_socket(const struct server *server, char *out, size_t cap)
{
    struct text path = text_over(out, cap);
    text_printf(&path, "%s/control.sock", server->directory);
}

static void a_daemon_at_work_is_waited_for(void **state)
{
    struct server *server = *state;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char byte = 0;
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    path_of_socket(server, address.sun_path, sizeof(address.sun_path));
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(write(fd, "later\n", 6), 6);
    while (!server->kept) {
        uv_run(&server->loop, UV_RUN_DEFAULT);
    }
    while (recv(fd, &byte, 1, MSG_DONTWAIT) != 1) {
        uv_run(&server->loop, UV_RUN_ONCE); /* the timer of the beats wakes it */
    }
    assert_int_equal(byte, CONTROL_BEAT);
    close(fd);
    control_answer(server->kept, 0, SPAN("nobody waits any more"));
}

/* Plays the daemon: beats before its answer, as late as the time-out allows. */
static void *answer_with_beats(void *argument)
{
    const int fd = accept(*(int *)argument, NULL, NULL);
    char verb[16];
    assert_true(read(fd, verb, sizeof(verb)) > 0);
    for (int i = 0; i < 5; i++) {
        poll(NULL, 0, 300); /* the time that work takes */
        assert_int_equal(write(fd, ".", 1), 1);
    }
    assert_int_equal(write(fd, "0\n.done", 7), 7);
    close(fd);
    return NULL;
}

static void beats_are_no_part_of_the_answer_and_put_the_time_out_off(void **state)
{
    struct server *server = *state;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    pthread_t thread;
    char *text = NULL;
    size_t len = 0;
    control_close(server->control);
    server->control = NULL;
    path_of_socket(server, address.sun_path, sizeof(address.sun_path));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(pthread_create(&thread, NULL, answer_with_beats, &fd), 0);
    FILE *out = open_memstream(&text, &len);
    assert_int_equal(control_ask(server->directory, "reload", out, 1000), 0);
    fclose(out);
    pthread_join(thread, NULL);
    close(fd);
    assert_string_equal(text, ".done");
    free(text);
    assert_int_equal(unlink(address.sun_path), 0);
}

static void a_socket_that_was_removed_is_made_anew(void **state)
{
    struct server *server = *state;
    struct stat before, after;
    char path[600];
    path_of_socket(server, path, sizeof(path));
    assert_int_equal(stat(path, &before), 0);
    assert_int_equal(control_restore(server->control), 0);
    assert_int_equal(stat(path, &after), 0);
    assert_int_equal(before.st_ino, after.st_ino); /* nothing was missing */
    assert_int_equal(unlink(path), 0);
    assert_int_equal(control_restore(server->control), 0);
    assert_answer(server, "status", 0, "status");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(control_restore(server->control), -EEXIST);
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(control_restore(server->control), 0);
    assert_answer(server, "status", 0, "status");
}

static void closing_cuts_what_is_pending_and_a_late_answer_is_harmless(void **state)
{
    struct server *server = *state;
    struct asker asker;
    asker_start(&asker, server, "later");
    while (!server->kept) {
        uv_run(&server->loop, UV_RUN_DEFAULT);
    }
    control_close(server->control);
    server->control = NULL;
    asker_end(&asker);
    assert_int_equal(asker.status, -1);
    assert_int_equal(asker.error, EPROTO);
    control_answer(server->kept, 0, SPAN("too late"));
    free(asker.text);
}

static void a_line_that_does_not_end_is_cut(void **state)
{
    struct asker asker;
    asker_start(&asker, *state, "0123456789012345678901234567890123456789012345678901234567890123");
    asker_end(&asker);
    assert_int_equal(asker.status, -1);
    assert_int_equal(((struct server *)*state)->verbs, 0);
    free(asker.text);
}

static void a_state_directory_with_a_long_path_works(void **state)
{
    struct server *server = *state, other = {0};
    const char name[] = "0123456789012345678901234567890123456789012345678901234567890123456789"
                        "0123456789012345678901234567890123456789";
    int error = -1;
    struct text path = TEXT(other.directory);
    text_printf(&path, "%s/%s", server->directory, name);
    assert_int_equal(mkdir(other.directory, 0700), 0);
    uv_loop_init(&other.loop);
    uv_async_init(&other.loop, &other.wake, on_wake);
    other.control = control_listen(&other.loop, other.directory, on_request, &other, &error);
    assert_non_null(other.control);
    assert_answer(&other, "status", 0, "status");
    control_close(other.control);
    uv_close((uv_handle_t *)&other.wake, NULL);
    uv_run(&other.loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&other.loop), 0);
    assert_int_equal(rmdir(other.directory), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(an_answer_has_a_status_and_a_text),
        TEST(an_answer_may_be_large),
        TEST(an_answer_may_come_later),
        TEST(more_askers_than_places_are_all_answered),
        TEST(the_socket_is_for_its_owner_alone),
        TEST(a_second_daemon_is_refused_and_the_first_lives_on),
        TEST(a_stale_socket_is_no_daemon_and_is_replaced),
        TEST(without_a_daemon_the_errno_says_so),
        TEST(a_daemon_that_does_not_answer_is_not_waited_for),
        TEST(a_daemon_at_work_is_waited_for),
        TEST(beats_are_no_part_of_the_answer_and_put_the_time_out_off),
        TEST(a_socket_that_was_removed_is_made_anew),
        TEST(closing_cuts_what_is_pending_and_a_late_answer_is_harmless),
        TEST(a_line_that_does_not_end_is_cut),
        TEST(a_state_directory_with_a_long_path_works),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
