#include "routing/nexthop.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "config/diag.h"
#include "config/text.h"

#define SMTP_PORT      25
#define REPLY_TEXT_MAX 400 /* leaves room for code and enhanced code in a 512 octet reply line */
#define RELAY_NAME_MAX 64

/* Where a parse stands: what it reads, and how it says what is wrong. */
struct parser {
    struct span text; /* the whole destination */
    enum transport_dialect dialect;
    char *why;
    size_t why_cap;
    size_t *where;
};

/* Always false, so that callers can return it. `at` points into the text. */
__attribute__((format(printf, 3, 4))) static bool fail(struct parser *parser, const char *at,
                                                       const char *format, ...)
{
    va_list args;
    *parser->where = (size_t)(at - parser->text.ptr);
    va_start(args, format);
    if (vsnprintf(parser->why, parser->why_cap, format, args) < 0 && parser->why_cap > 0) {
        parser->why[0] = '\0';
    }
    va_end(args);
    return false;
}

static bool parse_port(struct parser *parser, struct span text, uint16_t *port)
{
    unsigned long long number;
    if (!span_number(text, UINT16_MAX, &number) || number == 0) {
        return fail(parser, text.ptr, "`%.*s` is no port: expected a number from 1 to 65535",
                    SPAN_ARGS(text));
    }
    *port = (uint16_t)number;
    return true;
}

static bool set_host(struct parser *parser, struct span host, struct nexthop *hop)
{
    if (host.len > NEXTHOP_HOST_MAX || !host_name_valid(host) || host_name_is_numeric(host)) {
        return fail(parser, host.ptr, "`%.*s` is no host name and no IP address", SPAN_ARGS(host));
    }
    for (size_t i = 0; i < host.len; i++) {
        hop->host[i] = ascii_lower(host.ptr[i]);
    }
    hop->host[host.len] = '\0';
    return true;
}

static void set_address(struct nexthop *hop)
{
    char text[NET_ADDRESS_TEXT];
    struct text host = TEXT(hop->host);
    net_address_text(&hop->address, text, sizeof(text));
    text_puts(&host, text);
    hop->kind = NEXTHOP_ADDRESS;
}

static bool parse_unix(struct parser *parser, struct span path, bool has_port, struct nexthop *hop)
{
    if (path.len == 0 || path.ptr[0] != '/' || !net_address_unix(path, &hop->address)) {
        return fail(parser, path.ptr,
                    "expected the absolute path of a socket (at most 107 bytes) after `unix:`");
    }
    if (has_port) {
        return fail(parser, path.ptr, "a unix socket has no port");
    }
    hop->port = 0;
    set_address(hop);
    return true;
}

/* "[host]", "[IPv4]", "[IPv6]", "[IPv6:…]", "[unix:/path]", each with ":port" but the last. */
static bool parse_bracketed(struct parser *parser, struct span text, struct nexthop *hop)
{
    size_t close = span_find(text, ']');
    if (close == text.len) {
        return fail(parser, text.ptr, "`[` without `]`: expected `[host]` or `[host]:port`");
    }
    struct span inside = span_make(text.ptr + 1, close - 1);
    struct span behind = span_skip(text, close + 1);
    if (behind.len > 0 && behind.ptr[0] != ':') {
        return fail(parser, behind.ptr,
                    "expected `:port` or nothing after `]`, or a comma and another next hop");
    }
    hop->port = SMTP_PORT;
    if (behind.len > 0 && !parse_port(parser, span_skip(behind, 1), &hop->port)) {
        return false;
    }
    if (inside.len == 0) {
        return fail(parser, text.ptr,
                    "nothing between the brackets: expected a host or an address");
    }
    if (span_starts_fold(inside, SPAN("unix:"))) {
        return parse_unix(parser, span_skip(inside, 5), behind.len > 0, hop);
    }
    bool tagged = span_starts_fold(inside, SPAN("IPv6:"));
    struct span literal = tagged ? span_skip(inside, 5) : inside;
    bool colons = span_find(literal, ':') < literal.len;
    if ((colons || !tagged) && net_address_parse(literal, hop->port, &hop->address)) {
        set_address(hop);
        return true;
    }
    if (colons || tagged) {
        return fail(parser, inside.ptr, "`%.*s` is no IPv6 address", SPAN_ARGS(inside));
    }
    hop->kind = NEXTHOP_HOST;
    return set_host(parser, inside, hop);
}

static bool parse_hop(struct parser *parser, struct span text, struct nexthop *hop)
{
    struct net_address literal;
    *hop = (struct nexthop){.kind = NEXTHOP_MX, .port = SMTP_PORT};
    if (text.len == 0) {
        return fail(parser, text.ptr, "a next hop is missing beside a comma");
    }
    if (text.ptr[0] == '[') {
        return parse_bracketed(parser, text, hop);
    }
    size_t colon = span_find(text, ':');
    struct span host = span_first(text, colon);
    unsigned long long number;
    /* A host may be called so; then a port is behind it. */
    if ((span_starts_fold(text, SPAN("smtp:")) || span_starts_fold(text, SPAN("relay:"))) &&
        !span_number(span_skip(text, colon + 1), UINT16_MAX, &number)) {
        return fail(parser, text.ptr,
                    "`%.*s:` is written once, in front of the whole list: `smtp:[a],[b]`",
                    SPAN_ARGS(host));
    }
    if (net_address_parse(text, 0, &literal)) {
        return fail(parser, text.ptr, "an address is written in brackets: [%.*s]", SPAN_ARGS(text));
    }
    if (colon < text.len && !parse_port(parser, span_skip(text, colon + 1), &hop->port)) {
        return false;
    }
    if (net_address_parse(host, 0, &literal)) {
        return fail(parser, text.ptr, "an address is written in brackets: [%.*s]", SPAN_ARGS(host));
    }
    return set_host(parser, host, hop);
}

