#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "proxy/wire/identity.h"

/* What a message needs besides the field that is tried. */
#define DATED "Date: d\r\nMessage-ID: m\r\n"

struct outcome {
    bool has;
    unsigned char digest[MESSAGE_IDENTITY_SIZE];
};

static struct spares spares;

/* Whether so much comes in front, of what does not count, that nothing is held: every test is run
 * with and without. */
static bool is_long;

static struct message_identity *begin(void)
{
    struct message_identity *identity = message_identity_new(&spares);
    char line[1000];
    if (identity == NULL || !is_long) {
        return identity;
    }
    memset(line, 'x', sizeof line);
    memcpy(line + sizeof line - 2, "\r\n", 2);
    for (int i = 0; i < 20; i++) {
        message_identity_feed(identity, SPAN("X-Long: "));
        message_identity_feed(identity, span_make(line, sizeof line));
    }
    return identity;
}

static void feed_piece(struct message_identity *identity, struct span in)
{
    /* An allocation of its own: what was fed is gone when more comes. */
    char *piece = malloc(in.len > 0 ? in.len : 1);
    assert_non_null(piece);
    memcpy(piece, in.ptr, in.len);
    message_identity_feed(identity, span_make(piece, in.len));
    free(piece);
}

/* Cut in three, behind `first` and `second`. */
static struct outcome cut(struct span in, size_t first, size_t second)
{
    struct message_identity *identity = begin();
    struct outcome out = {0};

    assert_non_null(identity);
    feed_piece(identity, span_first(in, first));
    feed_piece(identity, span_skip(span_first(in, second), first));
    feed_piece(identity, span_skip(in, second));
    out.has = message_identity_end(identity, out.digest);
    message_identity_free(identity);
    return out;
}

static struct outcome bytewise(struct span in)
{
    struct message_identity *identity = begin();
    struct outcome out = {0};

    assert_non_null(identity);
    for (size_t i = 0; i < in.len; i++) {
        feed_piece(identity, span_make(in.ptr + i, 1));
    }
    out.has = message_identity_end(identity, out.digest);
    message_identity_free(identity);
    return out;
}

static bool equal(struct outcome a, struct outcome b)
{
    return a.has == b.has && memcmp(a.digest, b.digest, sizeof a.digest) == 0;
}

static struct outcome identify(const char *message)
{
    const struct span in = span_of(message);
    const struct outcome whole = cut(in, 0, in.len);
    assert_true(equal(bytewise(in), whole));
    return whole;
}

static void expect_same(const char *a, const char *b)
{
    const struct outcome of_a = identify(a), of_b = identify(b);
    assert_true(of_a.has);
    assert_true(of_b.has);
    assert_true(equal(of_a, of_b));
}

static void expect_different(const char *a, const char *b)
{
    const struct outcome of_a = identify(a), of_b = identify(b);
    assert_true(of_a.has);
    assert_true(of_b.has);
    assert_false(equal(of_a, of_b));
}

static void expect_none(const char *message)
{
    assert_false(identify(message).has);
}

static const char sample[] =
    "Received: from a\r\n\tby b; Date: x\r\n"
    ".From: A <a@example.com>\r\nSENDER:s@example.com\r\nTo \t:b@example.com,\r\n c@example.com\r\n"
    "Cc:\r\nX-Very-Long-Name-That-Is-Not-Kept: x\r\nSubject: folded\r\n \r\n\t twice \r\n"
    "Date: Sun, 22 Nov 2026 17:00:00 +0000\r\nMessage-ID:\r\n <1@example.com>\r\n"
    "Mime-Version: 1.0\r\nContent-Type: text/plain\r\n"
    "Content-A-Name-Of-More-Than-Thirty-Two-Bytes : x\r\n\r\n"
    "\r\nDate: body\r\n..\r\n\r\nend\r\n";

