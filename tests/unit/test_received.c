#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <locale.h>
#include <stdio.h>

#include "proxy/wire/received.h"

static struct received sample(void)
{
    return (struct received){
        .helo = SPAN("client.example"),
        .ptr_name = "ptr.example",
        .ip = "192.0.2.1",
        .hostname = "mx.example.com",
        .protocol = "ESMTP",
        .id = "A1",
        .recipient = SPAN("user@example.com"),
        .when = 1795366800,
    };
}

static const char *write_field(const struct received *received)
{
    static char buffer[RECEIVED_MAX];
    struct text out = TEXT(buffer);
    received_write(received, &out);
    assert_false(out.full);
    return buffer;
}

static void the_field_says_where_a_message_came_from(void **state)
{
    const struct received received = sample();

    (void)state;
    assert_string_equal(write_field(&received),
                        "Received: from client.example (ptr.example [192.0.2.1])\r\n"
                        "\tby mx.example.com (splitmx) with ESMTP id A1\r\n"
                        "\tfor <user@example.com>; Sun, 22 Nov 2026 17:00:00 +0000\r\n");
}

static void absent_parts_are_left_out(void **state)
{
    struct received received = sample();

    (void)state;
    received.ptr_name = NULL;
    received.ip = "2001:db8::1";
    received.recipient = SPAN("");
    received.helo = SPAN("");
    assert_string_equal(write_field(&received),
                        "Received: from unknown (unknown [IPv6:2001:db8::1])\r\n"
                        "\tby mx.example.com (splitmx) with ESMTP id A1;\r\n"
                        "\tSun, 22 Nov 2026 17:00:00 +0000\r\n");
}

static void tls_and_fallback_are_told(void **state)
{
    struct received received = sample();

    (void)state;
    received.protocol = "ESMTPS";
    received.tls = "TLSv1.3 AES";
    received.fallback = true;
    assert_string_equal(write_field(&received),
                        "Received: from client.example (ptr.example [192.0.2.1])\r\n"
                        "\tby mx.example.com (splitmx fallback) with ESMTPS id A1 (TLSv1.3 AES)\r\n"
                        "\tfor <user@example.com>; Sun, 22 Nov 2026 17:00:00 +0000\r\n");
}

static void a_helo_cannot_forge_what_follows(void **state)
{
    struct received received = sample();

    (void)state;
    received.helo = SPAN("a)(b\"c\\d e\r\n\tf;<g>,\xc3\xa4\0\x7f");
    received.ptr_name = "p)\r\nX: y";
    assert_non_null(strstr(write_field(&received), "from a??b?c?d?e???f??g?????? (p???X:?y"));
    received.helo = SPAN("[IPv6:2001:db8::1]");
    assert_non_null(strstr(write_field(&received), "from [IPv6:2001:db8::1] ("));
}

static void a_recipient_cannot_break_the_line(void **state)
{
    struct received received = sample();

    (void)state;
    received.recipient = SPAN("\"a\r\nb> \"@c\xc3\xa4");
    assert_non_null(strstr(write_field(&received), "for <\"a??b> \"@c\?\?>;"));
    received.protocol = "UTF8SMTP";
    assert_non_null(strstr(write_field(&received), "for <\"a??b> \"@c\xc3\xa4>;"));
}

static void lines_are_folded(void **state)
{
    static char longest[1000];
    struct received received = sample();

    (void)state;
    memset(longest, 'x', sizeof longest - 1);
    received.helo = span_make(longest, 999);
    received.ptr_name = longest;
    received.recipient = span_make(longest, 320);
    received.hostname = longest + 999 - 255;
    received.tls = "TLSv1.3 TLS_CHACHA20_POLY1305_SHA256";
    struct span field = span_of(write_field(&received));
    while (field.len > 0) {
        const size_t end = span_find(field, '\n');
        assert_true(end < field.len && end < 998);
        field = span_skip(field, end + 1);
        assert_true(field.len == 0 || field.ptr[0] == '\t');
    }
    received = sample();
    received.helo = span_make(longest, 60);
    field = span_of(write_field(&received));
    while (field.len > 0) {
        const size_t end = span_find(field, '\n');
        assert_true(end <= 79);
        field = span_skip(field, end + 1);
    }
}

static void dates_are_those_of_the_calendar(void **state)
{
    struct received received = sample();

    (void)state;
    setlocale(LC_ALL, "");
    for (int64_t when = 0; when < INT64_C(8000000000); when += 3599 * 7 + 86400 * 3) {
        char want[64];
        struct tm tm;
        received.when = (time_t)when;
        assert_non_null(gmtime_r(&received.when, &tm));
        static const char days[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
        static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                           "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
        snprintf(want, sizeof want, "; %s, %d %s %04d %02d:%02d:%02d +0000\r\n", days[tm.tm_wday],
                 tm.tm_mday, months[tm.tm_mon], tm.tm_year + 1900, tm.tm_hour, tm.tm_min,
                 tm.tm_sec);
        assert_non_null(strstr(write_field(&received), want));
    }
    received.when = 951782400;
    assert_non_null(strstr(write_field(&received), "; Tue, 29 Feb 2000 00:00:00 +0000\r\n"));
    received.when = -1;
    assert_non_null(strstr(write_field(&received), "; Thu, 1 Jan 1970 00:00:00 +0000\r\n"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_field_says_where_a_message_came_from),
        cmocka_unit_test(absent_parts_are_left_out),
        cmocka_unit_test(tls_and_fallback_are_told),
        cmocka_unit_test(a_helo_cannot_forge_what_follows),
        cmocka_unit_test(a_recipient_cannot_break_the_line),
        cmocka_unit_test(lines_are_folded),
        cmocka_unit_test(dates_are_those_of_the_calendar),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
