/*
 * A relay: every address of its next hops, reached as the daemon would; and whether a local server
 * behind it still protects itself, which is the matter of `identity` (design: section 5).
 */
#include <stdlib.h>

#include "proxy/cli/doctor_hops.h"
#include "proxy/cli/doctor_state.h"
#include "routing/gmail.h"

/* A domain that nobody's mail server is responsible for (RFC 2606), so none has to take it. */
#define FOREIGN "postmaster@example.net"

#define ENDPOINTS_MAX 48

struct endpoint {
    struct resolver_address at;
    bool own;        /* it leads back to us */
    bool unroutable; /* no way to its family from here */
    struct call call;
};

struct relay_check {
    struct check check;
    const struct relay *relay;
    struct hops hops;
    struct endpoint **endpoints; /* in the order of trying */
    size_t count;
    const char *foreign[1];
};

static void relay_free_check(struct check *check)
{
    struct relay_check *relay = (struct relay_check *)(void *)check;
    hops_release(&relay->hops);
    for (size_t i = 0; i < relay->count; i++) {
        free(relay->endpoints[i]);
    }
    free(relay->endpoints);
    free(relay);
}

/* ---- conversations ---- */

static bool speaks_for_client(const struct relay *relay)
{
    return relay->identity == IDENTITY_XCLIENT || relay->identity == IDENTITY_PROXY;
}

/* Strangers' servers are not asked whether they relay: that is theirs to know, and a smarthost's
 * trade. */
static bool is_tested(const struct relay *relay, const struct net_address *address)
{
    return speaks_for_client(relay) || net_address_is_local(address);
}

static void endpoint_call(struct relay_check *relay, struct endpoint *endpoint)
{
    const struct relay *of = relay->relay;
    const struct policy *policy = &relay->check.doctor->prepared->policy;
    struct net_address source;
    for (size_t i = 0; i < policy->own_count; i++) {
        endpoint->own = endpoint->own || net_address_equal(&policy->own[i], &endpoint->at.address);
    }
    endpoint->unroutable = endpoint->at.address.any.sa_family == AF_INET6 &&
                           !address_towards(&endpoint->at.address, &source);
    if (endpoint->own || endpoint->unroutable) {
        return;
    }
    const struct call_wish wish = {
        .address = endpoint->at.address,
        .tls = of->tls,
        .ca_file = of->ca_file,
        .tls_name = of->tls_name != NULL ? of->tls_name : endpoint->at.host,
        .identity = of->identity,
        .recipients = relay->foreign,
        .recipient_count = is_tested(of, &endpoint->at.address) ? 1 : 0,
    };
    call_begin(&endpoint->call, &relay->check, &wish);
}

static void relay_call(struct relay_check *relay)
{
    size_t count = 0;
    relay->endpoints = calloc(ENDPOINTS_MAX, sizeof(struct endpoint *));
    for (size_t i = 0; relay->endpoints != NULL && i < relay->hops.count; i++) {
        for (size_t k = 0; k < relay->hops.items[i].count && count < ENDPOINTS_MAX; k++) {
            struct endpoint *endpoint = calloc(1, sizeof *endpoint);
            if (endpoint == NULL) {
                break;
            }
            endpoint->at = relay->hops.items[i].addresses[k];
            relay->endpoints[count++] = endpoint;
        }
    }
    relay->count = count;
    if (relay->endpoints == NULL) {
        check_fail(&relay->check);
    }
    for (size_t i = 0; i < count; i++) {
        endpoint_call(relay, relay->endpoints[i]);
    }
}

/* ---- findings ---- */

/* Whether mail can go there. */
static bool endpoint_is_good(const struct endpoint *endpoint)
{
    return endpoint->call.end == CALL_DONE || endpoint->call.end == CALL_TURNED_AWAY;
}

static const char *identity_name(const struct relay *relay)
{
    return relay->identity == IDENTITY_XCLIENT ? "XCLIENT" : "PROXY";
}

static void put_offer(const struct call *call, struct text *out)
{
    const struct client_offer *offer = &call->offer;
    const struct {
        bool offered;
        const char *word;
    } words[] = {{offer->pipelining, "PIPELINING"}, {offer->size, "SIZE"},
                 {offer->eight_bit, "8BITMIME"},    {offer->enhanced, "ENHANCEDSTATUSCODES"},
                 {offer->smtputf8, "SMTPUTF8"},     {offer->xclient != 0, "XCLIENT"},
                 {offer->starttls, "STARTTLS"}};
    const char *between = "; offers ";
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (words[i].offered) {
            text_printf(out, "%s%s", between, words[i].word);
            between = " ";
        }
    }
}

