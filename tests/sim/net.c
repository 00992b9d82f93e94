#include "tests/sim/net.h"

#include <stdlib.h>

#include "tests/sim/handshake.h"

enum link_event {
    LINK_OPENS,
    LINK_REFUSED,
    LINK_OUT,     /* a piece reaches the actor */
    LINK_IN,      /* a piece reaches the proxy's kernel */
    LINK_READ,    /* the proxy's loop looks at what its kernel has */
    LINK_RST_OUT, /* the proxy's RST reaches the actor */
    LINK_RST_IN,  /* the actor's RST reaches the proxy */
    LINK_FAILED,  /* a write to a link that was reset fails */
    LINK_LOOK,    /* whether the link is over */
};

static void link_run(struct sim *sim, void *object, int kind);

static void link_at(struct link *link, uint64_t delay, enum link_event event)
{
    link->events++;
    sim_at(link->sim, delay, link_run, link, (int)event);
}

static uint64_t link_delay(struct link *link)
{
    return sim_below(link->sim, (uint64_t)link->delay + 1);
}

/* ---- the proxy's end: conn_ops ---- */

static void stream_go(struct link *link, struct stream *stream, enum link_event event)
{
    if (!stream->moving && (stream->flight.len != 0 || (stream->fin && !stream->ended))) {
        stream->moving = true;
        link_at(link, link_delay(link), event);
    }
}

/* What the sender's kernel has room for. */
static void stream_fill(struct stream *stream)
{
    if (stream->queued.len != 0 && stream->flight.len < stream->window) {
        size_t room = stream->window - stream->flight.len;
        buffer_move(&stream->flight, &stream->queued,
                    room < stream->queued.len ? room : stream->queued.len);
    }
}

static struct span sim_peek(struct conn *conn)
{
    return buffer_span(&((struct link *)(void *)conn)->held);
}

static void link_read_soon(struct link *link)
{
    if (!link->reading && (link->arrived.len != 0 || link->shake.len != 0 ||
                           (link->fin_arrived && !link->in.ended))) {
        link->reading = true;
        link_at(link, 0, LINK_READ);
    }
}

/* The simulator reads as far as it may. */
static void sim_want(struct conn *conn, bool more)
{
    (void)conn;
    (void)more;
}

static void sim_consume(struct conn *conn, size_t count)
{
    struct link *link = (struct link *)(void *)conn;
    if (count > link->held.len) {
        sim_fail(link->sim, "link %u: consumed %zu of %zu bytes", link->id, count, link->held.len);
    }
    buffer_drop(&link->held, count);
    link_read_soon(link);
}

/* Towards the actor, what the proxy says or its TLS. */
static void link_put(struct link *link, struct span bytes)
{
    if (link->reset) {
        link_at(link, 0, LINK_FAILED);
        return;
    }
    buffer_put(&link->out.queued, bytes);
    stream_fill(&link->out);
    link->out.blocked = link->out.blocked || link->out.queued.len != 0;
    stream_go(link, &link->out, LINK_OUT);
}

static void sim_write(struct conn *conn, struct span bytes)
{
    struct link *link = (struct link *)(void *)conn;
    if (!link->proxy_open) {
        sim_fail(link->sim, "link %u: written to after its close", link->id);
    }
    if (link->tls == LINK_SHAKING || link->tls == LINK_INSECURE) {
        sim_fail(link->sim, "link %u: written to during a handshake, or behind one that failed",
                 link->id);
    }
    if (bytes.len == 0 || link->severed) {
        return;
    }
    if (link->actor_open && link->actor != NULL && link->actor->on_written != NULL) {
        link->actor->on_written(link->self, bytes);
    }
    if (link->witness != NULL) {
        link->witness(link->self, bytes);
    }
    link->spoken = true;
    link_put(link, bytes);
}

static void sim_start_tls(struct conn *conn, const struct tls_context *context, const char *name)
{
    struct link *link = (struct link *)(void *)conn;
    struct buffer said = {0};
    if (link->tls != LINK_CLEAR) {
        sim_fail(link->sim, "link %u: a second handshake", link->id);
    }
    /* What has arrived is the handshake's: behind STARTTLS that must have been found to be nothing.
     */
    if (link->spoken && link->held.len != 0) {
        sim_fail(link->sim, "link %u: a handshake begins with what was said in clear", link->id);
    }
    buffer_move(&link->shake, &link->held, link->held.len);
    handshake_begin(link, context, name, &said);
    link_put(link, buffer_span(&said));
    buffer_release(&said);
    link_read_soon(link);
}

