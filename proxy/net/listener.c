/*
 * Listeners. They accept by themselves, one client each time the loop sees that there are some, and
 * not by libuv's streams: a client for whom there is no descriptor or no memory is to hear that.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proxy/net/net.h"
#include "proxy/session/session.h"

#define TOO_MANY      "421 4.3.2 Too many connections, try again later\r\n"
#define OUT_OF_MEMORY "421 4.3.2 Out of memory, try again later\r\n"

#define BACKLOG 1024
/* Without descriptors or memory of the kernel's clients wait so long, milliseconds. */
#define PAUSE 100

struct listener {
    struct net *net;
    const struct config_listener *config;
    int fd;    /* owned */
    int spare; /* owned: given up for a moment to answer whom no descriptor is left for; or -1 */
    uv_poll_t poll;
    struct timer pause;
};

/* Says so and closes, without memory. */
static void turn_away(int fd, struct span said)
{
    send(fd, said.ptr, said.len, MSG_DONTWAIT | MSG_NOSIGNAL);
    close(fd);
}

static bool must_send_proxy(const struct config_listener *config, const struct net_address *peer)
{
    for (size_t i = 0; i < config->proxy_protocol.count; i++) {
        if (net_prefix_holds(&config->proxy_networks[i], peer)) {
            return true;
        }
    }
    return false;
}

static bool local_address(int fd, struct net_address *out)
{
    struct sockaddr_storage name;
    socklen_t size = sizeof name;
    return getsockname(fd, (struct sockaddr *)&name, &size) == 0 &&
           net_address_from((struct sockaddr *)&name, out);
}

static void listener_begin(struct listener *listener, int fd, const struct net_address *client)
{
    struct session_peer peer = {.client = *client};
    struct conn *conn = net_accept(listener->net, fd);
    if (conn == NULL) {
        turn_away(fd, SPAN(OUT_OF_MEMORY));
        return;
    }
    if (!local_address(fd, &peer.local)) {
        conn->ops->close(conn, CONN_RESET);
        return;
    }
    if ((unsigned)fd + NET_DESCRIPTORS_SPARE >= listener->net->options.descriptors) {
        conn->ops->write(conn, SPAN(TOO_MANY));
        conn->ops->close(conn, CONN_FLUSH);
        return;
    }
    char byte;
    peer.tls = listener->config->tls;
    peer.proxied = must_send_proxy(listener->config, &peer.client);
    peer.early = recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
    session_begin(&listener->net->world, conn, &peer);
}

/* ---- accepting ---- */

static void on_client(uv_poll_t *poll, int status, int events);

static int accept_one(const struct listener *listener, struct sockaddr_storage *name)
{
    socklen_t size = sizeof *name;
    return accept4(listener->fd, (struct sockaddr *)name, &size, SOCK_CLOEXEC | SOCK_NONBLOCK);
}

static void keep_spare(struct listener *listener)
{
    listener->spare = fcntl(listener->fd, F_DUPFD_CLOEXEC, 0);
}

/* Whether a client could be told that there is no descriptor for it. */
static bool turned_away_by_spare(struct listener *listener)
{
    struct sockaddr_storage name;
    if (listener->spare < 0) {
        return false;
    }
    close(listener->spare);
    int fd = accept_one(listener, &name);
    if (fd >= 0) {
        turn_away(fd, SPAN(TOO_MANY));
    }
    keep_spare(listener);
    return fd >= 0;
}

static void on_pause_over(void *owner)
{
    struct listener *listener = owner;
    if (listener->spare < 0) {
        keep_spare(listener);
    }
    uv_poll_start(&listener->poll, UV_READABLE, on_client);
}

/* The loop would tell of the same client again at once. */
static void listener_pause(struct listener *listener)
{
    uv_poll_stop(&listener->poll);
    timer_set(&listener->net->world.timers, &listener->pause, listener->net->world.now + PAUSE);
}

static void on_client(uv_poll_t *poll, int status, int events)
{
    struct listener *listener = poll->data;
    struct sockaddr_storage name;
    struct net_address client;
    (void)status;
    (void)events;
    net_enter(listener->net);
    int fd = accept_one(listener, &name);
    if (fd >= 0 && net_address_from((struct sockaddr *)&name, &client)) {
        listener_begin(listener, fd, &client);
    } else if (fd >= 0) {
        close(fd);
    } else if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED &&
               !turned_away_by_spare(listener)) {
        listener_pause(listener);
    }
}

/* ---- life ---- */

static void on_closed(uv_handle_t *handle)
{
    free(handle->data);
}

struct listener *listener_open(struct net *net, int fd, const struct config_listener *config,
                               int *error)
{
    const int on = 1;
    struct listener *listener = calloc(1, sizeof *listener);
    if (listener == NULL) {
        *error = UV_ENOMEM;
        return NULL;
    }
    *listener = (struct listener){.net = net, .config = config, .fd = fd};
    listener->pause.on_due = on_pause_over;
    listener->pause.owner = listener;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* clients' have it from here */
    *error = listen(fd, BACKLOG) == 0 ? uv_poll_init(net->loop, &listener->poll, fd)
                                      : uv_translate_sys_error(errno);
    if (*error != 0) {
        close(fd);
        free(listener);
        return NULL;
    }
    listener->poll.data = listener;
    uv_poll_start(&listener->poll, UV_READABLE, on_client);
    keep_spare(listener);
    return listener;
}

void listener_configure(struct listener *listener, const struct config_listener *config)
{
    listener->config = config;
}

void listener_close(struct listener *listener)
{
    timer_stop(&listener->net->world.timers, &listener->pause);
    uv_close((uv_handle_t *)&listener->poll, on_closed);
    close(listener->fd);
    if (listener->spare >= 0) {
        close(listener->spare);
    }
}
