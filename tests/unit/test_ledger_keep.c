#include "tests/unit/ledger_fixture.h"

/* The ledger's store: what is kept, who waits for that, and what comes back; and its operator. */

#define IN(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)

/* ---- what is put ---- */

static void what_has_changed_is_told_and_taken_once(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(f->changed, 0);
    RECORD(f, 1, {"a1", true}, {"b1", false});
    assert_true(f->changed > 0);
    keep(f);
    assert_int_equal(f->puts, 1);
    keep(f);
    assert_int_equal(f->puts, 1);
    assert_int_equal(f->disk.count, 1);
}

static void a_ledger_that_nothing_has_happened_to_has_nothing_to_give(void **state)
{
    struct fixture *f = *state;
    assert_int_not_equal(ledger_take(f->ledger, 1000, fixture_put, f), 0); /* 0: memory is short */
    assert_int_equal(f->puts, 0);
    keep(f);
    crash(f);
    assert_int_not_equal(ledger_take(f->ledger, 1000, fixture_put, f), 0);
}

static void only_who_waits_is_in_a_hurry(void **state)
{
    struct fixture *f = *state;
    struct ledger_ticket ticket = {.world = &f->world};
    const struct split splits[] = {{"a1", true}, {"b1", false}};
    record(f, splits, 2, 1, NULL);
    settle(f, "a9", 1);
    assert_int_equal(f->soon, 0);
    record(f, splits, 2, 1, &ticket);
    assert_true(f->soon > 0);
    ledger_forget(f->ledger, &ticket);
}

/* Given back by a crash it would be had for ever by who makes it crash. */
static void a_turn_is_in_a_hurry(void **state)
{
    struct fixture *f = *state;
    struct mail mail;
    RECORD(f, 1, {"a1", true}, {"b1", false});
    unsigned before = f->soon;
    first_rcpt(f, &mail, "a1");
    assert_int_equal(f->soon, before + 1);
}

static void a_set_that_is_settled_before_it_was_taken_is_never_put(void **state)
{
    struct fixture *f = *state;
    RECORD(f, 1, {"a1", true}, {"b1", false});
    settle(f, "a1", 1);
    settle(f, "b1", 1);
    keep(f);
    assert_int_equal(f->puts, 0);
    assert_int_equal(f->deletions, 0);
}

static void changes_between_two_takings_are_put_once(void **state)
{
    struct fixture *f = *state;
    struct mail mail;
    RECORD(f, 1, {"a1", true}, {"b1", false});
    for (int i = 0; i < 3; i++) {
        first_rcpt(f, &mail, "a1");
    }
    keep(f);
    assert_int_equal(f->puts, 1);
    crash(f);
    expect_listed(f, "beta b1 | alpha* a1");
}

static void what_was_put_and_has_gone_is_deleted_once(void **state)
{
    struct fixture *f = *state;
    RECORD(f, 1, {"a1", true}, {"b1", false});
    keep(f);
    settle(f, "a1", 1);
    assert_true(ledger_is_empty(f->ledger));
    keep(f);
    assert_int_equal(f->deletions, 1);
    assert_int_equal(f->disk.count, 0);
    keep(f);
    assert_int_equal(f->deletions, 1);
}

static void what_is_told_changed_and_goes_is_deleted_once(void **state)
{
    struct fixture *f = *state;
    struct mail mail;
    RECORD(f, 1, {"a1", true}, {"b1", false});
    keep(f);
    first_rcpt(f, &mail, "a1");
    settle(f, "a1", 1);
    keep(f);
    assert_int_equal(f->puts, 1);
    assert_int_equal(f->deletions, 1);
}

static void sets_that_became_one_are_one_in_the_file(void **state)
{
    struct fixture *f = *state;
    struct mail mail;
    RECORD(f, 1, {"a1", true}, {"b1", false});
    RECORD(f, 1, {"a2", true}, {"b2", false});
    keep(f);
    assert_int_equal(f->disk.count, 2);
    first_rcpt(f, &mail, "a1");
    rcpt(f, &mail, "b2");
    keep(f);
    assert_int_equal(f->disk.count, 1);
    crash(f);
    expect_listed(f, "beta b1 b2 | alpha* a1 a2");
}

