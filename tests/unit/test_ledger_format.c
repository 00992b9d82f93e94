#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proxy/session/ledger_format.h"

/* A set as bytes, and back. */

struct formatted {
    struct ledger_members members;
    char *buffer;
    size_t cap;
};

static int setup(void **state)
{
    struct formatted *f = calloc(1, sizeof *f);
    assert_non_null(f);
    assert_true(ledger_members_init(&f->members, 1));
    *state = f;
    return 0;
}

/* Whatever was read and freed, nothing is left that counts. */
static int teardown(void **state)
{
    struct formatted *f = *state;
    assert_int_equal(f->members.count, 0);
    assert_int_equal(f->members.records, 0);
    assert_int_equal(f->members.octets, 0);
    ledger_members_release(&f->members);
    free(f->buffer);
    free(f);
    return 0;
}

static struct ledger_set *sample(struct formatted *f)
{
    static const struct ledger_acceptance records[] = {
        {.identity = "0123456789abcdef0123456789abcde", .at = 1800000000},
        {.identity = "1123456789abcdef0123456789abcde", .at = -1},
    };
    struct ledger_set *set = ledger_set_new(&f->members, SPAN("s@example.org"));
    assert_non_null(set);
    set->touched = 1800000000123;
    struct ledger_leg *leg = ledger_leg_new(&f->members, set, SPAN("alpha"), records, 2);
    assert_non_null(leg);
    assert_non_null(ledger_member_new(&f->members, leg, SPAN("a1@example.com")));
    assert_non_null(ledger_member_new(&f->members, leg, SPAN("a2@example.com")));
    assert_non_null(ledger_set_add(&f->members, set, SPAN("b1@example.com"), SPAN("")));
    return set;
}

/* Its own allocation, so that a byte read too many is seen. Freed by the caller. */
static struct span formatted(struct formatted *f, const struct ledger_set *set)
{
    struct span record = ledger_format(set, &f->buffer, &f->cap);
    char *copy = malloc(record.len);
    assert_true(record.len != 0);
    assert_non_null(copy);
    memcpy(copy, record.ptr, record.len);
    return span_make(copy, record.len);
}

static struct span sample_record(struct formatted *f)
{
    struct ledger_set *set = sample(f);
    struct span record = formatted(f, set);
    ledger_set_free(&f->members, set);
    return record;
}

static void what_is_written_is_read_back(void **state)
{
    struct formatted *f = *state;
    struct span record = sample_record(f);
    struct ledger_set *set = NULL;
    assert_int_equal(ledger_parse(&f->members, record, &set), LEDGER_PARSED);
    assert_int_equal(set->touched, 1800000000123);
    assert_true(span_equal(set->sender, SPAN("s@example.org")));
    const struct ledger_leg *first = set->first, *last = set->last;
    assert_true(first->next == last && last->next == NULL);
    assert_true(span_equal(first->label, SPAN("alpha")));
    assert_int_equal(first->member_count, 2);
    assert_int_equal(first->record_count, 2);
    assert_memory_equal(first->records[1].identity, "1123456789abcdef0123456789abcde", 32);
    assert_int_equal(first->records[0].at, 1800000000);
    assert_int_equal(first->records[1].at, -1);
    assert_true(span_equal(last->label, SPAN("")));
    assert_int_equal(last->record_count, 0);
    assert_true(span_equal(last->members->path, SPAN("b1@example.com")));
    const struct ledger_member *found =
        ledger_find(&f->members, SPAN("s@example.org"), SPAN("a2@EXAMPLE.com"));
    assert_true(found != NULL && found->leg == first);
    ledger_set_free(&f->members, set);
    free((char *)record.ptr);
}

static void the_bytes_are_the_same_whenever_a_set_is_written(void **state)
{
    struct formatted *f = *state;
    struct span one = sample_record(f), other = sample_record(f);
    assert_true(span_equal(one, other));
    free((char *)one.ptr);
    free((char *)other.ptr);
}

static void the_buffer_grows_and_serves_again(void **state)
{
    struct formatted *f = *state;
    struct ledger_set *set = sample(f);
    struct span small = ledger_format(set, &f->buffer, &f->cap);
    size_t length = small.len, cap = f->cap;
    char path[] = "c00@example.com";
    for (int i = 0; i < 100; i++) {
        path[1] = (char)('0' + i / 10);
        path[2] = (char)('0' + i % 10);
        assert_non_null(ledger_set_add(&f->members, set, span_of(path), SPAN("gamma")));
    }
    assert_true(ledger_format(set, &f->buffer, &f->cap).len > length + 100 * sizeof path);
    assert_true(f->cap > cap);
    ledger_set_free(&f->members, set);
}

static void nothing_shorter_is_read(void **state)
{
    struct formatted *f = *state;
    struct span record = sample_record(f);
    for (size_t len = 0; len < record.len; len++) {
        struct ledger_set *set = NULL;
        char *exact = malloc(len + 1);
        assert_non_null(exact);
        memcpy(exact, record.ptr, len);
        assert_int_equal(ledger_parse(&f->members, span_make(exact, len), &set), LEDGER_DAMAGED);
        assert_null(set);
        free(exact);
    }
    free((char *)record.ptr);
}

