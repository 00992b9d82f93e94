#include "config/net_address.h"

#include <arpa/inet.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/un.h>

#include "config/text.h"

#define LITERAL_MAX 64 /* more than any IP literal has */

static void set_in4(struct net_address *out, struct in_addr address, in_port_t port)
{
    memset(out, 0, sizeof(*out));
    out->in4.sin_family = AF_INET;
    out->in4.sin_addr = address;
    out->in4.sin_port = port;
}

static void set_in6(struct net_address *out, const struct in6_addr *address, in_port_t port)
{
    if (IN6_IS_ADDR_V4MAPPED(address)) {
        struct in_addr four;
        memcpy(&four, &address->s6_addr[12], sizeof(four));
        set_in4(out, four, port);
        return;
    }
    memset(out, 0, sizeof(*out));
    out->in6.sin6_family = AF_INET6;
    out->in6.sin6_addr = *address;
    out->in6.sin6_port = port;
}

bool net_address_parse(struct span text, uint16_t port, struct net_address *out)
{
    char literal[LITERAL_MAX];
    struct in_addr four;
    struct in6_addr six;
    struct text copy = TEXT(literal);
    if (text.len == 0 || memchr(text.ptr, '\0', text.len)) {
        return false;
    }
    text_put(&copy, text);
    if (copy.full) {
        return false;
    }
    if (inet_pton(AF_INET, literal, &four) == 1) {
        set_in4(out, four, htons(port));
    } else if (inet_pton(AF_INET6, literal, &six) == 1) {
        set_in6(out, &six, htons(port));
    } else {
        return false;
    }
    return true;
}

bool net_address_unix(struct span path, struct net_address *out)
{
    if (path.len == 0 || path.len >= sizeof(out->local.sun_path) ||
        memchr(path.ptr, '\0', path.len)) {
        return false;
    }
    memset(out, 0, sizeof(*out));
    out->local.sun_family = AF_UNIX;
    memcpy(out->local.sun_path, path.ptr, path.len);
    return true;
}

bool net_address_from(const struct sockaddr *sa, struct net_address *out)
{
    if (sa->sa_family == AF_INET) {
        struct sockaddr_in four;
        memcpy(&four, sa, sizeof(four));
        set_in4(out, four.sin_addr, four.sin_port);
        return true;
    }
    if (sa->sa_family == AF_INET6) {
        struct sockaddr_in6 six;
        memcpy(&six, sa, sizeof(six));
        set_in6(out, &six.sin6_addr, six.sin6_port);
        if (out->any.sa_family == AF_INET6 && IN6_IS_ADDR_LINKLOCAL(&six.sin6_addr)) {
            out->in6.sin6_scope_id = six.sin6_scope_id; /* without it nobody can answer */
        }
        return true;
    }
    return false;
}

socklen_t net_address_length(const struct net_address *address)
{
    if (address->any.sa_family == AF_INET) {
        return sizeof(address->in4);
    }
    if (address->any.sa_family == AF_INET6) {
        return sizeof(address->in6);
    }
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) +
                       strnlen(address->local.sun_path, sizeof(address->local.sun_path) - 1) + 1);
}

uint16_t net_address_port(const struct net_address *address)
{
    if (address->any.sa_family == AF_INET) {
        return ntohs(address->in4.sin_port);
    }
    if (address->any.sa_family == AF_INET6) {
        return ntohs(address->in6.sin6_port);
    }
    return 0;
}

void net_address_set_port(struct net_address *address, uint16_t port)
{
    if (address->any.sa_family == AF_INET) {
        address->in4.sin_port = htons(port);
    } else if (address->any.sa_family == AF_INET6) {
        address->in6.sin6_port = htons(port);
    }
}

bool net_address_equal(const struct net_address *a, const struct net_address *b)
{
    return memcmp(a, b, sizeof(*a)) == 0;
}