/* Up to the next comma outside brackets (a socket's path may hold commas). */
static struct span next_element(struct span rest)
{
    bool bracket = false;
    size_t end = 0;
    while (end < rest.len && (bracket || rest.ptr[end] != ',')) {
        bracket = rest.ptr[end] == '[' ? true : rest.ptr[end] == ']' ? false : bracket;
        end++;
    }
    return span_first(rest, end);
}

static bool parse_hops(struct parser *parser, struct span rest, struct transport *out)
{
    struct nexthop hops[NEXTHOPS_MAX];
    size_t count = 0;
    bool more = span_trim(rest).len > 0;
    if (!more) {
        hops[count++] = (struct nexthop){.kind = NEXTHOP_DOMAIN, .port = SMTP_PORT};
    }
    while (more) {
        struct span element = next_element(rest);
        if (count == NEXTHOPS_MAX) {
            return fail(parser, rest.ptr, "more than %d next hops", NEXTHOPS_MAX);
        }
        if (!parse_hop(parser, span_trim(element), &hops[count])) {
            return false;
        }
        hops[count].priority = (uint16_t)count;
        count++;
        more = element.len < rest.len;
        rest = span_skip(rest, element.len + 1);
    }
    out->hops = malloc(count * sizeof(*hops));
    if (!out->hops) {
        return fail(parser, parser->text.ptr, "out of memory");
    }
    memcpy(out->hops, hops, count * sizeof(*hops));
    out->hop_count = count;
    return true;
}

/* Length of "x.y.z" (RFC 3463) in front of s, before a space or the end; else 0. */
static size_t enhanced_length(struct span s)
{
    size_t i = 0;
    for (int part = 0; part < 3; part++) {
        size_t digits = 0;
        while (i < s.len && s.ptr[i] >= '0' && s.ptr[i] <= '9') {
            i++;
            digits++;
        }
        if (digits == 0 || digits > (part == 0 ? 1 : 3)) {
            return 0;
        }
        if (part < 2) {
            if (i == s.len || s.ptr[i] != '.') {
                return 0;
            }
            i++;
        }
    }
    return i == s.len || s.ptr[i] == ' ' ? i : 0;
}

static bool parse_reply(struct parser *parser, struct span rest, struct transport *out)
{
    struct span words = span_trim(rest);
    bool retry = out->kind == TRANSPORT_RETRY;
    struct text enhanced = TEXT(out->enhanced);
    size_t status = enhanced_length(words);
    char class = retry ? '4' : '5';
    if (status > 0) {
        class = words.ptr[0];
        if (class != '4' && (class != '5' || retry)) {
            return fail(parser, words.ptr, "a status for `%s:` begins with %s (%s)",
                        retry ? "retry" : "error", retry ? "4." : "4. or 5.",
                        retry ? "`error:` refuses with 5." : "as in `error:5.1.1 text`");
        }
        text_put(&enhanced, span_first(words, status));
        words = span_trim(span_skip(words, status));
    } else {
        text_printf(&enhanced, "%c.0.0", class);
    }
    out->code = class == '4' ? 450 : 550;
    if (words.len == 0) {
        words = class == '4' ? SPAN("try again later") : SPAN("recipient refused");
    }
    if (words.len > REPLY_TEXT_MAX) {
        return fail(parser, words.ptr, "the text is longer than %d bytes", REPLY_TEXT_MAX);
    }
    out->text = span_dup(words);
    return out->text ? true : fail(parser, parser->text.ptr, "out of memory");
}

bool transport_is_name(struct span word)
{
    static const char *const names[] = {"smtp", "error", "retry", "discard"};
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        if (span_equal_fold(word, span_of(names[i]))) {
            return true;
        }
    }
    return false;
}

/* A word without a colon: the name of a relay; whether there is one is the caller's to find out. */
static bool parse_relay(struct parser *parser, struct transport *out)
{
    struct span name = parser->text;
    if (transport_is_name(name)) { /* YAML takes the colon away, or stumbles over it */
        return parser->dialect == TRANSPORT_MAP
                   ? fail(parser, name.ptr, "`%.*s` needs a colon: `%.*s:…`", SPAN_ARGS(name),
                          SPAN_ARGS(name))
                   : fail(parser, name.ptr,
                          "`%.*s` is written with a colon, and in quotes: \"%.*s:…\"",
                          SPAN_ARGS(name), SPAN_ARGS(name));
    }
    if (name.len > RELAY_NAME_MAX) {
        return fail(parser, name.ptr, "too long for a relay's name (at most %d bytes)",
                    RELAY_NAME_MAX);
    }
    for (size_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];
        if (c == ' ' || c == ',' || c == '[' || c == ']') {
            return fail(parser, name.ptr + i,
                        "expected a relay's name, `smtp:` with next hops, `error:`, `retry:` or "
                        "`discard:`");
        }
    }
    out->kind = TRANSPORT_RELAY;
    out->text = span_dup(name);
    return out->text ? true : fail(parser, name.ptr, "out of memory");
}

