/* proxy/wire/client: the table of the client side, alone and fed by the reply parser. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proxy/wire/client.h"

#define TRACE_MAX 64

struct trace {
    struct client_step steps[TRACE_MAX];
    size_t count;
};

/* What a conversation comes to when replies arrive in pieces of `piece` bytes. */
static struct trace converse(enum client_state state, struct span input, size_t piece)
{
    struct trace trace = {.count = 0};
    struct reply_parser parser = {0};
    struct reply reply;
    size_t seen = 0;  /* bytes presented so far */
    size_t taken = 0; /* and consumed */
    while (taken < input.len && trace.count < TRACE_MAX) {
        size_t used = 0;
        seen = seen < taken + piece ? taken + piece : seen + piece;
        seen = seen < input.len ? seen : input.len;
        enum reply_status status =
            reply_parse(&parser, span_make(input.ptr + taken, seen - taken), &reply, &used);
        taken += used;
        if (status == REPLY_MORE && seen == input.len && used == 0) {
            break;
        }
        if (status == REPLY_MORE) {
            continue;
        }
        parser = (struct reply_parser){0};
        struct client_step step =
            client_step(state, status == REPLY_BAD ? CLIENT_ON_BAD : client_event_of(&reply));
        trace.steps[trace.count++] = step;
        state = step.next;
        if (step.action == CLIENT_DO_NEXT) {
            state = CLIENT_MAIL_PIPED; /* the owner needs nothing more, and begins a transaction at
                                          once */
        } else if (step.action == CLIENT_DO_ANSWER && step.next == CLIENT_OPEN) {
            state = CLIENT_DATA; /* and sends DATA behind its one recipient */
        } else if (step.next == CLIENT_BODY) {
            state = CLIENT_END; /* and its message */
        }
    }
    return trace;
}

static void every_state_and_event_have_a_next_step(void **context)
{
    (void)context;
    for (unsigned state = 0; state < CLIENT_STATES; state++) {
        assert_non_null(client_state_name(state));
        assert_non_null(client_waiting_for(state));
        for (unsigned event = 0; event < CLIENT_EVENTS; event++) {
            struct client_step step = client_step(state, event);
            assert_true(step.next < CLIENT_STATES);
            /* An empty cell would be "do nothing, connect": no row says that. */
            assert_false(step.action == CLIENT_DO_NOTHING && step.next == CLIENT_CONNECT);
        }
    }
}

static void an_acceptance_is_only_what_answers_the_end_of_data(void **context)
{
    (void)context;
    for (unsigned state = 0; state < CLIENT_STATES; state++) {
        struct client_step step = client_step(state, CLIENT_ON_2XX);
        bool owes_nothing = state == CLIENT_READY || state == CLIENT_OPEN || state == CLIENT_BODY;
        if (owes_nothing) {
            assert_int_equal(step.action, CLIENT_DO_LOST);
            assert_int_equal(step.next, CLIENT_CLOSED);
        }
    }
    assert_int_equal(client_step(CLIENT_END, CLIENT_ON_2XX).action, CLIENT_DO_ANSWER);
    assert_int_equal(client_step(CLIENT_END, CLIENT_ON_3XX).action, CLIENT_DO_LOST);
    assert_int_equal(client_step(CLIENT_DATA, CLIENT_ON_2XX).action, CLIENT_DO_LOST);
}

static void before_mail_loss_is_absence_and_after_it_is_loss(void **context)
{
    static const enum client_event losses[] = {CLIENT_ON_BAD, CLIENT_ON_LOST, CLIENT_ON_LATE};
    (void)context;
    for (size_t i = 0; i < sizeof losses / sizeof losses[0]; i++) {
        for (unsigned state = CLIENT_CONNECT; state <= CLIENT_HELO; state++) {
            assert_int_equal(client_step(state, losses[i]).action, CLIENT_DO_UNAVAILABLE);
        }
        for (unsigned state = CLIENT_READY; state <= CLIENT_RSET; state++) {
            if (state != CLIENT_VOID) {
                assert_int_equal(client_step(state, losses[i]).action, CLIENT_DO_LOST);
            }
        }
    }
    assert_int_equal(client_step(CLIENT_GREETING, CLIENT_ON_421).action, CLIENT_DO_UNAVAILABLE);
    assert_int_equal(client_step(CLIENT_GREETING, CLIENT_ON_4XX).action, CLIENT_DO_UNAVAILABLE);
    assert_int_equal(client_step(CLIENT_GREETING, CLIENT_ON_5XX).action, CLIENT_DO_REFUSED);
}