bool net_address_is_local(const struct net_address *address)
{
    if (address->any.sa_family == AF_UNIX) {
        return true;
    }
    if (address->any.sa_family == AF_INET6) {
        const struct in6_addr *six = &address->in6.sin6_addr;
        return IN6_IS_ADDR_LOOPBACK(six) || IN6_IS_ADDR_LINKLOCAL(six) ||
               (six->s6_addr[0] & 0xfe) == 0xfc; /* fc00::/7, RFC 4193 */
    }
    if (address->any.sa_family != AF_INET) {
        return false;
    }
    uint32_t four = ntohl(address->in4.sin_addr.s_addr);
    return four >> 24 == 127 || four >> 24 == 10 || four >> 20 == 0xac1 || /* 172.16.0.0/12 */
           four >> 16 == 0xc0a8 || four >> 16 == 0xa9fe;
}

bool net_address_is_wildcard(const struct net_address *address)
{
    return (address->any.sa_family == AF_INET && address->in4.sin_addr.s_addr == INADDR_ANY) ||
           (address->any.sa_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&address->in6.sin6_addr));
}

/* A wildcard takes in its own family; that of IPv6, IPv4 as well. */
static bool takes_in(const struct net_address *wildcard, const struct net_address *address)
{
    return net_address_is_wildcard(wildcard) && (wildcard->any.sa_family == AF_INET6 ||
                                                 wildcard->any.sa_family == address->any.sa_family);
}

bool net_address_overlap(const struct net_address *a, const struct net_address *b)
{
    if (a->any.sa_family == AF_UNIX || b->any.sa_family == AF_UNIX) {
        return net_address_equal(a, b);
    }
    return net_address_port(a) == net_address_port(b) &&
           (net_address_equal(a, b) || takes_in(a, b) || takes_in(b, a));
}

bool net_address_is_special(const struct net_address *address)
{
    if (address->any.sa_family == AF_INET6) {
        const struct in6_addr *six = &address->in6.sin6_addr;
        return IN6_IS_ADDR_LOOPBACK(six) || IN6_IS_ADDR_UNSPECIFIED(six) ||
               IN6_IS_ADDR_MULTICAST(six) || IN6_IS_ADDR_LINKLOCAL(six);
    }
    if (address->any.sa_family != AF_INET) {
        return true;
    }
    uint32_t four = ntohl(address->in4.sin_addr.s_addr);
    /* 0.0.0.0/8 is "this network" (RFC 1122), which Linux takes for the host itself; 224.0.0.0/4
     * is multicast, 240.0.0.0/4 with the broadcast address behind it reserved. Link-local addresses
     * have no business in DNS (RFC 3927 2.11), and clouds put their own services there. */
    return four >> 24 == 127 || four >> 24 == 0 || four >> 28 >= 0xe || four >> 16 == 0xa9fe;
}

/* Written for each client, and inet_ntop() goes by way of printf(). */
static void put_in4(struct text *text, uint32_t four)
{
    for (unsigned shift = 32; shift != 0;) {
        shift -= 8;
        text_number(text, four >> shift & 0xff);
        text_puts(text, shift != 0 ? "." : "");
    }
}

void net_address_text(const struct net_address *address, char *out, size_t cap)
{
    char literal[INET6_ADDRSTRLEN] = "?";
    struct text text = text_over(out, cap);
    if (address->any.sa_family == AF_UNIX) {
        text_puts(&text, "unix:");
        text_put(&text,
                 span_make(address->local.sun_path,
                           strnlen(address->local.sun_path, sizeof(address->local.sun_path))));
        return;
    }
    if (address->any.sa_family == AF_INET) {
        put_in4(&text, ntohl(address->in4.sin_addr.s_addr));
        return;
    }
    if (address->any.sa_family == AF_INET6) {
        inet_ntop(AF_INET6, &address->in6.sin6_addr, literal, sizeof(literal));
    }
    text_puts(&text, literal);
}

void net_address_text_port(const struct net_address *address, char *out, size_t cap)
{
    char literal[NET_ADDRESS_TEXT];
    struct text text = text_over(out, cap);
    net_address_text(address, literal, sizeof(literal));
    if (address->any.sa_family == AF_INET6) {
        text_printf(&text, "[%s]:%u", literal, net_address_port(address));
    } else if (address->any.sa_family == AF_INET) {
        text_printf(&text, "%s:%u", literal, net_address_port(address));
    } else {
        text_puts(&text, literal);
    }
}

