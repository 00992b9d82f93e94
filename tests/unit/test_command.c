#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "config/text.h"
#include "proxy/wire/command.h"

/* Every line and fault of the input, as text: "[line]" "L" (too long) "B" (bare LF) "N" (NUL)
 * "T" (TLS), then what is left over. */
static void read_all(struct span in, const size_t *cuts, size_t count, struct text *told)
{
    struct line_reader reader = {0};
    size_t at = 0;

    for (size_t i = 0; i <= count; i++) {
        const size_t end = i < count ? cuts[i] : in.len;
        enum line_status status;
        do {
            struct span line;
            size_t consumed;
            status = line_take(&reader, span_make(in.ptr + at, end - at), &line, &consumed);
            assert_true(consumed <= end - at);
            at += consumed;
            switch (status) {
            case LINE_OK:
                text_printf(told, "[%.*s]", SPAN_ARGS(line));
                break;
            case LINE_TOO_LONG:
                text_putc(told, 'L');
                break;
            case LINE_BARE_LF:
                text_putc(told, 'B');
                break;
            case LINE_NUL:
                text_putc(told, 'N');
                break;
            case LINE_TLS:
                text_putc(told, 'T');
                break;
            case LINE_MORE:
                break;
            }
        } while (status != LINE_MORE);
    }
    text_printf(told, "%s", reader.skipping ? "..." : "");
    text_put(told, span_make(in.ptr + at, in.len - at));
}

static void lines(struct span in, const char *want)
{
    static char buffer[8192];
    size_t *cuts = calloc(in.len + 1, sizeof *cuts);

    assert_non_null(cuts);
    for (int round = 0; round < 30; round++) {
        struct text told = TEXT(buffer);
        size_t count = 0;
        for (size_t at = 0; at < in.len && round > 0; at++) {
            if (round == 1 || rand() % 7 == 0) {
                cuts[count++] = at;
            }
        }
        read_all(in, cuts, count, &told);
        assert_string_equal(buffer, want);
    }
    free(cuts);
}

static void lines_end_in_crlf_only(void **state)
{
    (void)state;
    lines(SPAN("EHLO a\r\nQUIT\r\n"), "[EHLO a][QUIT]");
    lines(SPAN("\r\n\r\nx"), "[][]x");
    lines(SPAN("NOOP\nQUIT\r\n"), "B[QUIT]");
    lines(SPAN("\nQUIT\r\n"), "B[QUIT]");
    lines(SPAN("a\rb\r\nQUIT\r\n"), "B[QUIT]");
    lines(SPAN("a\r\r\nQUIT\r\n"), "B[QUIT]");
    lines(SPAN("QUIT\r"), "QUIT\r");
}

static void a_nul_is_told_from_a_bad_line_end(void **state)
{
    (void)state;
    lines(SPAN("a\0b\r\nQUIT\r\n"), "N[QUIT]");
    lines(SPAN("a\0b\nQUIT\r\n"), "B[QUIT]");
}

static void a_tls_handshake_is_no_line(void **state)
{
    (void)state;
    lines(SPAN("\x16\x03\r\n"), "T[]");
    lines(SPAN("EHLO a\r\n\x16\x03\r\n"), "[EHLO a]T[]");
    lines(SPAN("\x16"), "\x16");
    lines(SPAN("\x16\x04\r\n"), "[\x16\x04]");
    lines(SPAN("a\x16\x03\r\n"), "[a\x16\x03]");
}

