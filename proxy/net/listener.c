#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "proxy/net/net.h"
#include "proxy/session/session.h"

#define BACKLOG 1024

struct listener {
    struct net *net;
    const struct config_listener *config;
    uv_tcp_t tcp;
    uv_tcp_t refused;  /* who came when there was no memory */
    unsigned handles;  /* of these two, that are not closed */
    bool is_refusing;  /* `refused` is in use */
    bool has_held_one; /* another came meanwhile, whom libuv keeps */
};

static void on_client(uv_stream_t *server, int status);

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

/* ---- no memory for a client ---- */

static void handle_closed(struct listener *listener)
{
    if (--listener->handles == 0) {
        free(listener);
    }
}

static void on_refused_closed(uv_handle_t *handle)
{
    struct listener *listener = handle->data;
    bool next = listener->has_held_one && !uv_is_closing((uv_handle_t *)&listener->tcp);
    listener->is_refusing = listener->has_held_one = false;
    if (next) {
        on_client((uv_stream_t *)&listener->tcp, 0);
    }
    handle_closed(listener);
}

/* libuv accepts nobody any more until a client that it has announced is taken: so this one is,
 * without memory, and told to come again. */
static void listener_refuse(struct listener *listener)
{
    char text[] = "421 4.3.2 Out of memory, try again later\r\n";
    uv_buf_t said = uv_buf_init(text, sizeof text - 1);
    if (listener->is_refusing) {
        listener->has_held_one = true;
        return;
    }
    listener->is_refusing = true;
    listener->handles++;
    uv_tcp_init(listener->net->loop, &listener->refused);
    listener->refused.data = listener;
    if (uv_accept((uv_stream_t *)&listener->tcp, (uv_stream_t *)&listener->refused) == 0) {
        uv_try_write((uv_stream_t *)&listener->refused, &said, 1);
    }
    uv_close((uv_handle_t *)&listener->refused, on_refused_closed);
}

/* ---- clients ---- */

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
        listener_refuse(listener);
        return;
    }
    if (!address_of(fd, getpeername, &peer.client) || !address_of(fd, getsockname, &peer.local)) {
        conn->ops->close(conn, CONN_RESET);
        return;
    }
    if ((unsigned)fd + NET_DESCRIPTORS_SPARE >= listener->net->options.descriptors) {
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
    const int on = 1;
    struct listener *listener = calloc(1, sizeof *listener);
    if (listener == NULL) {
        *error = UV_ENOMEM;
        return NULL;
    }
    listener->net = net;
    listener->config = config;
    listener->handles = 1;
    uv_tcp_init(net->loop, &listener->tcp);
    listener->tcp.data = listener;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* clients' have it from here */
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
    handle_closed(handle->data);
}

void listener_close(struct listener *listener)
{
    uv_close((uv_handle_t *)&listener->tcp, on_closed);
}
