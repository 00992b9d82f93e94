/*
 * How a session begins: who may come in, the header of the PROXY protocol, the TLS handshake, the
 * greeting (RFC 5321 3.1, RFC 3207; design: sections 3 and 9).
 */
#include <stdlib.h>

#include "proxy/session/session_state.h"
#include "proxy/session/shared.h"
#include "proxy/session/stats.h"
#include "proxy/session/summary.h"
#include "proxy/wire/proxy_header.h"

static void session_refuse(struct session *s, unsigned code, const char *enhanced, const char *why)
{
    stats_add(s->world->stats, STAT_SESSIONS_REFUSED, 1);
    session_dismiss(s, code, enhanced, why, "session-refused");
}

/* All that come count, whoever they are. */
static bool session_is_admitted(struct session *s)
{
    struct world *world = s->world;
    unsigned most = world->policy->config->limits.connections;
    if (world->draining || !shared_add_session(world->shared, world->entry, most)) {
        session_refuse(s, 421, "4.3.2", "No more connections now");
        return false;
    }
    s->counted = true;
    stats_add(world->stats, STAT_SESSIONS_OPEN, 1);
    return true;
}

/* ---- the greeting ---- */

/* `early`: the client has spoken already. */
static void session_greet(struct session *s, bool early)
{
    struct reply greeting;
    if (early) {
        session_refuse(s, 554, "5.5.1", "You spoke before the greeting");
        return;
    }
    char words[REPLY_TEXT];
    struct text text = TEXT(words);
    text_puts(&text, s->world->policy->config->hostname.text);
    text_puts(&text, " ESMTP splitmx");
    reply_set(&greeting, 220, "", words);
    session_write(s, &greeting, true);
    session_set_state(s, SERVER_HELO);
}

/* It is known who the client is. */
static void session_meet(struct session *s, const struct net_address *client,
                         const struct net_address *local, bool early)
{
    struct world *world = s->world;
    unsigned char key[16];
    size_t length = quota_client_key(client, key);
    s->view.address = *client;
    s->view.local = *local;
    net_address_text(client, s->view.ip, sizeof s->view.ip);
    s->cell = shared_tally_take(world->shared, world->entry, TALLY_CLIENTS, key, length,
                                world->policy->config->limits.connections_per_client);
    if (s->cell == QUOTA_NONE) {
        session_refuse(s, 421, "4.7.0", "Too many connections from you");
        return;
    }
    if (s->tls == LISTEN_TLS_IMPLICIT) {
        session_start_tls(s);
    } else {
        session_greet(s, early);
    }
    if (s->conn != NULL) {
        s->view.names_later = true;
        s->lookup = world->ops->resolve_ptr(world, client, session_on_name, s);
    }
}

/* ---- the PROXY protocol ---- */

bool session_read_proxy(struct session *s, struct span input)
{
    struct proxy_header header;
    size_t used = 0;
    switch (proxy_header_parse(input, &header, &used)) {
    case PROXY_MORE:
        break;
    case PROXY_BAD:
        summary_session(s->world, &s->view, "session-refused", "no header of the PROXY protocol");
        stats_add(s->world->stats, STAT_SESSIONS_REFUSED, 1);
        session_close(s, CONN_RESET); /* in silence: what speaks here is no mail client */
        break;
    case PROXY_OK:
        s->conn->ops->consume(s->conn, used);
        if (header.kind == PROXY_LOCAL) { /* the peer itself, which checks our health */
            header.source = s->view.address;
            header.destination = s->view.local;
        }
        session_meet(s, &header.source, &header.destination, input.len > used);
        break;
    }
    return used != 0;
}

/* ---- TLS ---- */

bool session_can_tls(const struct session *s)
{
    return tls_server_context(s->world->policy->tls) != NULL;
}

void session_start_tls(struct session *s)
{
    if (!session_can_tls(s)) {
        summary_session(s->world, &s->view, "tls-failed", "there is no certificate any more");
        session_close(s, CONN_RESET);
        return;
    }
    session_set_state(s, SERVER_TLS);
    s->conn->ops->start_tls(s->conn, tls_server_context(s->world->policy->tls), NULL);
}

/* What was said in clear text counts no more (RFC 3207 4.2). */
void session_is_secure(struct session *s)
{
    bool greeted = s->view.helo.ptr != NULL;
    struct text tls = TEXT(s->view.tls);
    s->conn->ops->tell_tls(s->conn, &tls);
    stats_add(s->world->stats,
              stats_tls_is_1_3(text_span(&tls)) ? STAT_TLS_CLIENTS_1_3 : STAT_TLS_CLIENTS_1_2, 1);
    free(s->helo);
    s->helo = NULL;
    s->view.helo = (struct span){0};
    s->view.protocol = "SMTP";
    s->view.version++;
    if (greeted) {
        session_set_state(s, SERVER_HELO);
    } else {
        session_greet(s, s->conn->ops->peek(s->conn).len != 0);
    }
}

void session_is_insecure(struct session *s)
{
    stats_add(s->world->stats, STAT_TLS_CLIENTS_FAILED, 1);
    summary_session(s->world, &s->view, "tls-failed", s->conn->ops->why(s->conn));
    session_close(s, CONN_FLUSH);
}

/* ---- life ---- */

static void session_name(struct session *s)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz234567";
    uint64_t random = s->world->ops->random(s->world);
    for (size_t i = 0; i < 12; i++) {
        s->id[i] = letters[random % 32];
        random /= 32;
    }
    s->view.session_id = s->id;
}

static void session_link(struct session *s)
{
    s->next = s->world->sessions;
    if (s->next != NULL) {
        s->next->previous = s;
    }
    s->world->sessions = s;
}

void session_begin(struct world *world, struct conn *conn, const struct session_peer *peer)
{
    struct session *s = spare_new(&world->spares, sizeof *s);
    if (s == NULL) {
        conn->ops->close(conn, CONN_RESET);
        return;
    }
    s->world = world;
    s->conn = conn;
    s->tls = peer->tls;
    s->cell = QUOTA_NONE;
    s->timer.on_due = session_on_due;
    s->timer.owner = s;
    s->deferred.free = session_free;
    s->view.protocol = "SMTP";
    s->view.address = peer->client;
    s->view.local = peer->local;
    net_address_text(&peer->client, s->view.ip, sizeof s->view.ip);
    session_name(s);
    conn->on_event = session_on_conn;
    conn->owner = s;
    session_link(s);
    stats_add(world->stats, STAT_SESSIONS, 1);
    if (!session_is_admitted(s)) {
        return;
    }
    if (peer->proxied) {
        session_set_state(s, SERVER_PROXY);
    } else {
        session_meet(s, &peer->client, &peer->local, peer->early);
    }
}
