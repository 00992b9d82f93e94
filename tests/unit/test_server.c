/* proxy/wire/server: the table of the server side, alone and fed by the command parser. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proxy/wire/server.h"

#define TRACE_MAX 64

struct trace {
    struct server_step steps[TRACE_MAX];
    size_t count;
};

/* Where a session that waits for nobody would go next. */
static enum server_state follow(enum server_state state, enum server_action action)
{
    switch (action) {
    case SERVER_DO_HELO:
    case SERVER_DO_EHLO:
    case SERVER_DO_RSET:
        return SERVER_READY;
    case SERVER_DO_MAIL:
        return SERVER_ENVELOPE;
    case SERVER_DO_QUIT:
    case SERVER_DO_DROP:
        return SERVER_CLOSED;
    case SERVER_DO_HOLD:
    case SERVER_DO_SAY:
    case SERVER_DO_STARTTLS:
    case SERVER_DO_RCPT:
    case SERVER_DO_DATA:
        break;
    }
    return state;
}

static struct trace converse(struct span input, size_t piece)
{
    struct trace trace = {.count = 0};
    struct line_reader reader = {0};
    enum server_state state = SERVER_HELO;
    size_t seen = 0;
    size_t taken = 0;
    while (taken < input.len && trace.count < TRACE_MAX) {
        struct span line;
        size_t used = 0;
        seen = seen < taken + piece ? taken + piece : seen + piece;
        seen = seen < input.len ? seen : input.len;
        enum line_status status =
            line_take(&reader, span_make(input.ptr + taken, seen - taken), &line, &used);
        taken += used;
        if (status == LINE_OK) {
            struct server_step step = server_step(state, command_parse(line).verb);
            trace.steps[trace.count++] = step;
            state = follow(state, step.action);
        } else if (status == LINE_MORE && seen == input.len && used == 0) {
            break;
        }
    }
    return trace;
}

static void every_state_and_verb_have_a_step(void **context)
{
    (void)context;
    for (unsigned state = 0; state < SERVER_STATES; state++) {
        bool reads = state >= SERVER_HELO && state <= SERVER_ENVELOPE;
        assert_non_null(server_state_name(state));
        assert_non_null(server_while(state));
        for (unsigned verb = 0; verb < VERB_COUNT; verb++) {
            struct server_step step = server_step(state, verb);
            assert_int_equal(step.action == SERVER_DO_HOLD, !reads);
            if (step.action == SERVER_DO_SAY) {
                assert_in_range(step.code, 200, 599);
                assert_int_equal(step.enhanced[0] - '0', step.code / 100);
                assert_non_null(step.text);
            }
        }
    }
}

static void commands_out_of_order_are_503(void **context)
{
    (void)context;
    assert_int_equal(server_step(SERVER_HELO, VERB_MAIL).code, 503);
    assert_int_equal(server_step(SERVER_READY, VERB_RCPT).code, 503);
    assert_int_equal(server_step(SERVER_READY, VERB_DATA).code, 503);
    assert_int_equal(server_step(SERVER_ENVELOPE, VERB_MAIL).code, 503);
}

static void a_client_that_is_no_mail_client_is_dropped_anywhere(void **context)
{
    (void)context;
    for (unsigned state = SERVER_HELO; state <= SERVER_ENVELOPE; state++) {
        assert_int_equal(server_step(state, VERB_HTTP).action, SERVER_DO_DROP);
        assert_int_equal(server_step(state, VERB_HTTP).code, 554);
    }
}

static void a_pipelined_session_is_the_same_however_it_is_cut(void **context)
{
    static const enum server_action actions[] = {SERVER_DO_SAY,  SERVER_DO_EHLO, SERVER_DO_MAIL,
                                                 SERVER_DO_RCPT, SERVER_DO_RCPT, SERVER_DO_DATA,
                                                 SERVER_DO_RSET, SERVER_DO_SAY,  SERVER_DO_MAIL,
                                                 SERVER_DO_EHLO, SERVER_DO_SAY,  SERVER_DO_QUIT};
    (void)context;
    struct span input =
        SPAN("MAIL FROM:<a@b>\r\n"
             "ehlo client.test\r\nMAIL FROM:<>\r\nrcpt to:<a@b>\r\nRCPT TO:<c@d>\r\nData\r\n"
             "RSET\r\nEXPN x\r\nMAIL FROM:<a@b>\r\nEHLO again\r\nRCPT TO:<a@b>\r\nQUIT\r\n");
    for (size_t piece = 1; piece <= input.len; piece++) {
        struct trace trace = converse(input, piece);
        assert_int_equal(trace.count, sizeof actions / sizeof actions[0]);
        for (size_t i = 0; i < trace.count; i++) {
            assert_int_equal(trace.steps[i].action, actions[i]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_state_and_verb_have_a_step),
        cmocka_unit_test(commands_out_of_order_are_503),
        cmocka_unit_test(a_client_that_is_no_mail_client_is_dropped_anywhere),
        cmocka_unit_test(a_pipelined_session_is_the_same_however_it_is_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
