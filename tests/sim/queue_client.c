/* One connection of a sending host: transactions as its host wants them, in lockstep or pipelined,
 * until there are no more, it has had enough, or something breaks. */
#include <stdlib.h>

#include "proxy/session/session.h"
#include "tests/sim/queues.h"

enum said {
    SAID_NOTHING, /* the greeting comes by itself */
    SAID_EHLO,
    SAID_MAIL,
    SAID_RCPT,
    SAID_DATA,
    SAID_BODY,
    SAID_RSET,
    SAID_QUIT,
};

struct command {
    enum said said;
    unsigned index; /* of the recipient in its attempt */
    struct attempt *attempt;
};

enum client_event { CLIENT_IS_LATE, CLIENT_LEAVES, CLIENT_SENDS_REST };

struct queue_client {
    struct queues *queues;
    unsigned number;
    struct client_manner manner;
    struct sim_random random;
    struct link *link;
    struct command *commands;
    size_t sent, cap;
    size_t written, read; /* answers, by splitmx and by it */
    struct attempt *attempt, *sending;
    unsigned heard[QUEUE_BOXES];
    bool closed;  /* splitmx has closed its end */
    bool stalled; /* it does nothing more, but leave in the end */
    bool gone;
    uint64_t events, waits;
    struct buffer rest; /* of the message */
};

static void client_run(struct sim *sim, void *object, int kind);

static void client_at(struct queue_client *c, uint64_t delay, enum client_event event)
{
    uint64_t number = event == CLIENT_IS_LATE ? c->waits & 0xfffffff : 0;
    sim_at(c->queues->sim, delay, client_run, c, (int)(number * 4 + (unsigned)event));
}

/* ---- the end ---- */

static void attempt_ends(struct queue_client *c, unsigned outcome)
{
    struct attempt *attempt = c->attempt;
    c->attempt = NULL;
    if (attempt != NULL) {
        attempt->heard = outcome;
        host_attempt_ended(attempt, c->heard, outcome);
    }
}

static void client_is_gone(struct queue_client *c)
{
    if (c->gone) {
        return;
    }
    c->gone = true;
    attempt_ends(c, 0);
    host_client_ended(c);
}

static void client_leaves(struct queue_client *c, bool reset)
{
    if (c->gone) {
        return;
    }
    queues_tell(c->queues, "client %u %s", c->number, reset ? "resets" : "closes");
    if (reset) {
        link_reset(c->link);
    } else {
        link_close(c->link);
    }
    client_is_gone(c);
}

/* A fault: the connection breaks, or the client says nothing any more. */
static bool client_breaks(struct queue_client *c, unsigned rate)
{
    if (!queues_fault(c->queues, c->link->id, c->events++, rate)) {
        return c->stalled;
    }
    uint64_t how = random_below(&c->random, 5);
    if (how == 0) {
        queues_tell(c->queues, "client %u stalls", c->number);
        c->stalled = true;
        client_at(c, random_below(&c->random, 20 * MINUTE), CLIENT_LEAVES);
    } else {
        client_leaves(c, how < 4);
    }
    return true;
}

/* ---- commands ---- */

static void client_says(struct queue_client *c, enum said said, unsigned index, struct span line)
{
    if (c->sent == c->cap) {
        c->cap = c->cap == 0 ? 32 : c->cap * 2;
        c->commands = realloc(c->commands, c->cap * sizeof *c->commands);
        if (c->commands == NULL) {
            abort();
        }
    }
    c->commands[c->sent++] = (struct command){.said = said, .index = index, .attempt = c->attempt};
    if (line.len != 0) {
        sim_note_span(c->queues->sim, "client says", c->number, line);
        link_send(c->link, line);
    }
}

/* No answer by then is too late. */
static void client_waits(struct queue_client *c, uint64_t patience)
{
    c->waits++;
    client_at(c, patience, CLIENT_IS_LATE);
}

/* Its name tells upstreams (in our Received field) which connection a message came over. */
static void say_hello(struct queue_client *c)
{
    char line[80];
    struct text text = TEXT(line);
    text_printf(&text, "EHLO c%u.client.example\r\n", c->number);
    client_says(c, SAID_EHLO, 0, text_span(&text));
}

static void say_mail(struct queue_client *c)
{
    char path[256];
    char line[300];
    struct text text = TEXT(line);
    struct span sender = author_path(&c->queues->authors[c->attempt->mail->author], path);
    text_printf(&text, "MAIL FROM:<%.*s>\r\n", SPAN_ARGS(sender));
    client_says(c, SAID_MAIL, 0, text_span(&text));
}

static void say_rcpt(struct queue_client *c, unsigned index)
{
    char path[256];
    char line[300];
    struct text text = TEXT(line);
    const struct author *author = &c->queues->authors[c->attempt->mail->author];
    struct span to = mailbox_path(c->queues, &author->boxes[c->attempt->rcpts[index]], path);
    text_printf(&text, "RCPT TO:<%.*s>\r\n", SPAN_ARGS(to));
    client_says(c, SAID_RCPT, index, text_span(&text));
}