static void sim_tell_tls(struct conn *conn, struct text *out)
{
    (void)conn;
    text_puts(out, SIM_TLS);
}

static size_t sim_unsent(struct conn *conn)
{
    return link_unsent((const struct link *)(void *)conn);
}

static size_t sim_in_flight(struct conn *conn)
{
    return ((const struct link *)(void *)conn)->out.flight.len;
}

static bool sim_pending(struct conn *conn)
{
    const struct link *link = (const struct link *)(const void *)conn;
    return link->arrived.len != 0 || (link->fin_arrived && !link->in.ended);
}

static bool sim_is_reset(struct conn *conn)
{
    return ((const struct link *)(const void *)conn)->reset;
}

static const char *sim_why(struct conn *conn)
{
    (void)conn;
    return "gone";
}

static void sim_close(struct conn *conn, enum conn_close how)
{
    struct link *link = (struct link *)(void *)conn;
    if (!link->proxy_open) {
        sim_fail(link->sim, "link %u: closed twice", link->id);
    }
    sim_note(link->sim, how == CONN_RESET ? "proxy resets" : "proxy closes", link->id, 0);
    link->proxy_open = false;
    if (link->closed != NULL) {
        *link->closed = true;
    }
    if (link->witness != NULL) {
        link->witness(link->self, SPAN(""));
    }
    link->conn.on_event = NULL;
    link->conn.owner = NULL;
    if (link->severed) {
        return; /* its kernel has said what there was to say */
    }
    if (how == CONN_RESET) {
        /* What is on its way still arrives; what is not, never will. */
        buffer_release(&link->out.queued);
        link_at(link, link_delay(link), LINK_RST_OUT);
    } else {
        link->out.fin = true;
        stream_go(link, &link->out, LINK_OUT);
        link_at(link, 0, LINK_LOOK);
    }
}

static const struct conn_ops ops = {
    .peek = sim_peek,
    .consume = sim_consume,
    .want = sim_want,
    .write = sim_write,
    .queued = sim_unsent,
    .unsent = sim_unsent,
    .in_flight = sim_in_flight,
    .pending = sim_pending,
    .is_reset = sim_is_reset,
    .start_tls = sim_start_tls,
    .tell_tls = sim_tell_tls,
    .why = sim_why,
    .close = sim_close,
};

static void link_tell(struct link *link, enum conn_event event)
{
    link->conn.on_event(link->conn.owner, event);
    sim_settle(link->sim);
}

/* ---- what happens ---- */

/* How much of a stream arrives at once: mostly all of it, else a cut anywhere. */
static size_t piece(struct link *link, size_t len)
{
    if (len < 2 || sim_chance(link->sim, 78)) {
        return len;
    }
    return 1 + (size_t)sim_below(link->sim, len > 64 && sim_chance(link->sim, 50) ? 64 : len);
}

/* A piece reaches the actor, which may close its end; then the proxy's kernel has room again. */
static void link_out(struct link *link)
{
    struct stream *out = &link->out;
    size_t count = piece(link, out->flight.len);
    out->moving = false;
    if (link->strict && !link->actor_open && count != 0) { /* nor is it ever acknowledged */
        link_at(link, link_delay(link), LINK_RST_IN);
        return;
    }
    sim_note(link->sim, "to actor", link->id, count);
    if (link->actor_open) {
        buffer_move(&link->inbox, &out->flight, count);
        if (count != 0) {
            link->actor->on_bytes(link->self);
        }
    } else {
        buffer_drop(&out->flight, count);
    }
    stream_fill(out);
    if (out->fin && out->flight.len == 0 && out->queued.len == 0 && !out->ended) {
        out->ended = true;
        if (link->actor_open) {
            link->actor->on_end(link->self);
        }
    }
    if (out->blocked && out->queued.len == 0) {
        out->blocked = false;
        if (link->proxy_open) {
            link_tell(link, CONN_WRITABLE);
        }
    }
    stream_go(link, out, LINK_OUT);
}

