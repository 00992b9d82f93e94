#include "proxy/daemon/control.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "config/text.h"

#define SOCKET_NAME   CONTROL_SOCKET
#define VERB_MAX      64
#define REQUESTS_MAX  16
#define BACKLOG       32
#define VERB_DEADLINE 10000 /* milliseconds for the verb's line to arrive */
#define BEAT          1000  /* milliseconds between signs of life to who waits */

/* In use until its handles are closed and, once it was handed over, it is answered. */
struct control_request {
    struct control *control;
    uv_pipe_t pipe;
    uv_timer_t timer; /* the deadline of the verb, then the beats */
    uv_write_t write;
    char *answer;
    unsigned open_handles;
    bool handed; /* to the handler, which has not answered yet */
    bool used;
    size_t len;
    char verb[VERB_MAX];
};

/* Requests are slots, so that none is refused for want of memory: libuv waits, and calls no more,
 * for a connection that it has announced and that is not accepted. */
struct control {
    uv_loop_t *loop;
    uv_pipe_t *pipe;
    unsigned open_pipes; /* one that was replaced takes a turn of the loop to close */
    char *directory;
    dev_t device; /* of the socket's file: only our own is unlinked */
    ino_t inode;
    control_handler *handler;
    void *context;
    bool announced; /* a connection that had to wait for a slot */
    bool closing;
    struct control_request requests[REQUESTS_MAX];
};

/* ---- the socket's name: a state directory's path may be longer than sun_path ---- */

static bool socket_address(const char *directory, int directory_fd, struct sockaddr_un *out)
{
    *out = (struct sockaddr_un){.sun_family = AF_UNIX};
    struct text path = TEXT(out->sun_path);

    text_printf(&path, "%s/" SOCKET_NAME, directory);
    if (path.full) {
        path = TEXT(out->sun_path);
        text_printf(&path, "/proc/self/fd/%d/" SOCKET_NAME, directory_fd);
    }
    return !path.full;
}