static void say_data(struct queue_client *c)
{
    c->attempt->data_sent = true;
    client_says(c, SAID_DATA, 0, SPAN("DATA\r\n"));
}

static void say_quit(struct queue_client *c)
{
    client_says(c, SAID_QUIT, 0, SPAN("QUIT\r\n"));
}

/* The next transaction, or the end. */
static void client_goes_on(struct queue_client *c)
{
    client_waits(c, c->manner.patience / 2);
    c->attempt = host_next(c);
    if (c->attempt == NULL) {
        say_quit(c);
        return;
    }
    memset(c->heard, 0, sizeof c->heard);
    say_mail(c);
    for (unsigned i = 0; i < c->attempt->count && !c->manner.lockstep; i++) {
        say_rcpt(c, i);
    }
    if (!c->manner.lockstep) {
        say_data(c);
    }
}

static bool has_accepted(const struct queue_client *c)
{
    for (unsigned i = 0; i < c->attempt->count; i++) {
        if (c->heard[i] / 100 == 2) {
            return true;
        }
    }
    return false;
}

static void send_rest(struct queue_client *c)
{
    struct attempt *attempt = c->attempt;
    if (client_breaks(c, 500)) {
        return;
    }
    link_send(c->link, buffer_span(&c->rest));
    buffer_release(&c->rest);
    attempt->end_sent = true;
    link_send(c->link, SPAN(".\r\n"));
    if (attempt->closes) {
        say_quit(c);
    }
    client_waits(c, c->manner.patience);
    if (queues_fault(c->queues, c->link->id, c->events++, 1500)) { /* while the upstreams decide */
        client_at(c, random_below(&c->random, random_chance(&c->random, 60) ? 300 : 5000),
                  CLIENT_LEAVES);
    }
}

/* Its first part, and a little later the rest; or only a part. */
static void say_body(struct queue_client *c)
{
    struct attempt *attempt = c->attempt;
    struct buffer *rest = &c->rest;
    struct mail *mail = attempt->mail;
    buffer_put(rest, span_of(attempt->prefix));
    buffer_put(rest, buffer_span(&mail->body));
    size_t first = (size_t)random_below(&c->random, rest->len + 1);
    client_says(c, SAID_BODY, 0, SPAN(""));
    c->sending = attempt;
    attempt->closes = c->manner.quits_behind && c->manner.boxes == 0;
    link_send(c->link, span_first(buffer_span(rest), first));
    buffer_drop(rest, first);
    client_at(c, random_below(&c->random, 100), CLIENT_SENDS_REST);
}

/* ---- answers ---- */

static void heard_rcpt(struct queue_client *c, unsigned index, unsigned code)
{
    c->heard[index] = code;
    if (!c->manner.lockstep) {
        return;
    }
    if (index + 1 < c->attempt->count) {
        say_rcpt(c, index + 1);
    } else if (has_accepted(c)) {
        say_data(c);
    } else {
        attempt_ends(c, 0);
        client_says(c, SAID_RSET, 0, SPAN("RSET\r\n"));
    }
}

static void heard_data(struct queue_client *c, unsigned code)
{
    if (code == 354) {
        if (!has_accepted(c)) {
            sim_fail(c->queues->sim, "client %u: 354 without recipients", c->number);
        }
        say_body(c);
        return;
    }
    attempt_ends(c, has_accepted(c) ? code : 0);
    client_says(c, SAID_RSET, 0, SPAN("RSET\r\n"));
}

static void heard_outcome(struct queue_client *c, unsigned code)
{
    bool closes = c->attempt->closes;
    attempt_ends(c, code);
    if (!closes) {
        client_goes_on(c);
    } else if (c->manner.hurries) {
        client_leaves(c, false);
    }
}

static void heard(struct queue_client *c, const struct command *command, unsigned code)
{
    client_waits(c, c->manner.patience / 2);
    switch (command->said) {
    case SAID_NOTHING:
        say_hello(c);
        break;
    case SAID_EHLO:
    case SAID_RSET:
        client_goes_on(c);
        break;
    case SAID_MAIL:
        if (code / 100 != 2) {
            client_leaves(c, false);
        } else if (c->manner.lockstep) {
            say_rcpt(c, 0);
        }
        break;
    case SAID_RCPT:
        heard_rcpt(c, command->index, code);
        break;
    case SAID_DATA:
        heard_data(c, code);
        break;
    case SAID_BODY:
        heard_outcome(c, code);
        break;
    case SAID_QUIT:
        client_leaves(c, false);
        break;
    }
}

static unsigned code_of(struct span reply)
{
    unsigned long long code = 0;
    return span_number(span_first(reply, 3), 999, &code) ? (unsigned)code : 0;
}