/* What is behind a handshake's last line has been said under its protection. */
static void link_shake(struct link *link)
{
    struct buffer said = {0};
    buffer_move(&link->shake, &link->arrived, link->arrived.len);
    enum handshake_status status = handshake_take(link, &said);
    if (said.len != 0) {
        link_put(link, buffer_span(&said));
    }
    buffer_release(&said);
    switch (status) {
    case HANDSHAKE_MORE:
        break;
    case HANDSHAKE_DONE:
        sim_note(link->sim, "secure", link->id, 0);
        link->tls = LINK_SECURE;
        buffer_move(&link->held, &link->shake, link->shake.len);
        link_tell(link, CONN_SECURE);
        break;
    case HANDSHAKE_FAILED:
        sim_note(link->sim, "insecure", link->id, 0);
        link->tls = LINK_INSECURE;
        buffer_release(&link->shake);
        link_tell(link, CONN_INSECURE);
        break;
    }
}

static void link_read(struct link *link)
{
    link->reading = false;
    if (link->proxy_open && link->tls == LINK_SHAKING) {
        link_shake(link);
    }
    if (!link->proxy_open) {
        return;
    }
    size_t room = CONN_HELD - link->held.len;
    size_t count = room < link->arrived.len ? room : link->arrived.len;
    if (count != 0) {
        buffer_move(&link->held, &link->arrived, count);
        link->told += count;
        sim_note(link->sim, "to proxy", link->id, count);
        if (link->mark != 0 && link->told >= link->mark) {
            link->mark = 0;
            link->shown(link->shown_object);
        }
        link_tell(link, CONN_READABLE);
    }
    if (link->proxy_open && link->arrived.len == 0 && link->fin_arrived && !link->in.ended) {
        link->in.ended = true;
        sim_note(link->sim, "end to proxy", link->id, 0);
        link_tell(link, CONN_EOF);
    }
}

/* A piece reaches the proxy's kernel; its loop looks at once, or a little later. */
static void link_in(struct link *link)
{
    struct stream *in = &link->in;
    size_t count = piece(link, in->flight.len);
    in->moving = false;
    buffer_move(&link->arrived, &in->flight, count);
    if (in->fin && in->flight.len == 0) {
        link->fin_arrived = true;
    }
    if (in->flight.len != 0) {
        stream_go(link, in, LINK_IN);
    }
    if (link->reading) {
        return;
    }
    if (sim_chance(link->sim, 88)) {
        link_read(link);
    } else {
        link->reading = true;
        link_at(link, sim_below(link->sim, 4), LINK_READ);
    }
}

static void link_opens(struct link *link)
{
    sim_note(link->sim, "opens", link->id, 0);
    if (!link->proxy_open) {
        return;
    }
    link->actor_open = true;
    link->sim->accept(link, link->server);
    link_tell(link, CONN_OPEN);
}

/* The rest of what the process had given its kernel, and the end; or nothing but RST, when there
 * was something that it had not read, or its machine has gone. */
static void link_sever(struct link *link, bool machine)
{
    bool unread = link->held.len + link->arrived.len + link->shake.len != 0;
    link->severed = true;
    buffer_release(&link->held);
    buffer_release(&link->arrived);
    buffer_release(&link->shake);
    buffer_release(&link->out.queued);
    if (link->out.fin || link->reset || link->tls == LINK_INSECURE) {
        link_at(link, 0, LINK_LOOK);
        return;
    }
    if (unread || machine) {
        if (machine && sim_chance(link->sim, 50)) {
            buffer_release(&link->out.flight);
        }
        link_at(link, link_delay(link) + (machine ? sim_below(link->sim, 60000) : 0), LINK_RST_OUT);
    } else {
        link->out.fin = true;
        stream_go(link, &link->out, LINK_OUT);
        link_at(link, 0, LINK_LOOK);
    }
}

void link_sever_all(struct sim *sim, bool machine)
{
    for (struct link *link = sim->links; link != NULL; link = link->next) {
        if (link->proxy_open) {
            link_sever(link, machine);
        }
    }
    for (struct link *link = sim->links; link != NULL; link = link->next) {
        if (link->proxy_open) {
            link->conn.on_event(link->conn.owner, CONN_LOST);
            sim_settle(sim);
        }
    }
}

static void link_lost(struct link *link)
{
    buffer_release(&link->held);
    buffer_release(&link->arrived);
    if (link->proxy_open) {
        sim_note(link->sim, "lost", link->id, 0);
        link_tell(link, CONN_LOST);
    }
}

