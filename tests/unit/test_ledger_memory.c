#include "tests/unit/ledger_fixture.h"

/*
 * Each allocation of each operation fails once. Nothing leaks, the tables stay whole, and at worst
 * something is not on record, which is a duplicate: never is a message on record that nobody
 * accepted.
 */

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void __real_free(void *old);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);
void __wrap_free(void *old);

static int allowed = -1; /* allocations until one fails; -1: none does */
static bool has_failed;
static long blocks; /* that are in use */

static bool fails(void)
{
    if (allowed != 0) {
        allowed -= allowed > 0;
        return false;
    }
    has_failed = true;
    allowed = -1; /* the next may do again */
    return true;
}

void *__wrap_malloc(size_t size)
{
    void *block = fails() ? NULL : __real_malloc(size);
    blocks += block != NULL;
    return block;
}

void *__wrap_calloc(size_t count, size_t size)
{
    void *block = fails() ? NULL : __real_calloc(count, size);
    blocks += block != NULL;
    return block;
}

void *__wrap_realloc(void *old, size_t size)
{
    void *block = fails() ? NULL : __real_realloc(old, size);
    blocks += block != NULL && old == NULL;
    return block;
}

void __wrap_free(void *old)
{
    blocks -= old != NULL;
    __real_free(old);
}

/* ---- the state that is begun with, and what may happen ---- */

/* alpha* a1 a2 | beta b1 | gamma c1 // alpha* a3 | beta** b3 */
static void prepare(struct fixture *f)
{
    RECORD(f, 1, {"a1", true}, {"a2", true}, {"b1", false}, {"c1", false});
    RECORD(f, 1, {"a3", true}, {"b3", false});
    RECORD(f, 2, {"b3", true}, {"a3", false});
    RECORD(f, 3, {"b3", true}, {"a3", false});
    keep(f);
}

static void do_record_anew(struct fixture *f)
{
    RECORD(f, 5, {"a7", true}, {"a8", true}, {"b7", false});
}

static void do_record_without_identity(struct fixture *f)
{
    RECORD(f, 0, {"a7", true}, {"b7", false});
}

static void do_record_of_two_sets(struct fixture *f)
{
    RECORD(f, 5, {"d1", true}, {"a1", false}, {"b3", true});
}

static void do_bind(struct fixture *f)
{
    struct mail mail;
    first_rcpt(f, &mail, "a1");
    rcpt(f, &mail, "a2");
}

static void do_join(struct fixture *f)
{
    struct mail mail;
    first_rcpt(f, &mail, "d1");
    rcpt(f, &mail, "a1");
    rcpt(f, &mail, "e1");
}

static void do_part(struct fixture *f)
{
    struct mail mail;
    first_rcpt(f, &mail, "a1");
    rcpt_by(f, &mail, "a2", "alpha (fallback)");
}

static void do_merge(struct fixture *f)
{
    struct mail mail;
    first_rcpt(f, &mail, "a1");
    rcpt(f, &mail, "b3");
}

static void do_settle(struct fixture *f)
{
    settle(f, "a1", 1);
    settle(f, "b1", 1);
}

static void do_settle_one_of_two_messages(struct fixture *f)
{
    settle(f, "b3", 2);
}

static void do_refused(struct fixture *f)
{
    refused(f, "a1");
    refused(f, "b3");
}

static void do_forget_records(struct fixture *f)
{
    struct mail mail;
    f->now += HOUR;
    ledger_configure(f->ledger, 1, f->max_size);
    first_rcpt(f, &mail, "b3");
}

static void do_clear(struct fixture *f)
{
    ledger_clear(f->ledger, 0);
}

/* Enough for the tables to grow: 64 sets and members. */
static void do_many(struct fixture *f)
{
    char first[] = "a00", second[] = "b00";
    for (int i = 0; i < 70; i++) {
        first[1] = second[1] = (char)('0' + i / 10);
        first[2] = second[2] = (char)('0' + i % 10);
        RECORD(f, 4, {first, true}, {second, false});
    }
}

/* Its own memory is another matter. */
static void put(void *store, uint64_t set, struct span record)
{
    int saved = allowed;
    allowed = -1;
    fixture_put(store, set, record);
    allowed = saved;
}

static void do_take(struct fixture *f)
{
    struct mail mail;
    first_rcpt(f, &mail, "a1");
    rcpt(f, &mail, "c9");
    rcpt(f, &mail, "d9");
    first_rcpt(f, &mail, "a3");
    uint64_t taken = ledger_take(f->ledger, SIZE_MAX, put, f);
    ledger_written(f->ledger, taken);
}

/* ---- the sweep ---- */

struct walk {
    struct fixture *f;
    unsigned rows, records, last_leg;
    uint64_t last_set;
};

/* Who is listed is found, and what is on record was accepted. */
static void check_row(void *context, const struct ledger_listed *row)
{
    struct walk *walk = context;
    char name[80];
    struct text text = TEXT(name);
    text_printf(&text, "%.*s", SPAN_ARGS(row->recipient));
    walk->rows++;
    if (row->set != walk->last_set || row->leg != walk->last_leg) {
        walk->records += row->records;
    }
    walk->last_set = row->set;
    walk->last_leg = row->leg;
    assert_true(span_equal(row->label, span_of(route(name))) ||
                span_equal(row->label, SPAN("alpha (fallback)")));
}

