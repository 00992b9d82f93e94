/* From the connection to the first transaction: the PROXY header, the greeting, EHLO, STARTTLS and
 * its handshake, XCLIENT; and what must have happened before there is mail. */
#include "tests/sim/service.h"

#include <stdio.h>

#include "tests/sim/handshake.h"

static const struct relay *relay_of(const struct service *s)
{
    return &s->sim->relays[s->server->relay].relay;
}

/* ---- the greeting ---- */

/* How this client is received; NULL: like all others. */
static const char *welcome_of(const struct service *s, const struct identity *identity)
{
    return identity == NULL ? NULL : server_welcome(s->server, identity->number);
}

static void service_greeting(struct service *s)
{
    char line[64];
    struct text text = TEXT(line);
    const char *unwelcome = welcome_of(s, s->proxied);
    if (server_is_down(s->server) && s->server->outage == OUTAGE_BUSY) {
        text_puts(&text, SAYS_BUSY "\r\n");
        s->reply_closes = true;
    } else if (s->server->greets_no) {
        text_puts(&text, SAYS_NO_SERVICE "\r\n");
    } else if (unwelcome != NULL) {
        text_printf(&text, "%s\r\n", unwelcome);
    } else {
        text_printf(&text, "220 up%u.example ESMTP\r\n", s->server->relay);
    }
    service_answer(s, text_span(&text));
}

void service_begin(struct service *s)
{
    s->awaits_header = s->server->proxy;
    s->hung = server_is_down(s->server) && s->server->outage == OUTAGE_SILENT;
    if (!s->awaits_header && !s->hung) {
        service_greeting(s);
    }
}

static void service_take_header(struct service *s, struct span line)
{
    char expected[200];
    char own[NET_ADDRESS_TEXT];
    struct span rest = span_skip(line, sizeof "PROXY TCP4 " - 1);
    struct span ip = span_first(rest, span_find(rest, ' '));
    net_address_text(&s->server->address, own, sizeof own);
    s->proxied = identity_of_ip(s->sim, ip);
    s->is_probe = span_equal(ip, span_of(own));
    if (!s->is_probe &&
        (s->proxied == NULL ||
         !span_equal(line, identity_proxy_line(s->proxied, expected, sizeof expected)))) {
        sim_fail(s->sim, "link %u: bad PROXY header `%.*s`", s->link->id, SPAN_ARGS(line));
    }
    s->awaits_header = false;
    service_greeting(s);
}

/* ---- EHLO ---- */

static void service_ehlo(struct service *s, struct span name, bool extended)
{
    const struct server *server = s->server;
    bool other = server->other_in_clear && !s->secure;
    char line[400];
    struct text text = TEXT(line);
    if (extended && server->helo_only) {
        service_answer(s, SPAN("502 5.5.1 no such command\r\n"));
        return;
    }
    snprintf(s->hello, sizeof s->hello, "%.*s", SPAN_ARGS(name));
    s->pipelining = extended && server->pipelining != other;
    s->size = extended && server->size != other;
    s->eight_bit = extended && server->eight_bit != other;
    s->xclient = extended && !s->introduced ? server->xclient : 0;
    text_printf(&text, "250%cup%u.example\r\n", extended ? '-' : ' ', server->relay);
    if (extended) {
        text_puts(&text, s->pipelining ? "250-PIPELINING\r\n" : "");
        text_puts(&text, s->size ? "250-SIZE 99999999\r\n" : "");
        text_puts(&text, s->eight_bit ? "250-8BITMIME\r\n" : "");
        text_puts(&text, server->starttls && !s->secure ? "250-STARTTLS\r\n" : "");
        if (s->xclient != 0) {
            text_puts(&text, "250-");
            identity_offer(s->xclient, &text);
            text_puts(&text, "\r\n");
        }
        text_puts(&text, "250 ENHANCEDSTATUSCODES\r\n");
    }
    service_answer(s, text_span(&text));
}

/* ---- TLS ---- */

static void service_starttls(struct service *s)
{
    char line[100];
    struct text text = TEXT(line);
    const struct server *server = s->server;
    if (!server->starttls || s->secure || s->mail || s->introduced ||
        relay_of(s)->tls == RELAY_TLS_NONE) {
        sim_fail(s->sim, "link %u: STARTTLS out of place", s->link->id);
    }
    s->reply_closes = server->starttls_code == 421;
    s->reply_shakes = server->starttls_code == 220;
    text_printf(&text, "%u %u.7.0 so\r\n", server->starttls_code, server->starttls_code / 100);
    if (s->reply_shakes && server->shakes == SHAKES_WITH_MORE) {
        text_puts(&text, "250 and more\r\n");
    }
    service_answer(s, text_span(&text));
}

static void service_meets(struct service *s, struct span line)
{
    char expected[300];
    struct sim_relay *own = &s->sim->relays[s->server->relay];
    snprintf(expected, sizeof expected, HANDSHAKE_HELLO " %s\n",
             own->relay.tls_name != NULL ? own->relay.tls_name : server_host(s->server));
    if (!span_equal(line, span_of(expected))) {
        sim_fail(s->sim, "link %u: wanted for TLS: `%.*s`", s->link->id, SPAN_ARGS(line));
    }
    s->met = true;
    switch (s->server->shakes) {
    case SHAKES_WELL:
    case SHAKES_WITH_MORE:
        link_send(s->link, SPAN(HANDSHAKE_HELLO "\n"));
        break;
    case SHAKES_AS_ANOTHER:
        link_send(s->link, SPAN(HANDSHAKE_WRONG));
        break;
    case SHAKES_REFUSING:
        link_send(s->link, SPAN(HANDSHAKE_ALERT));
        service_leaves(s, false);
        break;
    case SHAKES_GOING:
        service_leaves(s, sim_chance(s->sim, 50));
        break;
    case SHAKES_NEVER:
        s->hung = true;
        break;
    }
}

