#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proxy/wire/reply.h"

/* Feeds input up to each cut and again what was not consumed; what the status became, and how much
 * was taken. */
static enum reply_status feed(struct span in, const size_t *cuts, size_t count, struct reply *out,
                              size_t *taken)
{
    struct reply_parser parser = {0};
    enum reply_status status = REPLY_MORE;
    size_t at = 0;

    for (size_t i = 0; i <= count && status == REPLY_MORE; i++) {
        const size_t end = i < count ? cuts[i] : in.len;
        size_t consumed;
        status = reply_parse(&parser, span_make(in.ptr + at, end - at), out, &consumed);
        assert_true(consumed <= end - at);
        at += consumed;
    }
    *taken = at;
    return status;
}

/* Whole, then bytewise, then in random cuts: always the same. */
static enum reply_status parse(struct span in, struct reply *out)
{
    size_t *cuts = calloc(in.len + 1, sizeof *cuts);
    size_t taken, other_taken;
    struct reply other;
    const enum reply_status status = feed(in, NULL, 0, out, &taken);

    assert_non_null(cuts);
    for (int round = 0; round < 20; round++) {
        size_t count = 0;
        for (size_t at = 0; at < in.len; at++) {
            if (round == 0 || rand() % 10 == 0) {
                cuts[count++] = at;
            }
        }
        assert_int_equal(feed(in, cuts, count, &other, &other_taken), status);
        if (status == REPLY_DONE) {
            assert_int_equal(other_taken, taken);
            assert_int_equal(other.code, out->code);
            assert_string_equal(other.enhanced, out->enhanced);
            assert_int_equal(other.text_len, out->text_len);
            assert_string_equal(other.text, out->text);
        }
    }
    free(cuts);
    return status;
}

static void expect(struct span in, unsigned code, const char *enhanced, const char *text)
{
    struct reply reply;
    assert_int_equal(parse(in, &reply), REPLY_DONE);
    assert_int_equal(reply.code, code);
    assert_string_equal(reply.enhanced, enhanced);
    assert_string_equal(reply.text, text);
    assert_int_equal(reply.text_len, strlen(text));
}

static void replies_are_read_with_their_enhanced_code(void **state)
{
    (void)state;
    expect(SPAN("250 2.1.5 Ok\r\n"), 250, "2.1.5", "Ok");
    expect(SPAN("250 Ok\r\n"), 250, "", "Ok");
    expect(SPAN("250\r\n"), 250, "", "");
    expect(SPAN("250 \r\n"), 250, "", "");
    expect(SPAN("354 go\n"), 354, "", "go");
    expect(SPAN("550 5.1.1\r\n"), 550, "5.1.1", "");
    expect(SPAN("550-5.1.1 foo\r\n550 5.1.1 bar\r\n"), 550, "5.1.1", "foo\nbar");
    expect(SPAN("550-5.1.1 foo\r\n550 bar\r\n"), 550, "5.1.1", "foo\nbar");
    /* On the last line only, as some write it. */
    expect(SPAN("550-foo\r\n550 5.1.1 bar\r\n"), 550, "5.1.1", "foo\nbar");
    expect(SPAN("550-5.1.1 foo\r\n550 5.7.1 bar\r\n"), 550, "5.1.1", "foo\n5.7.1 bar");
}

static void what_is_no_enhanced_code_of_the_class_stays_in_the_text(void **state)
{
    (void)state;
    expect(SPAN("550 4.1.1 foo\r\n"), 550, "", "4.1.1 foo");
    expect(SPAN("354 3.0.0 foo\r\n"), 354, "", "3.0.0 foo");
    expect(SPAN("250 2.1 foo\r\n"), 250, "", "2.1 foo");
    expect(SPAN("250 2.1.5foo\r\n"), 250, "", "2.1.5foo");
    expect(SPAN("250 2.1.5555 foo\r\n"), 250, "", "2.1.5555 foo");
    expect(SPAN("250 2..5 foo\r\n"), 250, "", "2..5 foo");
    expect(SPAN("250 2.127.111 foo\r\n"), 250, "2.127.111", "foo");
}

static void text_is_scrubbed(void **state)
{
    (void)state;
    expect(SPAN("250 a\tb\x1b[31m\x7f\r\r\n"), 250, "", "a b?[31m??");
    expect(SPAN("250 a\0b\r\n"), 250, "", "a?b");
    expect(SPAN("250 na\xc3\xafve \xe2\x82\xac \xf0\x9f\x93\xac\r\n"), 250, "",
           "na\xc3\xafve \xe2\x82\xac \xf0\x9f\x93\xac");
    expect(SPAN("250 \xc2\x85|\x85|\xc3|\xc0\xaf|\xed\xa0\x80|\xf5\x80\x80\x80\r\n"), 250, "",
           "?|?|?|??|???|????");
    expect(SPAN("250 a\xe2\x80\xae"
                "b\xe2\x80\xa8"
                "c\r\n"),
           250, "", "a?b?c");
}