static void a_bit_that_has_changed_is_seen(void **state)
{
    struct formatted *f = *state;
    struct span record = sample_record(f);
    char *bytes = (char *)record.ptr;
    for (size_t bit = 0; bit < 8 * record.len; bit++) {
        struct ledger_set *set = NULL;
        bytes[bit / 8] = (char)(bytes[bit / 8] ^ 1 << bit % 8);
        assert_int_equal(ledger_parse(&f->members, record, &set), LEDGER_DAMAGED);
        assert_null(set);
        bytes[bit / 8] = (char)(bytes[bit / 8] ^ 1 << bit % 8);
    }
    free(bytes);
}

/* With the right checksum: what another version may have written, or nobody. */
static enum ledger_parse parse_body(struct formatted *f, const char *body, size_t len)
{
    static const struct hash_key key = {{0, 0}};
    struct ledger_set *set = NULL;
    char *record = malloc(len + 8);
    assert_non_null(record);
    memcpy(record, body, len);
    uint64_t sum = hash_bytes(&key, body, len);
    for (unsigned i = 0; i < 8; i++) {
        record[len + i] = (char)(sum >> 8 * i & 0xff);
    }
    enum ledger_parse result = ledger_parse(&f->members, span_make(record, len + 8), &set);
    if (result == LEDGER_PARSED) {
        ledger_set_free(&f->members, set);
    }
    free(record);
    return result;
}

#define PARSE(f, literal) parse_body(f, literal, sizeof(literal) - 1)

/* Version, time, sender "s"; a leg "l"; no record; its members. */
#define HEAD    "\1tttttttt\1\0s"
#define LEG     "\1\0l\0"
#define ONE     "\1\0\0\0"
#define TWO     "\2\0\0\0"
#define NOBODY  "\0\0\0\0"
#define MEMBER  "\1\0m"
#define ANOTHER "\1\0n"

static void what_is_no_set_is_not_read(void **state)
{
    struct formatted *f = *state;
    assert_int_equal(PARSE(f, HEAD LEG ONE MEMBER), LEDGER_PARSED);
    assert_int_equal(PARSE(f, HEAD LEG ONE MEMBER LEG ONE ANOTHER), LEDGER_PARSED);
    assert_int_equal(PARSE(f, "\2tttttttt\1\0s" LEG ONE MEMBER), LEDGER_DAMAGED);
    assert_int_equal(PARSE(f, ""), LEDGER_DAMAGED);
    assert_int_equal(PARSE(f, HEAD), LEDGER_DAMAGED);
    assert_int_equal(PARSE(f, HEAD LEG NOBODY), LEDGER_DAMAGED);
    assert_int_equal(PARSE(f, HEAD LEG TWO MEMBER), LEDGER_DAMAGED);
    assert_int_equal(PARSE(f, HEAD LEG "\xff\xff\xff\xff" MEMBER), LEDGER_DAMAGED);
    assert_int_equal(PARSE(f, HEAD LEG ONE MEMBER "\0"), LEDGER_DAMAGED);
    assert_int_equal(PARSE(f, HEAD "\1\0l\1" ONE MEMBER), LEDGER_DAMAGED); /* a record is longer */
}

static void no_more_records_than_there_may_be_are_read(void **state)
{
    struct formatted *f = *state;
    static const char head[] = HEAD "\1\0l", tail[] = ONE MEMBER;
    for (unsigned char count = LEDGER_RECORDS_MAX; count <= LEDGER_RECORDS_MAX + 1; count++) {
        char body[64 + (LEDGER_RECORDS_MAX + 2) * (MESSAGE_IDENTITY_SIZE + 8)] = HEAD "\1\0l";
        size_t len = sizeof head - 1;
        body[len++] = (char)count;
        len += count * (MESSAGE_IDENTITY_SIZE + 8U);
        memcpy(body + len, tail, sizeof tail - 1);
        assert_int_equal(parse_body(f, body, len + sizeof tail - 1),
                         count == LEDGER_RECORDS_MAX ? LEDGER_PARSED : LEDGER_DAMAGED);
    }
}

static void who_is_there_twice_is_damage(void **state)
{
    struct formatted *f = *state;
    assert_int_equal(PARSE(f, HEAD LEG TWO MEMBER ANOTHER), LEDGER_PARSED);
    assert_int_equal(PARSE(f, HEAD LEG TWO MEMBER MEMBER), LEDGER_DAMAGED);
    assert_int_equal(PARSE(f, HEAD LEG ONE MEMBER LEG ONE MEMBER), LEDGER_DAMAGED);
    struct ledger_set *other = ledger_set_new(&f->members, SPAN("s"));
    assert_non_null(other);
    assert_non_null(ledger_set_add(&f->members, other, SPAN("m"), SPAN("l")));
    assert_int_equal(PARSE(f, HEAD LEG ONE MEMBER), LEDGER_DAMAGED);
    assert_int_equal(PARSE(f, HEAD LEG ONE ANOTHER), LEDGER_PARSED);
    ledger_set_free(&f->members, other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_written_is_read_back, setup, teardown),
        cmocka_unit_test_setup_teardown(the_bytes_are_the_same_whenever_a_set_is_written, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(the_buffer_grows_and_serves_again, setup, teardown),
        cmocka_unit_test_setup_teardown(nothing_shorter_is_read, setup, teardown),
        cmocka_unit_test_setup_teardown(a_bit_that_has_changed_is_seen, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_no_set_is_not_read, setup, teardown),
        cmocka_unit_test_setup_teardown(no_more_records_than_there_may_be_are_read, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(who_is_there_twice_is_damage, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
