#include "proxy/wire/xclient.h"

/* A value as it is sent, and where it is kept until it is. */
struct value {
    char ptr[XCLIENT_VALUE_MAX + 1];
    struct text text;
};

static struct span attribute_name(enum xclient_attribute attribute)
{
    switch (attribute) {
    case XCLIENT_LOGIN:
        return SPAN("LOGIN");
    case XCLIENT_DESTADDR:
        return SPAN("DESTADDR");
    case XCLIENT_DESTPORT:
        return SPAN("DESTPORT");
    case XCLIENT_REVERSE_NAME:
        return SPAN("REVERSE_NAME");
    case XCLIENT_PORT:
        return SPAN("PORT");
    case XCLIENT_PROTO:
        return SPAN("PROTO");
    case XCLIENT_HELO:
        return SPAN("HELO");
    case XCLIENT_NAME:
        return SPAN("NAME");
    case XCLIENT_ADDR:
        return SPAN("ADDR");
    case XCLIENT_ATTRIBUTES:
        break;
    }
    return SPAN("");
}

bool xclient_offer_line(struct span line, unsigned *attributes)
{
    const struct span keyword = span_first(line, span_find(line, ' '));

    if (!span_equal_fold(keyword, SPAN("XCLIENT"))) {
        return false;
    }
    *attributes = 0;
    struct span rest = span_skip(line, keyword.len + 1);
    while (rest.len > 0) {
        const struct span word = span_first(rest, span_find(rest, ' '));
        for (unsigned i = 0; i < XCLIENT_ATTRIBUTES; i++) {
            if (span_equal_fold(word, attribute_name((enum xclient_attribute)i))) {
                *attributes |= XCLIENT_BIT(i);
            }
        }
        rest = span_skip(rest, word.len + 1);
    }
    return true;
}

/*
 * What stands for itself; any other octet is "+XX". RFC 3461 4 would let all printable ASCII but
 * '+' and '=' do so, but Postfix splits the line as it does addresses before it decodes it: an open
 * quote, '<' or '\\' in HELO would swallow the attributes behind it, and the client be taken for
 * us.
 */
static bool is_plain(char c)
{
    const char lower = ascii_lower(c);
    return (lower >= 'a' && lower <= 'z') || (c >= '0' && c <= '9') ||
           (c != '\0' && strchr(".:-_[]", c) != NULL);
}

static void put_xtext(struct text *out, struct span raw)
{
    for (size_t i = 0; i < raw.len; i++) {
        const char c = raw.ptr[i];
        if (is_plain(c)) {
            text_putc(out, c);
        } else {
            text_printf(out, "+%02X", (unsigned char)c);
        }
    }
}

static bool is_ip(const struct net_address *address)
{
    return address != NULL &&
           (address->any.sa_family == AF_INET || address->any.sa_family == AF_INET6);
}

/* Nothing when the address is not known. */
static void put_address(struct text *out, const struct net_address *address)
{
    char literal[NET_ADDRESS_TEXT];

    if (is_ip(address)) {
        net_address_text(address, literal, sizeof literal);
        text_puts(out, address->any.sa_family == AF_INET6 ? "IPV6:" : "");
        text_puts(out, literal);
    }
}

static void put_port(struct text *out, const struct net_address *address)
{
    if (is_ip(address) && net_address_port(address) != 0) {
        text_printf(out, "%u", net_address_port(address));
    }
}

/* Postfix answers 501 to what is no host name, and that would be held against the client. */
static void put_host(struct text *out, const char *name, bool later)
{
    if (name != NULL && host_name_valid(span_of(name)) && !host_name_is_numeric(span_of(name))) {
        text_puts(out, name);
    } else if (name == NULL && later) {
        text_puts(out, "[TEMPUNAVAIL]");
    }
}

/* What is sent for an attribute; never empty, which Postfix answers 501 to as well. */
static struct span value_make(const struct xclient_values *values, enum xclient_attribute attribute,
                              struct value *value)
{
    struct text *out = &value->text;

    *out = text_over(value->ptr, sizeof value->ptr);
    switch (attribute) {
    case XCLIENT_DESTADDR:
        put_address(out, values->destination);
        break;
    case XCLIENT_DESTPORT:
        put_port(out, values->destination);
        break;
    case XCLIENT_REVERSE_NAME:
        put_host(out, values->reverse_name, values->names_later);
        break;
    case XCLIENT_PORT:
        put_port(out, values->client);
        break;
    case XCLIENT_PROTO:
        text_puts(out, values->esmtp ? "ESMTP" : "SMTP");
        break;
    case XCLIENT_HELO:
        put_xtext(out, values->helo);
        break;
    case XCLIENT_NAME:
        put_host(out, values->name, values->names_later);
        break;
    case XCLIENT_ADDR:
        put_address(out, values->client);
        break;
    case XCLIENT_LOGIN:
    case XCLIENT_ATTRIBUTES:
        break;
    }
    return out->len == 0 || out->full ? SPAN("[UNAVAILABLE]") : text_span(out);
}

void xclient_init(struct xclient_writer *writer, const struct xclient_values *values,
                  unsigned attributes)
{
    writer->values = *values;
    writer->left = attributes & (XCLIENT_BIT(XCLIENT_ATTRIBUTES) - 1);
}

/* The first attribute that is not on the next line. Lines are filled from the last one backwards,
 * so that the last is the fullest. */
static unsigned line_end(const struct xclient_writer *writer)
{
    const size_t empty = strlen("XCLIENT\r\n");
    unsigned end = XCLIENT_ATTRIBUTES;
    size_t length = empty;

    for (unsigned i = XCLIENT_ATTRIBUTES; i-- > 0;) {
        const enum xclient_attribute attribute = (enum xclient_attribute)i;
        struct value value;
        if ((writer->left & XCLIENT_BIT(i)) == 0) {
            continue;
        }
        const size_t size = strlen(" =") + attribute_name(attribute).len +
                            value_make(&writer->values, attribute, &value).len;
        if (length + size > XCLIENT_LINE_MAX) {
            end = i + 1;
            length = empty;
        }
        length += size;
    }
    return end;
}

bool xclient_next(struct xclient_writer *writer, struct text *line)
{
    const unsigned end = line_end(writer);

    if (writer->left == 0) {
        return false;
    }
    text_puts(line, "XCLIENT");
    for (unsigned i = 0; i < end; i++) {
        const enum xclient_attribute attribute = (enum xclient_attribute)i;
        struct value value;
        if ((writer->left & XCLIENT_BIT(i)) != 0) {
            text_putc(line, ' ');
            text_put(line, attribute_name(attribute));
            text_putc(line, '=');
            text_put(line, value_make(&writer->values, attribute, &value));
        }
    }
    text_puts(line, "\r\n");
    writer->left &= ~(XCLIENT_BIT(end) - 1);
    return true;
}
