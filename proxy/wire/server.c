#include "proxy/wire/server.h"

struct server_row {
    const char *name;
    const char *doing;
    struct server_step on[VERB_COUNT];
};

/* Shorthand for the table's cells, so that a row is read at a glance. */
#define DO(action)                                                                                 \
    {                                                                                              \
        SERVER_DO_##action, 0, NULL, NULL                                                          \
    }
#define SAY(code, enhanced, text)                                                                  \
    {                                                                                              \
        SERVER_DO_SAY, code, enhanced, text                                                        \
    }

/* What is answered alike wherever a command is read. */
#define ANY_TIME                                                                                   \
    [VERB_EHLO] = DO(EHLO), [VERB_HELO] = DO(HELO), [VERB_RSET] = DO(RSET),                        \
    [VERB_NOOP] = SAY(250, "2.0.0", "Ok"),                                                         \
    [VERB_VRFY] = SAY(252, "2.5.2", "Cannot verify; send mail and see"),                           \
    [VERB_HELP] = SAY(214, "2.0.0", "splitmx relays mail; see RFC 5321"),                          \
    [VERB_UNKNOWN] = SAY(502, "5.5.2", "Command not recognized"),                                  \
    [VERB_QUIT] = {SERVER_DO_QUIT, 221, "2.0.0", "Bye"},                                           \
    [VERB_HTTP] = {SERVER_DO_DROP, 554, "5.5.1", "This is a mail server"}

#define NO_COMMANDS                                                                                \
    [VERB_HELO] = DO(HOLD), [VERB_EHLO] = DO(HOLD), [VERB_STARTTLS] = DO(HOLD),                    \
    [VERB_MAIL] = DO(HOLD), [VERB_RCPT] = DO(HOLD), [VERB_DATA] = DO(HOLD),                        \
    [VERB_RSET] = DO(HOLD), [VERB_NOOP] = DO(HOLD), [VERB_VRFY] = DO(HOLD),                        \
    [VERB_HELP] = DO(HOLD), [VERB_QUIT] = DO(HOLD), [VERB_UNKNOWN] = DO(HOLD),                     \
    [VERB_HTTP] = DO(HOLD)

static const struct server_row table[SERVER_STATES] = {
    [SERVER_PROXY] = {"PROXY", "waiting for the PROXY header", {NO_COMMANDS}},
    [SERVER_TLS] = {"TLS", "waiting for the TLS handshake", {NO_COMMANDS}},
    [SERVER_HELO] = {"HELO",
                     "waiting for EHLO",
                     {ANY_TIME, [VERB_STARTTLS] = SAY(503, "5.5.1", "Say EHLO first"),
                      [VERB_MAIL] = SAY(503, "5.5.1", "Say EHLO first"),
                      [VERB_RCPT] = SAY(503, "5.5.1", "Say EHLO first"),
                      [VERB_DATA] = SAY(503, "5.5.1", "Say EHLO first")}},
    [SERVER_READY] = {"READY",
                      "waiting for a command",
                      {ANY_TIME, [VERB_STARTTLS] = DO(STARTTLS), [VERB_MAIL] = DO(MAIL),
                       [VERB_RCPT] = SAY(503, "5.5.1", "Need MAIL first"),
                       [VERB_DATA] = SAY(503, "5.5.1", "Need MAIL first")}},
    [SERVER_ENVELOPE] = {"ENVELOPE",
                         "waiting for a recipient or DATA",
                         {ANY_TIME, [VERB_STARTTLS] = SAY(503, "5.5.1", "Not in a transaction"),
                          [VERB_MAIL] = SAY(503, "5.5.1", "Nested MAIL"), [VERB_RCPT] = DO(RCPT),
                          [VERB_DATA] = DO(DATA)}},
    [SERVER_NAME] = {"NAME", "looking up the client's name", {NO_COMMANDS}},
    [SERVER_RCPT] = {"RCPT", "asking for a recipient", {NO_COMMANDS}},
    [SERVER_DATA] = {"DATA", "asking upstreams to take the message", {NO_COMMANDS}},
    [SERVER_BODY] = {"BODY", "receiving the message", {NO_COMMANDS}},
    [SERVER_OUTCOME] = {"OUTCOME", "waiting for the outcome", {NO_COMMANDS}},
    [SERVER_LEAVING] = {"LEAVING", "waiting for the client to close", {NO_COMMANDS}},
    [SERVER_CLOSED] = {"CLOSED", "closing", {NO_COMMANDS}},
};

struct server_step server_step(enum server_state state, enum command_verb verb)
{
    return table[state].on[verb];
}

const char *server_state_name(enum server_state state)
{
    return table[state].name;
}

const char *server_while(enum server_state state)
{
    return table[state].doing;
}