static const char sample_hashed[] =
    "from: A <a@example.com>\r\nsender:s@example.com\r\nto:b@example.com, c@example.com\r\n"
    "cc:\r\nsubject: folded \t twice \r\n"
    "date: Sun, 22 Nov 2026 17:00:00 +0000\r\nmessage-id: <1@example.com>\r\n"
    "mime-version: 1.0\r\ncontent-type: text/plain\r\n"
    "content-a-name-of-more-than-thirty-two-bytes: x\r\n\r\n"
    "\r\nDate: body\r\n..\r\n\r\nend\r\n";

static void what_counts_is_hashed_unfolded_and_in_order(void **state)
{
    struct outcome expected = {.has = true};

    (void)state;
    assert_int_equal(EVP_Digest(sample_hashed, sizeof sample_hashed - 1, expected.digest, NULL,
                                EVP_sha256(), NULL),
                     1);
    assert_true(equal(identify(sample), expected));
}

static void cuts_make_no_difference(void **state)
{
    const struct span in = span_of(sample);
    const struct outcome whole = identify(sample);

    (void)state;
    for (size_t first = 0; first <= in.len; first++) {
        for (size_t second = first; second <= in.len; second += 3) {
            assert_true(equal(cut(in, first, second), whole));
        }
    }
}

static void fields_added_on_the_way_do_not_count(void **state)
{
    (void)state;
    expect_same(DATED "\r\nx\r\n", "Return-Path: <a@b>\r\nReceived: from a\r\n by b\r\n"
                                   "DKIM-Signature: Date: no\r\n\tMessage-ID: no\r\n" DATED
                                   "X-Spam: yes\r\nResent-To: a\r\n\r\nx\r\n");
    expect_same(DATED "\r\n", DATED "X-To: a\r\nTos: a\r\nT: a\r\nSubjects: a\r\nContent: a\r\n"
                                    "Xontent-Type: a\r\nMIME-Version-: a\r\nBcc: a\r\n\r\n");
    expect_same(DATED "\r\n", "X-Content-A-Name-Of-More-Than-Thirty-Two-Bytes: x\r\n" DATED "\r\n");
}

static void each_counted_field_counts(void **state)
{
    static const char *const names[] = {
        "From", "Sender", "To", "Cc", "Subject", "MIME-Version", "Content-Type", "Content-", NULL,
    };
    char one[200], other[200], more[200];

    (void)state;
    for (size_t i = 0; names[i] != NULL; i++) {
        snprintf(one, sizeof one, "%s: 1\r\n" DATED "\r\n", names[i]);
        snprintf(other, sizeof other, "%s: 2\r\n" DATED "\r\n", names[i]);
        snprintf(more, sizeof more, "%s: 1\r\n%s: 1\r\n" DATED "\r\n", names[i], names[i]);
        expect_different(one, other);
        expect_different(one, more);
        expect_different(one, DATED "\r\n");
    }
    expect_different("Date: d\r\nMessage-ID: m\r\n\r\n", "Date: D\r\nMessage-ID: m\r\n\r\n");
    expect_different("Date: d\r\nMessage-ID: m\r\n\r\n", "Date: d\r\nMessage-ID: M\r\n\r\n");
    expect_different("Content-A-Name-Of-More-Than-Thirty-Two-Bytes: x\r\n" DATED "\r\n",
                     "Content-A-Name-Of-More-Than-Thirty-Two-Bytez: x\r\n" DATED "\r\n");
}

static void the_body_counts_exactly(void **state)
{
    (void)state;
    expect_different(DATED "\r\n", DATED "\r\n\r\n");
    expect_different(DATED "\r\na\r\n", DATED "\r\na \r\n");
    expect_different(DATED "\r\na\r\n b\r\n", DATED "\r\na b\r\n");
    expect_different(DATED "\r\nA\r\n", DATED "\r\na\r\n");
    expect_different(DATED "\r\nReceived: a\r\n", DATED "\r\n");
}

static void order_counts(void **state)
{
    (void)state;
    expect_different("To: a\r\nCc: b\r\n" DATED "\r\n", "Cc: b\r\nTo: a\r\n" DATED "\r\n");
    expect_different("To: a\r\nTo: b\r\n" DATED "\r\n", "To: b\r\nTo: a\r\n" DATED "\r\n");
}

