#include "proxy/wire/client.h"

#include "proxy/wire/xclient.h"

struct client_row {
    const char *name;
    const char *waiting_for;
    struct client_step on[CLIENT_EVENTS];
};

/* Shorthand for the table's cells, so that a row is read at a glance. */
#define STEP(action, next)                                                                         \
    {                                                                                              \
        CLIENT_DO_##action, CLIENT_##next                                                          \
    }

/* What only the world tells, where it has nothing to tell. */
#define NO_NEWS(action)                                                                            \
    [CLIENT_ON_OPEN] = STEP(action, CLOSED), [CLIENT_ON_SECURE] = STEP(action, CLOSED),            \
    [CLIENT_ON_INSECURE] = STEP(action, CLOSED)

#define NO_REPLY(action)                                                                           \
    [CLIENT_ON_2XX] = STEP(action, CLOSED), [CLIENT_ON_3XX] = STEP(action, CLOSED),                \
    [CLIENT_ON_4XX] = STEP(action, CLOSED), [CLIENT_ON_421] = STEP(action, CLOSED),                \
    [CLIENT_ON_5XX] = STEP(action, CLOSED)

#define LOSS(action)                                                                               \
    [CLIENT_ON_BAD] = STEP(action, CLOSED), [CLIENT_ON_LOST] = STEP(action, CLOSED),               \
    [CLIENT_ON_LATE] = STEP(action, CLOSED)

/* Nothing is owed in this state: whatever comes is out of order (design: section 5, "unsolicited
 * bytes end the leg"). */
#define OWES_NOTHING NO_NEWS(LOST), NO_REPLY(LOST), LOSS(LOST)

/* A transaction is open: the loss of a reply is the loss of the connection. */
#define LOSS_IS_LOSS NO_NEWS(LOST), LOSS(LOST)

/* No transaction yet: the loss of a reply makes the endpoint unavailable (section 6). */
#define LOSS_IS_ABSENCE NO_NEWS(UNAVAILABLE), LOSS(UNAVAILABLE)

