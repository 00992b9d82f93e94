#include "proxy/admin/host.h"

#include <arpa/inet.h>

#include "config/text.h"

static bool is_loopback(const struct sockaddr *at)
{
    if (at->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)at;
        return ntohl(in->sin_addr.s_addr) >> 24 == 127;
    }
    if (at->sa_family == AF_INET6) {
        const struct in6_addr *in = &((const struct sockaddr_in6 *)(const void *)at)->sin6_addr;
        return IN6_IS_ADDR_LOOPBACK(in) || (IN6_IS_ADDR_V4MAPPED(in) && in->s6_addr[12] == 127);
    }
    return true; /* nothing that has a name comes in there */
}

static bool is_address(int family, struct span text)
{
    char buffer[INET6_ADDRSTRLEN], unused[sizeof(struct in6_addr)];
    struct text copy = TEXT(buffer);
    text_put(&copy, text);
    return !copy.full && inet_pton(family, buffer, unused) == 1;
}

/* Digits, or nothing: browsers leave out 80. */
static bool is_port(struct span text)
{
    unsigned long long unused;
    return text.len == 0 || (text.ptr[0] == ':' && span_number(span_skip(text, 1), 65535, &unused));
}

static bool is_localhost(struct span name)
{
    if (name.len > 0 && name.ptr[name.len - 1] == '.') {
        name = span_first(name, name.len - 1);
    }
    const struct span last = span_skip(name, span_rfind(name, '.') + 1);
    return span_equal_fold(name, SPAN("localhost")) ||
           (name.len > 10 && last.len > 0 && span_equal_fold(last, SPAN("localhost")));
}

bool host_is_fine(const struct sockaddr *at, const char *host)
{
    if (host == NULL || !is_loopback(at)) {
        return true;
    }
    const struct span all = span_of(host);
    if (all.len > 0 && all.ptr[0] == '[') {
        const size_t end = span_find(all, ']');
        return end < all.len && is_address(AF_INET6, span_skip(span_first(all, end), 1)) &&
               is_port(span_skip(all, end + 1));
    }
    const size_t colon = span_find(all, ':');
    const struct span name = span_first(all, colon);
    return is_port(span_skip(all, colon)) && (is_address(AF_INET, name) || is_localhost(name));
}