static int open_directory(const char *directory)
{
    return open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* Takes away what a daemon that died has left. 0 or a negative errno. */
static int remove_stale(int directory_fd, const struct sockaddr_un *address)
{
    struct stat status;

    if (fstatat(directory_fd, SOCKET_NAME, &status, AT_SYMLINK_NOFOLLOW) != 0) {
        return errno == ENOENT ? 0 : -errno;
    }
    if (!S_ISSOCK(status.st_mode)) {
        return -EEXIST;
    }
    const int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (probe < 0) {
        return -errno;
    }
    const int failed = connect(probe, (const struct sockaddr *)address, sizeof(*address)) == 0
                           ? EADDRINUSE
                           : errno;
    close(probe);
    if (failed == EAGAIN) {
        return -EADDRINUSE; /* its backlog is full: it lives */
    }
    if (failed != ECONNREFUSED) {
        return -failed;
    }
    return unlinkat(directory_fd, SOCKET_NAME, 0) == 0 || errno == ENOENT ? 0 : -errno;
}

/* A bound socket that nobody can reach before its mode is right, for listen comes later. */
static int bind_socket(struct control *control, int directory_fd, int *fd)
{
    struct sockaddr_un address;
    struct stat status;

    if (!socket_address(control->directory, directory_fd, &address)) {
        return -ENAMETOOLONG;
    }
    const int stale = remove_stale(directory_fd, &address);
    if (stale != 0) {
        return stale;
    }
    *fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (*fd < 0) {
        return -errno;
    }
    if (bind(*fd, (const struct sockaddr *)&address, sizeof(address)) != 0) {
        return -errno;
    }
    if (fchmodat(directory_fd, SOCKET_NAME, S_IRUSR | S_IWUSR, 0) != 0 ||
        fstatat(directory_fd, SOCKET_NAME, &status, AT_SYMLINK_NOFOLLOW) != 0) {
        const int error = -errno;
        unlinkat(directory_fd, SOCKET_NAME, 0);
        return error;
    }
    control->device = status.st_dev;
    control->inode = status.st_ino;
    return 0;
}

static void unlink_own(const struct control *control)
{
    struct stat status;
    const int directory_fd = open_directory(control->directory);

    if (directory_fd < 0) {
        return;
    }
    if (fstatat(directory_fd, SOCKET_NAME, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
        status.st_dev == control->device && status.st_ino == control->inode) {
        unlinkat(directory_fd, SOCKET_NAME, 0);
    }
    close(directory_fd);
}

/* ---- requests ---- */

static void accept_waiting(struct control *control);

static void control_free(struct control *control)
{
    for (size_t i = 0; i < REQUESTS_MAX; i++) {
        if (control->requests[i].used) {
            return;
        }
    }
    if (control->open_pipes == 0) {
        free(control->directory);
        free(control);
    }
}

static void request_release(struct control_request *request)
{
    struct control *control = request->control;

    if (request->open_handles > 0 || request->handed) {
        return;
    }
    free(request->answer);
    request->answer = NULL;
    request->used = false;
    if (control->closing) {
        control_free(control);
    } else if (control->announced) {
        control->announced = false;
        accept_waiting(control);
    }
}

static void on_request_closed(uv_handle_t *handle)
{
    struct control_request *request = handle->data;
    request->open_handles--;
    request_release(request);
}

static void request_close(struct control_request *request)
{
    if (!uv_is_closing((uv_handle_t *)&request->pipe)) {
        uv_close((uv_handle_t *)&request->pipe, on_request_closed);
        uv_close((uv_handle_t *)&request->timer, on_request_closed);
    }
}

static void on_deadline(uv_timer_t *timer)
{
    request_close(timer->data);
}

/* Who waits for an answer that takes its time sees that we live; who has gone is let go. */
static void on_beat(uv_timer_t *timer)
{
    struct control_request *request = timer->data;
    uv_buf_t beat = uv_buf_init((char[]){CONTROL_BEAT}, 1);
    const int written = uv_try_write((uv_stream_t *)&request->pipe, &beat, 1);

    if (written < 0 && written != UV_EAGAIN) {
        request_close(request);
    }
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    struct control_request *request = handle->data;
    (void)suggested;
    *buffer = uv_buf_init(request->verb + request->len, (unsigned)(VERB_MAX - request->len));
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buffer)
{
    struct control_request *request = stream->data;
    (void)buffer;

    if (n < 0) {
        request_close(request);
        return;
    }
    request->len += (size_t)n;
    const struct span all = span_make(request->verb, request->len);
    const size_t end = span_find(all, '\n');
    if (end < all.len) {
        uv_read_stop(stream);
        uv_timer_stop(&request->timer);
        request->handed = true;
        request->control->handler(request->control->context, request, span_first(all, end));
        if (request->handed && !uv_is_closing((uv_handle_t *)stream)) {
            uv_timer_start(&request->timer, on_beat, BEAT, BEAT);
        }
    } else if (all.len == VERB_MAX) {
        request_close(request);
    }
}

static void request_begin(struct control *control, struct control_request *request)
{
    uv_loop_t *loop = control->loop;

    *request = (struct control_request){.control = control, .used = true, .open_handles = 2};
    uv_pipe_init(loop, &request->pipe, 0);
    uv_timer_init(loop, &request->timer);
    request->pipe.data = request->timer.data = request;
    if (uv_accept((uv_stream_t *)control->pipe, (uv_stream_t *)&request->pipe) != 0 ||
        uv_timer_start(&request->timer, on_deadline, VERB_DEADLINE, 0) != 0 ||
        uv_read_start((uv_stream_t *)&request->pipe, on_alloc, on_read) != 0) {
        request_close(request);
    }
}

static void accept_waiting(struct control *control)
{
    for (size_t i = 0; i < REQUESTS_MAX; i++) {
        if (!control->requests[i].used) {
            request_begin(control, &control->requests[i]);
            return;
        }
    }
    control->announced = true;
}

static void on_connection(uv_stream_t *server, int status)
{
    if (status == 0) {
        accept_waiting(server->data);
    }
}

static void on_written(uv_write_t *write, int status)
{
    struct control_request *request = write->data;
    (void)status;
    request_close(request);
}

void control_answer(struct control_request *request, int status, struct span text)
{
    const size_t head = 2;

    request->handed = false;
    if (uv_is_closing((uv_handle_t *)&request->pipe)) {
        request_release(request);
        return;
    }
    uv_timer_stop(&request->timer);
    request->answer = malloc(head + text.len);
    if (!request->answer) {
        request_close(request);
        return;
    }
    request->answer[0] = status == 0 ? '0' : '1';
    request->answer[1] = '\n';
    if (text.len > 0) {
        memcpy(request->answer + head, text.ptr, text.len);
    }
    request->write.data = request;
    const uv_buf_t buffer = uv_buf_init(request->answer, (unsigned)(head + text.len));
    if (uv_write(&request->write, (uv_stream_t *)&request->pipe, &buffer, 1, on_written) != 0) {
        request_close(request);
    }
}

/* ---- the server ---- */

static void on_pipe_closed(uv_handle_t *handle)
{
    struct control *control = handle->data;
    free(handle);
    control->open_pipes--;
    if (control->closing) {
        control_free(control);
    }
}

static void pipe_close(uv_pipe_t *pipe)
{
    uv_close((uv_handle_t *)pipe, on_pipe_closed);
}

/* Binds the socket's name and listens with the pipe. 0 or a negative errno. */
static int pipe_listen(struct control *control, uv_pipe_t *pipe)
{
    int fd = -1;
    const int directory_fd = open_directory(control->directory);
    if (directory_fd < 0) {
        return -errno;
    }
    int error = bind_socket(control, directory_fd, &fd);
    close(directory_fd);
    if (error == 0) {
        error = uv_pipe_open(pipe, fd);
        fd = error == 0 ? -1 : fd; /* the handle's */
        error = error == 0 ? uv_listen((uv_stream_t *)pipe, BACKLOG, on_connection) : error;
        if (error != 0) {
            unlink_own(control);
        }
    }
    if (fd >= 0) {
        close(fd);
    }
    return error;
}

/* A new socket takes the place of the one we have, if any; on an error nothing has changed. */
static int listen_anew(struct control *control)
{
    uv_pipe_t *pipe = calloc(1, sizeof(*pipe));

    if (!pipe) {
        return -ENOMEM;
    }
    int error = uv_pipe_init(control->loop, pipe, 0);
    if (error != 0) {
        free(pipe);
        return error;
    }
    pipe->data = control;
    control->open_pipes++;
    error = pipe_listen(control, pipe);
    if (error != 0) {
        pipe_close(pipe);
        return error;
    }
    if (control->pipe) {
        pipe_close(control->pipe);
        control->announced = false; /* on the old one */
    }
    control->pipe = pipe;
    return 0;
}

struct control *control_listen(uv_loop_t *loop, const char *directory, control_handler *handler,
                               void *context, int *error)
{
    struct control *control = calloc(1, sizeof(*control));

    *error = -ENOMEM;
    if (!control) {
        return NULL;
    }
    control->loop = loop;
    control->handler = handler;
    control->context = context;
    control->directory = span_dup(span_of(directory));
    if (control->directory) {
        *error = listen_anew(control);
    }
    if (*error != 0) {
        control->closing = true;
        control_free(control);
        return NULL;
    }
    return control;
}

int control_restore(struct control *control)
{
    struct stat status;
    const int directory_fd = open_directory(control->directory);

    if (directory_fd < 0) {
        return -errno;
    }
    const bool there = fstatat(directory_fd, SOCKET_NAME, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
                       status.st_dev == control->device && status.st_ino == control->inode;
    close(directory_fd);
    return there ? 0 : listen_anew(control);
}

void control_close(struct control *control)
{
    control->closing = true;
    unlink_own(control);
    for (size_t i = 0; i < REQUESTS_MAX; i++) {
        if (control->requests[i].used) {
            request_close(&control->requests[i]);
        }
    }
    pipe_close(control->pipe);
}