static void spelling_and_folding_of_a_field_do_not_count(void **state)
{
    (void)state;
    expect_same("Subject: a b\tc\r\n" DATED "\r\n", "sUBJECT: a\r\n b\r\n\tc\r\n" DATED "\r\n");
    expect_same("Subject: a\r\n" DATED "\r\n", "Subject \t : a\r\n" DATED "\r\n");
    expect_same("CONTENT-A-Name-Of-More-Than-Thirty-Two-Bytes: x\r\n" DATED "\r\n",
                "Content-A-Name-Of-More-Than-Thirty-Two-Bytes\t: x\r\n" DATED "\r\n");
    /* Blanks themselves do. */
    expect_different("Subject: a b\r\n" DATED "\r\n", "Subject: a\tb\r\n" DATED "\r\n");
    expect_different("Subject: a b\r\n" DATED "\r\n", "Subject: a\r\n  b\r\n" DATED "\r\n");
    expect_different("Subject: a\r\n" DATED "\r\n", "Subject:a\r\n" DATED "\r\n");
}

static void without_one_date_and_one_message_id_there_is_none(void **state)
{
    (void)state;
    expect_none("");
    expect_none("\r\n");
    expect_none("Date: d\r\n\r\n");
    expect_none("Message-ID: m\r\n\r\n");
    expect_none(DATED "Date: d\r\n\r\n");
    expect_none(DATED "dATE \t: d\r\n\r\n");
    expect_none(DATED "Message-Id: m\r\n\r\n");
    expect_none(DATED "MESSAGE-ID\t:\r\n m\r\n\r\n");
    expect_none(DATED "date:\r\n d\r\n\r\n");
    expect_none("Date-X: d\r\nMessage-ID: m\r\n\r\n");
    expect_none("Date: d\r\nMessage-IDs: m\r\n\r\n");
    expect_none("X: a\r\n Date: d\r\nMessage-ID: m\r\n\r\n");
    expect_none("Date: d\r\n\r\nMessage-ID: m\r\n\r\n");
    assert_true(identify(DATED "Date-X: d\r\nMessage-IDs: m\r\nDat: d\r\n\r\n").has);
    assert_true(identify("date\t:\r\n d\r\nMESSAGE-id :\r\n m\r\n\r\n").has);
}

static void without_a_whole_header_section_there_is_none(void **state)
{
    (void)state;
    expect_none(DATED);
    expect_none(DATED "\r");
    expect_none("hello\r\n" DATED "\r\n");
    expect_none(" " DATED "\r\n");
    expect_none(". " DATED "\r\n");
    expect_none("From a@b Sun Nov 22\r\n" DATED "\r\n");
    expect_none(DATED "no field\r\n\r\n");
    expect_none(DATED "nofield\r\n\r\n");
    expect_none(DATED ": x\r\n\r\n");
    expect_none(DATED "..\r\n\r\n");
    expect_none(DATED "Subj\xc3\xa9t: x\r\n\r\n");
    /* What the scanner lets nobody send does no harm either. */
    expect_none(DATED "Subject: a\rb\r\n\r\n");
    expect_none(DATED "\rx\r\n\r\n");
}

static void a_value_cannot_pass_for_a_field(void **state)
{
    (void)state;
    expect_different("To: a\r\nCc: b\r\n" DATED "\r\n", "To: a\r\n Cc: b\r\n" DATED "\r\n");
    expect_different("To: a\r\nCc: b\r\n" DATED "\r\n", "To: aCc: b\r\n" DATED "\r\n");
    expect_different("To: a:b\r\n" DATED "\r\n", "To: a\r\n :b\r\n" DATED "\r\n");
    expect_different("Content-A: b\r\n" DATED "\r\n", "Content-A:: b\r\n" DATED "\r\n");
    expect_different(DATED "Subject: s\r\n\r\n", "Date: d\r\n Message-ID: m\r\n"
                                                 "Message-ID: m\r\nSubject: s\r\n\r\n");
    /* A field that does not count takes its continuation with it, and no more. */
    expect_same(DATED "\r\n", "X: a\r\n Subject: s\r\n" DATED "\r\n");
    expect_different(DATED "\r\n", "X: a\r\nSubject: s\r\n" DATED "\r\n");
}