static void what_is_no_reply_is_bad(void **state)
{
    static const struct span bad[] = {
        SPAN("\r\n"),       SPAN("25\r\n"),    SPAN("2x0 a\r\n"),  SPAN("199 a\r\n"),
        SPAN("600 a\r\n"),  SPAN("250a\r\n"),  SPAN(" 250 a\r\n"), SPAN("250-a\r\n251 b\r\n"),
        SPAN("250-a\r\n."), SPAN("HTTP/1.1\n")};
    struct reply reply;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(parse(bad[i], &reply), i == 8 ? REPLY_MORE : REPLY_BAD);
    }
    assert_int_equal(parse(SPAN("250-a\r\n250"), &reply), REPLY_MORE);
}

static void the_next_reply_is_left_alone(void **state)
{
    struct reply reply;
    size_t taken;

    (void)state;
    assert_int_equal(feed(SPAN("250-a\r\n250 b\r\n354 c\r\n"), NULL, 0, &reply, &taken),
                     REPLY_DONE);
    assert_int_equal(taken, 14);
}

static size_t repeat(char *out, const char *piece, size_t times)
{
    const size_t len = strlen(piece);
    for (size_t i = 0; i < times; i++) {
        memcpy(out + i * len, piece, len);
    }
    return times * len;
}

static void limits_end_a_reply(void **state)
{
    static char big[REPLY_BYTES * 2];
    struct reply reply;
    size_t len;

    (void)state;
    len = repeat(big, "250-a\r\n", REPLY_LINES - 1);
    len += repeat(big + len, "250 z\r\n", 1);
    assert_int_equal(parse(span_make(big, len), &reply), REPLY_DONE);

    len = repeat(big, "250-a\r\n", REPLY_LINES);
    assert_int_equal(parse(span_make(big, len), &reply), REPLY_MORE);
    len += repeat(big + len, "250 z\r\n", 1);
    assert_int_equal(parse(span_make(big, len), &reply), REPLY_BAD);

    /* Within lines, over the bytes: 33 lines of 2,000. */
    len = 0;
    for (int i = 0; i < 33; i++) {
        len += repeat(big + len, i == 32 ? "250 " : "250-", 1);
        len += repeat(big + len, "x", 1994);
        len += repeat(big + len, "\r\n", 1);
    }
    assert_int_equal(parse(span_make(big, len), &reply), REPLY_BAD);

    /* One line, to the last byte. */
    len = repeat(big, "250 ", 1);
    len += repeat(big + len, "x", REPLY_BYTES - 5);
    memcpy(big + len, "\nx\n", 3);
    assert_int_equal(parse(span_make(big, len + 1), &reply), REPLY_DONE);
    big[len] = 'x';
    assert_int_equal(parse(span_make(big, len), &reply), REPLY_MORE);
    assert_int_equal(parse(span_make(big, len + 1), &reply), REPLY_MORE);
    assert_int_equal(parse(span_make(big, len + 3), &reply), REPLY_BAD);
}

/* Of a long line its front is read, the same wherever the input is cut. */
static void a_long_line_is_read_by_its_front(void **state)
{
    static char big[REPLY_LINE_MAX * 4];
    struct reply reply;

    (void)state;
    for (size_t over = 0; over < 5; over++) {
        size_t len = repeat(big, "250-2.1.0 ", 1);
        len += repeat(big + len, "x", REPLY_LINE_MAX - 12 + over);
        len += repeat(big + len, "\r\n250 ", 1);
        assert_int_equal(parse(span_make(big, len), &reply), REPLY_MORE);
        len += repeat(big + len, "250 500 and so on ", REPLY_LINE_MAX / 9);
        len += repeat(big + len, "\r\n", 1);
        assert_int_equal(parse(span_make(big, len), &reply), REPLY_DONE);
        assert_int_equal(reply.code, 250);
        assert_string_equal(reply.enhanced, "2.1.0");
        assert_int_equal(strspn(reply.text, "x"), REPLY_TEXT - 1);
    }
    /* What cannot be a reply is none, before its end has come. */
    memset(big, '2', REPLY_LINE_MAX + 1);
    assert_int_equal(parse(span_make(big, REPLY_LINE_MAX), &reply), REPLY_MORE);
    assert_int_equal(parse(span_make(big, REPLY_LINE_MAX + 1), &reply), REPLY_BAD);
}

static void long_text_is_cut_between_characters_and_stays_cut(void **state)
{
    static char big[4096];
    struct reply reply;
    size_t len = repeat(big, "250-", 1);

    (void)state;
    len += repeat(big + len, "x", REPLY_TEXT - 3);
    len += repeat(big + len, "\xe2\x82\xac\r\n250 y\r\n", 1);
    assert_int_equal(parse(span_make(big, len), &reply), REPLY_DONE);
    assert_int_equal(reply.text_len, REPLY_TEXT - 3);
    assert_int_equal(strspn(reply.text, "x"), REPLY_TEXT - 3);

    reply_setf(&reply, 451, "4.3.0", "%.*s\xe2\x82\xac tail", REPLY_TEXT - 3, big + 4);
    assert_int_equal(reply.text_len, REPLY_TEXT - 3);
    assert_string_equal(reply.enhanced, "4.3.0");
}

