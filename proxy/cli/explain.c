#include "proxy/cli/explain.h"

#include "config/text.h"
#include "proxy/daemon/quote.h"
#include "tls/policy.h"

/* ---- the look-up ---- */

static void text_tried(const struct trail *trail, FILE *out)
{
    for (size_t i = 0; i < trail->count; i++) {
        fputs(i == 0 ? "  tried      " : "             ", out);
        print_plain(out, span_of(trail->keys[i].key));
        switch (trail->keys[i].found) {
        case TABLE_HIT:
            fputs(": this one\n", out);
            break;
        case TABLE_MISS:
            fputs(": no such key\n", out);
            break;
        case TABLE_BROKEN:
            fputs(": cannot be read\n", out);
            break;
        }
    }
}

static void text_matched(const struct decision *decision, FILE *out)
{
    if (!decision->matched) {
        fputs("  matched    nothing\n", out);
        return;
    }
    fputs("  matched    ", out);
    print_plain(out, span_of(decision->hit.key));
    fputs(", ", out);
    print_plain(out, span_of(decision->hit.file));
    fprintf(out, ":%u\n", decision->hit.line);
}

/* ---- next hops ---- */

/* As the running daemon sees it. */
static void text_health(const struct explanation *explanation, const struct net_address *address,
                        FILE *out)
{
    struct daemon_health health;

    if (!daemon_view_runs(explanation->daemon)) {
        return;
    }
    if (!daemon_view_health(
            explanation->daemon, address,
            explanation->inquiry->question.decision.relay->identity == IDENTITY_PROXY, &health)) {
        fputs(": no mail lately", out);
        return;
    }
    fprintf(out, ": %s", health.state);
    if (health.failures == 0) {
        return;
    }
    if (strcmp(health.state, "ok") == 0) { /* still: it takes several */
        fputs(", but", out);
    } else {
        fprintf(out, " for %llu s,", (unsigned long long)health.seconds);
    }
    fprintf(out, " %u failure%s in a row", health.failures, health.failures == 1 ? "" : "s");
}

static void text_endpoints(const struct explanation *explanation, const struct hop *hop, FILE *out)
{
    char buffer[NEXTHOP_HOST_MAX + NET_ADDRESS_TEXT + 2];

    for (size_t i = 0; i < hop->count; i++) {
        struct text where = TEXT(buffer);
        hop_address_put(&hop->addresses[i], &where);
        fputs("             - ", out);
        print_plain(out, text_span(&where));
        text_health(explanation, &hop->addresses[i].address, out);
        fputc('\n', out);
    }
    if (hop->status != RESOLVER_OK) {
        fputs("             - leads nowhere now: ", out);
        print_plain(out, span_of(hop->why));
        fputc('\n', out);
    }
}

/* As it is written, or the domain whose MX records name it. */
static void text_hop_name(const struct inquiry *inquiry, const struct nexthop *hop, FILE *out)
{
    char spelt[NEXTHOP_TEXT];

    if (hop->kind == NEXTHOP_DOMAIN) {
        fputs("MX of ", out);
        print_plain(out, question_mx_domain(hop, &inquiry->question.parsed));
        fprintf(out, ", port %u", hop->port);
    } else {
        nexthop_text(hop, spelt, sizeof(spelt));
        print_plain(out, span_of(spelt));
    }
}

static void text_hop(const struct explanation *explanation, size_t i, FILE *out)
{
    const struct inquiry *inquiry = explanation->inquiry;
    const struct nexthop *hop = &inquiry->question.decision.relay->hops[i];
    const struct hops *found = &inquiry->hops[ROLE_RELAY];

    fputs("  next hop   ", out);
    text_hop_name(inquiry, hop, out);
    if (hop->kind == NEXTHOP_MX) {
        fprintf(out, " (by the MX records of %s)", hop->host);
    } else if (hop->kind == NEXTHOP_HOST) {
        fputs(" (the host itself, no MX)", out);
    } else if (hop->kind == NEXTHOP_ADDRESS) {
        text_health(explanation, &hop->address, out);
    }
    fputc('\n', out);
    if (hop->kind != NEXTHOP_ADDRESS && i < found->count) {
        text_endpoints(explanation, &found->items[i], out);
    }
}

/* ---- policy, in words ---- */

