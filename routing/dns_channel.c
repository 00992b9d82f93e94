#include "routing/dns_channel.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

#include "config/net_address.h"
#include "config/text.h"
#include "routing/answer.h"
#include "routing/ring.h"

enum {
    /* A round of tries waits twice as long as the one before: a server that says nothing costs a
     * second when there is another, and a lonely slow one has seven. */
    TRY_MS = 1000,
    TRIES = 3,
    EDNS_BYTES = 1232, /* fits an IPv6 path without fragments */
    CLASS_IN = 1,
    NXDOMAIN = 3, /* an answer, no failure */
    SPARE = 4,
};

/* A socket of c-ares' that the loop watches. */
struct watch {
    uv_poll_t poll;
    struct ring link;
    struct dns_channel *channel; /* NULL: a spare one that is not in use */
    ares_socket_t fd;
};

struct dns_channel {
    uv_loop_t *loop;
    ares_channel ares;
    uv_timer_t timer;
    struct ring watches;
    struct watch spare[SPARE]; /* for want of memory */
    size_t pending;            /* queries under way */
    size_t handles;            /* of libuv, not closed yet */
    struct dns_failures failures;
    bool retired;
    bool closed;
};

static void handle_closed(struct dns_channel *channel)
{
    if (--channel->handles == 0) {
        free(channel);
    }
}

static void on_timer_closed(uv_handle_t *handle)
{
    handle_closed(handle->data);
}

static bool is_spare(const struct dns_channel *channel, const struct watch *watch)
{
    return watch >= channel->spare && watch < channel->spare + SPARE;
}

static void on_watch_closed(uv_handle_t *handle)
{
    struct watch *watch = handle->data;
    struct dns_channel *channel = watch->channel;
    if (is_spare(channel, watch)) {
        watch->channel = NULL;
    } else {
        free(watch);
    }
    handle_closed(channel);
}

static void on_timer(uv_timer_t *timer);

/* After every call into c-ares that may have changed what it waits for. */
static void channel_settle(struct dns_channel *channel)
{
    if (channel->closed) {
        return;
    }
    if (channel->retired && channel->pending == 0) {
        dns_channel_close(channel);
        return;
    }
    struct timeval left;
    if (ares_timeout(channel->ares, NULL, &left) == NULL) {
        uv_timer_stop(&channel->timer);
        return;
    }
    uint64_t ms = (uint64_t)left.tv_sec * 1000 + ((uint64_t)left.tv_usec + 999) / 1000;
    uv_timer_start(&channel->timer, on_timer, ms, 0);
}