static void over_long_lines_are_told_once_and_thrown_away(void **state)
{
    static char big[3 * COMMAND_LINE_MAX];
    static char want[COMMAND_LINE_MAX + 16];
    struct text text = TEXT(want);

    (void)state;
    memset(big, 'x', sizeof big);
    memcpy(big + COMMAND_LINE_MAX - 2, "\r\n", 2);
    text_printf(&text, "[%.*s]", COMMAND_LINE_MAX - 2, big);
    lines(span_make(big, COMMAND_LINE_MAX), want);

    memcpy(big + COMMAND_LINE_MAX - 2, "x\r\nQUIT\r\n", 9);
    lines(span_make(big, COMMAND_LINE_MAX + 7), "L[QUIT]");
    memcpy(big + COMMAND_LINE_MAX - 2, "xxxxxxxxx", 9);
    lines(span_make(big, COMMAND_LINE_MAX), "...");
    lines(span_make(big, COMMAND_LINE_MAX + 50), "...");
    memcpy(big + sizeof big - 8, "\r\nQUIT\r\n", 8);
    lines(span_make(big, sizeof big), "L[QUIT]");
}

static void verb(struct span line, enum command_verb want, const char *argument)
{
    const struct command command = command_parse(line);
    assert_int_equal(command.verb, want);
    assert_true(span_equal(command.argument, span_of(argument)));
}

static void verbs_are_known_in_any_case(void **state)
{
    (void)state;
    verb(SPAN("EHLO a.example"), VERB_EHLO, "a.example");
    verb(SPAN("ehlo\ta"), VERB_EHLO, "a");
    verb(SPAN("Helo x"), VERB_HELO, "x");
    verb(SPAN("STARTTLS  "), VERB_STARTTLS, "");
    verb(SPAN("STARTTLS x"), VERB_STARTTLS, "x");
    verb(SPAN("mail  FROM:<a@b> "), VERB_MAIL, "FROM:<a@b>");
    verb(SPAN("RcPt TO:<a@b>"), VERB_RCPT, "TO:<a@b>");
    verb(SPAN("DATA"), VERB_DATA, "");
    verb(SPAN("RSET"), VERB_RSET, "");
    verb(SPAN("NOOP a b"), VERB_NOOP, "a b");
    verb(SPAN("VRFY x"), VERB_VRFY, "x");
    verb(SPAN("HELP"), VERB_HELP, "");
    verb(SPAN("QUIT"), VERB_QUIT, "");
}

static void everything_else_is_unknown(void **state)
{
    (void)state;
    verb(SPAN(""), VERB_UNKNOWN, "");
    verb(SPAN(" QUIT"), VERB_UNKNOWN, "QUIT");
    verb(SPAN("EXPN x"), VERB_UNKNOWN, "x");
    verb(SPAN("BDAT 10 LAST"), VERB_UNKNOWN, "10 LAST");
    verb(SPAN("QUITX"), VERB_UNKNOWN, "");
    verb(SPAN("\xff\xfe"), VERB_UNKNOWN, "");
    verb(SPAN(":"), VERB_UNKNOWN, "");
    verb(SPAN("GETX / HTTPS"), VERB_UNKNOWN, "/ HTTPS");
    verb(SPAN("GETX / HTTP/"), VERB_UNKNOWN, "/ HTTP/");
    verb(SPAN("NOOP / HTTP/1.1"), VERB_NOOP, "/ HTTP/1.1");
    verb(SPAN("RCPTTO:<a@b>"), VERB_UNKNOWN, "");
}

static void http_is_recognised(void **state)
{
    static const char *const requests[] = {
        "GET / HTTP/1.1",
        "get /x",
        "POST /a?b HTTP/1.0",
        "PUT /a HTTP/1.1",
        "HEAD / HTTP/1.1",
        "OPTIONS * HTTP/1.1",
        "CONNECT a:25 HTTP/1.1",
        "DELETE /a HTTP/1.1",
        "TRACE / HTTP/1.1",
        "PATCH / HTTP/1.1",
        "GET http://a/ HTTP/1.1",
        "GET x  http/1.1",
        "PRI * HTTP/2.0",
        "PROPFIND / HTTP/1.1",
        "GETX\t/\tHTTP/1.1 ",
        "HTTP/1.1 200 OK",
        "http/2",
        "Host: a",
        "User-Agent: x",
        "Content-Type:",
        "GET",
        "CONNECT x",
        "Host:a",
        "PRI",
    };

    (void)state;
    for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++) {
        assert_int_equal(command_parse(span_of(requests[i])).verb, VERB_HTTP);
    }
}

