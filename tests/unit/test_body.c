#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proxy/wire/body.h"

/* What became of a whole message: what was passed on, how it ended, and what was left. */
struct outcome {
    char passed[4096];
    size_t passed_len;
    enum body_status status; /* of body_scan */
    bool ended;              /* the true end was seen, by body_scan or by body_skip */
    size_t taken;            /* bytes consumed when it was */
    uint64_t size;
};

static bool outcome_equal(const struct outcome *a, const struct outcome *b)
{
    return a->status == b->status && a->ended == b->ended &&
           span_equal(span_make(a->passed, a->passed_len), span_make(b->passed, b->passed_len)) &&
           (!a->ended || a->taken == b->taken) && a->size == b->size;
}

/* The rules spelt out bytewise over the whole message, nothing clever. */
static void reference(struct span in, struct outcome *out)
{
    size_t at = 0, line = 0;

    out->status = BODY_MORE;
    out->ended = false;
    out->passed_len = 0;
    out->size = 0;
    while (at < in.len) {
        const char c = in.ptr[at];
        const bool pair = c == '\r' && at + 1 < in.len && in.ptr[at + 1] == '\n';
        if (at == line && in.len - at >= 3 && memcmp(in.ptr + at, ".\r\n", 3) == 0) {
            out->status = out->status == BODY_MORE ? BODY_END : out->status;
            out->ended = true;
            out->taken = at + 3;
            return;
        }
        if (out->status == BODY_MORE) {
            if (c == '\0' || c == '\n' || (c == '\r' && !pair && at + 1 < in.len)) {
                out->status = BODY_DIRTY;
            } else if ((c == '\r' && !pair) ||
                       (c == '.' && at == line &&
                        (at + 1 == in.len || (at + 2 == in.len && in.ptr[at + 1] == '\r')))) {
                return; /* waits for more */
            } else {
                memcpy(out->passed + out->passed_len, in.ptr + at, pair ? 2 : 1);
                out->passed_len += pair ? 2 : 1;
                out->size += pair ? 2 : 1;
                out->size -= c == '.' && at == line;
            }
        }
        at += pair ? 2 : 1;
        line = pair ? at : line;
    }
}

/*
 * The same in six lines, which say all that matters: a message ends at the first CRLF.CRLF, that of
 * DATA in front; it is dirty if a NUL, a CR without its LF or an LF without its CR stands before.
 */
static enum body_status six_lines(const char *with_crlf, const char *end)
{
    for (const char *at = with_crlf; at < end; at++) {
        if (*at == '\0' || (*at == '\r') != (at[1] == '\n')) {
            return BODY_DIRTY;
        }
    }
    return BODY_END;
}

/* What the scanner (and so the reference) made of a message that has an end. */
static void judge(struct span in, const struct outcome *made)
{
    char text[64] = "\r\n", passed[64] = "\r\n";

    memcpy(text + 2, in.ptr, in.len);
    const char *end = memmem(text, in.len + 2, "\r\n.\r\n", 5);
    assert_non_null(end);
    assert_true(made->ended);
    assert_int_equal(made->taken, end + 3 - text);
    assert_int_equal(made->status, six_lines(text, end));
    /* Of a clean message everything is passed, of a dirty one a beginning: clean, with no end. */
    memcpy(passed + 2, made->passed, made->passed_len);
    assert_memory_equal(passed, text, made->passed_len + 2);
    assert_int_equal(six_lines(passed, passed + 2 + made->passed_len), BODY_END);
    assert_null(memmem(passed, made->passed_len + 2, "\r\n.\r\n", 5));
    if (made->status == BODY_END) {
        assert_int_equal(made->passed_len, end - text);
    }
}

/* Presents input up to each cut (ascending offsets), and again what was not consumed. */
static void drive(struct span in, const size_t *cuts, size_t count, struct outcome *out)
{
    struct body_scanner scanner = {.line_start = true};
    size_t at = 0;

    out->status = BODY_MORE;
    out->ended = false;
    out->passed_len = 0;
    for (size_t i = 0; i <= count && !out->ended; i++) {
        const size_t end = i < count ? cuts[i] : in.len;
        size_t consumed = 0, clean = 0;
        if (out->status == BODY_MORE) {
            /* An allocation of its own, so that the sanitizer sees a byte read too many. */
            char *piece = malloc(end - at + 1);
            assert_non_null(piece);
            memcpy(piece, in.ptr + at, end - at);
            char *exact = realloc(piece, end > at ? end - at : 1);
            assert_non_null(exact);
            out->status = body_scan(&scanner, span_make(exact, end - at), &clean, &consumed);
            free(exact);
            memcpy(out->passed + out->passed_len, in.ptr + at, clean);
            out->passed_len += clean;
            assert_int_equal(consumed, clean + (out->status == BODY_END ? 3 : 0));
            at += consumed;
            out->ended = out->status == BODY_END;
        }
        if (out->status == BODY_DIRTY) {
            out->ended = body_skip(&scanner, span_make(in.ptr + at, end - at), &consumed);
            at += consumed;
        }
    }
    out->taken = at;
    out->size = scanner.size;
}

static void show(struct span in, const char *what)
{
    print_error("%s: ", what);
    for (size_t i = 0; i < in.len; i++) {
        print_error("%02x ", (unsigned char)in.ptr[i]);
    }
    print_error("\n");
}