static void on_timer(uv_timer_t *timer)
{
    struct dns_channel *channel = timer->data;
    ares_process_fd(channel->ares, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    channel_settle(channel);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct watch *watch = poll->data;
    struct dns_channel *channel = watch->channel;
    /* On an error c-ares finds out itself, by reading and writing. */
    bool readable = status < 0 || (events & UV_READABLE) != 0;
    bool writable = status < 0 || (events & UV_WRITABLE) != 0;
    ares_process_fd(channel->ares, readable ? watch->fd : ARES_SOCKET_BAD,
                    writable ? watch->fd : ARES_SOCKET_BAD);
    channel_settle(channel);
}

static struct watch *watch_find(const struct dns_channel *channel, ares_socket_t fd)
{
    for (struct ring *link = channel->watches.next; link != &channel->watches; link = link->next) {
        struct watch *watch = RING_OF(link, struct watch, link);
        if (watch->fd == fd) {
            return watch;
        }
    }
    return NULL;
}

static struct watch *watch_spare(struct dns_channel *channel)
{
    for (size_t i = 0; i < SPARE; i++) {
        if (channel->spare[i].channel == NULL) {
            channel->spare[i] = (struct watch){0};
            return &channel->spare[i];
        }
    }
    return NULL;
}

/* A socket that cannot be watched is left to c-ares' time-out, which ends its queries, and others
 * that come meanwhile: want of memory should be no reason. */
static struct watch *watch_new(struct dns_channel *channel, ares_socket_t fd)
{
    struct watch *watch = calloc(1, sizeof(*watch));
    if (watch == NULL) {
        watch = watch_spare(channel);
    }
    if (watch == NULL || uv_poll_init(channel->loop, &watch->poll, fd) != 0) {
        if (watch != NULL && !is_spare(channel, watch)) {
            free(watch);
        }
        return NULL;
    }
    watch->poll.data = watch;
    watch->channel = channel;
    watch->fd = fd;
    ring_append(&channel->watches, &watch->link);
    channel->handles++;
    return watch;
}

static void on_socket(void *context, ares_socket_t fd, int readable, int writable)
{
    struct dns_channel *channel = context;
    struct watch *watch = watch_find(channel, fd);
    if (!readable && !writable) {
        if (watch == NULL) {
            return;
        }
        /* c-ares closes the descriptor next: it must be out of the loop before. */
        ring_unlink(&watch->link);
        uv_poll_stop(&watch->poll);
        uv_close((uv_handle_t *)&watch->poll, on_watch_closed);
        return;
    }
    if (watch == NULL) {
        watch = watch_new(channel, fd);
    }
    if (watch != NULL) {
        uv_poll_start(&watch->poll, (readable ? UV_READABLE : 0) | (writable ? UV_WRITABLE : 0),
                      on_poll);
    }
}

/* c-ares' sockets are opened and used as it would itself, for the sake of one look at what comes;
 * it wants all of these or none. */
static ares_socket_t on_open(int domain, int type, int protocol, void *context)
{
    struct dns_channel *channel = context;
    ares_socket_t fd = socket(domain, type | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol);
    channel->failures.sockets += fd == ARES_SOCKET_BAD && errno != EAFNOSUPPORT;
    return fd;
}

static int on_close(ares_socket_t fd, void *context)
{
    (void)context;
    return close(fd);
}

static int on_connect(ares_socket_t fd, const struct sockaddr *address, ares_socklen_t len,
                      void *context)
{
    (void)context;
    return connect(fd, address, len);
}

static ares_ssize_t on_send(ares_socket_t fd, const struct iovec *pieces, int count, void *context)
{
    (void)context;
    return writev(fd, pieces, count);
}

/* The answer's code is looked at. From TCP, where `from` is NULL, answers come in pieces. */
static ares_ssize_t on_receive(ares_socket_t fd, void *bytes, size_t size, int flags,
                               struct sockaddr *from, ares_socklen_t *from_len, void *context)
{
    struct dns_channel *channel = context;
    ssize_t n = recvfrom(fd, bytes, size, flags, from, from_len);
    if (from != NULL && n > 3) {
        unsigned code = ((const unsigned char *)bytes)[3] & 0x0f;
        if (code != 0 && code != NXDOMAIN) {
            channel->failures.count++;
            channel->failures.code = code;
        }
    }
    return n;
}

struct dns_failures dns_channel_failures(const struct dns_channel *channel)
{
    return channel->failures;
}

/* The servers as c-ares reads them, comma between. False when one is no address with a port. */
static bool servers_text(const char *const *servers, size_t count, struct text *out)
{
    for (size_t i = 0; i < count && i < RESOLVER_SERVERS_MAX; i++) {
        struct net_address address;
        char one[NET_ADDRESS_TEXT];
        if (!net_address_parse_port(span_of(servers[i]), &address)) {
            return false;
        }
        net_address_text_port(&address, one, sizeof(one));
        text_puts(out, i > 0 ? "," : "");
        text_puts(out, one);
    }
    return !out->full;
}

/* On Linux ares_library_init has nothing to do, so that no state is shared by the threads. */
static bool channel_start(struct dns_channel *channel, const char *const *servers, size_t count)
{
    static const struct ares_socket_functions functions = {
        .asocket = on_open,
        .aclose = on_close,
        .aconnect = on_connect,
        .arecvfrom = on_receive,
        .asendv = on_send,
    };
    char lookups[] = "b", nowhere[] = "/dev/null", list[RESOLVER_SERVERS_MAX * NET_ADDRESS_TEXT];
    struct text text = TEXT(list);
    struct ares_options options = {
        .flags = ARES_FLAG_NOSEARCH | ARES_FLAG_NOALIASES | ARES_FLAG_EDNS,
        .timeout = TRY_MS,
        .tries = TRIES,
        .lookups = lookups,
        .ednspsz = EDNS_BYTES,
        .resolvconf_path = nowhere, /* no file is read here: this is an event loop's thread */
        .sock_state_cb = on_socket,
        .sock_state_cb_data = channel,
    };
    int mask = ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_LOOKUPS |
               ARES_OPT_EDNSPSZ | ARES_OPT_SOCK_STATE_CB | ARES_OPT_RESOLVCONF;
#ifdef ARES_OPT_QUERY_CACHE
    /* One cache is enough, and a reload must be able to empty it. */
    mask |= ARES_OPT_QUERY_CACHE;
    options.qcache_max_ttl = 0;
#endif
    if (count == 0 || !servers_text(servers, count, &text)) {
        return false;
    }
    if (ares_init_options(&channel->ares, &options, mask) != ARES_SUCCESS) {
        return false;
    }
    if (ares_set_servers_ports_csv(channel->ares, list) != ARES_SUCCESS) {
        ares_destroy(channel->ares);
        return false;
    }
    ares_set_socket_functions(channel->ares, &functions, channel);
    return true;
}

struct dns_channel *dns_channel_new(uv_loop_t *loop, const char *const *servers, size_t count)
{
    struct dns_channel *channel = calloc(1, sizeof(*channel));
    if (channel == NULL) {
        return NULL;
    }
    channel->loop = loop;
    ring_init(&channel->watches);
    if (!channel_start(channel, servers, count)) {
        free(channel);
        return NULL;
    }
    uv_timer_init(loop, &channel->timer);
    channel->timer.data = channel;
    channel->handles = 1;
    return channel;
}

void dns_channel_query(struct dns_channel *channel, const char *name, enum dns_type type,
                       ares_callback callback, void *context)
{
    channel->pending++;
    ares_query(channel->ares, name, CLASS_IN, (int)type, callback, context);
    channel_settle(channel);
}

void dns_channel_finished(struct dns_channel *channel)
{
    channel->pending--;
}

void dns_channel_retire(struct dns_channel *channel)
{
    channel->retired = true;
    channel_settle(channel);
}

void dns_channel_close(struct dns_channel *channel)
{
    channel->closed = true;
    ares_destroy(channel->ares);
    uv_close((uv_handle_t *)&channel->timer, on_timer_closed);
}