static void what_has_expired_is_deleted(void **state)
{
    struct fixture *f = *state;
    struct mail mail;
    RECORD(f, 1, {"a1", true}, {"b1", false});
    keep(f);
    f->now += DAY + 1;
    first_rcpt(f, &mail, "a1");
    keep(f);
    assert_int_equal(f->disk.count, 0);
}

static void a_little_at_a_time_is_taken_where_that_is_asked_for(void **state)
{
    struct fixture *f = *state;
    uint64_t taken = 0;
    unsigned steps = 0;
    for (char i = '0'; i <= '9'; i++) {
        char first[] = {'a', i, '\0'}, second[] = {'b', i, '\0'};
        RECORD(f, 1, {first, true}, {second, false});
    }
    while (taken == 0) {
        unsigned before = f->puts;
        taken = ledger_take(f->ledger, 1, fixture_put, f);
        assert_true(f->puts <= before + 1);
        steps++;
    }
    assert_true(steps >= 10);
    assert_int_equal(f->disk.count, 10);
    ledger_written(f->ledger, taken);
}

/* ---- what comes back ---- */

static void what_was_not_written_is_lost_and_no_more(void **state)
{
    struct fixture *f = *state;
    struct mail mail;
    RECORD(f, 1, {"a1", true}, {"b1", false}, {"c1", false});
    keep(f);
    first_rcpt(f, &mail, "a1"); /* a turn of the last moment may be back */
    RECORD(f, 2, {"a1", true}, {"b1", false});
    RECORD(f, 1, {"a2", true}, {"b2", false});
    crash(f);
    expect_listed(f, "alpha* a1 | beta b1 | gamma c1");
    assert_true(is_accepted(f, "a1", 1));
    assert_false(is_accepted(f, "a1", 2));
}

static void turns_go_on_where_they_were(void **state)
{
    struct fixture *f = *state;
    struct mail mail;
    RECORD(f, 1, {"a1", true}, {"b1", false}, {"c1", false});
    for (int round = 0; round < 4; round++) {
        static const char *const order[] = {"a1", "b1", "c1"};
        for (int i = 0; i < 3; i++) {
            assert_int_equal(first_rcpt(f, &mail, order[i]), LEDGER_GO);
            keep(f);
            crash(f);
        }
    }
}

static void records_come_back_with_their_age(void **state)
{
    struct fixture *f = *state;
    struct mail mail;
    RECORD(f, 1, {"a1", true}, {"b1", false});
    f->now += DAY;
    first_rcpt(f, &mail, "a1");
    RECORD(f, 2, {"a1", true}, {"b1", false});
    keep(f);
    crash(f);
    expect_listed(f, "beta b1 | alpha** a1");
    ledger_configure(f->ledger, DAY - 1, f->max_size);
    assert_false(is_accepted(f, "a1", 1));
    assert_true(is_accepted(f, "a1", 2));
}

static void a_set_is_a_day_old_after_a_restart_as_well(void **state)
{
    struct fixture *f = *state;
    struct mail mail;
    RECORD(f, 1, {"a1", true}, {"b1", false});
    keep(f);
    f->now += DAY;
    crash(f);
    assert_true(is_accepted(f, "a1", 1));
    f->now += 1;
    assert_int_equal(first_rcpt(f, &mail, "a1"), LEDGER_FREE);
    keep(f);
    assert_int_equal(f->disk.count, 0);
}

/* It comes up with the clock of a machine that has none, which is set right then. */
static void a_restart_with_the_clock_behind_expires_nothing(void **state)
{
    struct fixture *f = *state;
    RECORD(f, 1, {"a1", true}, {"b1", false});
    keep(f);
    f->now -= 400 * (time_t)DAY;
    crash(f);
    assert_true(is_accepted(f, "a1", 1));
    f->now += 400 * (time_t)DAY;
    assert_true(is_accepted(f, "a1", 1));
}

