/* What a client is going to do, from its first byte to its last. */
#include "tests/sim/client_state.h"

static struct op *add_op(struct client *c, enum op_kind kind, struct message *message,
                         unsigned number)
{
    struct op *op = &c->ops[c->op_count++];
    *op = (struct op){.kind = kind, .message = message, .number = number};
    op->wait = c->lockstep || sim_chance(c->sim, 25);
    return op;
}

static void add_oddities(struct client *c)
{
    static const enum op_kind odd[] = {OP_NOOP, OP_VRFY, OP_RSET};
    if (sim_chance(c->sim, 8)) {
        add_op(c, odd[sim_below(c->sim, 3)], NULL, 0);
    }
}

/* What is offered is known only with the answer. */
static void add_hello(struct client *c, bool extended)
{
    add_op(c, extended ? OP_EHLO : OP_HELO, NULL, (unsigned)sim_below(c->sim, 5))->wait = true;
}

static void add_transaction(struct client *c)
{
    struct sim *sim = c->sim;
    struct message *message = message_new(sim, sim->message_count, c->identity, &c->closed);
    sim->messages[sim->message_count++] = message;
    add_oddities(c);
    add_op(c, OP_MAIL, message, 0);
    for (unsigned i = 0; i < message->rcpt_count; i++) {
        add_op(c, OP_RCPT, message, i);
    }
    if (message->ending == ENDING_RSET) {
        add_op(c, OP_RSET, NULL, 0);
        return;
    }
    add_op(c, OP_DATA, message, 0);
    add_op(c, OP_BODY, message, 0)->wait = true;
    add_op(c, OP_CLEAN, NULL, 0);
}

static void add_starttls(struct client *c, bool extended)
{
    struct sim *sim = c->sim;
    bool offered = c->listen == LISTEN_TLS_MAY || c->listen == LISTEN_TLS_ENCRYPT;
    if (!offered) { /* to be told so */
        if (sim_chance(sim, 3)) {
            add_op(c, OP_STARTTLS, NULL, 0)->wait = true;
        }
        return;
    }
    if (!sim_chance(sim, c->listen == LISTEN_TLS_MAY ? 60 : 85)) {
        return;
    }
    if (sim_chance(sim, 10)) {
        add_transaction(c);
    }
    add_op(c, OP_STARTTLS, NULL, 0)->wait = true;
    add_op(c, OP_SHAKE, NULL, 0)->wait = true;
    if (sim_chance(sim, 10)) {
        add_op(c, OP_TOO_SOON, NULL, 0)->wait = true;
    }
    add_hello(c, extended);
}

static enum trouble any_trouble(struct client *c)
{
    static const enum trouble shaking[] = {TROUBLE_ALERT, TROUBLE_GOES, TROUBLE_SILENT,
                                           TROUBLE_IN_CLEAR, TROUBLE_PIPELINES};
    if (!sim_chance(c->sim, 5)) {
        return TROUBLE_NONE;
    }
    if (c->header != HEADER_NONE && sim_chance(c->sim, 50)) {
        return sim_chance(c->sim, 50) ? TROUBLE_BAD_HEADER : TROUBLE_NO_HEADER;
    }
    return shaking[sim_below(c->sim, 5)];
}

/* What kind of listener it came to. */
static void choose_listener(struct client *c)
{
    static const enum config_listen_tls kinds[] = {LISTEN_TLS_NONE, LISTEN_TLS_MAY, LISTEN_TLS_MAY,
                                                   LISTEN_TLS_ENCRYPT, LISTEN_TLS_IMPLICIT};
    struct sim *sim = c->sim;
    c->listen = kinds[sim_below(sim, 5)];
    c->header = sim_chance(sim, 25) ? (enum header)(1 + sim_below(sim, HEADER_LOCAL)) : HEADER_NONE;
    c->trouble = any_trouble(c);
}

void client_write_script(struct client *c)
{
    struct sim *sim = c->sim;
    uint64_t count = sim_chance(sim, 60) ? 3 : sim_below(sim, 5);
    bool extended = sim_chance(sim, 90);
    choose_listener(c);
    c->lockstep = !extended || sim_chance(sim, 30);
    c->end = sim_chance(sim, 70) ? CLIENT_QUITS : (enum client_end)sim_below(sim, 5);
    if (c->header != HEADER_NONE) {
        add_op(c, OP_HEADER, NULL, 0);
    }
    if (c->listen == LISTEN_TLS_IMPLICIT) {
        add_op(c, OP_SHAKE, NULL, 0);
    }
    add_op(c, OP_GREETING, NULL, 0);
    add_hello(c, extended);
    add_starttls(c, extended);
    unsigned first = c->op_count;
    for (uint64_t i = 0; i < count; i++) {
        if (sim_chance(sim, 8)) {
            add_hello(c, extended);
        }
        add_transaction(c);
    }
    if (c->end == CLIENT_QUITS || c->end == CLIENT_HALF_CLOSES) {
        add_op(c, OP_QUIT, NULL, 0);
    }
    c->ops[first].wait = true; /* what is offered is known only with the answer to EHLO */
}
