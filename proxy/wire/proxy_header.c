#include "proxy/wire/proxy_header.h"

#include <arpa/inet.h>

#define V2_FIXED 16 /* signature, version and command, family and protocol, length (2.2) */
#define V2_TLV   3  /* a TLV's type and length */

enum v2_command { V2_LOCAL, V2_PROXY };
enum v2_family { V2_UNSPEC, V2_INET, V2_INET6, V2_UNIX };
enum v2_protocol { V2_ANY, V2_STREAM, V2_DGRAM };

/* The word before the next blank, which must be there: single blanks separate (2.1). */
static bool word_take(struct span *rest, struct span *word)
{
    const size_t blank = span_find(*rest, ' ');

    if (blank == rest->len) {
        return false;
    }
    *word = span_first(*rest, blank);
    *rest = span_skip(*rest, blank + 1);
    return true;
}

static bool port_parse(struct span word, uint16_t *port)
{
    unsigned long long number;

    if (!span_number(word, UINT16_MAX, &number) || (word.len > 1 && word.ptr[0] == '0')) {
        return false;
    }
    *port = (uint16_t)number;
    return true;
}

/* An address of the family that the line has announced. A colon tells them apart as they are
 * spelt: what is read from "::ffff:192.0.2.1" is IPv4. */
static bool address_parse(struct span word, bool six, uint16_t port, struct net_address *out)
{
    return (span_find(word, ':') < word.len) == six && net_address_parse(word, port, out);
}

/* The line without CRLF (2.1). */
static bool v1_line(struct span line, struct proxy_header *out)
{
    struct span rest = span_skip(line, strlen("PROXY ")), family, source, destination, port;
    uint16_t from, to;

    if (span_equal(rest, SPAN("UNKNOWN")) || span_starts(rest, SPAN("UNKNOWN "))) {
        return true;
    }
    if (!word_take(&rest, &family) || !word_take(&rest, &source) ||
        !word_take(&rest, &destination) || !word_take(&rest, &port)) {
        return false;
    }
    const bool six = span_equal(family, SPAN("TCP6"));
    out->kind = PROXY_ADDRESSES;
    return (six || span_equal(family, SPAN("TCP4"))) && port_parse(port, &from) &&
           port_parse(rest, &to) && address_parse(source, six, from, &out->source) &&
           address_parse(destination, six, to, &out->destination);
}

static enum proxy_status v1_parse(struct span input, struct proxy_header *out, size_t *used)
{
    const struct span signature = SPAN("PROXY ");
    const struct span line = span_first(input, PROXY_V1_MAX);
    const size_t seen = line.len < signature.len ? line.len : signature.len;

    if (memcmp(line.ptr, signature.ptr, seen) != 0) {
        return PROXY_BAD;
    }
    const size_t cr = span_find(line, '\r');
    if (span_find(line, '\n') < cr) {
        return PROXY_BAD;
    }
    if (cr + 1 >= line.len) {
        return line.len < PROXY_V1_MAX ? PROXY_MORE : PROXY_BAD;
    }
    if (line.ptr[cr + 1] != '\n' || !v1_line(span_first(line, cr), out)) {
        return PROXY_BAD;
    }
    *used = cr + 2;
    return PROXY_OK;
}

static unsigned byte_at(struct span s, size_t i)
{
    return (unsigned char)s.ptr[i];
}

static size_t length_at(struct span s, size_t i)
{
    return byte_at(s, i) << 8 | byte_at(s, i + 1);
}

/* Both octets are of values that version 2 knows and a mail server can use. A LOCAL header's family
 * is not looked at (2.2). */
static bool v2_kind_valid(unsigned command, unsigned family)
{
    if (command >> 4 != 2 || (command & 0xf) > V2_PROXY) {
        return false;
    }
    return (command & 0xf) == V2_LOCAL || (family >> 4 <= V2_UNIX && (family & 0xf) < V2_DGRAM);
}

/* IPv4: 4 + 4 octets and two ports; IPv6: 16 + 16 and two ports. */
static void v2_inet(struct span block, struct proxy_header *out)
{
    struct sockaddr_in source = {.sin_family = AF_INET}, destination = source;

    memcpy(&source.sin_addr, block.ptr, 4);
    memcpy(&destination.sin_addr, block.ptr + 4, 4);
    memcpy(&source.sin_port, block.ptr + 8, 2);
    memcpy(&destination.sin_port, block.ptr + 10, 2);
    net_address_from((const struct sockaddr *)&source, &out->source);
    net_address_from((const struct sockaddr *)&destination, &out->destination);
}

