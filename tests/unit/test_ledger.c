#include "proxy/session/ledger_set.h"
#include "tests/unit/ledger_fixture.h"

#define IN(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)

/* What transactions ask of the ledger, and what it makes of what they tell it. Its store and its
 * operator: test_ledger_keep. */

static void of_strangers_it_says_nothing(void **state)
{
    struct fixture *f = *state;
    struct mail mail;
    assert_true(ledger_is_empty(f->ledger));
    assert_int_equal(first_rcpt(f, &mail, "a1"), LEDGER_FREE);
    assert_int_equal(rcpt(f, &mail, "b1"), LEDGER_FREE);
    assert_false(mail.turn.bound);
    RECORD(f, 1, {"a1", true}, {"b1", false});
    assert_false(ledger_is_empty(f->ledger));
    assert_int_equal(first_rcpt(f, &mail, "a2"), LEDGER_FREE);
    assert_int_equal(rcpt(f, &mail, "b2"), LEDGER_FREE);
    assert_false(mail.turn.bound);
    expect_listed(f, "alpha* a1 | beta b1");
}

static void a_split_that_did_not_settle_is_a_set_by_leg(void **state)
{
    struct fixture *f = *state;
    assert_true(RECORD(f, 1, {"a1", true}, {"a2", true}, {"b1", false}, {"c1", false}));
    expect_listed(f, "alpha* a1 a2 | beta b1 | gamma c1");
    assert_true(is_accepted(f, "a1", 1));
    assert_true(is_accepted(f, "a2", 1));
    assert_false(is_accepted(f, "a1", 2));
    assert_false(is_accepted(f, "b1", 1));
    assert_false(is_accepted(f, "a3", 1));
}

static void a_split_that_nobody_accepted_is_a_set_as_well(void **state)
{
    struct fixture *f = *state;
    struct mail mail;
    assert_true(RECORD(f, 1, {"a1", false}, {"b1", false}));
    expect_listed(f, "alpha a1 | beta b1");
    assert_int_equal(first_rcpt(f, &mail, "b1"), LEDGER_WAIT);
    assert_int_equal(rcpt(f, &mail, "a1"), LEDGER_GO);
    assert_false(is_accepted(f, "a1", 1));
}

static void a_message_without_identity_leaves_no_record(void **state)
{
    struct fixture *f = *state;
    assert_true(RECORD(f, 0, {"a1", true}, {"b1", false}));
    expect_listed(f, "alpha a1 | beta b1");
}

static void what_is_no_split_is_not_recorded(void **state)
{
    struct fixture *f = *state;
    assert_false(RECORD(f, 0, {"a1", true}, {"a2", true}));
    assert_false(RECORD(f, 1, {"a1", false}));
    assert_true(ledger_is_empty(f->ledger));
    assert_true(RECORD(f, 1, {"a1", true})); /* the client went before it could hear of that */
    expect_listed(f, "alpha* a1");
}

static void a_recipient_named_twice_is_one(void **state)
{
    struct fixture *f = *state;
    assert_true(RECORD(f, 1, {"a1", true}, {"a1", true}, {"b1", false}, {"b1", false}));
    expect_listed(f, "alpha* a1 | beta b1");
    assert_true(RECORD(f, 1, {"a1", true}, {"a1", true}, {"b1", false}, {"b1", false}));
    expect_listed(f, "alpha* a1 | beta b1");
}

/* In advance, when the first had accepted; then again, when the second had as well. */
static void what_is_recorded_again_is_not_recorded_twice(void **state)
{
    struct fixture *f = *state;
    assert_true(RECORD(f, 1, {"a1", true}, {"b1", false}, {"c1", false}));
    assert_true(RECORD(f, 1, {"a1", true}, {"b1", true}, {"c1", false}));
    expect_listed(f, "alpha* a1 | gamma c1 | beta* b1");
    settle(f, "a1", 1);
    settle(f, "b1", 1);
    settle(f, "c1", 1);
    expect_listed(f, "");
}

static void one_leg_only(void **state)
{
    struct fixture *f = *state;
    struct mail mail;
    RECORD(f, 0, {"a1", true}, {"a2", true}, {"b1", false}, {"b2", false}, {"c1", false});
    assert_int_equal(first_rcpt(f, &mail, "a1"), LEDGER_GO);
    assert_true(mail.turn.bound);
    assert_int_equal(rcpt(f, &mail, "b1"), LEDGER_WAIT);
    assert_int_equal(rcpt(f, &mail, "a2"), LEDGER_GO);
    assert_int_equal(rcpt(f, &mail, "c1"), LEDGER_WAIT);
    assert_int_equal(rcpt(f, &mail, "b2"), LEDGER_WAIT);
}

static void the_turn_goes_round_and_begins_with_who_has_accepted(void **state)
{
    struct fixture *f = *state;
    struct mail mail;
    RECORD(f, 1, {"a1", true}, {"b1", false}, {"c1", false});
    for (int round = 0; round < 3; round++) {
        assert_int_equal(first_rcpt(f, &mail, "a1"), LEDGER_GO);
        expect_listed(f, "beta b1 | gamma c1 | alpha* a1");
        assert_int_equal(first_rcpt(f, &mail, "b1"), LEDGER_GO);
        assert_int_equal(first_rcpt(f, &mail, "c1"), LEDGER_GO);
        expect_listed(f, "alpha* a1 | beta b1 | gamma c1");
    }
}

static void the_turn_moves_on_as_soon_as_the_set_is_touched_and_only_once(void **state)
{
    struct fixture *f = *state;
    struct mail mail;
    RECORD(f, 0, {"a1", true}, {"b1", false}, {"c1", false});
    first_rcpt(f, &mail, "c1");
    expect_listed(f, "beta b1 | gamma c1 | alpha a1");
    rcpt(f, &mail, "b1");
    rcpt(f, &mail, "a1");
    rcpt(f, &mail, "a9");
    rcpt(f, &mail, "b1");
    expect_listed(f, "beta b1 | gamma c1 | alpha a1");
}