static void text_tls(const struct relay *relay, FILE *out)
{
    fprintf(out, "  tls        %s: ", tls_policy_name(relay->tls));
    switch (relay->tls) {
    case RELAY_TLS_NONE:
        fputs("in clear text, whatever is offered\n", out);
        break;
    case RELAY_TLS_MAY:
        fputs("encrypted where it is offered, for any certificate; else in clear text\n", out);
        break;
    case RELAY_TLS_ENCRYPT:
        fputs("always encrypted, for any certificate; else 451 4.7.5\n", out);
        break;
    case RELAY_TLS_VERIFY:
        fprintf(out, "always encrypted, and the certificate is for %s, by %s%s; else 451 4.7.5\n",
                relay->tls_name ? relay->tls_name : "the host's name",
                relay->ca_file ? "an authority of " : "an authority of this system",
                relay->ca_file ? relay->ca_file : "");
        break;
    }
}

static void text_identity(const struct relay *relay, FILE *out)
{
    switch (relay->identity) {
    case IDENTITY_UNSET:
    case IDENTITY_NONE:
        fputs("  identity   none: the server sees this host as the client\n", out);
        break;
    case IDENTITY_XCLIENT:
        fputs("  identity   xclient: the server is told who the client is; else 451 4.3.5\n", out);
        break;
    case IDENTITY_PROXY:
        fputs("  identity   proxy: the server is told the client's address by a PROXY header\n",
              out);
        break;
    }
}

static void text_detours(const struct decision *decision, FILE *out)
{
    if (decision->fallback) {
        fprintf(out,
                "  fallback   %s, when no next hop can be used; what one refuses stays refused\n",
                decision->fallback->name);
    } else {
        fputs("  fallback   none: 451 4.4.1 when no next hop can be used\n", out);
    }
    if (decision->unknown_recipient) {
        fprintf(out, "  unknown    %s (asked for recipients that %s does not know)\n",
                decision->unknown_recipient->name, decision->relay->name);
    } else {
        fprintf(out, "  unknown    nobody else is asked: %s says who exists\n",
                decision->relay->name);
    }
}

static void text_daemon(const struct explanation *explanation, FILE *out)
{
    const char *why = daemon_view_why(explanation->daemon);

    if (explanation->not_looked_up) {
        fprintf(out, "  addresses  not looked up: %s\n", explanation->not_looked_up);
    }
    if (why[0] != '\0') {
        fprintf(out, "  %-10s ", daemon_view_runs(explanation->daemon) ? "daemon" : "health");
        fputs(daemon_view_runs(explanation->daemon) ? "" : "not known: ", out);
        print_plain(out, span_of(why));
        fputc('\n', out);
    }
}

static void text_relay(const struct explanation *explanation, FILE *out)
{
    const struct decision *decision = &explanation->inquiry->question.decision;
    const struct relay *relay = decision->relay;
    unsigned slowed;

    if (!decision->matched) {
        fputs("  because    postmaster has to be somebody (RFC 5321, 4.5.1); no key is for him, so "
              "it "
              "is the\n             relay of this name\n",
              out);
    }
    fprintf(out, "  relay      %s%s", relay->name, relay->direct ? " (as written)" : "");
    if (daemon_view_slowed(explanation->daemon, relay->name, &slowed)) {
        fprintf(out, ", which has asked for less: slowed down to %u at once", slowed);
    }
    fputc('\n', out);
    for (size_t i = 0; i < relay->hop_count; i++) {
        text_hop(explanation, i, out);
    }
    text_daemon(explanation, out);
    text_identity(relay, out);
    text_tls(relay, out);
    text_detours(decision, out);
}

static void text_reply(const struct inquiry *inquiry, FILE *out)
{
    const struct decision *decision = &inquiry->question.decision;

    fprintf(out, "  %-10s %u %s %s\n", decision->code / 100 == 4 ? "put off" : "refused",
            decision->code, decision->enhanced, decision->text);
    if (decision->outside) {
        fputs("  because    ", out);
        print_plain(out, inquiry->question.parsed.domain);
        fputs(" is not among the `domains:` (default: those in the keys of YAML routes;\n"
              "             a transport map and `*` add none)\n",
              out);
    }
    if (decision->code == 501) {
        fputs("  because    that is no address: one is `user@domain`, without a name\n", out);
    }
}