static void helo_names_are_printable_and_bounded(void **state)
{
    static char name[256];

    (void)state;
    memset(name, 'a', sizeof name);
    assert_true(helo_valid(SPAN("mx.example")));
    assert_true(helo_valid(SPAN("[IPv6:::1]")));
    assert_true(helo_valid(SPAN("under_score")));
    assert_true(helo_valid(span_make(name, 255)));
    assert_false(helo_valid(span_make(name, 256)));
    assert_false(helo_valid(SPAN("")));
    assert_false(helo_valid(SPAN("a b")));
    assert_false(helo_valid(SPAN("a\x1b[0m")));
    assert_false(helo_valid(SPAN("\x7f")));
    assert_false(helo_valid(SPAN("\xc3\xa4")));
}

static enum parse_status mail_status(const char *argument)
{
    struct mail_command mail;
    return mail_parse(span_of(argument), &mail);
}

static struct mail_command mail_fine(const char *argument, const char *path)
{
    struct mail_command mail;
    assert_int_equal(mail_parse(span_of(argument), &mail), PARSE_OK);
    assert_true(span_equal(mail.path, span_of(path)));
    return mail;
}

static void paths_are_taken_from_their_brackets(void **state)
{
    struct rcpt_command rcpt;

    (void)state;
    mail_fine("FROM:<a@b>", "a@b");
    mail_fine("from:<>", "");
    mail_fine("FROM: \t<a@b>  ", "a@b");
    mail_fine("FROM:<\"a> b\"@c>", "\"a> b\"@c");
    mail_fine("FROM:<\"a\\\" >\"@c>", "\"a\\\" >\"@c");
    mail_fine("FROM:<@x,@y:a@b>", "@x,@y:a@b");
    mail_fine("FROM:<\xc3\xa4@b>", "\xc3\xa4@b");
    assert_int_equal(rcpt_parse(SPAN("TO:<a@b>"), &rcpt), PARSE_OK);
    assert_true(span_equal(rcpt.path, SPAN("a@b")));
    assert_int_equal(rcpt_parse(SPAN("to: <Postmaster> "), &rcpt), PARSE_OK);
    assert_true(span_equal(rcpt.path, SPAN("Postmaster")));
}

static void malformed_paths_are_refused(void **state)
{
    static const char *const bad[] = {"",
                                      "FROM",
                                      "FROM:",
                                      "FROM:a@b",
                                      "FROM <a@b>",
                                      "FROM:<a@b",
                                      "FROM:<a b>",
                                      "FROM:<<a@b>>",
                                      "FROM:<a@b>x",
                                      "FROM:<a@b>>",
                                      "FROM:<a\tb>",
                                      "FROM:<\x01>",
                                      "FROM:< a@b>",
                                      "FROM:<a@b >",
                                      "FROM:<\"a@b>",
                                      "FROM:<\"a\\>",
                                      "FROM:<\"\\\x01\">",
                                      "TO:<a@b>",
                                      "FROM:<\"a\x7f\"@b>",
                                      "FROM:<a@b>SIZE=1",
                                      "FROM:<\"\\",
                                      "FROM:<a@b> <c@d>"};
    struct rcpt_command rcpt;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(mail_status(bad[i]), PARSE_SYNTAX);
    }
    assert_int_equal(rcpt_parse(SPAN("FROM:<a@b>"), &rcpt), PARSE_SYNTAX);
    assert_int_equal(rcpt_parse(SPAN("TO:a@b"), &rcpt), PARSE_SYNTAX);
    assert_int_equal(rcpt_parse(SPAN("TO:<a@b> x y=="), &rcpt), PARSE_PARAMETER);
    assert_int_equal(rcpt_parse(SPAN("TO:<a@b> ,"), &rcpt), PARSE_SYNTAX);
}