/* So that it starves nobody. */
static void a_leg_that_never_returns_has_its_turn_all_the_same(void **state)
{
    struct fixture *f = *state;
    struct mail mail;
    RECORD(f, 1, {"a1", true}, {"b1", false}, {"c1", false});
    assert_int_equal(first_rcpt(f, &mail, "b1"), LEDGER_WAIT); /* a1 was given up */
    assert_int_equal(rcpt(f, &mail, "c1"), LEDGER_WAIT);
    assert_int_equal(first_rcpt(f, &mail, "b1"), LEDGER_GO);
    assert_int_equal(rcpt(f, &mail, "c1"), LEDGER_WAIT);
    assert_int_equal(first_rcpt(f, &mail, "b1"), LEDGER_WAIT);
    assert_int_equal(rcpt(f, &mail, "c1"), LEDGER_GO);
}

static void what_is_recorded_in_advance_binds_nobody(void **state)
{
    struct fixture *f = *state;
    struct mail mail;
    f->in_advance = true;
    RECORD(f, 1, {"a1", true}, {"b1", false});
    assert_true(ledger_is_empty(f->ledger));
    assert_int_equal(first_rcpt(f, &mail, "a1"), LEDGER_FREE);
    assert_int_equal(first_rcpt(f, &mail, "b1"), LEDGER_FREE);
    assert_false(mail.turn.bound);
    expect_listed(f, "alpha* a1 | beta b1");
    f->in_advance = false;
    RECORD(f, 1, {"a1", true}, {"b1", false});
    assert_false(ledger_is_empty(f->ledger));
    assert_int_equal(first_rcpt(f, &mail, "b1"), LEDGER_WAIT);
    assert_int_equal(rcpt(f, &mail, "a1"), LEDGER_GO);
}

static void what_is_recorded_in_advance_goes_with_the_answers(void **state)
{
    struct fixture *f = *state;
    f->in_advance = true;
    RECORD(f, 1, {"a1", true}, {"b1", false});
    settle(f, "a1", 1);
    settle(f, "b1", 1);
    expect_listed(f, "");
    assert_true(ledger_is_empty(f->ledger));
}

/* Of two messages to the same recipients side by side, one may settle and the other not. */
static void two_in_advance_are_told_apart_by_their_messages(void **state)
{
    struct fixture *f = *state;
    struct mail mail;
    f->in_advance = true;
    RECORD(f, 1, {"a1", true}, {"b1", false});
    RECORD(f, 2, {"a1", true}, {"b1", false});
    settle(f, "a1", 1);
    settle(f, "b1", 1);
    f->in_advance = false;
    RECORD(f, 2, {"a1", true}, {"b1", false});
    assert_false(is_accepted(f, "a1", 1));
    assert_true(is_accepted(f, "a1", 2));
    assert_int_equal(first_rcpt(f, &mail, "a1"), LEDGER_GO);
}

static void a_set_outlives_a_crash_though_it_was_in_advance(void **state)
{
    struct fixture *f = *state;
    struct mail mail;
    f->in_advance = true;
    RECORD(f, 1, {"a1", true}, {"b1", false});
    keep(f);
    crash(f);
    f->in_advance = false;
    assert_int_equal(first_rcpt(f, &mail, "a1"), LEDGER_GO);
    assert_true(is_accepted(f, "a1", 1));
}

/* Alone and in step with the row, each would meet the other's turns for ever. */
static void those_who_come_one_by_one_are_not_starved_by_the_row(void **state)
{
    struct fixture *f = *state;
    struct mail mail;
    RECORD(f, 0, {"a1", false}, {"b1", false});
    unsigned turns[2] = {0};
    for (unsigned i = 0; i < 400; i++) {
        turns[i % 2] += first_rcpt(f, &mail, i % 2 != 0 ? "a1" : "b1") == LEDGER_GO;
    }
    assert_true(turns[0] > 20 && turns[1] > 20);
}

static void who_comes_with_others_every_second_time_is_not_starved_by_the_row(void **state)
{
    struct fixture *f = *state;
    struct mail mail;
    RECORD(f, 0, {"d1", false}, {"c1", false}, {"b1", false}, {"a1", false});
    unsigned turns = 0;
    for (unsigned i = 0; i < 400; i++) {
        first_rcpt(f, &mail, "d1");
        rcpt(f, &mail, "c1");
        rcpt(f, &mail, "b1");
        turns += i % 2 != 0 && rcpt(f, &mail, "a1") == LEDGER_GO;
    }
    assert_true(turns > 20);
}

static void while_all_come_each_time_nothing_is_drawn_by_lot(void **state)
{
    struct fixture *f = *state;
    struct mail mail;
    RECORD(f, 1, {"a1", true}, {"b1", false}, {"c1", false});
    for (unsigned i = 0; i < 300; i++) {
        enum ledger_verdict verdict[] = {first_rcpt(f, &mail, "a1"), rcpt(f, &mail, "b1"),
                                         rcpt(f, &mail, "c1")};
        for (unsigned j = 0; j < 3; j++) {
            assert_int_equal(verdict[j], j == i % 3 ? LEDGER_GO : LEDGER_WAIT);
        }
    }
}

static void who_comes_first_does_not_choose_the_leg(void **state)
{
    struct fixture *f = *state;
    struct mail mail;
    RECORD(f, 0, {"a1", true}, {"b1", false}, {"c1", false});
    assert_int_equal(first_rcpt(f, &mail, "c1"), LEDGER_WAIT);
    assert_int_equal(rcpt(f, &mail, "b1"), LEDGER_WAIT);
    assert_int_equal(rcpt(f, &mail, "a1"), LEDGER_GO);
}