/* As with real sockets: a proxy that knows of the end is not told of the RST behind it. */
static void link_is_reset(struct link *link)
{
    if (link->closed != NULL) {
        *link->closed = true;
    }
    if (link->in.ended) {
        sim_note(link->sim, "reset behind its end", link->id, 0);
        link->reset = true;
    } else {
        link_lost(link);
    }
}

static void link_free(struct link *link)
{
    struct sim *sim = link->sim;
    *(link->previous != NULL ? &link->previous->next : &sim->links) = link->next;
    if (link->next != NULL) {
        link->next->previous = link->previous;
    }
    sim->links_open--;
    buffer_release(&link->out.queued);
    buffer_release(&link->out.flight);
    buffer_release(&link->in.queued);
    buffer_release(&link->in.flight);
    buffer_release(&link->arrived);
    buffer_release(&link->held);
    buffer_release(&link->inbox);
    buffer_release(&link->shake);
    free(link);
}

static void link_run(struct sim *sim, void *object, int kind)
{
    struct link *link = object;
    (void)sim;
    switch ((enum link_event)kind) {
    case LINK_OPENS:
        link_opens(link);
        break;
    case LINK_REFUSED:
    case LINK_FAILED:
        link_lost(link);
        break;
    case LINK_RST_IN:
        link_is_reset(link);
        break;
    case LINK_OUT:
        link_out(link);
        break;
    case LINK_IN:
        link_in(link);
        break;
    case LINK_READ:
        link_read(link);
        break;
    case LINK_RST_OUT:
        if (link->actor_open) {
            link->actor_open = false;
            link->actor->on_reset(link->self);
        }
        break;
    case LINK_LOOK:
        break;
    }
    if (--link->events == 0 && !link->proxy_open && !link->actor_open) {
        link_free(link);
    }
}

/* ---- beginning ---- */

static struct link *link_new(struct sim *sim)
{
    struct link *link = sim_alloc(1, sizeof *link);
    link->conn.ops = &ops;
    link->sim = sim;
    link->id = sim->links_made++;
    link->next = sim->links;
    if (link->next != NULL) {
        link->next->previous = link;
    }
    sim->links = link;
    sim->links_open++;
    link->proxy_open = true;
    link->delay = (unsigned)sim_below(sim, (uint64_t)sim->delay + 1);
    link->out.window = (size_t)1 << (5 + sim_below(sim, 12));
    link->in.window = SIZE_MAX;
    return link;
}

struct link *link_from_client(struct sim *sim, const struct link_actor *actor, void *self)
{
    struct link *link = link_new(sim);
    link->actor_open = true;
    link->actor = actor;
    link->self = self;
    return link;
}

struct link *link_to_server(struct sim *sim, struct server *server)
{
    struct link *link = link_new(sim);
    link->server = server;
    sim_note(sim, "connects", link->id, server != NULL ? server->relay : UINT64_MAX);
    if (server != NULL) {
        server_is_called(server);
    }
    if (server == NULL || (server_is_down(server) && server->outage == OUTAGE_REFUSED)) {
        link_at(link, link_delay(link), LINK_REFUSED);
    } else if (!server_is_down(server) || server->outage != OUTAGE_UNREACHED) {
        link_at(link, link_delay(link), LINK_OPENS);
    }
    return link;
}

/* ---- the actor's end ---- */

void link_send(struct link *link, struct span bytes)
{
    buffer_put(&link->in.flight, bytes);
    link->sent += bytes.len;
    stream_go(link, &link->in, LINK_IN);
}

void link_half_close(struct link *link)
{
    link->in.fin = true;
    stream_go(link, &link->in, LINK_IN);
}

void link_close(struct link *link)
{
    if (link->strict && link->inbox.len != 0) {
        link_reset(link);
        return;
    }
    link->actor_open = false;
    link_half_close(link);
    link_at(link, 0, LINK_LOOK);
}

void link_reset(struct link *link)
{
    link->actor_open = false;
    if (sim_chance(link->sim, 50)) {
        buffer_release(&link->in.flight);
    }
    link_at(link, link_delay(link), LINK_RST_IN);
}

size_t link_unsent(const struct link *link)
{
    return link->out.queued.len;
}
