#include <stdlib.h>
#include <sys/socket.h>

#include "proxy/net/net.h"
#include "proxy/session/session.h"

#define BACKLOG 1024
/* Kept free for what must go on when clients use up all descriptors (design: section 9). */
#define DESCRIPTORS_SPARE 64

struct listener {
    struct net *net;
    const struct config_listener *config;
    uv_tcp_t tcp;
};

/* Too few descriptors are left: says so and closes. One write into an empty socket buffer does not
 * wait. */
static void turn_away(struct conn *conn)
{
    conn->ops->write(conn, SPAN("421 4.3.2 Too many connections, try again later\r\n"));
    conn->ops->close(conn, CONN_FLUSH);
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

static bool address_of(int fd, int (*ask)(int, struct sockaddr *, socklen_t *),
                       struct net_address *out)
{
    struct sockaddr_storage name;
    socklen_t size = sizeof name;
    return ask(fd, (struct sockaddr *)&name, &size) == 0 &&
           net_address_from((struct sockaddr *)&name, out);
}

static void on_client(uv_stream_t *server, int status)
{
    struct listener *listener = server->data;
    struct session_peer peer = {0};
    int fd = -1;
    if (status < 0) {
        return;
    }
    net_enter(listener->net);
    struct conn *conn = net_accept(listener->net, server, &fd);
    if (conn == NULL) {
        return;
    }
    if (!address_of(fd, getpeername, &peer.client) || !address_of(fd, getsockname, &peer.local)) {
        conn->ops->close(conn, CONN_RESET);
        return;
    }
    if ((unsigned)fd + DESCRIPTORS_SPARE >= listener->net->options.descriptors) {
        turn_away(conn);
        return;
    }
    char byte;
    peer.tls = listener->config->tls;
    peer.proxied = must_send_proxy(listener->config, &peer.client);
    peer.early = recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
    session_begin(&listener->net->world, conn, &peer);
}

struct listener *listener_open(struct net *net, int fd, const struct config_listener *config,
                               int *error)
{
    struct listener *listener = calloc(1, sizeof *listener);
    if (listener == NULL) {
        *error = UV_ENOMEM;
        return NULL;
    }
    listener->net = net;
    listener->config = config;
    uv_tcp_init(net->loop, &listener->tcp);
    listener->tcp.data = listener;
    *error = uv_tcp_open(&listener->tcp, fd);
    if (*error == 0) {
        *error = uv_listen((uv_stream_t *)&listener->tcp, BACKLOG, on_client);
    }
    if (*error != 0) {
        listener_close(listener);
        return NULL;
    }
    return listener;
}

void listener_configure(struct listener *listener, const struct config_listener *config)
{
    listener->config = config;
}

static void on_closed(uv_handle_t *handle)
{
    free(handle->data);
}

void listener_close(struct listener *listener)
{
    uv_close((uv_handle_t *)&listener->tcp, on_closed);
}