static void transactions_side_by_side_take_turns(void **state)
{
    struct fixture *f = *state;
    struct mail one, other;
    RECORD(f, 0, {"a1", true}, {"b1", false});
    assert_int_equal(first_rcpt(f, &one, "a1"), LEDGER_GO);
    assert_int_equal(first_rcpt(f, &other, "a1"), LEDGER_WAIT);
    assert_int_equal(rcpt(f, &one, "b1"), LEDGER_WAIT);
    assert_int_equal(rcpt(f, &other, "b1"), LEDGER_GO);
}

static void a_stranger_on_the_leg_whose_turn_it_is_comes_along(void **state)
{
    struct fixture *f = *state;
    struct mail mail;
    RECORD(f, 0, {"a1", true}, {"b1", false});
    assert_int_equal(first_rcpt(f, &mail, "a1"), LEDGER_GO);
    assert_int_equal(rcpt(f, &mail, "a9"), LEDGER_GO);
    expect_listed(f, "beta b1 | alpha a1"); /* and is none of the set's */
}

static void a_stranger_comes_along_before_any_of_the_leg_has(void **state)
{
    struct fixture *f = *state;
    struct mail mail;
    RECORD(f, 0, {"a1", true}, {"b1", false});
    assert_int_equal(first_rcpt(f, &mail, "b1"), LEDGER_WAIT);
    assert_int_equal(rcpt(f, &mail, "b9"), LEDGER_WAIT);
    assert_int_equal(rcpt(f, &mail, "a9"), LEDGER_GO);
    assert_int_equal(rcpt(f, &mail, "a1"), LEDGER_GO);
}

static void who_is_sent_away_for_the_sake_of_one_leg_joins(void **state)
{
    struct fixture *f = *state;
    struct mail mail;
    RECORD(f, 1, {"a1", true}, {"b1", false});
    assert_int_equal(first_rcpt(f, &mail, "a1"), LEDGER_GO);
    assert_int_equal(rcpt(f, &mail, "b2"), LEDGER_WAIT); /* in a leg that there is */
    assert_int_equal(rcpt(f, &mail, "c1"), LEDGER_WAIT); /* in one of its own, last in turn */
    expect_listed(f, "beta b1 b2 | alpha* a1 | gamma c1");
    assert_int_equal(first_rcpt(f, &mail, "b1"), LEDGER_GO);
    assert_int_equal(first_rcpt(f, &mail, "a1"), LEDGER_GO);
    assert_int_equal(first_rcpt(f, &mail, "c1"), LEDGER_GO);
}

/* One with a record shares with nobody without, of the same relay as they may be. */
static void members_with_and_without_records_never_share(void **state)
{
    struct fixture *f = *state;
    struct mail mail;
    RECORD(f, 1, {"a1", true}, {"b1", false});
    assert_int_equal(first_rcpt(f, &mail, "a1"), LEDGER_GO);
    assert_int_equal(mail.turn.records, 1);
    assert_int_equal(rcpt(f, &mail, "a2"), LEDGER_WAIT);
    expect_listed(f, "beta b1 | alpha* a1 | alpha a2");
    assert_int_equal(first_rcpt(f, &mail, "b1"), LEDGER_GO);
    assert_int_equal(first_rcpt(f, &mail, "a1"), LEDGER_GO);
    assert_int_equal(rcpt(f, &mail, "a2"), LEDGER_WAIT);
    assert_int_equal(first_rcpt(f, &mail, "a1"), LEDGER_WAIT);
    assert_int_equal(mail.turn.records, 0);
    assert_int_equal(rcpt(f, &mail, "a2"), LEDGER_GO);
    assert_int_equal(rcpt(f, &mail, "a1"), LEDGER_WAIT);
    assert_int_equal(rcpt(f, &mail, "a3"), LEDGER_GO);
}

/* Between its RCPT and its end of data the message was answered on another connection. */
static void a_transaction_can_be_overtaken(void **state)
{
    struct fixture *f = *state;
    struct mail none, two;
    RECORD(f, 1, {"a1", true}, {"b1", false});
    RECORD(f, 2, {"a1", true}, {"b1", false});
    assert_int_equal(first_rcpt(f, &none, "b1"), LEDGER_GO);
    assert_int_equal(first_rcpt(f, &two, "a1"), LEDGER_GO);
    assert_int_equal(two.turn.records, 2);
    assert_false(is_overtaken(f, &two, "a1"));
    settle(f, "a1", 1); /* of which there is another on record still */
    assert_true(is_overtaken(f, &two, "a1"));
    settle(f, "a1", 2);
    assert_true(is_overtaken(f, &two, "a1"));
    assert_false(is_overtaken(f, &none, "b1"));
}

/* On a detour, too. */
static void who_parts_is_not_overtaken(void **state)
{
    struct fixture *f = *state;
    struct mail mail = {0};
    RECORD(f, 1, {"a1", true}, {"b1", false});
    assert_int_equal(rcpt_by(f, &mail, "a1", "alpha"), LEDGER_GO);
    ledger_join(f->ledger, &mail.turn, span_of(f->sender), SPAN("a1"), SPAN("beta (fallback)"),
                f->now);
    expect_listed(f, "beta b1 | beta (fallback)* a1");
    assert_false(is_overtaken(f, &mail, "a1"));
}

static void a_stranger_does_not_come_first_where_there_are_records(void **state)
{
    struct fixture *f = *state;
    struct mail mail;
    RECORD(f, 1, {"a1", true}, {"b1", false});
    assert_int_equal(first_rcpt(f, &mail, "b1"), LEDGER_WAIT);
    assert_int_equal(rcpt(f, &mail, "a2"), LEDGER_WAIT);
    expect_listed(f, "beta b1 | alpha* a1 | alpha a2");
}

static void members_with_records_of_other_messages_do_not_share(void **state)
{
    struct fixture *f = *state;
    struct mail mail;
    RECORD(f, 1, {"a1", true}, {"b1", false});
    RECORD(f, 2, {"a2", true}, {"b1", false});
    expect_listed(f, "alpha* a2 | alpha* a1 | beta b1");
    assert_int_equal(first_rcpt(f, &mail, "a2"), LEDGER_GO);
    assert_int_equal(rcpt(f, &mail, "a1"), LEDGER_WAIT);
    assert_int_equal(rcpt(f, &mail, "b1"), LEDGER_WAIT);
}