static void mail_parameters_are_read(void **state)
{
    (void)state;
    struct mail_command mail = mail_fine("FROM:<a@b> SIZE=1000 body=8bitmime SMTPUTF8", "a@b");
    assert_int_equal(mail.size, 1000);
    assert_true(mail.body_8bit && mail.body_given && mail.smtputf8);
    mail = mail_fine("FROM:<a@b>\tBODY=7BIT  ", "a@b");
    assert_true(mail.body_given && !mail.body_8bit && !mail.smtputf8 && mail.size == 0);
    assert_true(mail_fine("FROM:<> SIZE=18446744073709551615", "").size == UINT64_MAX);
    assert_true(mail_fine("FROM:<> SIZE=18446744073709551614", "").size == UINT64_MAX - 1);
    assert_true(mail_fine("FROM:<> SIZE=18446744073709551616", "").size == UINT64_MAX);
    assert_true(mail_fine("FROM:<> SIZE=99999999999999999999", "").size == UINT64_MAX);
    assert_true(mail_fine("FROM:<> SIZE=00000000000000000042", "").size == 42);
}

static void bad_values_and_unknown_parameters_differ(void **state)
{
    struct rcpt_command rcpt;

    (void)state;
    assert_int_equal(mail_status("FROM:<> SIZE"), PARSE_VALUE);
    assert_int_equal(mail_status("FROM:<> SIZE=1x"), PARSE_VALUE);
    assert_int_equal(mail_status("FROM:<> SIZE=-1"), PARSE_VALUE);
    assert_int_equal(mail_status("FROM:<> SIZE=100000000000000000000"), PARSE_VALUE);
    assert_int_equal(mail_status("FROM:<> SIZE=1 size=1"), PARSE_VALUE);
    assert_int_equal(mail_status("FROM:<> BODY=BINARYMIME"), PARSE_VALUE);
    assert_int_equal(mail_status("FROM:<> BODY"), PARSE_VALUE);
    assert_int_equal(mail_status("FROM:<> BODY=7BIT BODY=7BIT"), PARSE_VALUE);
    assert_int_equal(mail_status("FROM:<> SMTPUTF8=1"), PARSE_VALUE);
    assert_int_equal(mail_status("FROM:<> SMTPUTF8 SMTPUTF8"), PARSE_VALUE);
    assert_int_equal(mail_status("FROM:<> AUTH=<>"), PARSE_PARAMETER);
    assert_int_equal(mail_status("FROM:<> RET=HDRS"), PARSE_PARAMETER);
    assert_int_equal(mail_status("FROM:<> SIZES=1"), PARSE_PARAMETER);
    assert_int_equal(rcpt_parse(SPAN("TO:<a@b> NOTIFY=NEVER"), &rcpt), PARSE_PARAMETER);
}

static void malformed_parameters_are_syntax_errors(void **state)
{
    static const char *const bad[] = {"FROM:<> =1",     "FROM:<> -A=1",   "FROM:<> A_B=1",
                                      "FROM:<> SIZE=",  "FROM:<> A==1",   "FROM:<> A=1=2",
                                      "FROM:<> A=\x01", "FROM:<> A=\x7f", "FROM:<> \xc3\xa4=1"};

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(mail_status(bad[i]), PARSE_SYNTAX);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_end_in_crlf_only),
        cmocka_unit_test(over_long_lines_are_told_once_and_thrown_away),
        cmocka_unit_test(verbs_are_known_in_any_case),
        cmocka_unit_test(everything_else_is_unknown),
        cmocka_unit_test(a_nul_is_told_from_a_bad_line_end),
        cmocka_unit_test(a_tls_handshake_is_no_line),
        cmocka_unit_test(http_is_recognised),
        cmocka_unit_test(helo_names_are_printable_and_bounded),
        cmocka_unit_test(paths_are_taken_from_their_brackets),
        cmocka_unit_test(malformed_paths_are_refused),
        cmocka_unit_test(mail_parameters_are_read),
        cmocka_unit_test(bad_values_and_unknown_parameters_differ),
        cmocka_unit_test(malformed_parameters_are_syntax_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