/* ---- the probe ---- */

static void text_conversation(const struct attempt *attempt, FILE *out)
{
    const struct call *call = &attempt->call;

    fputs(" answers as ", out);
    print_plain(out, span_of(call->name[0] != '\0' ? call->name : "nobody"));
    fprintf(out, ", %s", call->tls[0] != '\0' ? call->tls : "in clear text");
    if (attempt->relay->identity == IDENTITY_XCLIENT ||
        attempt->relay->identity == IDENTITY_PROXY) {
        fprintf(out, ", told by %s that the client is " CALL_STRANGER,
                attempt->relay->identity == IDENTITY_XCLIENT ? "XCLIENT" : "PROXY");
    }
    if (call->answered > 0) {
        fputs(call->mail_refused ? "\n             MAIL FROM:<>: " : "\n             RCPT TO:<",
              out);
        if (!call->mail_refused) {
            print_plain(out, span_of(call->wish.recipients[0]));
            fputs(">: ", out);
        }
        print_plain(out, span_of(call->answers[0].words));
    } else {
        fputs(", but: ", out);
        print_plain(out, span_of(call->why));
    }
}

static void text_attempt(const struct explanation *explanation, size_t i, FILE *out)
{
    const struct attempt *attempt = explanation->inquiry->attempts[i];
    const struct call *call = &attempt->call;
    struct daemon_health health;
    char buffer[NEXTHOP_HOST_MAX + NET_ADDRESS_TEXT + 2];
    struct text where = TEXT(buffer);

    fputs(i == 0 ? "  probe      " : "             ", out);
    if (attempt->role != ROLE_RELAY) {
        fprintf(out, "%s %s: ", attempt->role == ROLE_FALLBACK ? "fallback" : "unknown-recipient",
                attempt->relay->name);
    }
    if (attempt->at == NULL) {
        text_hop_name(explanation->inquiry, attempt->hop->hop, out);
        fputs(" leads nowhere: ", out);
        print_plain(out, span_of(attempt->hop->why));
    } else {
        hop_address_put(attempt->at, &where);
        print_plain(out, text_span(&where));
        if (attempt->own) {
            fputs(" is a listener of this very server", out);
        } else if (call->end == CALL_DONE) {
            text_conversation(attempt, out);
        } else {
            fputs(call->end == CALL_UNAVAILABLE ? " cannot be used: " : ": ", out);
            print_plain(out, span_of(call->why));
        }
        if (call->end == CALL_DONE &&
            daemon_view_health(explanation->daemon, &attempt->at->address,
                               attempt->relay->identity == IDENTITY_PROXY, &health) &&
            strcmp(health.state, "down") == 0) {
            fputs("\n             (the daemon takes it for down, and goes past it until a probe of "
                  "its own succeeds)",
                  out);
        }
    }
    fputc('\n', out);
}

static void text_probe(const struct explanation *explanation, FILE *out)
{
    const struct inquiry *inquiry = explanation->inquiry;
    const struct verdict *verdict = &inquiry->verdict;

    for (size_t i = 0; i < inquiry->attempt_count; i++) {
        text_attempt(explanation, i, out);
    }
    fprintf(out, "  verdict    would be %s: %u %s ",
            verdict->accepted          ? "accepted"
            : verdict->code / 100 == 4 ? "put off"
                                       : "refused",
            verdict->code, verdict->enhanced);
    print_plain(out, span_of(verdict->words));
    fputc('\n', out);
}

/* ---- all of it ---- */

void explain_text(const struct explanation *explanation, FILE *out)
{
    const struct inquiry *inquiry = explanation->inquiry;

    print_plain(out, inquiry->question.asked);
    fputc('\n', out);
    text_tried(&inquiry->question.trail, out);
    text_matched(&inquiry->question.decision, out);
    switch (inquiry->question.decision.kind) {
    case DECISION_RELAY:
        text_relay(explanation, out);
        break;
    case DECISION_REPLY:
        text_reply(inquiry, out);
        break;
    case DECISION_DISCARD:
        fputs("  discarded  accepted and dropped\n", out);
        break;
    }
    if (explanation->probed) {
        text_probe(explanation, out);
    }
}