static void v2_inet6(struct span block, struct proxy_header *out)
{
    struct sockaddr_in6 source = {.sin6_family = AF_INET6}, destination = source;

    memcpy(&source.sin6_addr, block.ptr, 16);
    memcpy(&destination.sin6_addr, block.ptr + 16, 16);
    memcpy(&source.sin6_port, block.ptr + 32, 2);
    memcpy(&destination.sin6_port, block.ptr + 34, 2);
    net_address_from((const struct sockaddr *)&source, &out->source);
    net_address_from((const struct sockaddr *)&destination, &out->destination);
}

/* The TLVs fill what is left of the block, to the octet. */
static bool v2_tlvs_valid(struct span rest)
{
    while (rest.len >= V2_TLV) {
        const size_t whole = V2_TLV + length_at(rest, 1);
        if (whole > rest.len) {
            return false;
        }
        rest = span_skip(rest, whole);
    }
    return rest.len == 0;
}

/* The block of a PROXY command: addresses and TLVs. */
static bool v2_block(unsigned family, struct span block, struct proxy_header *out)
{
    static const unsigned char addresses[] = {
        [V2_UNSPEC] = 0, [V2_INET] = 12, [V2_INET6] = 36, [V2_UNIX] = 216};
    const size_t length = addresses[family >> 4];

    if (family >> 4 == V2_UNSPEC || (family & 0xf) == V2_ANY) {
        return true; /* nobody can say where the TLVs begin */
    }
    if (block.len < length || !v2_tlvs_valid(span_skip(block, length))) {
        return false;
    }
    if (family >> 4 == V2_UNIX) {
        return true;
    }
    out->kind = PROXY_ADDRESSES;
    if (family >> 4 == V2_INET) {
        v2_inet(block, out);
    } else {
        v2_inet6(block, out);
    }
    return true;
}

static enum proxy_status v2_parse(struct span input, struct proxy_header *out, size_t *used)
{
    const struct span signature = SPAN("\r\n\r\n\0\r\nQUIT\n");
    const size_t seen = input.len < signature.len ? input.len : signature.len;

    if (memcmp(input.ptr, signature.ptr, seen) != 0) {
        return PROXY_BAD;
    }
    if (input.len < V2_FIXED) {
        return PROXY_MORE;
    }
    const unsigned command = byte_at(input, 12), family = byte_at(input, 13);
    const size_t length = length_at(input, 14);
    if (!v2_kind_valid(command, family) || length > PROXY_V2_LENGTH_MAX) {
        return PROXY_BAD;
    }
    if (input.len < V2_FIXED + length) {
        return PROXY_MORE;
    }
    if ((command & 0xf) == V2_PROXY &&
        !v2_block(family, span_make(input.ptr + V2_FIXED, length), out)) {
        return PROXY_BAD;
    }
    *used = V2_FIXED + length;
    return PROXY_OK;
}

enum proxy_status proxy_header_parse(struct span input, struct proxy_header *out, size_t *used)
{
    struct proxy_header header = {.kind = PROXY_LOCAL};
    enum proxy_status status;

    if (input.len == 0) {
        return PROXY_MORE;
    }
    status = input.ptr[0] == '\r' ? v2_parse(input, &header, used) : v1_parse(input, &header, used);
    if (status == PROXY_OK) {
        *out = header;
    }
    return status;
}

static bool is_ip(const struct net_address *address)
{
    return address != NULL &&
           (address->any.sa_family == AF_INET || address->any.sa_family == AF_INET6);
}

static void put_address(struct text *out, const struct net_address *address, bool six)
{
    char literal[NET_ADDRESS_TEXT];

    net_address_text(address, literal, sizeof literal);
    text_puts(out, six && address->any.sa_family == AF_INET ? " ::ffff:" : " ");
    text_puts(out, literal);
}

void proxy_header_write(const struct net_address *source, const struct net_address *destination,
                        struct text *out)
{
    if (!is_ip(source) || !is_ip(destination)) {
        text_puts(out, "PROXY UNKNOWN\r\n");
        return;
    }
    const bool six = source->any.sa_family == AF_INET6 || destination->any.sa_family == AF_INET6;
    text_puts(out, six ? "PROXY TCP6" : "PROXY TCP4");
    put_address(out, source, six);
    put_address(out, destination, six);
    text_printf(out, " %u %u\r\n", net_address_port(source), net_address_port(destination));
}
