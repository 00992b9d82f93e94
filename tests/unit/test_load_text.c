#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/bench/load_text.h"

static struct load_options options = {.sender = "a@example.net",
                                      .recipients = {"b@example.com", "c@example.com"},
                                      .recipient_count = 2};

static void the_envelope_is_for_all_recipients(void **state)
{
    struct load_text text;
    (void)state;
    assert_true(load_text_init(&text, &options, 1));
    assert_true(span_equal(text.mail, SPAN("MAIL FROM:<a@example.net>\r\n")));
    assert_true(span_equal(text.recipients[1], SPAN("RCPT TO:<c@example.com>\r\n")));
    assert_true(span_equal(text.envelope, SPAN("MAIL FROM:<a@example.net>\r\n"
                                               "RCPT TO:<b@example.com>\r\n"
                                               "RCPT TO:<c@example.com>\r\nDATA\r\n")));
    load_text_release(&text);
}

/* Ends in CRLF, without lines over 73 octets, bare CR or LF, or a dot at the beginning of one. */
static void assert_well_formed(struct span message)
{
    while (message.len > 0) {
        const size_t end = span_find(message, '\n');
        assert_true(end > 0 && end <= 72);
        assert_int_equal(span_find(message, '\r'), end - 1);
        assert_true(message.ptr[0] != '.');
        message = span_skip(message, end + 1);
    }
}

static void a_message_has_the_size_that_was_asked_for(void **state)
{
    size_t least = 0;
    (void)state;
    for (options.size = 1; options.size < 1000; options.size++) {
        struct load_text text;
        assert_true(load_text_init(&text, &options, 1));
        const struct span body = span_first(text.after, text.after.len - 3);
        least = options.size == 1 ? text.size : least; /* no smaller than its header */
        assert_int_equal(text.size, text.before.len + LOAD_NUMBER + body.len);
        assert_true(span_ends(text.after, SPAN("\r\n.\r\n")));
        assert_well_formed(body);
        if (options.size > least + 1) { /* a line takes two octets */
            assert_int_equal(text.size, options.size);
        }
        load_text_release(&text);
    }
    assert_true(least < 300);
}

static void numbers_are_hexadecimal_and_of_one_length(void **state)
{
    char number[LOAD_NUMBER];
    (void)state;
    load_text_number(number, UINT64_C(0x1f));
    assert_memory_equal(number, "000000000000001f", LOAD_NUMBER);
    load_text_number(number, UINT64_C(0xfedcba9876543210));
    assert_memory_equal(number, "fedcba9876543210", LOAD_NUMBER);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_envelope_is_for_all_recipients),
        cmocka_unit_test(a_message_has_the_size_that_was_asked_for),
        cmocka_unit_test(numbers_are_hexadecimal_and_of_one_length),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
