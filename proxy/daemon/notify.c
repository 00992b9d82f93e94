#include "proxy/daemon/notify.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "config/text.h"

#define SOCKETS_MAX 1024

/* Nobody to tell, or nobody listening: serving mail does not depend on it. */
static void notify_send(struct span message)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    if (!path || (path[0] != '/' && path[0] != '@')) {
        return;
    }
    const struct span name = span_of(path);
    if (name.len < 2 || name.len >= sizeof(address.sun_path)) {
        return;
    }
    memcpy(address.sun_path, name.ptr, name.len);
    if (name.ptr[0] == '@') {
        address.sun_path[0] = '\0'; /* the abstract name space of unix(7) */
    }
    const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return;
    }
    const socklen_t length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + name.len);
    /* Never waits: the main loop calls. */
    sendto(fd, message.ptr, message.len, MSG_NOSIGNAL | MSG_DONTWAIT,
           (const struct sockaddr *)&address, length);
    close(fd);
}

void notify_ready(void)
{
    notify_send(SPAN("READY=1"));
}

void notify_reloading(void)
{
    char buffer[64];
    struct text text = TEXT(buffer);
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    text_printf(&text, "RELOADING=1\nMONOTONIC_USEC=%llu",
                (unsigned long long)now.tv_sec * 1000000 + (unsigned long long)now.tv_nsec / 1000);
    notify_send(text_span(&text));
}

void notify_stopping(void)
{
    notify_send(SPAN("STOPPING=1"));
}

size_t notify_sockets(void)
{
    const char *pid = getenv("LISTEN_PID");
    const char *count = getenv("LISTEN_FDS");
    unsigned long long process, sockets;

    /* Another pid's are not ours: the variables outlive the process they were meant for. */
    if (!pid || !count || !span_number(span_of(pid), UINT32_MAX, &process) ||
        !span_number(span_of(count), SOCKETS_MAX, &sockets) || process != (unsigned)getpid()) {
        return 0;
    }
    for (int fd = NOTIFY_FIRST_FD; fd < NOTIFY_FIRST_FD + (int)sockets; fd++) {
        const int flags = fcntl(fd, F_GETFD);
        if (flags < 0 || fcntl(fd, F_SETFD, flags | FD_CLOEXEC) < 0) {
            return 0;
        }
    }
    return (size_t)sockets;
}