static void what_came_back_is_put_only_when_it_changes(void **state)
{
    struct fixture *f = *state;
    struct mail mail;
    RECORD(f, 1, {"a1", true}, {"b1", false});
    RECORD(f, 1, {"a2", true}, {"b2", false});
    keep(f);
    crash(f);
    keep(f);
    assert_int_equal(f->puts, 2);
    first_rcpt(f, &mail, "a1");
    keep(f);
    assert_int_equal(f->puts, 3);
}

static void new_sets_have_new_numbers_after_a_restart(void **state)
{
    struct fixture *f = *state;
    RECORD(f, 1, {"a1", true}, {"b1", false});
    keep(f);
    crash(f);
    RECORD(f, 1, {"a2", true}, {"b2", false});
    keep(f);
    assert_int_equal(f->disk.count, 2);
    crash(f);
    expect_listed(f, "alpha* a1 | beta b1 // alpha* a2 | beta b2");
}

static void only_sets_come_back(void **state)
{
    struct fixture *f = *state;
    RECORD(f, 1, {"a1", true}, {"b1", false});
    keep(f);
    struct kept *kept = &f->disk.kept[0];
    struct span record = span_make(kept->bytes, kept->length);
    assert_false(ledger_restore(f->ledger, 7, record)); /* who is in it is in one already */
    ledger_clear(f->ledger, 0);
    assert_false(ledger_restore(f->ledger, 7, span_first(record, record.len - 1)));
    assert_false(ledger_restore(f->ledger, 7, SPAN("")));
    assert_false(ledger_restore(f->ledger, UINT64_MAX, record)); /* none could follow */
    expect_listed(f, "");
    assert_true(ledger_restore(f->ledger, 7, record));
    expect_listed(f, "alpha* a1 | beta b1");
}

static void a_set_whose_number_was_given_meanwhile_gets_another(void **state)
{
    struct fixture *f = *state;
    RECORD(f, 1, {"a1", true}, {"b1", false});
    keep(f);
    struct kept *kept = &f->disk.kept[0];
    ledger_clear(f->ledger, 0);
    RECORD(f, 1, {"a2", true}, {"b2", false});
    RECORD(f, 1, {"a3", true}, {"b3", false});
    assert_true(ledger_restore(f->ledger, 2, span_make(kept->bytes, kept->length)));
    expect_listed(f, "alpha* a2 | beta b2 // alpha* a3 | beta b3 // alpha* a1 | beta b1");
    assert_int_equal(ledger_clear(f->ledger, 2), 1);
    expect_listed(f, "alpha* a3 | beta b3 // alpha* a1 | beta b1");
}

static void what_there_is_no_room_for_does_not_come_back(void **state)
{
    struct fixture *f = *state;
    RECORD(f, 1, {"a1", true}, {"b1", false});
    RECORD(f, 1, {"a2", true}, {"b2", false});
    keep(f);
    f->max_size = 1;
    ledger_free(f->ledger);
    open_ledger(f);
    for (size_t i = 0; i < 2; i++) {
        const struct kept *kept = shelf_find(&f->disk, i + 1);
        struct span bytes = span_make(kept->bytes, kept->length);
        assert_int_equal(ledger_restore(f->ledger, i + 1, bytes), i == 0);
    }
    ledger_ready(f->ledger);
    assert_false(ledger_usable(f->ledger));
    shelf_put(&f->disk, 2, (struct span){0});
}

static void damage_to_its_time_does_no_harm(void **state)
{
    struct fixture *f = *state;
    struct mail mail;
    f->now = INT64_MIN;
    RECORD(f, 1, {"a1", true}, {"b1", false});
    keep(f);
    f->now = 1800000000;
    crash(f);
    assert_int_equal(first_rcpt(f, &mail, "a1"), LEDGER_FREE);
}

