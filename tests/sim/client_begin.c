/* How a client's connection begins: the PROXY header, TLS. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/sim/client_state.h"
#include "tests/sim/handshake.h"

/* ---- the PROXY header ---- */

static bool header_hides(const struct client *c)
{
    return c->header == HEADER_UNKNOWN || c->header == HEADER_LOCAL;
}

/* Who connects: the client, or who is in front of it and says whose connection it is. */
void client_peer(const struct client *c, struct session_peer *peer)
{
    struct identity *identity = c->identity;
    char front[32];
    *peer = (struct session_peer){.tls = c->listen, .proxied = c->header != HEADER_NONE};
    snprintf(front, sizeof front, "10.1.1.%u", c->number);
    if (header_hides(c)) {
        snprintf(identity->ip, sizeof identity->ip, "%s", front);
        snprintf(identity->local_ip, sizeof identity->local_ip, "%s", "10.9.9.9");
        identity->local_port = 2525;
        identity->six = false;
    }
    if (peer->proxied) {
        peer->client = sim_address(front, (uint16_t)identity->port);
        peer->local = sim_address("10.9.9.9", 2525);
    } else {
        peer->client = sim_address(identity->ip, (uint16_t)identity->port);
        peer->local = sim_address(identity->local_ip, (uint16_t)identity->local_port);
    }
}

static void put_number(struct text *text, unsigned number)
{
    text_putc(text, (char)(number >> 8 & 0xff));
    text_putc(text, (char)(number & 0xff));
}

/* Version 2: the signature, version and command, family, length; addresses, ports. */
static void put_v2(const struct identity *identity, bool local, struct text *text)
{
    int family = identity->six ? AF_INET6 : AF_INET;
    size_t size = identity->six ? 16 : 4;
    char source[16], destination[16];
    text_put(text, span_make("\r\n\r\n\0\r\nQUIT\n", 12));
    text_putc(text, local ? 0x20 : 0x21);
    text_putc(text, local ? 0 : identity->six ? 0x21 : 0x11);
    put_number(text, local ? 0 : (unsigned)size * 2 + 4);
    if (local) {
        return;
    }
    if (inet_pton(family, identity->ip, source) != 1 ||
        inet_pton(family, identity->local_ip, destination) != 1) {
        abort();
    }
    text_put(text, span_make(source, size));
    text_put(text, span_make(destination, size));
    put_number(text, identity->port);
    put_number(text, identity->local_port);
}

void client_send_header(struct client *c)
{
    char bytes[200];
    char line[150];
    struct text text = TEXT(bytes);
    c->doomed = c->trouble == TROUBLE_BAD_HEADER || c->trouble == TROUBLE_NO_HEADER;
    if (c->trouble == TROUBLE_NO_HEADER) {
        return;
    }
    if (c->trouble == TROUBLE_BAD_HEADER) {
        text_puts(&text, "EHLO stranger.example\r\n");
    } else if (c->header == HEADER_V1) {
        text_put(&text, identity_proxy_line(c->identity, line, sizeof line));
        text_puts(&text, "\r\n");
    } else if (c->header == HEADER_UNKNOWN) {
        text_puts(&text, "PROXY UNKNOWN\r\n");
    } else {
        put_v2(c->identity, c->header == HEADER_LOCAL, &text);
    }
    link_send(c->link, text_span(&text));
}

/* ---- TLS ---- */

void client_begin_shake(struct client *c)
{
    c->shaking = true;
    if (c->trouble == TROUBLE_IN_CLEAR) {
        c->doomed = true;
        link_send(c->link, SPAN("EHLO in.the.clear.example\r\n"));
        return;
    }
    link_send(c->link, SPAN(HANDSHAKE_HELLO "\n"));
    if (c->trouble == TROUBLE_GOES) {
        client_leaves(c, sim_chance(c->sim, 50));
    }
}

bool client_shake(struct client *c)
{
    char bytes[600];
    struct text text = TEXT(bytes);
    if (!c->shaking) {
        return false;
    }
    if (c->doomed || !handshake_line(c->link, &text)) {
        return true;
    }
    struct span line = text_span(&text);
    if (c->sim->draining && span_starts_fold(line, SPAN("421 4.3.2 "))) {
        c->doomed = true; /* nobody is let in any more; a listener with implicit TLS says so */
        return true;
    }
    if (!span_equal(line, SPAN(HANDSHAKE_HELLO "\n"))) {
        sim_fail(c->sim, "client %u: in its handshake: `%.*s`", c->number, SPAN_ARGS(line));
    }
    if (c->trouble == TROUBLE_ALERT || c->trouble == TROUBLE_SILENT) {
        c->doomed = true;
        if (c->trouble == TROUBLE_ALERT) {
            link_send(c->link, SPAN(HANDSHAKE_ALERT));
        }
        return true;
    }
    link_send(c->link, SPAN(HANDSHAKE_FINISHED));
    c->shaking = false;
    c->secure = true;
    c->heard = false;
    c->answered++;
    return false;
}
