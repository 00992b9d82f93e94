/*
 * play: one whole session after another, as the input of fuzz_session has it: session code as it
 * is, over the simulator's network and clock, between callers that say any bytes and upstreams that
 * answer any bytes.
 *
 *   play            the world: relays, names, the clock, what has to be left when all is over
 *   play_caller     a client, and the oracle of what it is answered
 *   play_upstream   a connection to an upstream, and the oracle of what it is told
 *
 * Both oracles look at bytes when session code writes them, so what each side knows is what session
 * code has said so far, whatever is still on its way.
 */
#ifndef SPLITMX_TESTS_FUZZ_PLAY_H
#define SPLITMX_TESTS_FUZZ_PLAY_H

#include "proxy/wire/command.h"
#include "proxy/wire/reply.h"
#include "routing/address.h"
#include "tests/sim/net.h"

#define PLAY_RELAYS  3
#define PLAY_CALLERS 4
/* More than an input of this size can ask for. */
#define PLAY_INPUT      4096
#define PLAY_RECIPIENTS 256  /* of a transaction */
#define PLAY_COMMANDS   1024 /* of a connection to an upstream */

/* ---- a client ---- */

struct caller {
    struct play *play;
    struct link *link; /* NULL: its end of it is closed */
    struct line_reader lines;
    struct buffer said; /* by it, and not answered yet */
    bool greeted;
    bool in_message; /* it has had its 354, and no outcome */
    bool in_envelope;
    bool shaking;   /* it was told to begin TLS */
    bool dismissed; /* it was told that this is the end */
    bool closed;    /* the proxy has closed */
    bool ended;     /* it has said that it will say no more, or is gone */
    bool blind;     /* what it has sent may be read in more ways than one */
    unsigned last;  /* code that it was answered */
    struct buffer sender;
    struct buffer recipients[PLAY_RECIPIENTS]; /* that were accepted */
    unsigned count;
};

struct caller *caller_new(struct play *play, enum config_listen_tls tls, bool proxied);
void caller_free(struct caller *caller);
void caller_says(struct caller *caller, struct span bytes);
void caller_half_closes(struct caller *caller);
void caller_resets(struct caller *caller);
/* When all is quiet: nothing that it has asked may be without an answer. */
void caller_check(struct caller *caller);

/* Whether it has given this sender, and may have asked for, or has, this recipient. */
bool caller_has_sender(const struct caller *caller, struct span path);
bool caller_has_recipient(const struct caller *caller, struct span path);
/* Whether an upstream's message, behind our field, is the one that was sent (wire form, without the
 * end). */
bool play_is_message(struct span sent, struct span taken);
/* Whether it has sent its message to the end, and it is this one. */
bool caller_has_message(const struct caller *caller, struct span message);

/* ---- a connection to an upstream ---- */

enum stage_of { OF_COMMANDS, OF_DATA, OF_MESSAGE, OF_END };

/* A recipient or a message, and which of the upstream's replies is about it. */
struct asked {
    struct buffer what;
    unsigned reply;
};

struct upstream_end {
    struct play *play;
    struct link *link; /* NULL: its end of it is closed */
    struct link *wire; /* good while session code holds the other end */
    struct upstream_end *next;
    unsigned relay;

    /* As the oracle reads what the proxy writes. */
    enum stage_of stage;
    struct buffer written; /* of a command, or of the message that is being sent */
    unsigned commands;     /* so many replies are owed in all, the greeting among them */
    bool closed;           /* by the proxy */
    struct buffer sender;
    struct asked recipients[PLAY_RECIPIENTS];
    unsigned count, data;

    /* As it reads it itself. */
    bool in_message;
    bool silent; /* it answers nothing more */

    /* All that it has said, but for TLS, and the replies in it. */
    struct buffer said;
    struct reply_parser parser;
    struct reply reply;
    size_t parsed;
    bool garbled; /* from here on there is no reply in it */
    unsigned codes[PLAY_COMMANDS];
    size_t begins[PLAY_COMMANDS];
    unsigned replies;
};

void upstream_end_accept(struct link *link, struct server *server);
void upstream_end_free(struct upstream_end *end);
void upstream_end_says(struct upstream_end *end, struct span bytes);
void upstream_end_closes(struct upstream_end *end, bool reset);

/* ---- what upstreams have taken ---- */

struct copy {
    struct copy *next;
    struct upstream_end *end;
    struct buffer sender, message;
    struct asked recipients[PLAY_RECIPIENTS];
    unsigned count;
    unsigned reply; /* to its end of data */
    size_t since;   /* nothing that the upstream had said before this is that reply */
};

/* Without a source route, which is not passed on. */
static inline struct span play_path(struct span path)
{
    struct address address;
    return address_parse(path, true, true, &address) == ADDRESS_OK ? address.whole : path;
}

/* Whether an upstream has accepted the recipient, or the message for it; with NULL any message. */
bool play_recipient_accepted(const struct play *play, struct span sender, struct span recipient);
bool play_data_accepted(const struct play *play, struct span sender, struct span recipient);
bool play_has_copy(const struct play *play, struct span sender, struct span recipient,
                   const struct span *message);

/* ---- the world ---- */

/* What upstream `relay` is to say at a stage, once: G(reeting), E(HLO), T(LS), X(CLIENT), M(AIL),
 * R(CPT), D(ATA), B (the end of the body), S (RSET), Q(UIT). */
struct line_of_play {
    struct line_of_play *next;
    unsigned relay;
    char stage;
    struct buffer bytes;
};

struct play {
    struct sim sim; /* first */
    struct sim_totals totals;
    struct caller *callers[PLAY_CALLERS];
    unsigned caller_count;
    struct upstream_end *ends; /* the newest first */
    struct copy *copies;
    struct line_of_play *lines;
    bool down[PLAY_RELAYS];
    unsigned lookups;
    unsigned steps;
    unsigned lines_said; /* of those that are there to fill */
    bool has_name;       /* clients have names */
    bool late_names;     /* which take longer than anybody waits for */
    bool no_names;       /* an upstream that is down has no name either */
    bool trace;
};

/* `options`: letters, of which play.c tells the meaning. */
struct play *play_new(struct span options);
void play_free(struct play *play); /* checks that nothing is left */

void play_run(struct play *play, uint64_t milliseconds);
/* Takes the line; false: there is none, what is usual is said. Freed by the caller. */
bool play_take_line(struct play *play, unsigned relay, char stage, struct buffer *out);

static inline struct play *play_of(struct sim *sim)
{
    return (struct play *)(void *)sim;
}

/* With PLAY_TRACE in the environment: who is told this, on standard error. */
void play_trace(const struct play *play, const char *who, struct span bytes);

void play_fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

#endif