static const char *nearest_name(const struct parser *parser, struct span name)
{
    static const char *const names[] = {"smtp", "error", "retry", "discard", "relay", NULL};
    char word[RELAY_NAME_MAX + 1];
    struct text copy = TEXT(word);
    text_put(&copy, name);
    const char *nearest = copy.full ? NULL : diag_nearest(word, names);
    if (nearest && parser->dialect == TRANSPORT_YAML && strcmp(nearest, "relay") == 0) {
        return NULL;
    }
    return nearest && !span_equal_fold(name, span_of(nearest)) ? nearest : NULL;
}

static bool fail_name(struct parser *parser, struct span name)
{
    if (name.len == 0) {
        return fail(parser, name.ptr,
                    "no transport in front of the colon: expected `smtp:[host]` or the like");
    }
    const char *nearest = nearest_name(parser, name);
    if (nearest) {
        return fail(parser, name.ptr, "transport `%.*s:` is not known here; did you mean `%s:`?",
                    SPAN_ARGS(name), nearest);
    }
    if (span_equal_fold(name, SPAN("relay"))) {
        return fail(parser, name.ptr,
                    "transport `relay:` is not known here: expected `smtp:`, which says the same");
    }
    if (span_find(name, '.') < name.len && host_name_valid(name)) {
        const struct span port = span_skip(parser->text, name.len);
        return fail(parser, name.ptr,
                    "transport `%.*s:` is not known here: a host is written `smtp:[%.*s]%.*s`",
                    SPAN_ARGS(name), SPAN_ARGS(name), SPAN_ARGS(port));
    }
    return fail(
        parser, name.ptr, "transport `%.*s:` is not known here: expected %s", SPAN_ARGS(name),
        parser->dialect == TRANSPORT_MAP ? "`smtp:`, `relay:`, `error:`, `retry:` or `discard:`"
                                         : "`smtp:`, `error:`, `retry:` or `discard:`");
}

static bool parse(struct parser *parser, struct transport *out)
{
    struct span text = parser->text;
    size_t colon = span_find(text, ':');
    struct span name = span_first(text, colon);
    struct span rest = span_skip(text, colon + 1);
    if (text.len == 0) {
        return fail(parser, text.ptr, "no destination");
    }
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] < 0x20 || text.ptr[i] > 0x7e) {
            return fail(parser, text.ptr + i,
                        "a destination holds printable ASCII only (host names in their xn-- form)");
        }
    }
    if (text.ptr[0] == '[') {
        return fail(parser, text.ptr, "a next hop is written with its transport: `smtp:[…]`");
    }
    if (colon == text.len) {
        return parse_relay(parser, out);
    }
    if (span_equal_fold(name, SPAN("smtp")) ||
        (parser->dialect == TRANSPORT_MAP && span_equal_fold(name, SPAN("relay")))) {
        out->kind = TRANSPORT_SMTP;
        return parse_hops(parser, rest, out);
    }
    if (span_equal_fold(name, SPAN("discard"))) { /* words behind it are a comment */
        out->kind = TRANSPORT_DISCARD;
        return true;
    }
    if (span_equal_fold(name, SPAN("error"))) {
        out->kind = TRANSPORT_ERROR;
    } else if (span_equal_fold(name, SPAN("retry"))) {
        out->kind = TRANSPORT_RETRY;
    } else {
        return fail_name(parser, name);
    }
    return parse_reply(parser, rest, out);
}

bool transport_parse(struct span text, enum transport_dialect dialect, struct transport *out,
                     char *why, size_t why_cap, size_t *where)
{
    struct parser parser = {text, dialect, why, why_cap, where};
    *out = (struct transport){.kind = TRANSPORT_RELAY};
    *where = 0;
    if (parse(&parser, out)) {
        return true;
    }
    transport_release(out);
    return false;
}

void transport_release(struct transport *transport)
{
    free(transport->hops);
    free(transport->text);
    *transport = (struct transport){.kind = TRANSPORT_RELAY};
}

void nexthop_text(const struct nexthop *hop, char *out, size_t cap)
{
    struct text text = text_over(out, cap);
    switch (hop->kind) {
    case NEXTHOP_DOMAIN:
        return;
    case NEXTHOP_MX:
        text_printf(&text, "%s:%u", hop->host, hop->port);
        return;
    case NEXTHOP_HOST:
    case NEXTHOP_ADDRESS:
        text_printf(&text, "[%s]", hop->host);
        if (hop->port != 0) {
            text_printf(&text, ":%u", hop->port);
        }
        return;
    }
}