static void take_reply(struct queue_client *c, struct span reply)
{
    unsigned code = code_of(reply);
    sim_note_span(c->queues->sim, "client hears", c->number, reply);
    if (code == 421) {
        client_leaves(c, false);
        return;
    }
    if (c->read >= c->sent) {
        sim_fail(c->queues->sim, "client %u: an answer to nothing: %.*s", c->number,
                 SPAN_ARGS(reply));
    }
    struct command command = c->commands[c->read++];
    heard(c, &command, code);
}

/* ---- the link's events ---- */

static void on_bytes(void *self)
{
    struct queue_client *c = self;
    struct buffer *inbox = &c->link->inbox;
    size_t length;
    if (client_breaks(c, 200)) {
        return;
    }
    while (!c->gone && (length = buffer_reply(buffer_span(inbox))) != 0) {
        char bytes[8192];
        struct text reply = TEXT(bytes);
        text_put(&reply, span_first(buffer_span(inbox), length));
        buffer_drop(inbox, length);
        take_reply(c, text_span(&reply));
    }
}

static void on_end(void *self)
{
    client_leaves(self, false);
}

static void on_reset(void *self)
{
    struct queue_client *c = self;
    queues_tell(c->queues, "client %u is reset", c->number);
    client_is_gone(c);
}

/* What splitmx says, whether or not it is ever heard: one reply at a time. */
static void witness(void *self, struct span reply)
{
    struct queue_client *c = self;
    unsigned code = code_of(reply);
    if (reply.len == 0 || code == 421) {
        if (c->sending != NULL && c->sending->over == 0) {
            books_over(c->sending);
        }
        return;
    }
    if (c->written >= c->sent) {
        sim_fail(c->queues->sim, "client %u: an answer to nothing: %.*s", c->number,
                 SPAN_ARGS(reply));
    }
    const struct command *command = &c->commands[c->written++];
    switch (command->said) {
    case SAID_NOTHING:
    case SAID_EHLO:
    case SAID_MAIL:
    case SAID_RSET:
    case SAID_QUIT:
        break;
    case SAID_RCPT:
        books_rcpt_said(command->attempt, command->index, code, reply);
        break;
    case SAID_DATA:
        c->sending = command->attempt;
        if (code != 354) {
            books_outcome(command->attempt, code, reply, true);
        }
        break;
    case SAID_BODY:
        books_outcome(command->attempt, code, reply, false);
        break;
    }
}

static const struct link_actor actor = {
    .on_bytes = on_bytes,
    .on_end = on_end,
    .on_reset = on_reset,
};

static void client_run(struct sim *sim, void *object, int kind)
{
    struct queue_client *c = object;
    (void)sim;
    if (c->gone) {
        return;
    }
    switch ((enum client_event)(kind % 4)) {
    case CLIENT_IS_LATE:
        if ((c->waits & 0xfffffff) == (uint64_t)kind / 4) {
            queues_tell(c->queues, "client %u has waited long enough", c->number);
            c->queues->calm = false;
            client_leaves(c, random_chance(&c->random, 30));
        }
        break;
    case CLIENT_LEAVES:
        client_leaves(c, random_chance(&c->random, 50));
        break;
    case CLIENT_SENDS_REST:
        send_rest(c);
        break;
    }
}

/* ---- life ---- */

struct queue_client *queue_client_new(struct queues *q, const struct client_manner *manner)
{
    struct queue_client *c = sim_alloc(1, sizeof *c);
    struct sim *sim = q->sim;
    const struct identity *identity = &sim->identities[manner->host];
    if (q->client_count == q->client_cap) {
        q->client_cap = q->client_cap == 0 ? 64 : q->client_cap * 2;
        q->clients = realloc(q->clients, q->client_cap * sizeof(struct queue_client *));
        if (q->clients == NULL) {
            abort();
        }
    }
    c->queues = q;
    c->number = (unsigned)q->client_count;
    c->manner = *manner;
    c->random.state = manner->seed;
    q->clients[q->client_count++] = c;
    client_says(c, SAID_NOTHING, 0, SPAN(""));
    c->link = link_from_client(sim, &actor, c);
    c->link->strict = true;
    c->link->closed = &c->closed;
    c->link->witness = witness;
    queues_tell(q, "client %u of host %u comes, link %u", c->number, manner->host, c->link->id);
    client_waits(c, manner->patience / 2);
    struct session_peer peer = {.tls = LISTEN_TLS_NONE,
                                .client = sim_address(identity->ip, 40000),
                                .local = sim_address(identity->local_ip, 25)};
    session_begin(&sim->world, &c->link->conn, &peer);
    sim_settle(sim);
    return c;
}

void queue_client_free(struct queue_client *c)
{
    buffer_release(&c->rest);
    free(c->commands);
    free(c);
}

struct client_manner *queue_client_manner(struct queue_client *c)
{
    return &c->manner;
}

/* Its legs begin before DATA is answered. */
struct attempt *queue_client_attempt(struct queue_client *c)
{
    const struct command *next = c->written < c->sent ? &c->commands[c->written] : NULL;
    return next != NULL && next->said == SAID_DATA ? next->attempt : c->sending;
}

bool queue_client_is_closed(const struct queue_client *c)
{
    return c->closed;
}
