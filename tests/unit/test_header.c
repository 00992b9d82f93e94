#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proxy/wire/header.h"
#include "proxy/wire/received.h"

static void feed(struct header_watch *watch, struct span in, int round)
{
    header_watch_init(watch, SPAN("mx.example.com"));
    while (in.len > 0) {
        const size_t len = round == 0 ? in.len : round == 1 ? 1 : (size_t)rand() % in.len + 1;
        /* An allocation of its own: what was fed is gone when more comes. */
        char *piece = malloc(len);
        assert_non_null(piece);
        memcpy(piece, in.ptr, len);
        header_watch_feed(watch, span_make(piece, len));
        free(piece);
        in = span_skip(in, len);
    }
}

static void expect(struct span in, unsigned received, bool own_fallback, bool done)
{
    for (int round = 0; round < 30; round++) {
        struct header_watch watch;
        feed(&watch, in, round);
        assert_int_equal(watch.received, received);
        assert_int_equal(watch.own_fallback, own_fallback);
        assert_int_equal(watch.done, done);
    }
}

static void received_fields_are_counted(void **state)
{
    (void)state;
    expect(SPAN("Received: a\r\nSubject: x\r\nRECEIVED:b\r\n\treceived: no\r\nreceived : c\r\n\r\n"
                "Received: body\r\n"),
           3, false, true);
    expect(SPAN("Received-SPF: a\r\nX-Received: b\r\nReceive: c\r\n"), 0, false, false);
    expect(SPAN("Received: a\r\n \r\nReceived: b\r\n"), 2, false, false);
    expect(SPAN(""), 0, false, false);
}

/* The next server sees the line without its first dot, needed or not (RFC 5321 4.5.2). */
static void a_stuffed_line_is_what_the_next_server_sees(void **state)
{
    (void)state;
    expect(SPAN(".Received: a\r\n.Received: b\r\n..Received: c\r\n"), 2, false, false);
    expect(SPAN("Received: by mx.example.com\r\n. (splitmx fallback)\r\n"), 1, true, false);
}

static void the_header_ends_where_something_else_begins(void **state)
{
    (void)state;
    expect(SPAN("\r\nReceived: a\r\n"), 0, false, true);
    expect(SPAN("Subject: x\r\nno header here\r\nReceived: a\r\n"), 0, false, true);
    expect(SPAN("Subject: x\r\nnoheader\r\nReceived: a\r\n"), 0, false, true);
    expect(SPAN(" Subject: x\r\nReceived: a\r\n"), 0, false, true);
    expect(SPAN(": x\r\nReceived: a\r\n"), 0, false, true);
    expect(SPAN("\xc3\xa4: x\r\nReceived: a\r\n"), 0, false, true);
}

static void our_own_fallback_mark_is_known(void **state)
{
    (void)state;
    expect(
        SPAN("Received: from a (b [192.0.2.1])\r\n\tby mx.example.com (splitmx) (splitmx fallback)"
             " with ESMTP id 1\r\n\tfor <a@b>; Sun, 22 Nov 2026 17:00:00 +0000\r\n"),
        1, true, false);
    /* Folded and spelt otherwise by a relay on the way. */
    expect(SPAN("received: from a\r\n by\r\n\tMX.Example.COM\r\n (splitmx\r\n  fallback)\r\n"), 1,
           true, false);
    expect(SPAN("Received: by mx.example.com(splitmx fallback);x\r\n\r\n"), 1, true, true);
    expect(SPAN("Received: a\r\nReceived: by mx.example.com (splitmx fallback)\r\nSubject: a\r\n"
                "Received: b\r\n"),
           3, true, false);
}

static void marks_of_others_are_not_ours(void **state)
{
    (void)state;
    expect(SPAN("Received: by mx2.mx.example.com (splitmx fallback)\r\n"), 1, false, false);
    expect(SPAN("Received: by mx.example.com.evil (splitmx fallback)\r\n"), 1, false, false);
    expect(SPAN("Received: by mx.example.com (splitmx)\r\n"), 1, false, false);
    expect(SPAN("Received: by mx.example.com\r\nReceived: by x (splitmx fallback)\r\n"), 2, false,
           false);
    expect(SPAN("Received: from x (by mx.example.com) by y (splitmx fallback)\r\n"), 1, false,
           false);
    expect(SPAN("Received: from mx.example.com by y (splitmx fallback)\r\n"), 1, false, false);
    expect(SPAN("Subject: by mx.example.com (splitmx fallback)\r\n"), 0, false, false);
    expect(SPAN("Received: (splitmx fallback) by mx.example.com\r\n"), 1, false, false);
    expect(SPAN("Received: x (((((( by mx.example.com (splitmx fallback)\r\n"), 1, false, false);
    /* Who is called like our mark: in quotes nothing is a comment, and a quoted quote ends nothing.
     */
    expect(SPAN("Received: by mx.example.com (splitmx) with ESMTP id x\r\n"
                "\tfor <\"(splitmx fallback)\"@example.com>; date\r\n\r\n"),
           1, false, true);
    expect(SPAN("Received: by mx.example.com for <\"a\\\" (splitmx fallback)\"@b>;\r\n"), 1, false,
           false);
    expect(SPAN("Received: by mx.example.com for \"open (splitmx fallback)\r\n"), 1, false, false);
}

static void the_longest_field_of_ours_is_still_known(void **state)
{
    static char longest[256], buffer[RECEIVED_MAX];
    struct text out = TEXT(buffer);
    struct received received = {
        .helo = {longest, 255},
        .ptr_name = longest,
        .ip = "2001:db8:1111:2222:3333:4444:5555:6666",
        .hostname = "mx.example.com",
        .protocol = "UTF8SMTPS",
        .id = "0123456789abcdef",
        .fallback = true,
    };

    (void)state;
    memset(longest, 'h', 255);
    received_write(&received, &out);
    assert_false(out.full);
    expect(text_span(&out), 1, true, false);
    received.fallback = false;
    out = TEXT(buffer);
    received_write(&received, &out);
    expect(text_span(&out), 1, false, false);
}

static void an_endless_field_is_harmless(void **state)
{
    static char field[100000];

    (void)state;
    memset(field, 'x', sizeof field);
    memcpy(field, "Received: ", 10);
    for (size_t i = 20; i + 3 < sizeof field; i += 9) {
        memcpy(field + i, "\r\n ", 3);
    }
    expect(span_make(field, sizeof field), 1, false, false);
    memset(field, 'x', sizeof field);
    expect(span_make(field, sizeof field), 0, false, false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(received_fields_are_counted),
        cmocka_unit_test(a_stuffed_line_is_what_the_next_server_sees),
        cmocka_unit_test(the_header_ends_where_something_else_begins),
        cmocka_unit_test(our_own_fallback_mark_is_known),
        cmocka_unit_test(marks_of_others_are_not_ours),
        cmocka_unit_test(the_longest_field_of_ours_is_still_known),
        cmocka_unit_test(an_endless_field_is_harmless),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
