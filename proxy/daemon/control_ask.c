/* The commands' side of control.sock: blocking, for as long as the daemon shows that it lives. */
#include "proxy/daemon/control.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "config/text.h"

struct asking {
    int fd;
    unsigned timeout;
    uint64_t deadline; /* monotonic milliseconds */
};

static uint64_t now_milliseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Waits for events. 0, or -1 with errno. */
static int await(const struct asking *asking, short events)
{
    for (;;) {
        struct pollfd poller = {.fd = asking->fd, .events = events};
        const uint64_t now = now_milliseconds();
        const uint64_t left = now < asking->deadline ? asking->deadline - now : 0;
        const int ready = poll(&poller, 1, left < INT_MAX ? (int)left : INT_MAX);
        if (ready > 0) {
            return 0;
        }
        if (ready == 0) {
            errno = ETIMEDOUT;
        }
        if (ready == 0 || errno != EINTR) {
            return -1;
        }
    }
}

/* Connects by the directory's descriptor, which no path is too long for. 0, or -1 with errno. */
static int ask_connect(const struct asking *asking, const char *directory)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct text path = TEXT(address.sun_path);
    const int directory_fd = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);

    if (directory_fd < 0) {
        return -1;
    }
    text_printf(&path, "%s/control.sock", directory);
    if (path.full) {
        path = TEXT(address.sun_path);
        text_printf(&path, "/proc/self/fd/%d/control.sock", directory_fd);
    }
    int result;
    do {
        result = connect(asking->fd, (const struct sockaddr *)&address, sizeof(address));
        /* unix(7): EAGAIN is a full backlog, which no poll tells the end of. */
    } while (result != 0 && errno == EAGAIN && now_milliseconds() < asking->deadline &&
             (poll(NULL, 0, 10), true));
    const int error = result != 0 && errno == EAGAIN ? ETIMEDOUT : errno;
    close(directory_fd);
    errno = error;
    return result;
}

static int ask_send(const struct asking *asking, struct span bytes)
{
    while (bytes.len > 0) {
        if (await(asking, POLLOUT) != 0) {
            return -1;
        }
        const ssize_t n = send(asking->fd, bytes.ptr, bytes.len, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN && errno != EINTR) {
            return -1;
        }
        bytes = span_skip(bytes, n > 0 ? (size_t)n : 0);
    }
    return 0;
}

/* The answer's status, its text to out; -1 when it is cut off before its text begins. */
static int ask_receive(struct asking *asking, FILE *out)
{
    char buffer[4096], head[2];
    size_t head_len = 0;

    for (;;) {
        if (await(asking, POLLIN) != 0) {
            return -1;
        }
        const ssize_t n = read(asking->fd, buffer, sizeof(buffer));
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            continue;
        }
        if (n < 0) {
            return -1;
        }
        if (n == 0) {
            break;
        }
        asking->deadline = now_milliseconds() + asking->timeout;
        struct span rest = span_make(buffer, (size_t)n);
        while (head_len == 0 && rest.len > 0 && rest.ptr[0] == CONTROL_BEAT) {
            rest = span_skip(rest, 1);
        }
        for (; head_len < sizeof(head) && rest.len > 0; rest = span_skip(rest, 1)) {
            head[head_len++] = rest.ptr[0];
        }
        fwrite(rest.ptr, 1, rest.len, out);
    }
    if (head_len < sizeof(head) || head[1] != '\n' || (head[0] != '0' && head[0] != '1')) {
        errno = EPROTO;
        return -1;
    }
    return head[0] - '0';
}

int control_ask(const char *directory, const char *verb, FILE *out, unsigned timeout)
{
    struct asking asking = {.timeout = timeout, .deadline = now_milliseconds() + timeout};
    int status = -1;

    asking.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (asking.fd < 0) {
        return -1;
    }
    if (ask_connect(&asking, directory) == 0 && ask_send(&asking, span_of(verb)) == 0 &&
        ask_send(&asking, SPAN("\n")) == 0) {
        status = ask_receive(&asking, out);
    }
    const int error = errno;
    close(asking.fd);
    errno = error;
    return status;
}