/* ---- a store that fails ---- */

static void it_is_not_usable_before_the_store_is_ready(void **state)
{
    struct fixture *f = *state;
    ledger_free(f->ledger);
    open_ledger(f);
    assert_false(ledger_usable(f->ledger));
    assert_false(RECORD(f, 1, {"a1", true}, {"b1", false}));
    ledger_ready(f->ledger);
    assert_true(ledger_usable(f->ledger));
}

static void after_a_failure_everything_is_put_into_the_new_file(void **state)
{
    struct fixture *f = *state;
    RECORD(f, 1, {"a1", true}, {"b1", false});
    RECORD(f, 1, {"a2", true}, {"b2", false});
    RECORD(f, 1, {"a3", true}, {"b3", false});
    RECORD(f, 1, {"a4", true}, {"b4", false});
    keep(f);
    settle(f, "a1", 1); /* it has gone, which is not told yet */
    ledger_failed(f->ledger);
    shelf_clear(&f->disk);
    settle(f, "a4", 1); /* and one goes before it is put into that */
    f->deletions = 0;
    keep(f);
    assert_true(ledger_usable(f->ledger));
    assert_int_equal(f->disk.count, 2);
    assert_int_equal(f->deletions, 0); /* of what the new file never had */
    settle(f, "a2", 1);
    keep(f);
    assert_int_equal(f->deletions, 1);
    crash(f);
    expect_listed(f, "alpha* a3 | beta b3");
}

static void it_is_usable_when_something_was_written_again(void **state)
{
    struct fixture *f = *state;
    ledger_failed(f->ledger);
    assert_false(ledger_usable(f->ledger));
    uint64_t taken = ledger_take(f->ledger, 1000, fixture_put, f);
    assert_false(ledger_usable(f->ledger));
    ledger_written(f->ledger, taken);
    assert_true(ledger_usable(f->ledger));
}

/* ---- tickets ---- */

struct waiter {
    struct ledger_ticket ticket;
    struct fixture *f;
    struct waiter *ends; /* another that ends when this one is called */
    int called;          /* how often */
    bool durable;
};

static void on_done(void *owner, bool durable)
{
    struct waiter *waiter = owner;
    waiter->called++;
    waiter->durable = durable;
    if (waiter->ends != NULL) {
        ledger_forget(waiter->f->ledger, &waiter->ends->ticket);
    }
}

static void waiter_init(struct waiter *waiter, struct fixture *f, struct world *world)
{
    *waiter = (struct waiter){.f = f};
    waiter->ticket = (struct ledger_ticket){.world = world, .on_done = on_done, .owner = waiter};
}

static bool wait_for_split(struct waiter *waiter, const char *first, const char *second)
{
    const struct split splits[] = {{first, true}, {second, false}};
    return record(waiter->f, splits, 2, 1, &waiter->ticket);
}

static void who_waits_hears_when_it_is_durable_and_not_before(void **state)
{
    struct fixture *f = *state;
    struct waiter waiter;
    waiter_init(&waiter, f, &f->world);
    assert_true(wait_for_split(&waiter, "a1", "b1"));
    ledger_collect(f->ledger, &f->world);
    uint64_t taken = ledger_take(f->ledger, 1000, fixture_put, f);
    ledger_collect(f->ledger, &f->world);
    assert_int_equal(waiter.called, 0);
    assert_int_equal(f->woken, 0);
    ledger_written(f->ledger, taken);
    assert_int_equal(f->woken, 1);
    assert_int_equal(waiter.called, 0); /* in the world's own time */
    ledger_collect(f->ledger, &f->world);
    assert_int_equal(waiter.called, 1);
    assert_true(waiter.durable);
    ledger_collect(f->ledger, &f->world);
    assert_int_equal(waiter.called, 1);
}