static void collect(void *context, struct span text)
{
    text_put(context, text);
    text_putc(context, '|');
}

static void lines_are_told_as_they_are(void **state)
{
    char buffer[100];
    struct text told = TEXT(buffer);
    struct reply_parser parser = {.on_line = collect, .context = &told};
    struct reply reply;
    size_t consumed;

    (void)state;
    assert_int_equal(
        reply_parse(&parser, SPAN("250-mx\r\n250-SIZE 10\r\n250 2.0.0 X\r\n"), &reply, &consumed),
        REPLY_DONE);
    assert_string_equal(told.ptr, "mx|SIZE 10|2.0.0 X|");
}

static void written(const struct reply *reply, bool plain, const char *want)
{
    char buffer[4096];
    struct text out = TEXT(buffer);
    reply_write(reply, plain, &out);
    assert_false(out.full);
    assert_string_equal(buffer, want);
}

static void replies_are_written_with_the_enhanced_code_in_every_line(void **state)
{
    struct reply reply;

    (void)state;
    parse(SPAN("550-5.1.1 foo\r\n550 bar\r\n"), &reply);
    written(&reply, false, "550-5.1.1 foo\r\n550 5.1.1 bar\r\n");
    written(&reply, true, "550-foo\r\n550 bar\r\n");
    reply_set(&reply, 250, NULL, "Ok");
    written(&reply, false, "250 2.0.0 Ok\r\n");
    reply_set(&reply, 451, "5.1.1", "x");
    written(&reply, false, "451 4.0.0 x\r\n");
    reply_set(&reply, 550, "nonsense", "x");
    written(&reply, false, "550 5.0.0 x\r\n");
    reply_set(&reply, 354, "", "go");
    written(&reply, false, "354 go\r\n");
    reply_set(&reply, 250, "2.0.0", "");
    written(&reply, false, "250 2.0.0\r\n");
}

static void a_reply_of_ours_cannot_be_broken_in_two(void **state)
{
    struct reply reply;

    (void)state;
    reply_setf(&reply, 550, "5.7.1", "<%s> refused", "a\r\n250 ok\r\n");
    written(&reply, false, "550 5.7.1 <a? 250 ok? > refused\r\n");
    assert_true(span_equal(reply_first_line(&reply), SPAN("<a? 250 ok? > refused")));
}

static void written_lines_are_cut_at_512_between_characters(void **state)
{
    char buffer[4096];
    struct text out = TEXT(buffer);
    struct reply reply;
    char text[600];

    (void)state;
    memset(text, 'x', sizeof text);
    memcpy(text + 499, "\xe2\x82\xac", 3); /* "250 2.0.0 " takes 10 of 512, CRLF 2: room for 500 */
    text[599] = '\0';
    reply_set(&reply, 250, "2.0.0", text);
    reply_write(&reply, false, &out);
    assert_int_equal(out.len, 10 + 499 + 2);
    assert_memory_equal(buffer + out.len - 3, "x\r\n", 3);

    out = TEXT(buffer);
    memset(text, 'x', sizeof text - 1);
    reply_set(&reply, 250, "2.0.0", text);
    reply_write(&reply, false, &out);
    assert_int_equal(out.len, 512);
}

static void the_first_line_is_what_stands_before_the_second(void **state)
{
    struct reply reply;

    (void)state;
    parse(SPAN("250-one\r\n250 two\r\n"), &reply);
    assert_true(span_equal(reply_first_line(&reply), SPAN("one")));
}

static void codes_that_blame_us_are_known(void **state)
{
    static const unsigned ours[] = {500, 501, 502, 503, 504, 530, 535, 538, 555};
    struct reply reply = {0};
    size_t known = 0;

    (void)state;
    for (reply.code = 200; reply.code < 600; reply.code++) {
        known += reply_blames_us(&reply);
    }
    assert_int_equal(known, sizeof ours / sizeof ours[0]);
    for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++) {
        reply.code = ours[i];
        assert_true(reply_blames_us(&reply));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(replies_are_read_with_their_enhanced_code),
        cmocka_unit_test(what_is_no_enhanced_code_of_the_class_stays_in_the_text),
        cmocka_unit_test(text_is_scrubbed),
        cmocka_unit_test(what_is_no_reply_is_bad),
        cmocka_unit_test(the_next_reply_is_left_alone),
        cmocka_unit_test(limits_end_a_reply),
        cmocka_unit_test(a_long_line_is_read_by_its_front),
        cmocka_unit_test(long_text_is_cut_between_characters_and_stays_cut),
        cmocka_unit_test(lines_are_told_as_they_are),
        cmocka_unit_test(replies_are_written_with_the_enhanced_code_in_every_line),
        cmocka_unit_test(a_reply_of_ours_cannot_be_broken_in_two),
        cmocka_unit_test(written_lines_are_cut_at_512_between_characters),
        cmocka_unit_test(the_first_line_is_what_stands_before_the_second),
        cmocka_unit_test(codes_that_blame_us_are_known),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