/* A server takes a line's first dot away, needed or not (RFC 5321 4.5.2). */
static void a_stuffed_line_is_what_the_server_sees(void **state)
{
    (void)state;
    expect_same(".Subject: s\r\n" DATED "\r\n", "Subject: s\r\n" DATED "\r\n");
    expect_same("Subject: s\r\n. t\r\n" DATED "\r\n", "Subject: s t\r\n" DATED "\r\n");
    expect_same("..Subject: s\r\n" DATED "\r\n", DATED "\r\n");
    expect_none(DATED ".Date: e\r\n\r\n");
}

static void header_and_body_cannot_pass_for_each_other(void **state)
{
    (void)state;
    expect_different(DATED "Subject: s\r\n\r\nx\r\n", DATED "\r\nSubject: s\r\n\r\nx\r\n");
    expect_different(DATED "\r\nSubject: s\r\n", DATED "Subject: s\r\n\r\n");
    expect_different(DATED "Subject: s\r\n\r\n", DATED "Subject: s\r\n\r\n\r\n");
    expect_different(DATED "Subject: s\r\n \r\n\r\n", DATED "Subject: s\r\n\r\n \r\n\r\n");
    expect_different(DATED "X: s\r\n\r\nTo: b\r\n", DATED "To: b\r\n\r\n");
    assert_true(identify(DATED "\r\nDate: d\r\nMessage-ID: m\r\n").has);
}

static int allocations_left = -1; /* until one fails; -1: none does */

static bool may_allocate(void)
{
    if (allocations_left > 0) {
        allocations_left--;
    }
    return allocations_left != 0;
}

static void *limited_malloc(size_t size, const char *file, int line)
{
    (void)file, (void)line;
    return may_allocate() ? malloc(size) : NULL;
}

static void *limited_realloc(void *old, size_t size, const char *file, int line)
{
    (void)file, (void)line;
    return may_allocate() ? realloc(old, size) : NULL;
}

static void plain_free(void *old, const char *file, int line)
{
    (void)file, (void)line;
    free(old);
}

static void memory_that_runs_out_makes_none_and_never_a_wrong_one(void **state)
{
    const struct outcome expected = identify(sample);
    struct outcome out = {0};
    int failed = 0;

    (void)state;
    for (int allowed = 0; !out.has; allowed++) {
        assert_true(allowed < 1000);
        allocations_left = allowed;
        struct message_identity *identity = begin();
        if (identity != NULL) {
            message_identity_feed(identity, span_of(sample));
            out.has = message_identity_end(identity, out.digest);
        }
        message_identity_free(identity);
        failed += !out.has;
        allocations_left = -1;
    }
    assert_true(failed > 0);
    assert_true(equal(out, expected));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_counts_is_hashed_unfolded_and_in_order),
        cmocka_unit_test(cuts_make_no_difference),
        cmocka_unit_test(fields_added_on_the_way_do_not_count),
        cmocka_unit_test(each_counted_field_counts),
        cmocka_unit_test(the_body_counts_exactly),
        cmocka_unit_test(order_counts),
        cmocka_unit_test(spelling_and_folding_of_a_field_do_not_count),
        cmocka_unit_test(without_one_date_and_one_message_id_there_is_none),
        cmocka_unit_test(without_a_whole_header_section_there_is_none),
        cmocka_unit_test(a_value_cannot_pass_for_a_field),
        cmocka_unit_test(a_stuffed_line_is_what_the_server_sees),
        cmocka_unit_test(header_and_body_cannot_pass_for_each_other),
        cmocka_unit_test(memory_that_runs_out_makes_none_and_never_a_wrong_one),
    };
    if (CRYPTO_set_mem_functions(limited_malloc, limited_realloc, plain_free) != 1) {
        return 1;
    }
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    is_long = true;
    return failed + cmocka_run_group_tests(tests, NULL, NULL);
}