static void those_that_were_there_first_join_and_go_on_and_the_turn_is_used_up(void **state)
{
    struct fixture *f = *state;
    struct mail mail;
    RECORD(f, 1, {"a1", true}, {"b1", false});
    assert_int_equal(first_rcpt(f, &mail, "c1"), LEDGER_FREE);
    assert_int_equal(rcpt(f, &mail, "a1"), LEDGER_WAIT);
    assert_true(mail.turn.bound);
    expect_listed(f, "beta b1 | alpha* a1 | gamma c1");
    assert_int_equal(rcpt(f, &mail, "b1"), LEDGER_WAIT);
    assert_int_equal(rcpt(f, &mail, "c2"), LEDGER_GO); /* with those that were there */
    assert_int_equal(rcpt(f, &mail, "d1"), LEDGER_WAIT);
    expect_listed(f, "beta b1 | alpha* a1 | gamma c1 | delta d1");
}

static void several_legs_that_were_there_first_all_join(void **state)
{
    struct fixture *f = *state;
    struct mail mail;
    RECORD(f, 1, {"a1", true}, {"b1", false});
    assert_int_equal(first_rcpt(f, &mail, "c1"), LEDGER_FREE);
    assert_int_equal(rcpt(f, &mail, "d1"), LEDGER_FREE);
    assert_int_equal(rcpt(f, &mail, "b1"), LEDGER_WAIT);
    expect_listed(f, "beta b1 | alpha* a1 | gamma c1 | delta d1");
    assert_int_equal(first_rcpt(f, &mail, "b1"), LEDGER_GO);
    assert_int_equal(rcpt(f, &mail, "c1"), LEDGER_WAIT);
}

static void in_the_company_of_its_own_leg_the_turn_is_good(void **state)
{
    struct fixture *f = *state;
    struct mail mail;
    RECORD(f, 0, {"a1", true}, {"b1", false});
    assert_int_equal(first_rcpt(f, &mail, "a9"), LEDGER_FREE);
    assert_int_equal(rcpt(f, &mail, "a1"), LEDGER_GO);
    expect_listed(f, "beta b1 | alpha a1 a9");
    assert_int_equal(rcpt(f, &mail, "b1"), LEDGER_WAIT);
}

static void one_with_a_record_does_not_join_company(void **state)
{
    struct fixture *f = *state;
    struct mail mail;
    RECORD(f, 1, {"a1", true}, {"b1", false});
    assert_int_equal(first_rcpt(f, &mail, "a9"), LEDGER_FREE);
    assert_int_equal(rcpt(f, &mail, "a1"), LEDGER_WAIT);
    expect_listed(f, "beta b1 | alpha* a1 | alpha a9");
    assert_int_equal(rcpt(f, &mail, "a8"), LEDGER_GO);
}

static void company_on_another_legs_turn_goes_on_and_the_member_waits(void **state)
{
    struct fixture *f = *state;
    struct mail mail;
    RECORD(f, 0, {"a1", true}, {"b1", false});
    assert_int_equal(first_rcpt(f, &mail, "b9"), LEDGER_FREE);
    assert_int_equal(rcpt(f, &mail, "b1"), LEDGER_WAIT);
    expect_listed(f, "beta b1 b9 | alpha a1");
}

/* Two of a leg went to the fallback and not: its members cannot come along any more. */
static void who_takes_another_leg_than_it_was_known_by_parts(void **state)
{
    struct fixture *f = *state;
    struct mail mail = {0};
    RECORD(f, 1, {"a1", true}, {"a2", true}, {"b1", false});
    assert_int_equal(rcpt_by(f, &mail, "a1", "alpha"), LEDGER_GO);
    assert_int_equal(rcpt_by(f, &mail, "a2", "beta (fallback)"), LEDGER_WAIT);
    expect_listed(f, "beta b1 | alpha* a1 | beta (fallback)* a2"); /* with what it has on record */
    assert_true(is_accepted(f, "a1", 1));
    assert_true(is_accepted(f, "a2", 1));
    mail = (struct mail){0};
    assert_int_equal(rcpt_by(f, &mail, "b1", "beta"), LEDGER_GO);
    mail = (struct mail){0};
    assert_int_equal(rcpt_by(f, &mail, "a1", "alpha"), LEDGER_GO);
    mail = (struct mail){0};
    assert_int_equal(rcpt_by(f, &mail, "a2", "alpha"), LEDGER_GO);
}

static void only_one_of_the_bound_leg_parts(void **state)
{
    struct fixture *f = *state;
    struct mail mail = {0};
    RECORD(f, 0, {"a1", true}, {"b1", false}, {"b2", false});
    assert_int_equal(rcpt(f, &mail, "a1"), LEDGER_GO);
    assert_int_equal(rcpt_by(f, &mail, "b1", "gamma"), LEDGER_WAIT);
    expect_listed(f, "beta b1 b2 | alpha a1");
}

static void a_transaction_that_touches_two_sets_makes_them_one(void **state)
{
    struct fixture *f = *state;
    struct mail mail;
    RECORD(f, 1, {"a1", true}, {"b1", false});
    RECORD(f, 2, {"a2", true}, {"b2", false}, {"c1", false});
    expect_listed(f, "alpha* a1 | beta b1 // alpha* a2 | beta b2 | gamma c1");
    assert_int_equal(first_rcpt(f, &mail, "a1"), LEDGER_GO);
    assert_int_equal(rcpt(f, &mail, "c1"), LEDGER_WAIT);
    expect_listed(f, "beta b1 b2 | alpha* a1 | alpha* a2 | gamma c1");
    assert_true(is_accepted(f, "a1", 1));
    assert_true(is_accepted(f, "a2", 2));
    assert_int_equal(rcpt(f, &mail, "b2"), LEDGER_WAIT);
    assert_int_equal(first_rcpt(f, &mail, "b2"), LEDGER_GO);
    assert_int_equal(rcpt(f, &mail, "b1"), LEDGER_GO);
}

