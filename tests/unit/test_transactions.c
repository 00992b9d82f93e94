/* transactions: lines of the log that are kept, and read again as JSON. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

#include "proxy/admin/transactions.h"
#include "proxy/wire/record.h"

/* A line as the log has it, with values as a client may send them. */
static void put_line(struct text *out, enum config_log_format format, const char *event,
                     const char *helo, const char *recipients)
{
    struct record record;
    const bool json = format == LOG_JSON;
    record_begin(&record, format);
    record_str(&record, "session", "s1");
    record_str(&record, "event", event);
    record_str(&record, "client", "192.0.2.7");
    record_str(&record, "helo", helo);
    record_str(&record, "tls", "TLSv1.3 TLS_AES_256_GCM_SHA384");
    record_str(&record, "sender", "");
    record_str(&record, "recipients", recipients);
    record_number(&record, "size", 77);
    text_puts(out, json ? "{\"time\":\"2026-11-23T11:31:29.123Z\",\"level\":\"info\","
                        : "2026-11-23T11:31:29.123Z info ");
    text_put(out, record_end(&record));
    text_puts(out, json ? "}\n" : "\n");
    assert_false(out->full);
}

/* What is kept of the bytes, shown in pieces of this size. */
static json_t *kept(struct span bytes, size_t piece)
{
    struct transactions *transactions = transactions_new();
    while (bytes.len > 0) {
        transactions_see(transactions, span_first(bytes, piece));
        bytes = span_skip(bytes, piece);
    }
    char *text = transactions_text(transactions, TRANSACTIONS_ALL);
    json_t *list = transactions_json(text, TRANSACTIONS_ALL);
    free(text);
    transactions_free(transactions);
    return list;
}

static const char *string_of(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

static void assert_recipient(const json_t *line, size_t i, const char *address, const char *relay,
                             const char *reply)
{
    const json_t *recipient = json_array_get(json_object_get(line, "recipients"), i);
    assert_string_equal(string_of(recipient, "address"), address);
    assert_string_equal(string_of(recipient, "reply"), reply);
    if (relay != NULL) {
        assert_string_equal(string_of(recipient, "relay"), relay);
    } else {
        assert_true(json_is_null(json_object_get(recipient, "relay")));
    }
}

static void a_line_is_read_in_both_formats_and_whatever_its_pieces(void **state)
{
    (void)state;
    for (enum config_log_format format = LOG_TEXT; format <= LOG_JSON; format++) {
        for (size_t piece = 1; piece < 2000; piece += 333) {
            char buffer[4096];
            struct text text = TEXT(buffer);
            put_line(&text, format, "session-refused", "event=transaction ", "");
            put_line(&text, format, "transaction", "a \"b\\\n\x01<\xff event=x",
                     "\"a;b=c:1\\\" d\"@[IPv6:::1]=smtp:[192.0.2.1]:25(fallback):250/accepted;"
                     "a=b@x=discard:250;postmaster=local:451");
            json_t *list = kept(text_span(&text), piece);
            assert_int_equal(json_array_size(list), 1);
            const json_t *line = json_array_get(list, 0);
            assert_string_equal(string_of(line, "helo"), "a \"b\\\n\x01<\xef\xbf\xbd event=x");
            assert_string_equal(string_of(line, "tls"), "TLSv1.3");
            assert_string_equal(string_of(line, "from"), "");
            assert_true(json_is_null(json_object_get(line, "client_name")));
            assert_int_equal(json_integer_value(json_object_get(line, "at")), 1795433489);
            assert_int_equal(json_integer_value(json_object_get(line, "size")), 77);
            assert_recipient(line, 0, "\"a;b=c:1\\\" d\"@[IPv6:::1]",
                             "smtp:[192.0.2.1]:25(fallback)", "250/accepted");
            assert_recipient(line, 1, "a=b@x", NULL, "250");
            assert_recipient(line, 2, "postmaster", "local", "451");
            json_decref(list);
        }
    }
}

static void the_last_hundred_are_kept_the_newest_first(void **state)
{
    struct transactions *transactions = transactions_new();
    char buffer[4096], helo[16];
    (void)state;
    for (unsigned i = 0; i < TRANSACTIONS_MAX + 7; i++) {
        struct text line = TEXT(buffer), name = TEXT(helo);
        text_number(&name, i);
        put_line(&line, LOG_TEXT, "transaction", helo, "a@b=local:250");
        transactions_see(transactions, text_span(&line));
    }
    char *text = transactions_text(transactions, TRANSACTIONS_ALL);
    json_t *list = transactions_json(text, TRANSACTIONS_ALL);
    assert_int_equal(json_array_size(list), TRANSACTIONS_MAX);
    assert_string_equal(string_of(json_array_get(list, 0), "helo"), "106");
    assert_string_equal(string_of(json_array_get(list, TRANSACTIONS_MAX - 1), "helo"), "7");
    json_decref(list);
    free(text);
    transactions_free(transactions);
}

static void a_line_that_comes_late_goes_to_its_place(void **state)
{
    static const char *const lines[] = {
        "<6>2026-11-23T11:31:29.002Z info session=s event=transaction helo=b\n",
        "<6>{\"time\":\"2026-11-23T11:31:29.003Z\",\"level\":\"info\",\"session\":\"s\","
        "\"event\":\"transaction\",\"helo\":\"c\"}\n",
        "2026-11-23T11:31:29.001Z info session=s event=transaction helo=a\n",
        "2026-11-23T11:31:29.003Z info session=s event=transaction helo=d\n"};
    struct transactions *transactions = transactions_new();
    (void)state;
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        transactions_see(transactions, span_of(lines[i]));
    }
    char *text = transactions_text(transactions, TRANSACTIONS_ALL);
    json_t *list = transactions_json(text, TRANSACTIONS_ALL);
    const char *const helo[] = {"d", "c", "b", "a"};
    for (size_t i = 0; i < 4; i++) {
        assert_string_equal(string_of(json_array_get(list, i), "helo"), helo[i]);
    }
    json_decref(list);
    free(text);
    transactions_free(transactions);
}

static void a_line_that_is_none_harms_nothing(void **state)
{
    static char long_line[20000];
    char buffer[4096];
    struct text line = TEXT(buffer);
    (void)state;
    memset(long_line, 'x', sizeof long_line - 1);
    memcpy(long_line, "a b event=transaction ", 22);
    long_line[sizeof long_line - 1] = '\n';
    put_line(&line, LOG_TEXT, "transaction", "good", "");
    struct transactions *transactions = transactions_new();
    transactions_see(transactions, span_make(long_line, sizeof long_line));
    transactions_see(transactions, SPAN("\n\n{\nevent=transaction \n a event=transaction x=\"\\x\n"
                                        "{\"event\":\"transaction\",\n"));
    transactions_see(transactions, text_span(&line));
    char *text = transactions_text(transactions, TRANSACTIONS_ALL);
    json_t *list = transactions_json(text, TRANSACTIONS_ALL);
    bool found = false;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *helo = string_of(json_array_get(list, i), "helo");
        found = found || (helo != NULL && strcmp(helo, "good") == 0);
    }
    assert_true(found);
    assert_true(json_array_size(list) <= 4);
    json_decref(list);
    free(text);
    transactions_free(transactions);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_is_read_in_both_formats_and_whatever_its_pieces),
        cmocka_unit_test(the_last_hundred_are_kept_the_newest_first),
        cmocka_unit_test(a_line_that_comes_late_goes_to_its_place),
        cmocka_unit_test(a_line_that_is_none_harms_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
