/*
 * XCLIENT: whatever an upstream lists, and whoever the client is, each attribute that is known is
 * told once, in lines that an upstream reads as they are meant.
 *
 * Input, a line each: what the upstream lists (behind "250-"), NAME, REVERSE_NAME, the client's
 * address, ours, flags (`l`: names may come later, `e`: ESMTP); the rest is HELO.
 */
#include <limits.h>

#include "proxy/wire/xclient.h"
#include "tests/fuzz/require.h"

struct input {
    struct span rest;
    char *owned[2];
    struct net_address addresses[2];
    struct xclient_values values;
};

static struct span take_line(struct input *input)
{
    const size_t end = span_find(input->rest, '\n');
    const struct span line = span_first(input->rest, end);
    input->rest = span_skip(input->rest, end + 1);
    return line;
}

/* Empty: there is none. */
static const char *take_name(struct input *input, unsigned number)
{
    const struct span line = take_line(input);
    input->owned[number] = span_dup(line);
    require(input->owned[number] != NULL);
    return line.len > 0 ? input->owned[number] : NULL;
}

static const struct net_address *take_address(struct input *input, unsigned number)
{
    return net_address_parse(take_line(input), (uint16_t)(1025 * number), &input->addresses[number])
               ? &input->addresses[number]
               : NULL;
}

static struct span attribute_names[] = {{"LOGIN", 5},         {"DESTADDR", 8}, {"DESTPORT", 8},
                                        {"REVERSE_NAME", 12}, {"PORT", 4},     {"PROTO", 5},
                                        {"HELO", 4},          {"NAME", 4},     {"ADDR", 4}};

static bool is_hex(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'F');
}

static unsigned hex(char c)
{
    return (unsigned)(c <= '9' ? c - '0' : c - 'A' + 10);
}

/* As an upstream decodes it (RFC 3461 4). */
static struct span decode(struct span value, char *out)
{
    size_t len = 0;
    for (size_t i = 0; i < value.len; i++) {
        char c = value.ptr[i];
        require(c > ' ' && c < 0x7f && c != '=');
        require(strchr("\"\\<>(),;@", c) == NULL); /* what Postfix takes for an address' */
        if (c == '+') {
            require(i + 2 < value.len && is_hex(value.ptr[i + 1]) && is_hex(value.ptr[i + 2]));
            c = (char)(hex(value.ptr[i + 1]) << 4 | hex(value.ptr[i + 2]));
            i += 2;
        }
        out[len++] = c;
    }
    return span_make(out, len);
}

static void require_host(struct span value, bool may_come_later)
{
    require(host_name_valid(value) || span_equal(value, SPAN("[UNAVAILABLE]")) ||
            (may_come_later && span_equal(value, SPAN("[TEMPUNAVAIL]"))));
}

static void require_value(const struct xclient_values *values, unsigned attribute,
                          struct span value)
{
    char bytes[XCLIENT_VALUE_MAX];
    require(value.len > 0 && value.len <= XCLIENT_VALUE_MAX);
    const struct span plain = decode(value, bytes);
    const bool absent = span_equal(value, SPAN("[UNAVAILABLE]"));
    switch ((enum xclient_attribute)attribute) {
    case XCLIENT_HELO:
        /* What takes more room than there is, is not told. */
        require(span_equal(plain, values->helo) ||
                (absent && (values->helo.len == 0 || 3 * values->helo.len > XCLIENT_VALUE_MAX)));
        return;
    case XCLIENT_NAME:
    case XCLIENT_REVERSE_NAME:
        require_host(value, values->names_later);
        return;
    case XCLIENT_LOGIN:
        require(absent);
        return;
    case XCLIENT_ADDR:
        require(absent == (values->client == NULL));
        return;
    case XCLIENT_DESTADDR:
        require(absent == (values->destination == NULL));
        return;
    case XCLIENT_PORT:
    case XCLIENT_DESTPORT:
    case XCLIENT_PROTO:
    case XCLIENT_ATTRIBUTES:
        return;
    }
}

/* "XCLIENT NAME=value …": a set of the attributes that it tells. */
static unsigned read_line(const struct xclient_values *values, struct span line)
{
    unsigned told = 0;
    require(line.len <= XCLIENT_LINE_MAX && span_ends(line, SPAN("\r\n")));
    line = span_first(line, line.len - 2);
    require(span_starts_fold(line, SPAN("XCLIENT ")));
    line = span_skip(line, 8);
    while (line.len > 0) {
        const struct span word = span_first(line, span_find(line, ' '));
        const struct span name = span_first(word, span_find(word, '='));
        unsigned i = 0;
        while (i < XCLIENT_ATTRIBUTES && !span_equal(name, attribute_names[i])) {
            i++;
        }
        require(i < XCLIENT_ATTRIBUTES && (told & XCLIENT_BIT(i)) == 0);
        require_value(values, i, span_skip(word, name.len + 1));
        told |= XCLIENT_BIT(i);
        line = span_skip(line, word.len + 1);
    }
    require(told != 0);
    return told;
}

static void require_told(const struct xclient_values *values, unsigned attributes)
{
    struct xclient_writer writer;
    unsigned told = 0, last = 0;
    xclient_init(&writer, values, attributes);
    for (;;) {
        char buffer[XCLIENT_LINE_MAX + 1];
        struct text line = TEXT(buffer);
        if (!xclient_next(&writer, &line)) {
            break;
        }
        require(!line.full);
        last = read_line(values, text_span(&line));
        require((told & last) == 0);
        told |= last;
    }
    require(told == attributes);
    /* Name and address are in the last line: once they are told we may say nothing more. */
    const unsigned who = XCLIENT_BIT(XCLIENT_NAME) | XCLIENT_BIT(XCLIENT_ADDR);
    require((told & who) == (last & who));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {.rest = span_make((const char *)data, size)};
    unsigned attributes = UINT_MAX;
    if (xclient_offer_line(take_line(&input), &attributes)) {
        require(attributes < XCLIENT_BIT(XCLIENT_ATTRIBUTES));
    } else {
        require(attributes == UINT_MAX);
        attributes = XCLIENT_BIT(XCLIENT_ATTRIBUTES) - 1;
    }
    input.values.name = take_name(&input, 0);
    input.values.reverse_name = take_name(&input, 1);
    input.values.client = take_address(&input, 0);
    input.values.destination = take_address(&input, 1);
    const struct span flags = take_line(&input);
    input.values.names_later = span_find(flags, 'l') < flags.len;
    input.values.esmtp = span_find(flags, 'e') < flags.len;
    input.values.helo = input.rest;
    require_told(&input.values, attributes);
    free(input.owned[0]);
    free(input.owned[1]);
    return 0;
}