static const struct client_row table[CLIENT_STATES] = {
    [CLIENT_CONNECT] = {"CONNECT",
                        "the connection",
                        {[CLIENT_ON_OPEN] = STEP(INTRODUCE, GREETING),
                         [CLIENT_ON_SECURE] = STEP(UNAVAILABLE, CLOSED),
                         [CLIENT_ON_INSECURE] = STEP(UNAVAILABLE, CLOSED),
                         NO_REPLY(UNAVAILABLE),
                         LOSS(UNAVAILABLE)}},
    [CLIENT_GREETING] = {"GREETING",
                         "the greeting",
                         {[CLIENT_ON_2XX] = STEP(EHLO, EHLO),
                          [CLIENT_ON_3XX] = STEP(UNAVAILABLE, CLOSED),
                          [CLIENT_ON_4XX] = STEP(UNAVAILABLE, CLOSED),
                          [CLIENT_ON_421] = STEP(UNAVAILABLE, CLOSED),
                          [CLIENT_ON_5XX] = STEP(REFUSED, CLOSED),
                          LOSS_IS_ABSENCE}},
    [CLIENT_EHLO] = {"EHLO",
                     "the answer to EHLO",
                     {[CLIENT_ON_2XX] = STEP(NEXT, READY),
                      [CLIENT_ON_3XX] = STEP(UNAVAILABLE, CLOSED),
                      [CLIENT_ON_4XX] = STEP(REFUSED, CLOSED),
                      [CLIENT_ON_421] = STEP(UNAVAILABLE, CLOSED),
                      [CLIENT_ON_5XX] = STEP(HELO, HELO),
                      LOSS_IS_ABSENCE}},
    [CLIENT_HELO] = {"HELO",
                     "the answer to HELO",
                     {[CLIENT_ON_2XX] = STEP(NEXT, READY),
                      [CLIENT_ON_3XX] = STEP(UNAVAILABLE, CLOSED),
                      [CLIENT_ON_4XX] = STEP(REFUSED, CLOSED),
                      [CLIENT_ON_421] = STEP(UNAVAILABLE, CLOSED),
                      [CLIENT_ON_5XX] = STEP(REFUSED, CLOSED),
                      LOSS_IS_ABSENCE}},
    [CLIENT_STARTTLS] = {"STARTTLS",
                         "the answer to STARTTLS",
                         {[CLIENT_ON_2XX] = STEP(TLS, TLS),
                          [CLIENT_ON_3XX] = STEP(UNAVAILABLE, CLOSED),
                          [CLIENT_ON_4XX] = STEP(CLEAR, READY),
                          [CLIENT_ON_421] = STEP(UNAVAILABLE, CLOSED),
                          [CLIENT_ON_5XX] = STEP(CLEAR, READY),
                          LOSS_IS_ABSENCE}},
    /* What was offered before is forgotten: EHLO anew (RFC 3207 4.2). */
    [CLIENT_TLS] = {"TLS",
                    "the TLS handshake",
                    {[CLIENT_ON_OPEN] = STEP(UNAVAILABLE, CLOSED),
                     [CLIENT_ON_SECURE] = STEP(EHLO, EHLO),
                     [CLIENT_ON_INSECURE] = STEP(UNAVAILABLE, CLOSED),
                     NO_REPLY(UNAVAILABLE),
                     LOSS(UNAVAILABLE)}},
    [CLIENT_XCLIENT] = {"XCLIENT",
                        "the answer to XCLIENT",
                        {[CLIENT_ON_2XX] = STEP(XCLIENT, XCLIENT),
                         [CLIENT_ON_3XX] = STEP(NO_IDENTITY, CLOSED),
                         [CLIENT_ON_4XX] = STEP(NO_IDENTITY, CLOSED),
                         [CLIENT_ON_421] = STEP(UNAVAILABLE, CLOSED),
                         [CLIENT_ON_5XX] = STEP(NO_IDENTITY, CLOSED),
                         LOSS_IS_ABSENCE}},
    [CLIENT_READY] = {"READY", "nothing", {OWES_NOTHING}},
    [CLIENT_MAIL] = {"MAIL",
                     "the answer to MAIL",
                     {[CLIENT_ON_2XX] = STEP(RCPT, RCPT),
                      [CLIENT_ON_3XX] = STEP(LOST, CLOSED),
                      [CLIENT_ON_4XX] = STEP(ANSWER, READY),
                      [CLIENT_ON_421] = STEP(ANSWER_LAST, CLOSED),
                      [CLIENT_ON_5XX] = STEP(ANSWER, READY),
                      LOSS_IS_LOSS}},
    [CLIENT_MAIL_PIPED] = {"MAIL_PIPED",
                           "the answer to MAIL",
                           {[CLIENT_ON_2XX] = STEP(NOTHING, RCPT),
                            [CLIENT_ON_3XX] = STEP(LOST, CLOSED),
                            [CLIENT_ON_4XX] = STEP(KEEP, VOID),
                            [CLIENT_ON_421] = STEP(ANSWER_LAST, CLOSED),
                            [CLIENT_ON_5XX] = STEP(KEEP, VOID),
                            LOSS_IS_LOSS}},
    /* The refusal of MAIL stands whatever becomes of the RCPT behind it; an upstream that then
     * accepts the RCPT is out of step and is not used again. */
    [CLIENT_VOID] = {"VOID",
                     "the answer to a void RCPT",
                     {[CLIENT_ON_2XX] = STEP(ANSWER_KEPT, CLOSED),
                      [CLIENT_ON_3XX] = STEP(ANSWER_KEPT, CLOSED),
                      [CLIENT_ON_4XX] = STEP(ANSWER_KEPT, READY),
                      [CLIENT_ON_421] = STEP(ANSWER_KEPT, CLOSED),
                      [CLIENT_ON_5XX] = STEP(ANSWER_KEPT, READY),
                      NO_NEWS(LOST),
                      LOSS(ANSWER_KEPT)}},
    [CLIENT_RCPT] = {"RCPT",
                     "the answer to RCPT",
                     {[CLIENT_ON_2XX] = STEP(ANSWER, OPEN),
                      [CLIENT_ON_3XX] = STEP(LOST, CLOSED),
                      [CLIENT_ON_4XX] = STEP(ANSWER, OPEN),
                      [CLIENT_ON_421] = STEP(ANSWER_LAST, CLOSED),
                      [CLIENT_ON_5XX] = STEP(ANSWER, OPEN),
                      LOSS_IS_LOSS}},
    [CLIENT_OPEN] = {"OPEN", "nothing", {OWES_NOTHING}},
    [CLIENT_DATA] = {"DATA",
                     "the answer to DATA",
                     {[CLIENT_ON_2XX] = STEP(LOST, CLOSED),
                      [CLIENT_ON_3XX] = STEP(ANSWER, BODY),
                      [CLIENT_ON_4XX] = STEP(ANSWER, OPEN),
                      [CLIENT_ON_421] = STEP(ANSWER_LAST, CLOSED),
                      [CLIENT_ON_5XX] = STEP(ANSWER, OPEN),
                      LOSS_IS_LOSS}},
    [CLIENT_BODY] = {"BODY", "nothing", {OWES_NOTHING}},
    [CLIENT_END] = {"END",
                    "the answer to end-of-data",
                    {[CLIENT_ON_2XX] = STEP(ANSWER, READY),
                     [CLIENT_ON_3XX] = STEP(LOST, CLOSED),
                     [CLIENT_ON_4XX] = STEP(ANSWER, READY),
                     [CLIENT_ON_421] = STEP(ANSWER_LAST, CLOSED),
                     [CLIENT_ON_5XX] = STEP(ANSWER, READY),
                     LOSS_IS_LOSS}},
    [CLIENT_RSET] = {"RSET",
                     "the answer to RSET",
                     {[CLIENT_ON_2XX] = STEP(READY, READY),
                      [CLIENT_ON_3XX] = STEP(LOST, CLOSED),
                      [CLIENT_ON_4XX] = STEP(LOST, CLOSED),
                      [CLIENT_ON_421] = STEP(LOST, CLOSED),
                      [CLIENT_ON_5XX] = STEP(LOST, CLOSED),
                      LOSS_IS_LOSS}},
    [CLIENT_QUIT] = {"QUIT",
                     "the end of the connection",
                     {[CLIENT_ON_2XX] = STEP(NOTHING, QUIT),
                      [CLIENT_ON_3XX] = STEP(LEAVE, CLOSED),
                      [CLIENT_ON_4XX] = STEP(LEAVE, CLOSED),
                      [CLIENT_ON_421] = STEP(NOTHING, QUIT),
                      [CLIENT_ON_5XX] = STEP(LEAVE, CLOSED),
                      NO_NEWS(LEAVE),
                      LOSS(LEAVE)}},
    [CLIENT_CLOSED] = {"CLOSED", "nothing", {NO_NEWS(NOTHING), NO_REPLY(NOTHING), LOSS(NOTHING)}},
};

