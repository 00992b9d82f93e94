/*
 * From a connection to the first transaction: who we speak for, and under what protection (RFC
 * 3207; design: sections 5 and 6). In this order: the PROXY header, EHLO, STARTTLS, EHLO, XCLIENT,
 * EHLO.
 */
#include <stdlib.h>

#include "proxy/session/upstream_state.h"
#include "proxy/wire/proxy_header.h"
#include "proxy/wire/xclient.h"
#include "tls/policy.h"

/* More than all lines of XCLIENT together. */
#define XCLIENT_LINES (4 * XCLIENT_LINE_MAX)

void upstream_introduce(struct upstream *up)
{
    char line[PROXY_V1_MAX + 1];
    struct text text = TEXT(line);
    if (up->key.identity == IDENTITY_PROXY) {
        /* A probe comes in the server's own name: Postfix hangs up on PROXY UNKNOWN. */
        const struct net_address *itself = &up->key.address;
        proxy_header_write(up->client != NULL ? &up->client->address : itself,
                           up->client != NULL ? &up->client->local : itself, &text);
        upstream_say(up, text_span(&text));
    }
}

/* Where the upstream takes us for the client, EHLO says the client's name (Postfix takes the last
 * it hears). */
void upstream_greet(struct upstream *up, const char *verb)
{
    char line[600];
    struct text text = TEXT(line);
    bool as_client = up->client != NULL && (up->introduced || up->key.identity == IDENTITY_PROXY);
    struct span name = as_client ? up->client->helo : span_of(up->policy->config->hostname.text);
    if (up->key.identity == IDENTITY_PROXY && !upstream_is_silent(up)) {
        upstream_end_with(up, UPSTREAM_NO_IDENTITY, CONN_RESET,
                          "took the PROXY header for a command");
        return;
    }
    if (!upstream_may_speak(up)) {
        return; /* every answer would be taken for the next one's */
    }
    up->offer = (struct client_offer){0};
    text_printf(&text, "%s %.*s\r\n", verb, SPAN_ARGS(name));
    upstream_say(up, text_span(&text));
}

/* ---- TLS ---- */

static void upstream_lacks_tls(struct upstream *up, const char *why)
{
    up->tls_at_fault = true;
    upstream_end_with(up, UPSTREAM_UNAVAILABLE, CONN_FLUSH, why);
}

void upstream_start_tls(struct upstream *up)
{
    /* What came behind the 220 was not said by the peer that we are about to know (CVE-2021-38371):
     * upstream_read refuses it. Or it was the end, another failure of TLS; the next event tells. */
    char literal[NET_ADDRESS_TEXT];
    if (up->conn->ops->peek(up->conn).len == 0 && !up->conn->ops->pending(up->conn)) {
        net_address_text(&up->key.address, literal, sizeof literal);
        up->conn->ops->start_tls(up->conn, up->key.context,
                                 up->key.host[0] != '\0' ? up->key.host : literal);
    }
}

void upstream_go_clear(struct upstream *up)
{
    if (tls_policy_is_strict(up->key.tls)) {
        char why[REPLY_TEXT];
        struct text text = TEXT(why);
        upstream_put_why(up, CLIENT_STARTTLS, CLIENT_ON_5XX, &text);
        upstream_lacks_tls(up, why);
        return;
    }
    up->tls_refused = true;
    upstream_next(up);
}

/* ---- identity ---- */

static bool upstream_write_xclient(struct upstream *up)
{
    struct xclient_writer writer;
    const struct client_view *client = up->client;
    struct xclient_values values = {
        .name = client->name,
        .reverse_name = client->reverse_name,
        .names_later = client->names_later,
        .client = &client->address,
        .destination = &client->local,
        .helo = client->helo,
        .esmtp = client->protocol[0] == 'E',
    };
    up->lines = malloc(XCLIENT_LINES);
    if (up->lines == NULL) {
        return false;
    }
    struct text text = text_over(up->lines, XCLIENT_LINES);
    xclient_init(&writer, &values, up->offer.xclient);
    while (xclient_next(&writer, &text)) {
        continue;
    }
    up->lines_sent = 0;
    return true;
}

void upstream_xclient(struct upstream *up)
{
    struct span rest = span_of(up->lines + up->lines_sent);
    struct span line = span_first(rest, span_find(rest, '\n') + 1);
    if (rest.len == 0) {
        free(up->lines);
        up->lines = NULL;
        up->introduced = true;
        upstream_set_state(up, CLIENT_EHLO);
        upstream_greet(up, "EHLO");
        return;
    }
    up->lines_sent += line.len;
    upstream_set_state(up, CLIENT_XCLIENT);
    if (upstream_may_speak(up)) {
        upstream_say(up, line);
    }
}

static void upstream_identify(struct upstream *up)
{
    if ((up->offer.xclient & XCLIENT_BIT(XCLIENT_ADDR)) == 0) {
        upstream_end_with(up, UPSTREAM_NO_IDENTITY, CONN_FLUSH, "XCLIENT is not offered");
    } else if (!upstream_write_xclient(up)) {
        upstream_end_with(up, UPSTREAM_NO_MEANS, CONN_FLUSH, "out of memory");
    } else {
        upstream_xclient(up);
    }
}

bool upstream_identity_ends(const struct upstream *up, enum client_state was,
                            enum client_event event, enum upstream_event_kind *end)
{
    bool proxy = up->key.identity == IDENTITY_PROXY;
    bool later = event == CLIENT_ON_4XX || event == CLIENT_ON_421;
    bool never = event == CLIENT_ON_5XX;
    /* Refusals of the client in whose name we speak: in the greeting behind a PROXY header, and to
     * XCLIENT (Postfix with smtpd_delay_reject = no: "554 5.7.1 Client host rejected"). */
    if ((proxy && was == CLIENT_GREETING && (later || never)) ||
        (was == CLIENT_XCLIENT && (later || (never && up->reply.code == 554)))) {
        *end = UPSTREAM_TURNED_AWAY;
        return true;
    }
    /* A 5xx that answers the header, not EHLO: the answers would go on being one late. And what is
     * not what success of XCLIENT is. */
    *end = UPSTREAM_NO_IDENTITY;
    return (proxy && was == CLIENT_EHLO && never) ||
           (was == CLIENT_XCLIENT && event == CLIENT_ON_2XX && up->reply.code != 220);
}

/* ---- what comes next ---- */

void upstream_next(struct upstream *up)
{
    bool wants_tls = up->key.tls != RELAY_TLS_NONE && !up->secure && !up->tls_refused;
    if (wants_tls && up->offer.starttls) {
        upstream_set_state(up, CLIENT_STARTTLS);
        if (upstream_may_speak(up)) {
            upstream_say(up, SPAN("STARTTLS\r\n"));
        }
    } else if (wants_tls && tls_policy_is_strict(up->key.tls)) {
        upstream_lacks_tls(up, "STARTTLS is not offered");
    } else if (up->key.identity == IDENTITY_XCLIENT && up->client != NULL && !up->introduced) {
        upstream_identify(up);
    } else {
        upstream_set_state(up, CLIENT_READY);
        up->client = NULL;
        upstream_tell(up, (struct upstream_event){.kind = UPSTREAM_READY, .reply = &up->reply});
    }
}
