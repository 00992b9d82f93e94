#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proxy/wire/record.h"
#include "proxy/wire/utf8.h"

static void one(enum config_log_format format, struct span value, const char *want)
{
    struct record record;
    record_begin(&record, format);
    record_span(&record, "k", value);
    assert_string_equal(record.buffer, want);
    assert_true(span_equal(record_end(&record), span_of(want)));
}

static void records_are_pairs(void **state)
{
    struct record record;

    (void)state;
    record_begin(&record, LOG_TEXT);
    record_str(&record, "event", "transaction");
    record_number(&record, "size", UINT64_MAX);
    record_str(&record, "client", "[::1]:25");
    record_str(&record, "none", NULL);
    assert_string_equal(
        record_end(&record).ptr,
        "event=transaction size=18446744073709551615 client=\"[::1]:25\" none=\"\"");
    record_begin(&record, LOG_JSON);
    record_str(&record, "event", "transaction");
    record_number(&record, "size", 7);
    assert_string_equal(record_end(&record).ptr, "\"event\":\"transaction\",\"size\":7");
}

static void plain_values_need_no_quotes(void **state)
{
    (void)state;
    one(LOG_TEXT, SPAN("aZ09._:/@+,;<>()-"), "k=aZ09._:/@+,;<>()-");
    one(LOG_TEXT, SPAN("a b"), "k=\"a b\"");
    one(LOG_TEXT, SPAN("a=b"), "k=\"a=b\"");
    one(LOG_TEXT, SPAN(""), "k=\"\"");
    one(LOG_JSON, SPAN("ab"), "\"k\":\"ab\"");
}

static void no_value_can_forge_a_line(void **state)
{
    (void)state;
    one(LOG_TEXT, SPAN("a\r\nevent=x\t\"\\"), "k=\"a\\r\\nevent=x\\t\\\"\\\\\"");
    one(LOG_JSON, SPAN("a\r\n\t\"\\"), "\"k\":\"a\\r\\n\\t\\\"\\\\\"");
    one(LOG_TEXT, SPAN("\x1b[2J\0\x7f"), "k=\"\\x1b[2J\\x00\\x7f\"");
    one(LOG_JSON, SPAN("\x1b[2J\0\x7f"), "\"k\":\"\\u001b[2J\\u0000\\u007f\"");
    one(LOG_TEXT, SPAN("\xff\xc3|\xc2\x85"), "k=\"\\xff\\xc3|\\xc2\\x85\"");
    one(LOG_JSON, SPAN("\xff\xc3|\xc2\x85"), "\"k\":\"\\ufffd\\ufffd|\\u0085\"");
    one(LOG_TEXT, SPAN("\xe2\x80\xae\xe2\x80\xa8"), "k=\"\\xe2\\x80\\xae\\xe2\\x80\\xa8\"");
    one(LOG_JSON, SPAN("\xe2\x80\xae\xe2\x80\xa8"), "\"k\":\"\\u202e\\u2028\"");
    one(LOG_TEXT, SPAN("\xc3\xa4 \xf0\x9f\x93\xac"), "k=\"\xc3\xa4 \xf0\x9f\x93\xac\"");
}

/* Quotes are closed, nothing below a space, only valid characters, and escapes are whole. */
static void check_whole(struct span line)
{
    bool quoted = false;
    for (size_t at = 0; at < line.len;) {
        const size_t len = utf8_length(span_skip(line, at));
        assert_int_not_equal(len, 0);
        assert_false(utf8_is_control(utf8_code(line.ptr + at, len)));
        if (line.ptr[at] == '\\') {
            assert_true(quoted && at + 1 < line.len);
            at += line.ptr[at + 1] == 'x' ? 4 : line.ptr[at + 1] == 'u' ? 6 : 2;
            assert_true(at < line.len);
            continue;
        }
        quoted ^= line.ptr[at] == '"';
        at += len;
    }
    assert_false(quoted);
}

static void what_does_not_fit_is_cut_and_the_line_stays_whole(void **state)
{
    static const char *const pieces[] = {"a",    "\"",       "\n",          "\x01",
                                         "\xff", "\xc3\xa4", "\xe2\x80\xae"};
    static char value[6000];

    (void)state;
    srand(11);
    for (int round = 0; round < 3000; round++) {
        struct record record;
        const bool json = round % 2 == 0;
        record_begin(&record, json ? LOG_JSON : LOG_TEXT);
        record_str(&record, "event", "x");
        for (int n = 0; n < 20; n++) {
            struct text text = TEXT(value);
            const char *usual = pieces[(size_t)rand() % 7];
            for (int i = rand() % 1500; i > 0; i--) {
                text_puts(&text, rand() % 9 == 0 ? pieces[(size_t)rand() % 7] : usual);
            }
            record_span(&record, "key", text_span(&text));
            record_number(&record, "n", (uint64_t)rand());
        }
        const struct span line = record_end(&record);
        assert_true(line.len < RECORD_MAX);
        assert_int_equal(record.buffer[line.len], '\0');
        check_whole(line);
    }
}

static void a_cut_value_says_so_and_leaves_room_for_others(void **state)
{
    static char value[3000];
    struct record record;

    (void)state;
    memset(value, 'a', sizeof value);
    record_begin(&record, LOG_TEXT);
    record_span(&record, "long", span_make(value, sizeof value));
    record_str(&record, "next", "b");
    const struct span line = record_end(&record);
    assert_true(span_starts_fold(line, SPAN("long=\"aaaa")));
    assert_true(span_ends(line, SPAN("aaa\xe2\x80\xa6\" next=b")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_are_pairs),
        cmocka_unit_test(plain_values_need_no_quotes),
        cmocka_unit_test(no_value_can_forge_a_line),
        cmocka_unit_test(what_does_not_fit_is_cut_and_the_line_stays_whole),
        cmocka_unit_test(a_cut_value_says_so_and_leaves_room_for_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