struct client_step client_step(enum client_state state, enum client_event event)
{
    return table[state].on[event];
}

enum client_event client_event_of(const struct reply *reply)
{
    if (reply->code == 421) {
        return CLIENT_ON_421;
    }
    switch (reply->code / 100) {
    case 2:
        return CLIENT_ON_2XX;
    case 3:
        return CLIENT_ON_3XX;
    case 4:
        return CLIENT_ON_4XX;
    case 5:
        return CLIENT_ON_5XX;
    default:
        return CLIENT_ON_BAD;
    }
}

const char *client_state_name(enum client_state state)
{
    return table[state].name;
}

const char *client_waiting_for(enum client_state state)
{
    return table[state].waiting_for;
}

void client_offer_line(struct client_offer *offer, struct span line)
{
    struct span keyword = span_first(line, span_find(line, ' '));
    if (span_equal_fold(keyword, SPAN("PIPELINING"))) {
        offer->pipelining = true;
    } else if (span_equal_fold(keyword, SPAN("SIZE"))) {
        offer->size = true;
    } else if (span_equal_fold(keyword, SPAN("8BITMIME"))) {
        offer->eight_bit = true;
    } else if (span_equal_fold(keyword, SPAN("STARTTLS"))) {
        offer->starttls = true;
    } else if (span_equal_fold(keyword, SPAN("SMTPUTF8"))) {
        offer->smtputf8 = true;
    } else if (span_equal_fold(keyword, SPAN("ENHANCEDSTATUSCODES"))) {
        offer->enhanced = true;
    } else {
        xclient_offer_line(line, &offer->xclient);
    }
}