static void service_shake(struct service *s, struct span line)
{
    if (span_equal(line, SPAN(HANDSHAKE_ALERT))) {
        service_leaves(s, false);
    } else if (!s->met) {
        service_meets(s, line);
    } else if (span_equal(line, SPAN(HANDSHAKE_FINISHED))) {
        s->secure = true;
        s->shaking = false;
        s->hello[0] = '\0';
    } else {
        sim_fail(s->sim, "link %u: in its handshake: `%.*s`", s->link->id, SPAN_ARGS(line));
    }
}

bool service_prelude(struct service *s)
{
    while (!s->closed && !s->hung && !s->busy && (s->awaits_header || s->shaking)) {
        char bytes[400];
        struct text text = TEXT(bytes);
        if (!handshake_line(s->link, &text)) {
            return true;
        }
        struct span line = text_span(&text);
        if (s->shaking) {
            service_shake(s, line);
        } else {
            service_take_header(s, span_first(line, line.len - 2));
        }
    }
    return s->closed || s->hung || s->busy;
}

/* ---- XCLIENT ---- */

static void service_xclient(struct service *s, struct span line)
{
    struct span address = SPAN("");
    if (relay_of(s)->identity != IDENTITY_XCLIENT || s->mail || s->hello[0] == '\0' ||
        s->introduced || !identity_take_line(&s->told, s->xclient, line)) {
        sim_fail(s->sim, "link %u: bad `%.*s`", s->link->id, SPAN_ARGS(line));
    }
    if (s->server->xclient_refused) {
        service_answer(s, SPAN("550 5.7.0 insufficient authorization\r\n"));
        return;
    }
    if ((s->told.set & ATTRIBUTE_ADDR) != 0) {
        s->introduced = true;
        s->hello[0] = '\0';
        address = span_of(s->told.values[ATTRIBUTES - 1]);
        address = span_starts_fold(address, SPAN("IPV6:")) ? span_skip(address, 5) : address;
    }
    const char *unwelcome = welcome_of(s, identity_of_ip(s->sim, address));
    char reply[100];
    struct text text = TEXT(reply);
    text_printf(&text, "%s\r\n", unwelcome != NULL ? unwelcome : "220 up.example ESMTP");
    service_answer(s, text_span(&text));
}

bool service_greets(struct service *s, struct span line)
{
    if (span_starts_fold(line, SPAN("EHLO ")) || span_starts_fold(line, SPAN("HELO "))) {
        service_ehlo(s, span_skip(line, 5), span_starts_fold(line, SPAN("EHLO")));
    } else if (span_equal(line, SPAN("STARTTLS"))) {
        service_starttls(s);
    } else if (span_starts_fold(line, SPAN("XCLIENT "))) {
        service_xclient(s, line);
    } else {
        return false;
    }
    return true;
}

/* ---- what must have happened ---- */

void service_check_client(struct service *s, const struct message *message)
{
    const struct relay *relay = relay_of(s);
    const struct identity *identity = message->identity;
    const char *name = message->hello.name;
    bool good = false;
    if (s->checked == message) {
        return;
    }
    s->checked = message;
    switch (relay->identity) {
    case IDENTITY_UNSET:
    case IDENTITY_NONE:
        good = !s->introduced && s->proxied == NULL;
        name = SIM_HOST;
        break;
    case IDENTITY_XCLIENT:
        good = s->introduced &&
               identity_is_told(&s->told, s->server->xclient, identity, &message->hello);
        break;
    case IDENTITY_PROXY:
        good = s->proxied == identity;
        break;
    }
    if (!good || !span_equal(span_of(s->hello), span_of(name))) {
        sim_fail(s->sim, "message %u: its upstream at link %u was not told whose it is (`%s`)",
                 message->id, s->link->id, s->hello);
    }
}

void service_check_protection(struct service *s)
{
    const struct server *server = s->server;
    bool able = server->starttls && server->starttls_code == 220 &&
                (server->shakes == SHAKES_WELL || server->shakes == SHAKES_AS_ANOTHER);
    if (relay_of(s)->tls == RELAY_TLS_MAY && able && !s->secure && s->sim->config.faults == 0) {
        sim_fail(s->sim, "link %u: mail in clear, though TLS works", s->link->id);
    }
}

void service_check_clear(struct service *s, struct span bytes)
{
    static const char *const harmless[] = {"PROXY ", "EHLO ", "HELO ", "STARTTLS\r\n", "QUIT\r\n"};
    enum config_relay_tls tls = relay_of(s)->tls;
    if ((tls != RELAY_TLS_ENCRYPT && tls != RELAY_TLS_VERIFY) || s->link->tls == LINK_SECURE) {
        return;
    }
    for (size_t i = 0; i < sizeof harmless / sizeof harmless[0]; i++) {
        if (span_starts_fold(bytes, span_of(harmless[i]))) {
            return;
        }
    }
    sim_fail(s->sim, "link %u: sent in clear text: `%.*s`", s->link->id, SPAN_ARGS(bytes));
}