static void what_came_after_the_taking_waits_for_the_next(void **state)
{
    struct fixture *f = *state;
    struct waiter one, other;
    waiter_init(&one, f, &f->world);
    waiter_init(&other, f, &f->world);
    wait_for_split(&one, "a1", "b1");
    uint64_t taken = ledger_take(f->ledger, 1000, fixture_put, f);
    wait_for_split(&other, "a1", "b1");
    ledger_written(f->ledger, taken);
    ledger_collect(f->ledger, &f->world);
    assert_int_equal(one.called, 1);
    assert_int_equal(other.called, 0);
    keep(f);
    ledger_collect(f->ledger, &f->world);
    assert_int_equal(other.called, 1);
}

static void who_waits_hears_as_well_when_it_cannot_be(void **state)
{
    struct fixture *f = *state;
    struct waiter one, other;
    waiter_init(&one, f, &f->world);
    waiter_init(&other, f, &f->world);
    wait_for_split(&one, "a1", "b1");
    ledger_take(f->ledger, 1000, fixture_put, f);
    wait_for_split(&other, "a2", "b2");
    ledger_failed(f->ledger);
    ledger_collect(f->ledger, &f->world);
    assert_int_equal(one.called, 1);
    assert_false(one.durable);
    assert_int_equal(other.called, 1);
    assert_false(other.durable);
    shelf_clear(&f->disk);
}

static void who_is_told_no_at_once_is_not_called(void **state)
{
    struct fixture *f = *state;
    struct waiter waiter;
    waiter_init(&waiter, f, &f->world);
    ledger_failed(f->ledger);
    assert_false(wait_for_split(&waiter, "a1", "b1"));
    assert_int_equal(waiter.ticket.sequence, 0);
    keep(f);
    ledger_collect(f->ledger, &f->world);
    assert_int_equal(waiter.called, 0);
}

/* Another transaction has settled it in the meantime, and nothing of it is ever put. */
static void who_waits_for_what_is_settled_by_then_hears_too(void **state)
{
    struct fixture *f = *state;
    struct waiter waiter;
    waiter_init(&waiter, f, &f->world);
    wait_for_split(&waiter, "a1", "b1");
    settle(f, "a1", 1);
    keep(f);
    assert_int_equal(f->puts, 0);
    ledger_collect(f->ledger, &f->world);
    assert_int_equal(waiter.called, 1);
    assert_true(waiter.durable);
}

static void who_was_forgotten_is_not_called(void **state)
{
    struct fixture *f = *state;
    struct waiter one, other;
    waiter_init(&one, f, &f->world);
    waiter_init(&other, f, &f->world);
    ledger_forget(f->ledger, &one.ticket); /* harmless */
    wait_for_split(&one, "a1", "b1");
    wait_for_split(&other, "a2", "b2");
    ledger_forget(f->ledger, &one.ticket);
    ledger_forget(f->ledger, &one.ticket);
    keep(f);
    assert_int_equal(f->woken, 1);
    ledger_forget(f->ledger, &other.ticket); /* done, and not called yet */
    ledger_collect(f->ledger, &f->world);
    assert_int_equal(one.called, 0);
    assert_int_equal(other.called, 0);
    wait_for_split(&one, "a1", "b1"); /* may wait again */
    keep(f);
    ledger_collect(f->ledger, &f->world);
    assert_int_equal(one.called, 1);
}

static void who_is_called_may_end_another(void **state)
{
    struct fixture *f = *state;
    struct waiter one, other;
    waiter_init(&one, f, &f->world);
    waiter_init(&other, f, &f->world);
    one.ends = &other;
    other.ends = &one;
    wait_for_split(&one, "a1", "b1");
    wait_for_split(&other, "a2", "b2");
    keep(f);
    ledger_collect(f->ledger, &f->world);
    assert_int_equal(one.called + other.called, 1);
}