static void check(struct span in, const size_t *cuts, size_t count, const struct outcome *want,
                  const char *what)
{
    struct outcome got;
    drive(in, cuts, count, &got);
    if (!outcome_equal(&got, want)) {
        show(in, what);
        fail();
    }
}

/* Every string of length `len` over the bytes that matter, with `tail` behind it, at every single
 * cut and bytewise. */
static void check_all(size_t len, struct span tail)
{
    static const char alphabet[5] = {'\r', '\n', '.', '\0', 'x'};
    static struct outcome want;
    char message[32];
    size_t every[32], total = 1;

    for (size_t i = 0; i < len; i++) {
        total *= sizeof alphabet;
    }
    for (size_t i = 0; i < 32; i++) {
        every[i] = i;
    }
    for (size_t n = 0; n < total; n++) {
        size_t code = n;
        for (size_t i = 0; i < len; i++, code /= sizeof alphabet) {
            message[i] = alphabet[code % sizeof alphabet];
        }
        memcpy(message + len, tail.ptr, tail.len);
        const struct span in = span_make(message, len + tail.len);
        reference(in, &want);
        for (size_t cut = 0; cut <= in.len; cut++) {
            check(in, &cut, 1, &want, "cut once");
        }
        check(in, every, in.len, &want, "bytewise");
        if (tail.len > 0) {
            judge(in, &want);
        }
    }
}

static void every_short_message_ends_where_the_rules_say(void **state)
{
    (void)state;
    for (size_t len = 0; len <= 8; len++) {
        check_all(len, SPAN("\r\n.\r\n"));
    }
}

static void every_short_piece_without_an_end_waits(void **state)
{
    (void)state;
    for (size_t len = 0; len <= 6; len++) {
        check_all(len, SPAN(""));
    }
}

static void random_long_messages_do_not_depend_on_cuts(void **state)
{
    static const char likely[] = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx.\r\n";
    static struct outcome want;
    char message[700];

    (void)state;
    srand(7);
    for (int round = 0; round < 20000; round++) {
        size_t len = 0;
        const size_t lines = (size_t)rand() % 12;
        for (size_t line = 0; line < lines; line++) {
            for (int i = rand() % 45; i > 0; i--) {
                message[len++] = rand() % 400 == 0 ? (char)(rand() % 14)
                                                   : likely[(size_t)rand() % (sizeof likely - 3)];
            }
            memcpy(message + len, "\r\n", 2);
            len += 2;
        }
        memcpy(message + len, ".\r\nQUIT\r\n", 9);
        len += 9;
        size_t cuts[8], at = 0;
        for (size_t i = 0; i < 8; i++) {
            at += (size_t)rand() % (len - at + 1);
            cuts[i] = at;
        }
        reference(span_make(message, len), &want);
        check(span_make(message, len), cuts, (size_t)rand() % 9, &want, "random");
    }
}

static void stuffed_dots_pass_and_are_not_counted(void **state)
{
    static struct outcome got;

    (void)state;
    drive(SPAN("..\r\n.x\r\na.b\r\n.\r\n"), NULL, 0, &got);
    assert_int_equal(got.status, BODY_END);
    assert_int_equal(got.passed_len, 13);
    assert_int_equal(got.size, 11);
}

static void an_empty_message_ends_at_once(void **state)
{
    static struct outcome got;

    (void)state;
    drive(SPAN(".\r\nMAIL"), NULL, 0, &got);
    assert_int_equal(got.status, BODY_END);
    assert_int_equal(got.passed_len, 0);
    assert_int_equal(got.taken, 3);
}

static void what_looks_like_an_end_is_dirt(void **state)
{
    static const struct span smuggled[] = {
        SPAN("a\n.\nMAIL\r\n.\r\n"),       SPAN("a\n.\r\nMAIL\r\n.\r\n"),
        SPAN("a\r.\rMAIL\r\n.\r\n"),       SPAN("a\r.\r\nMAIL\r\n.\r\n"),
        SPAN("a\r\n.\nMAIL\r\n.\r\n"),     SPAN("a\r\n.\rMAIL\r\n.\r\n"),
        SPAN("a\r\n.\r\r\nMAIL\r\n.\r\n"), SPAN("a\r\n\0.\r\nMAIL\r\n.\r\n"),
        SPAN("a\r\n.\0\r\nMAIL\r\n.\r\n"), SPAN("a\r\n.\r\0\nMAIL\r\n.\r\n"),
        SPAN("a\r\0\n.\r\nMAIL\r\n.\r\n"),
    };
    static struct outcome got;

    (void)state;
    for (size_t i = 0; i < sizeof smuggled / sizeof smuggled[0]; i++) {
        drive(smuggled[i], NULL, 0, &got);
        assert_int_equal(got.status, BODY_DIRTY);
        assert_true(got.ended);
        assert_int_equal(got.taken, smuggled[i].len);
        assert_null(memmem(got.passed, got.passed_len, "MAIL", 4));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_short_message_ends_where_the_rules_say),
        cmocka_unit_test(every_short_piece_without_an_end_waits),
        cmocka_unit_test(random_long_messages_do_not_depend_on_cuts),
        cmocka_unit_test(stuffed_dots_pass_and_are_not_counted),
        cmocka_unit_test(an_empty_message_ends_at_once),
        cmocka_unit_test(what_looks_like_an_end_is_dirt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