static void a_refused_mail_stands_whatever_becomes_of_its_rcpt(void **context)
{
    (void)context;
    assert_int_equal(client_step(CLIENT_MAIL_PIPED, CLIENT_ON_5XX).action, CLIENT_DO_KEEP);
    for (unsigned event = CLIENT_ON_2XX; event < CLIENT_EVENTS; event++) {
        assert_int_equal(client_step(CLIENT_VOID, event).action, CLIENT_DO_ANSWER_KEPT);
    }
    /* An upstream that accepts the void RCPT is out of step. */
    assert_int_equal(client_step(CLIENT_VOID, CLIENT_ON_2XX).next, CLIENT_CLOSED);
    assert_int_equal(client_step(CLIENT_VOID, CLIENT_ON_5XX).next, CLIENT_READY);
}

static void check_all_cuts(const char *text, const enum client_action *actions, size_t count)
{
    struct span input = span_of(text);
    for (size_t piece = 1; piece <= input.len; piece++) {
        struct trace trace = converse(CLIENT_GREETING, input, piece);
        assert_int_equal(trace.count, count);
        for (size_t i = 0; i < count; i++) {
            assert_int_equal(trace.steps[i].action, actions[i]);
        }
    }
}

static void a_whole_transaction_is_the_same_however_it_is_cut(void **context)
{
    static const enum client_action actions[] = {CLIENT_DO_EHLO,    CLIENT_DO_NEXT,
                                                 CLIENT_DO_NOTHING, CLIENT_DO_ANSWER,
                                                 CLIENT_DO_ANSWER,  CLIENT_DO_ANSWER};
    (void)context;
    check_all_cuts("220-local.test\r\n220 ready\r\n"
                   "250-local.test\r\n250-PIPELINING\r\n250 8BITMIME\r\n"
                   "250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n354 go\r\n250 2.0.0 queued\r\n",
                   actions, sizeof actions / sizeof actions[0]);
}

static void a_refused_transaction_is_the_same_however_it_is_cut(void **context)
{
    static const enum client_action actions[] = {CLIENT_DO_EHLO, CLIENT_DO_HELO, CLIENT_DO_NEXT,
                                                 CLIENT_DO_KEEP, CLIENT_DO_ANSWER_KEPT};
    (void)context;
    check_all_cuts("220 old\r\n502 what\r\n250 old\r\n"
                   "552-5.3.4 too\r\n552 5.3.4 big\r\n503 need MAIL\r\n",
                   actions, sizeof actions / sizeof actions[0]);
}

static void offers_are_read_in_any_case_and_with_parameters(void **context)
{
    struct client_offer offer = {0};
    (void)context;
    client_offer_line(&offer, SPAN("local.test"));
    client_offer_line(&offer, SPAN("size 1000"));
    client_offer_line(&offer, SPAN("Pipelining"));
    client_offer_line(&offer, SPAN("8BITMIMES"));
    assert_true(offer.size);
    assert_true(offer.pipelining);
    assert_false(offer.eight_bit);
    assert_false(offer.starttls);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_state_and_event_have_a_next_step),
        cmocka_unit_test(an_acceptance_is_only_what_answers_the_end_of_data),
        cmocka_unit_test(before_mail_loss_is_absence_and_after_it_is_loss),
        cmocka_unit_test(a_refused_mail_stands_whatever_becomes_of_its_rcpt),
        cmocka_unit_test(a_whole_transaction_is_the_same_however_it_is_cut),
        cmocka_unit_test(a_refused_transaction_is_the_same_however_it_is_cut),
        cmocka_unit_test(offers_are_read_in_any_case_and_with_parameters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