static void check_whole(struct fixture *f)
{
    static const char *const never[] = {"b1", "c1", "b7", "d9", "e1"};
    struct walk walk = {.f = f};
    struct ledger_state told;
    uint64_t next = 0;
    while (ledger_list(f->ledger, next, check_row, &walk, &next)) {
    }
    ledger_tell(f->ledger, &told);
    assert_int_equal(told.recipients, walk.rows);
    assert_int_equal(told.records, walk.records);
    for (size_t i = 0; i < sizeof never / sizeof never[0]; i++) {
        for (unsigned char number = 1; number < 8; number++) {
            assert_false(is_accepted(f, never[i], number));
        }
    }
    assert_false(is_accepted(f, "a1", 2));
    assert_false(is_accepted(f, "b3", 1));
}

/* Says whether an allocation failed. */
static bool attempt(void (*operation)(struct fixture *), int count)
{
    void *state = NULL;
    long before = blocks;
    fixture_setup(&state);
    struct fixture *f = state;
    prepare(f);
    has_failed = false;
    allowed = count;
    operation(f);
    allowed = -1;
    bool failed = has_failed;
    check_whole(f);
    keep(f);
    char was[sizeof f->listed];
    memcpy(was, listed(f), sizeof was);
    crash(f); /* all that is there was kept, or is by now */
    assert_string_equal(listed(f), was);
    check_whole(f);
    fixture_teardown(&state);
    assert_int_equal(blocks, before);
    return failed;
}

/* As many as there are; at least so many. */
static void sweep(void (*operation)(struct fixture *), int at_least)
{
    int count = 0;
    while (attempt(operation, count)) {
        count++;
    }
    assert_true(count >= at_least);
}

static void what_is_recorded(void **state)
{
    (void)state;
    sweep(do_record_anew, 5);
    sweep(do_record_without_identity, 5);
    sweep(do_record_of_two_sets, 3);
    sweep(do_many, 70 * 5);
}

static void who_asks_and_joins(void **state)
{
    (void)state;
    sweep(do_bind, 0);
    sweep(do_join, 4);
    sweep(do_part, 2);
    sweep(do_merge, 0);
}

static void who_has_an_answer(void **state)
{
    (void)state;
    sweep(do_settle, 0);
    sweep(do_settle_one_of_two_messages, 2);
    sweep(do_refused, 0);
    sweep(do_forget_records, 0);
    sweep(do_clear, 0);
}

static void what_is_taken(void **state)
{
    (void)state;
    sweep(do_take, 1);
}

/* A message that was recorded as accepted, and not in full, says so. */
static void a_record_that_is_not_whole_is_no_success(void **state)
{
    (void)state;
    for (int count = 0;; count++) {
        void *fixture = NULL;
        fixture_setup(&fixture);
        has_failed = false;
        allowed = count;
        bool good = RECORD((struct fixture *)fixture, 1, {"a1", true}, {"b1", false});
        allowed = -1;
        assert_int_equal(good, !has_failed);
        fixture_teardown(&fixture);
        if (good) {
            return;
        }
    }
}

/* What is gone at a settle without memory is the record, not the order to settle. */
static void who_is_settled_without_memory_is_not_told_accepted_again(void **state)
{
    void *fixture = NULL;
    (void)state;
    for (int count = 0; count < 2; count++) {
        fixture_setup(&fixture);
        prepare(fixture);
        allowed = count;
        settle(fixture, "b3", 2);
        allowed = -1;
        assert_false(is_accepted(fixture, "b3", 2));
        fixture_teardown(&fixture);
    }
}

static void a_taking_without_memory_is_made_up_for(void **state)
{
    void *fixture = NULL;
    (void)state;
    fixture_setup(&fixture);
    struct fixture *f = fixture;
    RECORD(f, 1, {"a1", true}, {"b1", false});
    allowed = 0;
    assert_int_equal(ledger_take(f->ledger, SIZE_MAX, fixture_put, f), 0);
    allowed = -1;
    assert_int_equal(f->puts, 0);
    keep(f);
    assert_int_equal(f->puts, 1);
    fixture_teardown(&fixture);
}

static void a_ledger_is_made_whole_or_not_at_all(void **state)
{
    struct ledger *ledger = NULL;
    long before = blocks;
    int count = 0;
    (void)state;
    while (ledger == NULL) {
        allowed = count++;
        ledger = ledger_new(&(struct ledger_options){.changed = fixture_changed});
        allowed = -1;
        assert_true(ledger != NULL || blocks == before);
    }
    assert_true(count > 3);
    ledger_free(ledger);
    assert_int_equal(blocks, before);
}

static void what_is_restored_comes_back_whole_or_not_at_all(void **state)
{
    (void)state;
    bool restored = false;
    for (int count = 0; !restored; count++) {
        void *fixture = NULL;
        fixture_setup(&fixture);
        struct fixture *f = fixture;
        RECORD(f, 1, {"a1", true}, {"b1", false});
        keep(f);
        ledger_clear(f->ledger, 0);
        const struct kept *kept = &f->disk.kept[0];
        has_failed = false;
        allowed = count;
        restored = ledger_restore(f->ledger, 2, span_make(kept->bytes, kept->length));
        allowed = -1;
        expect_listed(f, restored ? "alpha* a1 | beta b1" : "");
        assert_int_equal(restored, !has_failed);
        fixture_teardown(&fixture);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_recorded),
        cmocka_unit_test(who_asks_and_joins),
        cmocka_unit_test(who_has_an_answer),
        cmocka_unit_test(what_is_taken),
        cmocka_unit_test(a_record_that_is_not_whole_is_no_success),
        cmocka_unit_test(who_is_settled_without_memory_is_not_told_accepted_again),
        cmocka_unit_test(a_taking_without_memory_is_made_up_for),
        cmocka_unit_test(a_ledger_is_made_whole_or_not_at_all),
        cmocka_unit_test(what_is_restored_comes_back_whole_or_not_at_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