static void a_split_with_recipients_of_two_sets_makes_them_one(void **state)
{
    struct fixture *f = *state;
    RECORD(f, 1, {"a1", true}, {"b1", false});
    RECORD(f, 2, {"a2", true}, {"b2", false});
    RECORD(f, 3, {"c1", true}, {"b1", false}, {"a2", false});
    expect_listed(f, "gamma* c1 | alpha* a1 | beta b1 b2 | alpha* a2");
}

static void other_senders_sets_are_others(void **state)
{
    struct fixture *f = *state;
    struct mail mail;
    RECORD(f, 1, {"a1", true}, {"b1", false});
    f->sender = "t@example.org";
    assert_int_equal(first_rcpt(f, &mail, "a1"), LEDGER_FREE);
    assert_int_equal(rcpt(f, &mail, "b1"), LEDGER_FREE);
    assert_false(is_accepted(f, "a1", 1));
    settle(f, "a1", 1);
    refused(f, "b1");
    expect_listed(f, "alpha* a1 | beta b1");
    RECORD(f, 1, {"a1", true}, {"b1", false});
    expect_listed(f, "alpha* a1 | beta b1 // alpha* a1 | beta b1");
}

static void the_null_sender_is_a_sender(void **state)
{
    struct fixture *f = *state;
    struct mail mail;
    f->sender = "";
    RECORD(f, 1, {"a1", true}, {"b1", false});
    assert_int_equal(first_rcpt(f, &mail, "a1"), LEDGER_GO);
    assert_int_equal(rcpt(f, &mail, "b1"), LEDGER_WAIT);
    assert_true(is_accepted(f, "a1", 1));
    settle(f, "a1", 1);
    expect_listed(f, "");
}

static void letter_case_counts_before_the_at_sign_and_not_behind_it(void **state)
{
    struct fixture *f = *state;
    struct mail mail;
    f->sender = "S@Example.org";
    RECORD(f, 1, {"a1@Example.com", true}, {"b1@x@EXAMPLE.com", false}, {"b2@example.com", false});
    f->sender = "S@eXAMPLE.ORG";
    assert_true(is_accepted(f, "a1@eXAMPLE.cOM", 1));
    assert_false(is_accepted(f, "A1@Example.com", 1));
    assert_int_equal(first_rcpt(f, &mail, "A1@Example.com"), LEDGER_FREE);
    assert_int_equal(first_rcpt(f, &mail, "a1@EXAMPLE.COM"), LEDGER_GO);
    assert_int_equal(first_rcpt(f, &mail, "b1@X@example.com"), LEDGER_FREE);
    assert_int_equal(first_rcpt(f, &mail, "b1@x@example.com"), LEDGER_GO);
    f->sender = "s@Example.org";
    assert_int_equal(first_rcpt(f, &mail, "a1@Example.com"), LEDGER_FREE);
}

static void another_spelling_of_the_senders_domain_binds_as_well(void **state)
{
    struct fixture *f = *state;
    struct mail mail;
    f->sender = "s@Example.org";
    RECORD(f, 0, {"a1", true}, {"a2", true}, {"b1", false});
    f->sender = "s@example.ORG";
    assert_int_equal(first_rcpt(f, &mail, "a1"), LEDGER_GO);
    assert_int_equal(rcpt(f, &mail, "a2"), LEDGER_GO);
    assert_int_equal(rcpt(f, &mail, "c1"), LEDGER_WAIT);
    expect_listed(f, "beta b1 | alpha a1 a2 | gamma c1");
}

/* Longer than any command line. */
static void long_paths_are_told_apart(void **state)
{
    struct fixture *f = *state;
    static char one[5000], other[5000];
    struct ledger_entry entries[] = {{span_make(one, sizeof one), SPAN("alpha"), true},
                                     {span_make(other, sizeof other), SPAN("beta"), false}};
    memset(one, 'a', sizeof one);
    memset(other, 'a', sizeof other);
    other[sizeof other - 1] = 'b';
    struct span sender = span_make(one, sizeof one - 1);
    assert_true(
        ledger_record(f->ledger,
                      &(struct ledger_split){
                          .sender = sender, .entries = entries, .count = 2, .identity = message(1)},
                      f->now, NULL));
    assert_true(ledger_accepted(f->ledger, sender, entries[0].recipient, message(1), f->now));
    assert_false(ledger_accepted(f->ledger, sender, entries[1].recipient, message(1), f->now));
    keep(f);
    crash(f);
    assert_true(ledger_accepted(f->ledger, sender, entries[0].recipient, message(1), f->now));
}

static void a_final_answer_takes_the_recipient_out(void **state)
{
    struct fixture *f = *state;
    struct mail mail;
    RECORD(f, 0, {"a1", true}, {"a2", true}, {"b1", false}, {"c1", false});
    settle(f, "a1", 1);
    expect_listed(f, "alpha a2 | beta b1 | gamma c1");
    settle(f, "b1", 0);
    expect_listed(f, "alpha a2 | gamma c1");
    assert_int_equal(first_rcpt(f, &mail, "b1"), LEDGER_FREE);
    assert_int_equal(first_rcpt(f, &mail, "a2"), LEDGER_GO);
}

static void a_set_with_one_leg_left_and_no_record_is_dissolved(void **state)
{
    struct fixture *f = *state;
    struct mail mail;
    RECORD(f, 1, {"a1", true}, {"b1", false}, {"b2", false});
    settle(f, "a1", 1);
    expect_listed(f, "");
    assert_true(ledger_is_empty(f->ledger));
    assert_int_equal(first_rcpt(f, &mail, "b1"), LEDGER_FREE);
    assert_int_equal(rcpt(f, &mail, "c1"), LEDGER_FREE);
}