static void each_world_is_woken_for_and_collects_its_own(void **state)
{
    struct fixture *f = *state;
    struct fixture second = {.ops = f->ops};
    second.world.ops = &second.ops;
    struct waiter one, other;
    waiter_init(&one, f, &f->world);
    waiter_init(&other, f, &second.world);
    wait_for_split(&one, "a1", "b1");
    wait_for_split(&other, "a2", "b2");
    keep(f);
    assert_int_equal(f->woken, 1);
    assert_int_equal(second.woken, 1);
    ledger_collect(f->ledger, &second.world);
    assert_int_equal(one.called, 0);
    assert_int_equal(other.called, 1);
    ledger_collect(f->ledger, &f->world);
    assert_int_equal(one.called, 1);
}

/* ---- the operator ---- */

static void what_there_is_is_counted(void **state)
{
    struct fixture *f = *state;
    struct ledger_state told;
    RECORD(f, 1, {"a1", true}, {"a2", true}, {"b1", false});
    RECORD(f, 2, {"a1", true}, {"a2", true}, {"b1", false});
    RECORD(f, 1, {"c1", true}, {"d1", false});
    ledger_tell(f->ledger, &told);
    assert_true(told.usable);
    assert_int_equal(told.sets, 2);
    assert_int_equal(told.recipients, 5);
    assert_int_equal(told.records, 3);
    assert_true(told.size > 5 * sizeof(void *) && told.size < 4096);
    ledger_failed(f->ledger);
    ledger_tell(f->ledger, &told);
    assert_false(told.usable);
}

struct seen_row {
    unsigned count;
    struct ledger_listed last;
};

static void see_row(void *context, const struct ledger_listed *row)
{
    struct seen_row *seen = context;
    seen->count++;
    seen->last = *row;
}

static void a_row_says_all_there_is_to_know(void **state)
{
    struct fixture *f = *state;
    struct seen_row seen = {0};
    uint64_t next = 0;
    RECORD(f, 1, {"a1", true}, {"b1", false});
    assert_true(ledger_list(f->ledger, 0, see_row, &seen, &next));
    assert_int_equal(seen.count, 2);
    assert_int_equal(seen.last.set, 1);
    assert_int_equal(seen.last.touched, f->now);
    assert_true(span_equal(seen.last.sender, SPAN("s@example.org")));
    assert_true(span_equal(seen.last.recipient, SPAN("b1")));
    assert_true(span_equal(seen.last.label, SPAN("beta")));
    assert_int_equal(seen.last.leg, 2);
    assert_int_equal(seen.last.records, 0);
    assert_false(ledger_list(f->ledger, next, see_row, &seen, &next));
}

static void listing_goes_on_behind_what_has_gone(void **state)
{
    struct fixture *f = *state;
    struct seen_row seen = {0};
    uint64_t next = 0;
    RECORD(f, 1, {"a1", true}, {"b1", false});
    RECORD(f, 1, {"a2", true}, {"b2", false});
    RECORD(f, 1, {"a3", true}, {"b3", false});
    assert_true(ledger_list(f->ledger, next, see_row, &seen, &next));
    assert_int_equal(next, 2);
    assert_int_equal(ledger_clear(f->ledger, 2), 1);
    assert_true(ledger_list(f->ledger, next, see_row, &seen, &next));
    assert_int_equal(seen.last.set, 3);
    RECORD(f, 1, {"a4", true}, {"b4", false}); /* and comes to what is new */
    assert_true(ledger_list(f->ledger, next, see_row, &seen, &next));
    assert_int_equal(seen.last.set, 4);
    assert_false(ledger_list(f->ledger, next, see_row, &seen, &next));
}

static void one_set_or_all_can_be_forgotten(void **state)
{
    struct fixture *f = *state;
    RECORD(f, 1, {"a1", true}, {"b1", false});
    RECORD(f, 1, {"a2", true}, {"b2", false});
    RECORD(f, 1, {"a3", true}, {"b3", false});
    keep(f);
    assert_int_equal(ledger_clear(f->ledger, 9), 0);
    assert_int_equal(ledger_clear(f->ledger, 2), 1);
    assert_int_equal(ledger_clear(f->ledger, 2), 0);
    expect_listed(f, "alpha* a1 | beta b1 // alpha* a3 | beta b3");
    assert_false(is_accepted(f, "a2", 1));
    keep(f);
    assert_int_equal(f->disk.count, 2);
    assert_int_equal(ledger_clear(f->ledger, 0), 2);
    assert_true(ledger_is_empty(f->ledger));
    assert_int_equal(ledger_clear(f->ledger, 0), 0);
    keep(f);
    assert_int_equal(f->disk.count, 0);
}