static void say_answers(struct relay_check *relay, const struct endpoint *endpoint,
                        const char *where)
{
    struct check *check = &relay->check;
    const struct call *call = &endpoint->call;
    const char *hostname = doctor_config(check->doctor)->hostname.text;
    bool local = net_address_is_local(&endpoint->at.address);
    char offer[200];
    struct text text = TEXT(offer);
    put_offer(call, &text);
    check_say(check, LEVEL_OK, "%s answers as %s, %s%s%s", where,
              call->name[0] != '\0' ? call->name : "nobody",
              call->tls[0] != '\0' ? call->tls : "in clear text",
              call->tls[0] == '\0'                    ? ""
              : relay->relay->tls == RELAY_TLS_VERIFY ? " (certificate verified)"
                                                      : " (certificate not verified)",
              offer);
    if (call->in_clear) {
        check_say(check, LEVEL_WARNING,
                  "%s: TLS is offered but fails, so mail goes in clear text (%s); mend its "
                  "certificate or "
                  "TLS settings, or say `tls: none`",
                  where, call->tls_why);
    } else if (call->tls[0] == '\0' && !local && relay->relay->tls != RELAY_TLS_NONE) {
        check_say(check, LEVEL_NOTE,
                  "%s offers no TLS, so mail goes to it in clear text; whoever runs it can offer "
                  "STARTTLS",
                  where);
    }
    if (span_equal_fold(span_of(call->name), span_of(hostname))) {
        check_say(check, LEVEL_WARNING,
                  "%s calls itself %s, as `hostname` does: servers take mail between two of one "
                  "name for a loop, and logs do not tell them apart; give this one another name",
                  where, call->name);
    }
    if (doctor_config(check->doctor)->smtputf8 && !call->offer.smtputf8) {
        check_say(
            check, LEVEL_WARNING,
            "%s does not offer SMTPUTF8, which `smtputf8: true` offers to clients: what they "
            "send with it is refused there (550 5.6.7); have it offer that, or say `smtputf8: "
            "false`",
            where);
    }
}

/* ---- the self-test ---- */

/* Whether it says that it will not do so for this client; other refusals may have other reasons. */
static bool is_denial(const struct call_answer *answer)
{
    const char *detail = answer->enhanced[0] != '\0' ? answer->enhanced + 1 : "";
    if (answer->code / 100 == 5) {
        return strcmp(detail, ".1.2") != 0 && strcmp(detail, ".1.10") != 0 && answer->code != 556;
    }
    return answer->code == 454; /* Postfix: defer_unauth_destination */
}

/* "this host (10.89.0.10)": as the server sees us, unless something in between changes it. */
static void put_us(const struct endpoint *endpoint, struct text *out)
{
    struct net_address from;
    text_puts(out, "this host");
    if (address_towards(&endpoint->at.address, &from)) {
        text_puts(out, " (");
        addresses_put(&from, 1, out);
        text_putc(out, ')');
    }
}

static void say_trusting(struct relay_check *relay, const char *where, const char *whom)
{
    if (speaks_for_client(relay->relay)) {
        check_say(&relay->check, LEVEL_ERROR,
                  "%s relays for strangers: told by %s that the client is " CALL_STRANGER
                  ", it took RCPT TO:<" FOREIGN ">; it goes by another address than the client's, "
                  "or lets everybody relay: correct its mynetworks and relay restrictions",
                  where, identity_name(relay->relay));
        return;
    }
    check_say(&relay->check, LEVEL_WARNING,
              "%s relays anywhere for %s, and takes every client for it: it took RCPT "
              "TO:<" FOREIGN ">; `domains` keeps strangers from using that through splitmx, but "
              "its checks of clients (SPF, lists, limits) are off: say `identity: xclient` or "
              "`proxy`, or take this host out of its mynetworks",
              where, whom);
}