static void a_set_with_one_leg_left_and_a_record_stays(void **state)
{
    struct fixture *f = *state;
    struct mail mail;
    RECORD(f, 1, {"a1", true}, {"b1", false});
    settle(f, "b1", 1);
    expect_listed(f, "alpha* a1");
    assert_int_equal(first_rcpt(f, &mail, "a1"), LEDGER_GO);
    assert_int_equal(first_rcpt(f, &mail, "a1"), LEDGER_GO);
    assert_true(is_accepted(f, "a1", 1));
    settle(f, "a1", 1);
    expect_listed(f, "");
    assert_false(is_accepted(f, "a1", 1));
}

/* Without a set no mail is ever answered from the ledger. */
static void a_record_counts_only_while_its_set_lives(void **state)
{
    struct fixture *f = *state;
    RECORD(f, 1, {"a1", true}, {"b1", false});
    f->now += DAY + 1;
    assert_false(is_accepted(f, "a1", 1));
    assert_true(ledger_is_empty(f->ledger));
}

static void an_answer_for_one_message_leaves_the_records_of_others(void **state)
{
    struct fixture *f = *state;
    RECORD(f, 1, {"a1", true}, {"a2", true}, {"b1", false});
    RECORD(f, 2, {"a1", true}, {"a2", true}, {"b1", false});
    expect_listed(f, "beta b1 | alpha** a1 a2");
    settle(f, "a1", 1);
    expect_listed(f, "beta b1 | alpha** a2 | alpha* a1");
    assert_false(is_accepted(f, "a1", 1));
    assert_true(is_accepted(f, "a1", 2));
    assert_true(is_accepted(f, "a2", 1));
    settle(f, "a2", 1);
    expect_listed(f, "beta b1 | alpha* a1 a2");
    settle(f, "a1", 3); /* a third, which came in between */
    settle(f, "a1", 0);
    expect_listed(f, "beta b1 | alpha* a1 a2");
    settle(f, "a1", 2);
    settle(f, "a2", 2);
    expect_listed(f, "");
}

/* Who else was told so, for another message perhaps, is no reason to send this one twice. */
static void one_refused_for_good_leaves_unless_it_has_a_record(void **state)
{
    struct fixture *f = *state;
    RECORD(f, 1, {"a1", true}, {"b1", false}, {"c1", false});
    refused(f, "a1");
    expect_listed(f, "alpha* a1 | beta b1 | gamma c1");
    assert_true(is_accepted(f, "a1", 1));
    refused(f, "b1");
    expect_listed(f, "alpha* a1 | gamma c1");
}

static void answers_to_strangers_change_nothing(void **state)
{
    struct fixture *f = *state;
    settle(f, "a1", 1);
    refused(f, "a1");
    RECORD(f, 1, {"a1", true}, {"b1", false});
    unsigned changed = f->changed;
    settle(f, "a9", 1);
    refused(f, "b9");
    expect_listed(f, "alpha* a1 | beta b1");
    assert_int_equal(f->changed, changed);
}

static void many_messages_may_be_on_record(void **state)
{
    struct fixture *f = *state;
    for (unsigned char i = 1; i <= 16; i++) {
        f->now++;
        RECORD(f, (unsigned char)(200 - 7 * i), {"a1", true}, {"b1", false});
    }
    expect_listed(f, "beta b1 | alpha**************** a1");
    for (unsigned char i = 1; i <= 16; i++) {
        assert_true(is_accepted(f, "a1", (unsigned char)(200 - 7 * i)));
    }
}

/* A duplicate at worst. */
static void of_more_than_that_the_oldest_is_forgotten(void **state)
{
    struct fixture *f = *state;
    for (unsigned i = 1; i <= LEDGER_RECORDS_MAX + 1; i++) {
        f->now++;
        RECORD(f, (unsigned char)(200 - i), {"a1", true}, {"b1", false});
    }
    assert_false(is_accepted(f, "a1", 200 - 1));
    for (unsigned i = 2; i <= LEDGER_RECORDS_MAX + 1; i++) {
        assert_true(is_accepted(f, "a1", (unsigned char)(200 - i)));
    }
}

static void a_set_expires_a_day_after_its_last_transaction(void **state)
{
    struct fixture *f = *state;
    struct mail mail;
    RECORD(f, 1, {"a1", true}, {"b1", false});
    f->now += DAY;
    assert_int_equal(first_rcpt(f, &mail, "a1"), LEDGER_GO); /* which it touches */
    f->now += DAY;
    assert_int_equal(first_rcpt(f, &mail, "b1"), LEDGER_GO);
    f->now += DAY + 1;
    assert_int_equal(first_rcpt(f, &mail, "a1"), LEDGER_FREE);
    assert_false(mail.turn.bound);
    expect_listed(f, "");
}

static void what_is_recorded_touches_the_set(void **state)
{
    struct fixture *f = *state;
    RECORD(f, 1, {"a1", true}, {"b1", false});
    f->now += DAY;
    RECORD(f, 1, {"a1", true}, {"b1", false});
    f->now += DAY;
    assert_true(is_accepted(f, "a1", 1));
}

static void a_record_lives_for_the_retry_window(void **state)
{
    struct fixture *f = *state;
    struct mail mail;
    RECORD(f, 1, {"a1", true}, {"b1", false});
    for (int day = 1; day <= 5; day++) {
        f->now += DAY;
        first_rcpt(f, &mail, "a1");
        assert_true(is_accepted(f, "a1", 1));
    }
    f->now += 1;
    assert_false(is_accepted(f, "a1", 1));
    first_rcpt(f, &mail, "a1");
    assert_int_equal(mail.turn.records, 0);
    expect_listed(f, "alpha a1 | beta b1");
}