/* Enough that all tables have grown several times. */
static void many_sets_are_found_again(void **state)
{
    struct fixture *f = *state;
    struct ledger_state told;
    char first[] = "a0000", second[] = "b0000";
    ledger_configure(f->ledger, WINDOW, 64 << 20);
    for (int i = 0; i < 10000; i++) {
        for (int digit = 4, rest = i; digit > 0; digit--, rest /= 10) {
            first[digit] = second[digit] = (char)('0' + rest % 10);
        }
        RECORD(f, 1, {first, true}, {second, false});
    }
    assert_true(is_accepted(f, "a0000", 1));
    assert_true(is_accepted(f, "a4711", 1));
    assert_false(is_accepted(f, "a4711", 2));
    settle(f, "b4711", 1);
    settle(f, "a4711", 1);
    ledger_tell(f->ledger, &told);
    assert_int_equal(told.sets, 9999);
    assert_int_equal(told.recipients, 19998);
    assert_int_equal(told.records, 9999);
    assert_int_equal(ledger_clear(f->ledger, 4712), 0);
    assert_int_equal(ledger_clear(f->ledger, 4713), 1);
    assert_int_equal(ledger_clear(f->ledger, 0), 9998);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN(what_has_changed_is_told_and_taken_once),
        IN(a_ledger_that_nothing_has_happened_to_has_nothing_to_give),
        IN(only_who_waits_is_in_a_hurry),
        IN(a_turn_is_in_a_hurry),
        IN(a_set_that_is_settled_before_it_was_taken_is_never_put),
        IN(changes_between_two_takings_are_put_once),
        IN(what_was_put_and_has_gone_is_deleted_once),
        IN(what_is_told_changed_and_goes_is_deleted_once),
        IN(sets_that_became_one_are_one_in_the_file),
        IN(what_has_expired_is_deleted),
        IN(a_little_at_a_time_is_taken_where_that_is_asked_for),
        IN(what_was_not_written_is_lost_and_no_more),
        IN(turns_go_on_where_they_were),
        IN(records_come_back_with_their_age),
        IN(a_set_is_a_day_old_after_a_restart_as_well),
        IN(a_restart_with_the_clock_behind_expires_nothing),
        IN(what_came_back_is_put_only_when_it_changes),
        IN(new_sets_have_new_numbers_after_a_restart),
        IN(only_sets_come_back),
        IN(a_set_whose_number_was_given_meanwhile_gets_another),
        IN(what_there_is_no_room_for_does_not_come_back),
        IN(damage_to_its_time_does_no_harm),
        IN(it_is_not_usable_before_the_store_is_ready),
        IN(after_a_failure_everything_is_put_into_the_new_file),
        IN(it_is_usable_when_something_was_written_again),
        IN(who_waits_hears_when_it_is_durable_and_not_before),
        IN(what_came_after_the_taking_waits_for_the_next),
        IN(who_waits_hears_as_well_when_it_cannot_be),
        IN(who_is_told_no_at_once_is_not_called),
        IN(who_waits_for_what_is_settled_by_then_hears_too),
        IN(who_was_forgotten_is_not_called),
        IN(who_is_called_may_end_another),
        IN(each_world_is_woken_for_and_collects_its_own),
        IN(what_there_is_is_counted),
        IN(a_row_says_all_there_is_to_know),
        IN(listing_goes_on_behind_what_has_gone),
        IN(one_set_or_all_can_be_forgotten),
        IN(many_sets_are_found_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