bool host_name_is_numeric(struct span name)
{
    size_t dot = span_rfind(name, '.');
    struct span label = dot < name.len ? span_skip(name, dot + 1) : name;
    for (size_t i = 0; i < label.len; i++) {
        if (label.ptr[i] < '0' || label.ptr[i] > '9') {
            return false;
        }
    }
    return true;
}

bool host_port_split(struct span text, struct span *host, uint16_t *port)
{
    struct net_address literal;
    unsigned long long number;
    size_t colon = span_rfind(text, ':');
    if (colon == text.len || !span_number(span_skip(text, colon + 1), 65535, &number) ||
        number == 0) {
        return false;
    }
    struct span name = span_first(text, colon);
    if (name.len > 0 && name.ptr[0] == '[') {
        if (name.ptr[name.len - 1] != ']') {
            return false;
        }
        name = span_make(name.ptr + 1, name.len - 2);
        if (span_find(name, ':') == name.len || !net_address_parse(name, 0, &literal)) {
            return false;
        }
    } else if (!host_name_valid(name)) {
        return false;
    } else if (host_name_is_numeric(name) && !net_address_parse(name, 0, &literal)) {
        return false; /* 300.1.1.1 and 1.2.3 are no names, they are mistyped addresses */
    }
    *host = name;
    *port = (uint16_t)number;
    return true;
}

bool net_address_parse_port(struct span text, struct net_address *out)
{
    struct span host;
    uint16_t port;
    return host_port_split(text, &host, &port) && net_address_parse(host, port, out);
}

static bool is_host_letter(char c)
{
    static const bool letters[256] = {['a' ... 'z'] = true,
                                      ['A' ... 'Z'] = true,
                                      ['0' ... '9'] = true,
                                      ['-'] = true,
                                      ['_'] = true};
    return letters[(unsigned char)c];
}

bool host_name_valid(struct span text)
{
    size_t label = 0; /* its length so far */
    char last = '.';
    if (text.len > 253) {
        return false;
    }
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        bool fine = c == '.' ? label > 0 && last != '-'
                             : is_host_letter(c) && label < 63 && !(label == 0 && c == '-');
        if (!fine) {
            return false;
        }
        label = c == '.' ? 0 : label + 1;
        last = c;
    }
    return label > 0 && last != '-';
}

/* The bits of an address in network order. Only for IPv4 and IPv6. */
static const unsigned char *address_bytes(const struct net_address *address, unsigned *bits)
{
    if (address->any.sa_family == AF_INET) {
        *bits = 32;
        return (const unsigned char *)&address->in4.sin_addr;
    }
    *bits = 128;
    return address->in6.sin6_addr.s6_addr;
}

bool net_prefix_parse(struct span text, struct net_prefix *out)
{
    unsigned whole;
    unsigned long long bits;
    size_t slash = span_find(text, '/');
    struct span literal = span_first(text, slash);
    if (!net_address_parse(literal, 0, &out->address)) {
        return false;
    }
    address_bytes(&out->address, &whole);
    out->bits = whole;
    if (slash == text.len) {
        return true;
    }
    /* ::ffff:a.b.c.d/n has become IPv4, so its n counts from the 96 bits that went. */
    bool mapped = whole == 32 && span_find(literal, ':') < literal.len;
    if (!span_number(span_skip(text, slash + 1), mapped ? 128 : whole, &bits)) {
        return false;
    }
    if (mapped && bits < 96) {
        return false;
    }
    out->bits = (unsigned)bits - (mapped ? 96 : 0);
    return true;
}

bool net_prefix_holds(const struct net_prefix *prefix, const struct net_address *address)
{
    unsigned whole;
    if (prefix->address.any.sa_family != address->any.sa_family ||
        (address->any.sa_family != AF_INET && address->any.sa_family != AF_INET6)) {
        return false;
    }
    const unsigned char *a = address_bytes(&prefix->address, &whole);
    const unsigned char *b = address_bytes(address, &whole);
    size_t bytes = prefix->bits / 8;
    unsigned rest = prefix->bits % 8;
    if (memcmp(a, b, bytes) != 0) {
        return false;
    }
    return rest == 0 || ((a[bytes] ^ b[bytes]) >> (8 - rest)) == 0;
}
