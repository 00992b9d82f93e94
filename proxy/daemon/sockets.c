#include "proxy/daemon/sockets.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "config/text.h"
#include "proxy/daemon/notify.h"

bool sockets_address(const struct config *config, const struct config_listener *listener,
                     struct net_address *out, struct diag_list *diags)
{
    struct span text = span_of(listener->address.text);
    struct span host;
    uint16_t port = 0;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *found = NULL;
    char name[256];
    struct text buffer = TEXT(name);
    bool ok = false;
    if (host_port_split(text, &host, &port) && net_address_parse(host, port, out)) {
        return true;
    }
    text_put(&buffer, host);
    int error = getaddrinfo(name, NULL, &hints, &found);
    if (error == 0) {
        ok = net_address_from(found->ai_addr, out);
        net_address_set_port(out, port);
        freeaddrinfo(found);
    }
    if (!ok) {
        diag_error(diags, config_place(config, &listener->address),
                   "the listener's host `%s` has no address: %s", name, gai_strerror(error));
    }
    return ok;
}

static int socket_open(const struct net_address *address, bool share)
{
    int on = 1;
    int off = 0;
    int fd = socket(address->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return -1;
    }
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (share) {
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
    }
    if (address->any.sa_family == AF_INET6) { /* [::] takes IPv4 clients too */
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    }
    if (bind(fd, &address->any, net_address_length(address)) != 0) {
        int error = errno;
        close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

/*
 * SO_REUSEPORT would let a second daemon of the same user share our port silently; a socket without
 * it cannot be bound where anybody else is.
 */
static bool address_is_free(const struct net_address *address)
{
    int fd = socket_open(address, false);
    if (fd < 0) {
        return false;
    }
    close(fd);
    return true;
}

/* A machine without IPv6: "[::]" then means every IPv4 address. */
static void without_ipv6(struct net_address *address)
{
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0) {
        close(fd);
    } else if (address->any.sa_family == AF_INET6 && net_address_is_wildcard(address)) {
        net_address_parse(SPAN("0.0.0.0"), net_address_port(address), address);
    }
}

static bool passed_fits(int fd, const struct net_address *address)
{
    struct sockaddr_storage name;
    socklen_t length = sizeof name, size = sizeof(int);
    struct net_address its;
    int type = 0;
    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_STREAM &&
           getsockname(fd, (struct sockaddr *)&name, &length) == 0 &&
           net_address_from((struct sockaddr *)&name, &its) && net_address_equal(&its, address);
}

/* Sockets of the service manager: all workers accept from the same one. */
static bool group_from_manager(struct socket_group *group, unsigned workers)
{
    for (size_t i = 0; i < notify_sockets(); i++) {
        int fd = NOTIFY_FIRST_FD + (int)i;
        if (!passed_fits(fd, &group->address)) {
            continue;
        }
        for (unsigned w = 0; w < workers; w++) {
            group->fds[w] = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        }
        return true;
    }
    return false;
}

/* Whether we listen there ourselves, on a part or the whole of it. */
static bool overlaps(const struct socket_set *set, const struct socket_group *group)
{
    for (size_t i = 0; set != NULL && i < set->count; i++) {
        if (&set->groups[i] != group &&
            net_address_overlap(&set->groups[i].address, &group->address)) {
            return true;
        }
    }
    return false;
}

static bool group_bind(struct socket_group *group, const struct socket_set *set,
                       const struct socket_set *current)
{
    const unsigned workers = set->workers;
    without_ipv6(&group->address);
    if (group_from_manager(group, workers)) {
        return true;
    }
    /* Where we are ourselves, SO_REUSEPORT lets us in beside; the most exact address is served. */
    if (!overlaps(set, group) && !overlaps(current, group) && !address_is_free(&group->address)) {
        return false;
    }
    for (unsigned w = 0; w < workers; w++) {
        group->fds[w] = socket_open(&group->address, true);
        if (group->fds[w] < 0) {
            return false;
        }
    }
    return true;
}

static const struct socket_group *group_find(const struct socket_set *set,
                                             const struct net_address *address)
{
    for (size_t i = 0; set != NULL && i < set->count; i++) {
        if (net_address_equal(&set->groups[i].address, address)) {
            return &set->groups[i];
        }
    }
    return NULL;
}

static bool group_init(struct socket_group *group, unsigned workers)
{
    static atomic_uint next_id;
    group->id = atomic_fetch_add(&next_id, 1);
    group->fds = calloc(workers, sizeof *group->fds);
    for (unsigned w = 0; group->fds != NULL && w < workers; w++) {
        group->fds[w] = -1;
    }
    return group->fds != NULL;
}

/* Behind the kernel's reason: what can be done. Errno is that of the last group of the set. */
static const char *what_to_do(const struct socket_set *set, const struct socket_set *current)
{
    const struct net_address *address = &set->groups[set->count - 1].address;
    switch (errno) {
    case EADDRINUSE:
        /* A socket that the service manager passed may refuse to have another beside it. */
        return overlaps(current, &set->groups[set->count - 1])
                   ? " (it overlaps with what is listened on now: if no other server has it, the "
                     "change needs a restart)"
                   : " (another server has it, or another splitmx)";
    case EACCES:
        return net_address_port(address) >= IPPORT_RESERVED
                   ? ""
                   : " (a port below 1024: start it as root with `user:`, or by the systemd unit, "
                     "or take a port above 1023)";
    case EADDRNOTAVAIL:
        return " (this host has no such address: one of its own, or [::] for all of them)";
    default:
        return "";
    }
}

static void tell_not_bound(const struct socket_set *set, const struct config *config,
                           const struct config_listener *listener, const struct socket_set *current,
                           struct diag_list *diags)
{
    const int error = errno;
    const char *hint = what_to_do(set, current);
    diag_error(diags, config_place(config, &listener->address), "cannot listen on %s: %s%s",
               listener->address.text, strerror(error), hint);
}

static bool group_add(struct socket_set *set, const struct config *config,
                      const struct config_listener *listener, const struct socket_set *current,
                      struct diag_list *diags)
{
    struct socket_group *group = &set->groups[set->count];
    if (!sockets_address(config, listener, &group->address, diags)) {
        return false;
    }
    if (!group_init(group, set->workers)) {
        diag_error(diags, DIAG_NOWHERE, "out of memory");
        return false;
    }
    set->count++;
    struct net_address wanted = group->address;
    without_ipv6(&wanted);
    const struct socket_group *old = group_find(current, &wanted);
    if (old != NULL) {
        group->address = wanted;
        group->id = old->id;
        group->kept = true;
        return true;
    }
    if (!group_bind(group, set, current)) {
        tell_not_bound(set, config, listener, current, diags);
        return false;
    }
    return true;
}

static struct socket_set *bind_all(const struct config *config,
                                   const struct config_listener *listeners, size_t count,
                                   const struct socket_set *current, unsigned workers,
                                   struct diag_list *diags)
{
    size_t errors = diag_errors(diags);
    struct socket_set *set = calloc(1, sizeof *set);
    if (set != NULL) {
        set->workers = workers;
        set->groups = calloc(count + 1, sizeof *set->groups);
    }
    if (set == NULL || set->groups == NULL) {
        diag_error(diags, DIAG_NOWHERE, "out of memory");
        sockets_free(set);
        return NULL;
    }
    for (size_t i = 0; i < count; i++) {
        group_add(set, config, &listeners[i], current, diags);
    }
    if (diag_errors(diags) != errors) {
        sockets_free(set);
        return NULL;
    }
    return set;
}

struct socket_set *sockets_bind(const struct config *config, const struct socket_set *current,
                                unsigned workers, struct diag_list *diags)
{
    return bind_all(config, config->listeners, config->listener_count, current, workers, diags);
}

struct config_listener sockets_admin(const struct config *config)
{
    return (struct config_listener){.address = config->admin_listen};
}

struct socket_set *sockets_bind_admin(const struct config *config, const struct socket_set *current,
                                      struct diag_list *diags)
{
    const struct config_listener listener = sockets_admin(config);
    const size_t count = listener.address.text != NULL ? 1 : 0;
    return bind_all(config, &listener, count, current, 1, diags);
}

static bool is_used(int fd, const struct socket_set *set)
{
    for (size_t i = 0; set != NULL && i < set->count; i++) {
        if (passed_fits(fd, &set->groups[i].address)) {
            return true;
        }
    }
    return false;
}

void sockets_drop_unused(const struct socket_set *set, const struct socket_set *admin,
                         struct diag_list *diags)
{
    for (size_t i = 0; i < notify_sockets(); i++) {
        const int fd = NOTIFY_FIRST_FD + (int)i;
        struct sockaddr_storage name;
        socklen_t length = sizeof name;
        struct net_address address;
        char text[NET_ADDRESS_TEXT] = "no address of the Internet";
        if (is_used(fd, set) || is_used(fd, admin)) {
            continue;
        }
        if (getsockname(fd, (struct sockaddr *)&name, &length) == 0 &&
            net_address_from((struct sockaddr *)&name, &address)) {
            net_address_text_port(&address, text, sizeof text);
        }
        diag_warning(diags, DIAG_NOWHERE,
                     "the service manager passed a socket for %s, where no TCP listener is "
                     "configured: it is closed; make its unit and `listen:` agree",
                     text);
        /* Its number stays taken: what came to have it would look like one that was passed. */
        dup3(STDIN_FILENO, fd, O_CLOEXEC);
    }
}

void sockets_free(struct socket_set *set)
{
    if (set == NULL) {
        return;
    }
    for (size_t i = 0; i < set->count; i++) {
        for (unsigned w = 0; w < set->workers; w++) {
            if (set->groups[i].fds[w] >= 0) {
                close(set->groups[i].fds[w]);
            }
        }
        free(set->groups[i].fds);
    }
    free(set->groups);
    free(set);
}
