/*
 * The header section: hops and our own mark are counted the same however it is cut; and our own
 * field, whatever strangers are called, is one field in short lines in which the watch finds what
 * we wrote, and nothing else.
 *
 * Input, a line each: HELO, the PTR record's name, the recipient; the rest is a message.
 */
#include "proxy/wire/header.h"
#include "proxy/wire/received.h"
#include "routing/address.h"
#include "tests/fuzz/require.h"

#define HOSTNAME "mx.example.com"

struct seen {
    unsigned received;
    bool done, own_fallback;
};

/* step 0: lengths of the pieces are taken from the message itself. */
static struct seen watch(struct span before, struct span in, size_t step)
{
    struct header_watch watch;
    header_watch_init(&watch, SPAN(HOSTNAME));
    header_watch_feed(&watch, before);
    while (in.len > 0) {
        const size_t next = step > 0 ? step : (unsigned char)in.ptr[0] % 7u + 1;
        header_watch_feed(&watch, span_first(in, next));
        in = span_skip(in, next);
    }
    return (struct seen){watch.received, watch.done, watch.own_fallback};
}

static void require_same(struct seen a, struct seen b)
{
    require(a.received == b.received && a.done == b.done && a.own_fallback == b.own_fallback);
}

static struct span take_line(struct span *rest)
{
    const struct span line = span_first(*rest, span_find(*rest, '\n'));
    *rest = span_skip(*rest, line.len + 1);
    return line;
}

/* Lines that end in CRLF and hold no other CR or LF; all but the first begin with a tab. */
static void require_lines(struct span field)
{
    require(span_starts_fold(field, SPAN("Received: ")) && span_ends(field, SPAN("\r\n")));
    for (bool first = true; field.len > 0; first = false) {
        const size_t end = span_find(field, '\n');
        require(end > 1 && end < 998 && field.ptr[end - 1] == '\r');
        require(first || field.ptr[0] == '\t');
        const struct span line = span_first(span_skip(field, first ? 0 : 1), end - (first ? 1 : 2));
        require_printable(line);
        field = span_skip(field, end + 1);
    }
}

static struct span write_field(const struct received *received, char *buffer)
{
    struct text text = text_over(buffer, RECEIVED_MAX);
    received_write(received, &text);
    require(!text.full);
    require_lines(text_span(&text));
    return text_span(&text);
}

/* A message without a header whose first line begins with a blank: a transaction ends the header
 * behind our field then. */
static bool continues(struct span message)
{
    const struct span line = span_skip(message, span_starts_fold(message, SPAN(".")) ? 1 : 0);
    return line.len > 0 && (line.ptr[0] == ' ' || line.ptr[0] == '\t');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char fields[2][RECEIVED_MAX];
    struct span rest = span_make((const char *)data, size);
    struct received received = {.ip = "2001:db8::1",
                                .hostname = HOSTNAME,
                                .protocol = "ESMTPS",
                                .id = "abcdefghijkl.1",
                                .tls = "TLSv1.3 TLS_AES_256_GCM_SHA384",
                                .when = 1800000000};
    received.helo = take_line(&rest);
    char *name = span_dup(take_line(&rest));
    require(name != NULL);
    received.ptr_name = name;
    /* Whom nobody can be called is refused at RCPT. */
    struct address address;
    const struct span recipient = take_line(&rest);
    if (address_parse(recipient, true, true, &address) == ADDRESS_OK) {
        received.recipient = address.whole;
    }

    const struct seen whole = watch(SPAN(""), rest, size + 1);
    require_same(watch(SPAN(""), rest, 1), whole);
    require_same(watch(SPAN(""), rest, 0), whole);

    const struct span plain = write_field(&received, fields[0]);
    received.fallback = true;
    const struct span marked = write_field(&received, fields[1]);
    if (continues(rest)) {
        free(name);
        return 0;
    }
    /* In front of the message they are a hop each, and only the mark is one. */
    require_same(watch(plain, rest, size + 1),
                 (struct seen){whole.received + 1, whole.done, whole.own_fallback});
    require_same(watch(marked, rest, 1), (struct seen){whole.received + 1, whole.done, true});
    free(name);
    return 0;
}