static void a_reload_may_change_the_retry_window(void **state)
{
    struct fixture *f = *state;
    RECORD(f, 1, {"a1", true}, {"b1", false});
    f->now += HOUR;
    ledger_configure(f->ledger, HOUR - 1, f->max_size);
    assert_false(is_accepted(f, "a1", 1));
    ledger_configure(f->ledger, HOUR, f->max_size);
    assert_true(is_accepted(f, "a1", 1));
}

static void a_set_whose_last_leg_has_no_record_any_more_binds_nobody(void **state)
{
    struct fixture *f = *state;
    struct mail mail;
    RECORD(f, 1, {"a1", true}, {"b1", false});
    settle(f, "b1", 1);
    ledger_configure(f->ledger, HOUR, f->max_size);
    f->now += HOUR + 1;
    assert_int_equal(first_rcpt(f, &mail, "a1"), LEDGER_FREE);
    assert_int_equal(rcpt(f, &mail, "b1"), LEDGER_FREE);
    assert_false(mail.turn.bound);
    expect_listed(f, "");
}

static void legs_whose_records_have_gone_are_one_again(void **state)
{
    struct fixture *f = *state;
    struct mail mail;
    RECORD(f, 1, {"a1", true}, {"b1", false});
    first_rcpt(f, &mail, "a1");
    rcpt(f, &mail, "a2");
    expect_listed(f, "beta b1 | alpha* a1 | alpha a2");
    ledger_configure(f->ledger, HOUR, f->max_size);
    f->now += HOUR + 1;
    assert_int_equal(first_rcpt(f, &mail, "b1"), LEDGER_GO);
    expect_listed(f, "alpha a1 a2 | beta b1");
}

static void a_clock_set_back_expires_nothing(void **state)
{
    struct fixture *f = *state;
    struct mail mail;
    RECORD(f, 1, {"a1", true}, {"b1", false});
    f->now -= 400 * (time_t)DAY;
    assert_true(is_accepted(f, "a1", 1));
    assert_int_equal(first_rcpt(f, &mail, "a1"), LEDGER_GO);
    assert_int_equal(first_rcpt(f, &mail, "b1"), LEDGER_GO);
    f->now = 0;
    assert_true(is_accepted(f, "a1", 1));
    f->now = -400 * (time_t)DAY;
    assert_int_equal(first_rcpt(f, &mail, "a1"), LEDGER_GO);
}

static void a_clock_that_was_ahead_does_not_keep_others_from_expiring(void **state)
{
    struct fixture *f = *state;
    struct mail mail;
    f->now += 400 * (time_t)DAY;
    RECORD(f, 1, {"a1", true}, {"b1", false});
    f->now -= 400 * (time_t)DAY;
    RECORD(f, 1, {"a2", true}, {"b2", false});
    f->now += DAY + 1;
    for (int i = 0; i < 4; i++) {
        first_rcpt(f, &mail, "c1");
    }
    expect_listed(f, "alpha* a1 | beta b1");
}

/* No call takes long; so all of them help. */
static void what_has_expired_goes_in_passing(void **state)
{
    struct fixture *f = *state;
    struct mail mail;
    char first[] = "a00", second[] = "b00";
    for (int i = 0; i < 40; i++) {
        first[1] = second[1] = (char)('0' + i / 10);
        first[2] = second[2] = (char)('0' + i % 10);
        RECORD(f, 1, {first, true}, {second, false});
    }
    f->now += DAY + 1;
    for (int i = 0; i < 10; i++) {
        assert_false(ledger_is_empty(f->ledger));
        assert_int_equal(first_rcpt(f, &mail, "c1"), LEDGER_FREE);
    }
    assert_true(ledger_is_empty(f->ledger));
}

static void a_set_that_ends_while_a_transaction_is_bound_leaves_it_bound(void **state)
{
    struct fixture *f = *state;
    struct mail mail;
    RECORD(f, 0, {"a1", true}, {"a2", true}, {"b1", false});
    assert_int_equal(first_rcpt(f, &mail, "a1"), LEDGER_GO);
    settle(f, "b1", 1);
    expect_listed(f, "");
    assert_int_equal(rcpt(f, &mail, "b1"), LEDGER_WAIT); /* one leg only, and nothing to join */
    assert_int_equal(rcpt(f, &mail, "a2"), LEDGER_GO);
    expect_listed(f, "");
}

static void a_leg_that_ends_while_a_transaction_is_bound_leaves_it_bound(void **state)
{
    struct fixture *f = *state;
    struct mail mail;
    RECORD(f, 0, {"a1", true}, {"b1", false}, {"c1", false});
    assert_int_equal(first_rcpt(f, &mail, "c1"), LEDGER_WAIT);
    settle(f, "a1", 1); /* another transaction's */
    assert_int_equal(rcpt(f, &mail, "a1"), LEDGER_WAIT);
    assert_int_equal(rcpt(f, &mail, "b1"), LEDGER_WAIT);
    expect_listed(f, "beta b1 | gamma c1 | alpha a1");
}

static void one_that_is_in_another_set_by_now_waits(void **state)
{
    struct fixture *f = *state;
    struct mail mail;
    RECORD(f, 0, {"a1", true}, {"b1", false});
    assert_int_equal(first_rcpt(f, &mail, "a1"), LEDGER_GO);
    ledger_clear(f->ledger, 0);
    RECORD(f, 0, {"a2", true}, {"b2", false});
    assert_int_equal(rcpt(f, &mail, "a2"), LEDGER_WAIT);
    expect_listed(f, "alpha a2 | beta b2");
}

static void over_its_size_it_is_not_usable_and_takes_no_more(void **state)
{
    struct fixture *f = *state;
    struct ledger_state told;
    struct mail mail;
    RECORD(f, 1, {"a1", true}, {"b1", false});
    RECORD(f, 1, {"a2", true}, {"b2", false});
    ledger_tell(f->ledger, &told);
    ledger_configure(f->ledger, WINDOW, told.size);
    assert_false(ledger_usable(f->ledger));
    assert_false(RECORD(f, 1, {"a3", true}, {"b3", false}));
    assert_int_equal(first_rcpt(f, &mail, "a1"), LEDGER_GO); /* what is known goes on counting */
    assert_int_equal(rcpt(f, &mail, "c1"), LEDGER_WAIT);
    expect_listed(f, "beta b1 | alpha* a1 // alpha* a2 | beta b2"); /* and c1 does not join */
    assert_true(is_accepted(f, "a2", 1));
    settle(f, "a2", 1);
    keep(f);
    assert_true(ledger_usable(f->ledger));
    assert_true(RECORD(f, 1, {"a3", true}, {"b3", false}));
}

