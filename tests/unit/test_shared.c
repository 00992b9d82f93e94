/* proxy/session/shared: who is woken. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proxy/session/shared.h"
#include "proxy/session/world.h"

static void count_wake(struct world *world)
{
    world->now++;
}

static const struct world_ops ops = {.wake = count_wake};

static void only_those_are_woken_that_have_or_want(void **state)
{
    static struct shared shared;
    struct world worlds[4] = {{.ops = &ops}, {.ops = &ops}, {.ops = &ops}, {.ops = &ops}};
    struct shared_world *entries[4];

    (void)state;
    assert_true(shared_init(&shared, 10, 1, NULL));
    for (int i = 0; i < 4; i++) {
        entries[i] = shared_enter(&shared, &worlds[i]);
        assert_non_null(entries[i]);
    }
    entries[0]->idle = 1;
    entries[1]->idle = 2;
    shared_wake_idle(&shared, entries[0]);
    assert_int_equal(worlds[0].now, 0); /* not itself */
    assert_int_equal(worlds[1].now, 1);
    assert_int_equal(worlds[2].now, 0);
    shared_wake_waiting(&shared, entries[0]);
    assert_int_equal(worlds[2].now, 0);
    shared.waiting = entries[2]->waiting = 1;
    shared_wake_waiting(&shared, entries[0]);
    assert_int_equal(worlds[2].now, 1);
    assert_int_equal(worlds[1].now, 1);
    shared_leave(entries[2]);
    shared_wake_waiting(&shared, entries[0]);
    assert_int_equal(worlds[2].now, 1);
    shared_release(&shared);
}

static void there_is_room_for_so_many_worlds(void **state)
{
    static struct shared shared;
    struct world world = {.ops = &ops};
    struct shared_world *last = NULL;

    (void)state;
    assert_true(shared_init(&shared, 10, 1, NULL));
    for (int i = 0; i < SHARED_WORLDS; i++) {
        last = shared_enter(&shared, &world);
        assert_non_null(last);
    }
    assert_null(shared_enter(&shared, &world));
    shared_leave(last);
    assert_ptr_equal(shared_enter(&shared, &world), last);
    shared_leave(NULL);
    shared_release(&shared);
}

static void enter_two(struct shared *shared, struct shared_world *entries[2])
{
    static struct world worlds[2] = {{.ops = &ops}, {.ops = &ops}};
    assert_true(shared_init(shared, 10, 1, NULL));
    for (int i = 0; i < 2; i++) {
        entries[i] = shared_enter(shared, &worlds[i]);
        assert_non_null(entries[i]);
    }
}

static void what_worlds_count_for_themselves_is_one_count(void **state)
{
    static struct shared shared;
    struct shared_world *entries[2];

    (void)state;
    enter_two(&shared, entries);
    struct shared_world *a = entries[0], *b = entries[1];
    quota_cell first = shared_tally_take(&shared, a, TALLY_CLIENTS, "client", 6, 2);
    quota_cell second = shared_tally_take(&shared, b, TALLY_CLIENTS, "client", 6, 2);
    assert_true(first != QUOTA_NONE && second != QUOTA_NONE);
    assert_true(shared_tally_take(&shared, a, TALLY_CLIENTS, "client", 6, 2) == QUOTA_NONE);
    assert_true(shared_tally_take(&shared, b, TALLY_CLIENTS, "client", 6, 2) == QUOTA_NONE);
    assert_true(shared_tally_take(&shared, b, TALLY_CLIENTS, "other", 5, 2) != QUOTA_NONE);
    assert_int_equal(shared_tally_count(&shared, TALLY_CLIENTS, "client", 6), 2);
    assert_int_equal(shared_tally_count(&shared, TALLY_SPARE, "client", 6), 0);
    shared_tally_give(a, TALLY_CLIENTS, first);
    assert_int_equal(shared_tally_count(&shared, TALLY_CLIENTS, "client", 6), 1);
    shared_leave(b); /* one that left is still counted, and so is what it gives back */
    assert_int_equal(shared_tally_count(&shared, TALLY_CLIENTS, "client", 6), 1);
    shared_tally_give(b, TALLY_CLIENTS, second);
    assert_int_equal(shared_tally_count(&shared, TALLY_CLIENTS, "client", 6), 0);
    shared_release(&shared);
}

static void sessions_of_all_worlds_are_bounded_together(void **state)
{
    static struct shared shared;
    struct shared_world *entries[2];

    (void)state;
    enter_two(&shared, entries);
    struct shared_world *a = entries[0], *b = entries[1];
    assert_true(shared_add_session(&shared, a, 3));
    assert_true(shared_add_session(&shared, b, 3));
    assert_true(shared_add_session(&shared, b, 3));
    assert_false(shared_add_session(&shared, a, 3));
    assert_false(shared_add_session(&shared, b, 3));
    shared_drop_session(b);
    assert_true(shared_add_session(&shared, a, 3));
    assert_false(shared_add_session(&shared, b, 3));
    shared_release(&shared);
}

static void endpoints_are_counted(void **state)
{
    static struct shared shared;
    struct net_address a, b;

    (void)state;
    assert_true(shared_init(&shared, 10, 1, NULL));
    assert_true(net_address_parse(SPAN("192.0.2.1"), 25, &a));
    assert_true(net_address_parse(SPAN("192.0.2.1"), 26, &b));
    quota_cell cell = shared_count(shared.endpoints, &a, 1);
    assert_true(cell != QUOTA_NONE);
    assert_true(shared_count(shared.endpoints, &a, 1) == QUOTA_NONE);
    assert_int_equal(shared_counted(shared.endpoints, &a), 1);
    assert_int_equal(shared_counted(shared.endpoints, &b), 0);
    quota_give(shared.endpoints, cell);
    assert_int_equal(shared_counted(shared.endpoints, &a), 0);
    shared_release(&shared);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_those_are_woken_that_have_or_want),
        cmocka_unit_test(there_is_room_for_so_many_worlds),
        cmocka_unit_test(what_worlds_count_for_themselves_is_one_count),
        cmocka_unit_test(sessions_of_all_worlds_are_bounded_together),
        cmocka_unit_test(endpoints_are_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