static void say_self_test(struct relay_check *relay, const struct endpoint *endpoint,
                          const char *where)
{
    struct check *check = &relay->check;
    const struct call *call = &endpoint->call;
    const struct call_answer *answer = &call->answers[0];
    bool in_name = speaks_for_client(relay->relay);
    char whom[NET_ADDRESS_TEXT + 16];
    struct text text = TEXT(whom);
    if (call->wish.recipient_count == 0) {
        return;
    }
    if (in_name) {
        text_puts(&text, CALL_STRANGER);
    } else {
        put_us(endpoint, &text);
    }
    if (call->answered == 0) {
        check_say(check, LEVEL_WARNING,
                  "%s: whether it relays for %s is not known: %s; ask again when it answers", where,
                  whom, call->why);
    } else if (answer->code / 100 == 2) {
        say_trusting(relay, where, whom);
    } else if (!is_denial(answer)) {
        check_say(check, LEVEL_NOTE,
                  "%s: whether it relays for %s is not known: the answer to " FOREIGN
                  " was \"%s\"; look "
                  "at its relay restrictions, or ask again later",
                  where, whom, answer->words);
    } else if (in_name) {
        check_say(check, LEVEL_OK,
                  "%s goes by the client's address, and does not relay for %s by %s (\"%s\")",
                  where, whom, identity_name(relay->relay), answer->words);
    } else {
        check_say(check, LEVEL_OK, "%s does not relay for %s (\"%s\")", where, whom, answer->words);
    }
}

static void say_no_identity(struct relay_check *relay, const struct endpoint *endpoint,
                            const char *where)
{
    char us[NET_ADDRESS_TEXT + 16];
    struct text text = TEXT(us);
    put_us(endpoint, &text);
    if (relay->relay->identity == IDENTITY_XCLIENT) {
        check_say(&relay->check, LEVEL_ERROR,
                  "%s does not let this host say who the client is, so mail for it is deferred "
                  "(451 4.3.5): %s; with Postfix, smtpd_authorized_xclient_hosts has to hold the "
                  "address of %s",
                  where, endpoint->call.why, us);
    } else {
        check_say(&relay->check, LEVEL_ERROR,
                  "%s does not let this host say who the client is, so mail for it is deferred "
                  "(451 4.3.5): %s; with Postfix, what listens there needs "
                  "postscreen_upstream_proxy_protocol (or smtpd_upstream_proxy_protocol) = haproxy",
                  where, endpoint->call.why);
    }
}

/* Behind a PROXY header or XCLIENT; for good, or for the moment only, which may have other reasons.
 */
static void say_turned_away(struct relay_check *relay, const struct endpoint *endpoint,
                            const char *where)
{
    if (endpoint->call.code / 100 == 5) {
        check_say(&relay->check, LEVEL_OK,
                  "%s goes by the client's address: it turned " CALL_STRANGER " away (%s)", where,
                  endpoint->call.why);
    } else {
        check_say(&relay->check, LEVEL_WARNING,
                  "%s put us off, so whether it relays for " CALL_STRANGER
                  " is not known: %s; ask again "
                  "later",
                  where, endpoint->call.why);
    }
}

/* What does not work is an error where nothing else of the relay does. */
static void say_endpoint(struct relay_check *relay, const struct endpoint *endpoint, enum level bad)
{
    struct check *check = &relay->check;
    const struct call *call = &endpoint->call;
    char name[NEXTHOP_TEXT + NET_ADDRESS_TEXT];
    struct text where = TEXT(name);
    hop_address_put(&endpoint->at, &where);
    if (endpoint->own) {
        check_say(check, LEVEL_ERROR,
                  "%s is a listener of this very server: mail for it is deferred (451 4.4.6), as "
                  "it would loop; name the port that the server behind listens on",
                  name);
        return;
    }
    switch (call->end) {
    case CALL_NOT_BEGUN:
        break;
    case CALL_DONE:
        say_answers(relay, endpoint, name);
        say_self_test(relay, endpoint, name);
        break;
    case CALL_TURNED_AWAY:
        say_turned_away(relay, endpoint, name);
        break;
    case CALL_UNAVAILABLE:
        check_say(check, bad, "%s cannot be used: %s%s", name, call->why,
                  call->tls_at_fault
                      ? " (mail for it is deferred, 451 4.7.5); mend its certificate, or correct "
                        "`tls`, `tls-name` or `ca-file` of this relay"
                      : "; see that it runs, listens there, and that no firewall is between");
        break;
    case CALL_REFUSED:
        check_say(check, bad, "%s refuses this host: %s; have it take mail from here", name,
                  call->why);
        break;
    case CALL_OUT_OF_TIME:
        check_say(check, LEVEL_WARNING,
                  "%s was not tried: %s; name a DOMAIN, so that there is less "
                  "to look at",
                  name, call->why);
        break;
    case CALL_NO_IDENTITY:
        say_no_identity(relay, endpoint, name);
        break;
    }
}

