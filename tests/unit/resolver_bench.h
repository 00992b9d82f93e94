/* What the tests of the resolver share: one resolver on a loop of its own, and what it answered. */
#ifndef SPLITMX_TESTS_UNIT_RESOLVER_BENCH_H
#define SPLITMX_TESTS_UNIT_RESOLVER_BENCH_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "routing/resolver.h"

#define OWN "192.0.2.200"

/* What an answer was, kept beyond its callback. */
struct seen {
    unsigned calls;
    enum resolver_status status;
    size_t count;
    struct resolver_address addresses[RESOLVER_ADDRESSES_MAX];
    char why[128];
    char name[256]; /* PTR; "-" for none */
    char reverse[256];
    bool later;
};

static inline int udp_socket(uint16_t *port)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(sa);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    sa.sin_port = htons(*port);
    if (*port == 0) {
        assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
        assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &len), 0);
        *port = ntohs(sa.sin_port);
    } else {
        assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
    }
    return fd;
}

struct bench {
    uv_loop_t loop;
    struct resolver *resolver;
    struct resolver_hosts *hosts;
};

static inline struct net_address ip(const char *text, uint16_t port)
{
    struct net_address address;
    assert_true(net_address_parse(span_of(text), port, &address));
    return address;
}

static inline struct resolver_hosts *hosts_of(const char *text)
{
    char path[] = "/tmp/splitmx-resolver-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
    struct resolver_hosts *hosts = resolver_hosts_read(path);
    unlink(path);
    assert_non_null(hosts);
    return hosts;
}

static inline void bench_open(struct bench *bench, const char *const *servers, size_t count,
                              const char *hosts, uint64_t seed)
{
    const struct net_address own = ip(OWN, 25);
    assert_int_equal(uv_loop_init(&bench->loop), 0);
    bench->hosts = hosts != NULL ? hosts_of(hosts) : NULL;
    const struct resolver_options options = {.servers = servers,
                                             .server_count = count,
                                             .hosts = bench->hosts,
                                             .own = &own,
                                             .own_count = 1,
                                             .seed = seed};
    bench->resolver = resolver_new(&bench->loop, &options);
    assert_non_null(bench->resolver);
}

static inline void bench_close(struct bench *bench)
{
    if (bench->resolver != NULL)
        resolver_close(bench->resolver);
    uv_run(&bench->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&bench->loop), 0);
    resolver_hosts_unref(bench->hosts);
}

static inline void on_answer(void *context, const struct resolver_answer *answer)
{
    struct seen *seen = context;
    seen->calls++;
    seen->status = answer->status;
    seen->count = answer->count;
    for (size_t i = 0; i < answer->count; i++)
        seen->addresses[i] = answer->addresses[i];
    if (answer->status != RESOLVER_OK) {
        assert_non_null(answer->why);
        assert_int_equal(answer->count, 0);
        snprintf(seen->why, sizeof(seen->why), "%s", answer->why);
    }
}

static inline void on_name(void *context, const struct resolver_name *name)
{
    struct seen *seen = context;
    const char *confirmed = name->confirmed, *reverse = name->reverse;
    seen->calls++;
    snprintf(seen->name, sizeof(seen->name), "%s", confirmed != NULL ? confirmed : "-");
    snprintf(seen->reverse, sizeof(seen->reverse), "%s", reverse != NULL ? reverse : "-");
    seen->later = name->later;
}

static inline struct nexthop hop_of(enum nexthop_kind kind, const char *host)
{
    struct nexthop hop = {.kind = kind, .port = 25};
    snprintf(hop.host, sizeof(hop.host), "%s", host);
    return hop;
}

/* UV_RUN_ONCE would call back in its first half and then wait for something else. */
static inline void turn(struct bench *bench)
{
    struct pollfd ready = {.fd = uv_backend_fd(&bench->loop), .events = POLLIN};
    poll(&ready, 1, uv_backend_timeout(&bench->loop));
    uv_run(&bench->loop, UV_RUN_NOWAIT);
}

static inline void await(struct bench *bench, const struct seen *seen)
{
    while (seen->calls == 0)
        turn(bench);
    assert_int_equal(seen->calls, 1);
}

static inline struct seen ask(struct bench *bench, enum nexthop_kind kind, const char *host)
{
    struct seen seen = {0};
    const struct nexthop hop = hop_of(kind, host);
    assert_non_null(resolver_nexthop(bench->resolver, &hop, SPAN(""), on_answer, &seen));
    assert_int_equal(seen.calls, 0);
    await(bench, &seen);
    return seen;
}

static inline struct seen ask_name(struct bench *bench, const char *address)
{
    struct seen seen = {0};
    const struct net_address client = ip(address, 40000);
    assert_non_null(resolver_ptr(bench->resolver, &client, on_name, &seen));
    assert_int_equal(seen.calls, 0);
    await(bench, &seen);
    return seen;
}

/* "address=host address=host" in the order to be tried, as text. */
static inline void assert_addresses(const struct seen *seen, const char *wanted)
{
    char got[4096] = "";
    size_t len = 0;
    for (size_t i = 0; i < seen->count; i++) {
        char text[NET_ADDRESS_TEXT];
        net_address_text_port(&seen->addresses[i].address, text, sizeof(text));
        len += (size_t)snprintf(got + len, sizeof(got) - len, "%s%s=%s", i > 0 ? " " : "", text,
                                seen->addresses[i].host);
    }
    /* With the words of the failure, if there was one. */
    if (seen->status != RESOLVER_OK)
        snprintf(got, sizeof(got), "status %d: %s", (int)seen->status, seen->why);
    assert_string_equal(got, wanted);
}

#endif