static void what_has_expired_makes_room(void **state)
{
    struct fixture *f = *state;
    struct ledger_state told;
    RECORD(f, 1, {"a1", true}, {"b1", false});
    keep(f);
    ledger_tell(f->ledger, &told);
    ledger_configure(f->ledger, WINDOW, told.size);
    f->now += DAY + 1;
    assert_false(ledger_usable(f->ledger));
    assert_true(RECORD(f, 1, {"a2", true}, {"b2", false}));
    expect_listed(f, "alpha* a2 | beta b2");
}

static void while_nothing_can_be_written_it_goes_on_in_memory(void **state)
{
    struct fixture *f = *state;
    struct mail mail;
    ledger_failed(f->ledger);
    assert_false(ledger_usable(f->ledger));
    assert_false(RECORD(f, 1, {"a1", true}, {"b1", false}));
    expect_listed(f, "alpha* a1 | beta b1");
    assert_int_equal(first_rcpt(f, &mail, "b1"), LEDGER_WAIT);
    assert_int_equal(rcpt(f, &mail, "a1"), LEDGER_GO);
    assert_true(is_accepted(f, "a1", 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN(of_strangers_it_says_nothing),
        IN(a_split_that_did_not_settle_is_a_set_by_leg),
        IN(a_split_that_nobody_accepted_is_a_set_as_well),
        IN(a_message_without_identity_leaves_no_record),
        IN(what_is_no_split_is_not_recorded),
        IN(a_recipient_named_twice_is_one),
        IN(what_is_recorded_again_is_not_recorded_twice),
        IN(one_leg_only),
        IN(the_turn_goes_round_and_begins_with_who_has_accepted),
        IN(the_turn_moves_on_as_soon_as_the_set_is_touched_and_only_once),
        IN(a_leg_that_never_returns_has_its_turn_all_the_same),
        IN(what_is_recorded_in_advance_binds_nobody),
        IN(what_is_recorded_in_advance_goes_with_the_answers),
        IN(two_in_advance_are_told_apart_by_their_messages),
        IN(a_set_outlives_a_crash_though_it_was_in_advance),
        IN(those_who_come_one_by_one_are_not_starved_by_the_row),
        IN(who_comes_with_others_every_second_time_is_not_starved_by_the_row),
        IN(while_all_come_each_time_nothing_is_drawn_by_lot),
        IN(who_comes_first_does_not_choose_the_leg),
        IN(transactions_side_by_side_take_turns),
        IN(a_stranger_on_the_leg_whose_turn_it_is_comes_along),
        IN(a_stranger_comes_along_before_any_of_the_leg_has),
        IN(who_is_sent_away_for_the_sake_of_one_leg_joins),
        IN(members_with_and_without_records_never_share),
        IN(a_transaction_can_be_overtaken),
        IN(who_parts_is_not_overtaken),
        IN(a_stranger_does_not_come_first_where_there_are_records),
        IN(members_with_records_of_other_messages_do_not_share),
        IN(those_that_were_there_first_join_and_go_on_and_the_turn_is_used_up),
        IN(several_legs_that_were_there_first_all_join),
        IN(in_the_company_of_its_own_leg_the_turn_is_good),
        IN(one_with_a_record_does_not_join_company),
        IN(company_on_another_legs_turn_goes_on_and_the_member_waits),
        IN(who_takes_another_leg_than_it_was_known_by_parts),
        IN(only_one_of_the_bound_leg_parts),
        IN(a_transaction_that_touches_two_sets_makes_them_one),
        IN(a_split_with_recipients_of_two_sets_makes_them_one),
        IN(other_senders_sets_are_others),
        IN(the_null_sender_is_a_sender),
        IN(letter_case_counts_before_the_at_sign_and_not_behind_it),
        IN(another_spelling_of_the_senders_domain_binds_as_well),
        IN(long_paths_are_told_apart),
        IN(a_final_answer_takes_the_recipient_out),
        IN(a_set_with_one_leg_left_and_no_record_is_dissolved),
        IN(a_set_with_one_leg_left_and_a_record_stays),
        IN(a_record_counts_only_while_its_set_lives),
        IN(an_answer_for_one_message_leaves_the_records_of_others),
        IN(one_refused_for_good_leaves_unless_it_has_a_record),
        IN(answers_to_strangers_change_nothing),
        IN(many_messages_may_be_on_record),
        IN(of_more_than_that_the_oldest_is_forgotten),
        IN(a_set_expires_a_day_after_its_last_transaction),
        IN(what_is_recorded_touches_the_set),
        IN(a_record_lives_for_the_retry_window),
        IN(a_reload_may_change_the_retry_window),
        IN(a_set_whose_last_leg_has_no_record_any_more_binds_nobody),
        IN(legs_whose_records_have_gone_are_one_again),
        IN(a_clock_set_back_expires_nothing),
        IN(a_clock_that_was_ahead_does_not_keep_others_from_expiring),
        IN(what_has_expired_goes_in_passing),
        IN(a_set_that_ends_while_a_transaction_is_bound_leaves_it_bound),
        IN(a_leg_that_ends_while_a_transaction_is_bound_leaves_it_bound),
        IN(one_that_is_in_another_set_by_now_waits),
        IN(over_its_size_it_is_not_usable_and_takes_no_more),
        IN(what_has_expired_makes_room),
        IN(while_nothing_can_be_written_it_goes_on_in_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