/* Gmail's hosts are built in, where the configuration names no others. */
static bool is_built_in(const struct relay_check *relay)
{
    const struct config *config = relay->check.doctor->prepared->config;
    if (strcmp(relay->relay->name, GMAIL_NAME) != 0 || relay->relay->direct) {
        return false;
    }
    for (size_t i = 0; i < config->relay_count; i++) {
        const struct config_relay *written = &config->relays[i];
        if (strcmp(written->name.text, GMAIL_NAME) == 0) {
            return written->host_count == 0 && written->next_hop.text == NULL;
        }
    }
    return true;
}

static void say_hops(struct relay_check *relay, enum level bad)
{
    struct check *check = &relay->check;
    char name[NEXTHOP_TEXT];
    for (size_t i = 0; i < relay->hops.count; i++) {
        const struct hop *hop = &relay->hops.items[i];
        nexthop_text(hop->hop, name, sizeof name);
        if (hop->hop->kind == NEXTHOP_DOMAIN) {
            check_say(check, LEVEL_NOTE,
                      "goes to the MX of each recipient's domain, which is not tried here");
        } else if (hop->status != RESOLVER_OK) {
            check_say(check, bad, "%s%s leads nowhere: %s; %s",
                      hop->hop->kind == NEXTHOP_MX ? "the MX of " : "", name, hop->why,
                      is_built_in(relay)
                          ? "the name is built in: look at `dns: servers`, or without it at "
                            "/etc/resolv.conf"
                          : "correct the name in `next-hop`, or its records in DNS");
        }
    }
}

static void say_gmail(struct relay_check *relay)
{
    const struct doctor *doctor = relay->check.doctor;
    char list[600];
    struct text text = TEXT(list);
    addresses_put(doctor->outgoing, doctor->outgoing_count, &text);
    check_say(&relay->check, LEVEL_NOTE,
              "what cannot be seen from here: Google Workspace has to list this host's public "
              "addresses (%s) as inbound gateway (Admin console: Apps, Google Workspace, Gmail, "
              "Spam, Phishing and Malware), or Gmail holds senders' SPF against them",
              list[0] != '\0' ? list : "none is known here");
}

static void say_relay(struct relay_check *relay)
{
    bool good = false, unroutable = false;
    for (size_t i = 0; i < relay->count; i++) {
        good = good || endpoint_is_good(relay->endpoints[i]);
        unroutable = unroutable || relay->endpoints[i]->unroutable;
    }
    enum level bad = good ? LEVEL_WARNING : LEVEL_ERROR;
    say_hops(relay, bad);
    for (size_t i = 0; i < relay->count; i++) {
        say_endpoint(relay, relay->endpoints[i], bad);
    }
    if (unroutable) {
        check_say(
            &relay->check, good ? LEVEL_NOTE : bad,
            "its IPv6 addresses cannot be reached: this host has no way to them; give it an IPv6 "
            "address and route, or leave it at that where IPv4 ones answer");
    }
    if (strcmp(relay->relay->name, GMAIL_NAME) == 0 && !relay->relay->direct) {
        say_gmail(relay);
    }
}

/* ---- the stages ---- */

static bool relay_step(struct check *check)
{
    struct relay_check *relay = (struct relay_check *)(void *)check;
    switch (check->stage) {
    case 0:
        hops_begin(&relay->hops, check, relay->relay, SPAN(""));
        return true;
    case 1:
        relay_call(relay);
        return true;
    default:
        say_relay(relay);
        return false;
    }
}

void doctor_relays(struct doctor *doctor)
{
    for (size_t i = 0; i < doctor->relay_count; i++) {
        struct relay_check *relay = calloc(1, sizeof *relay);
        if (relay == NULL) {
            doctor->broken = true;
            return;
        }
        relay->relay = doctor->relays[i];
        relay->foreign[0] = FOREIGN;
        relay->check.step = relay_step;
        relay->check.free = relay_free_check;
        /* One that ends with a colon, `smtp:`, would meet that of its findings. */
        const char *quote = span_ends(span_of(relay->relay->name), SPAN(":")) ? "`" : "";
        check_add(doctor, &relay->check, "relay %s%s%s", quote, relay->relay->name, quote);
    }
}
