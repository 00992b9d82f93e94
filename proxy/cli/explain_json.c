/* The answer of `route --json`: the members of the contract first, in its order. */
#include "proxy/cli/explain.h"

#include "config/text.h"
#include "proxy/daemon/quote.h"
#include "tls/policy.h"

#define ACTION_MAX 1024

/* The action as a table spells it: what the table says, or what stands for a refusal of ours. */
static void put_action(const struct decision *decision, struct text *out)
{
    const char *name = decision->code / 100 == 4 ? "retry" : "error";

    if (decision->kind == DECISION_DISCARD) {
        text_puts(out, "discard:");
        return;
    }
    if (decision->matched) {
        /* An error: with an enhanced code of 4.y.z is a 450 and still that. */
        name = decision->hit.destination->kind == TRANSPORT_RETRY ? "retry" : "error";
    }
    text_printf(out, "%s:%s", name, decision->enhanced);
    if (decision->text[0] != '\0') {
        text_printf(out, " %s", decision->text);
    }
}

/* ---- the members of the contract ---- */

static void json_text(FILE *out, const char *key, const char *value)
{
    fprintf(out, ",\"%s\":", key);
    if (value) {
        json_put_string(out, span_of(value));
    } else {
        fputs("null", out);
    }
}

static void json_hop(const struct nexthop *hop, const struct address *parsed, FILE *out)
{
    const struct span mx = explain_mx_domain(hop, parsed);
    char folded[ADDRESS_MAX];

    fputs("{\"protocol\":\"smtp\",\"host\":", out);
    json_put_string(out, mx.len > 0 ? address_fold(mx, folded) : span_of(hop->host));
    if (hop->port != 0) {
        fprintf(out, ",\"port\":%u", hop->port);
    } else {
        fputs(",\"port\":null", out);
    }
    fprintf(out, ",\"mx\":%s}", mx.len > 0 ? "true" : "false");
}

static void json_hops(const struct inquiry *inquiry, FILE *out)
{
    const struct relay *relay = inquiry->decision.relay;

    fputs(",\"next_hops\":", out);
    if (!relay) {
        fputs("null", out);
        return;
    }
    fputc('[', out);
    for (size_t i = 0; i < relay->hop_count; i++) {
        fputs(i > 0 ? "," : "", out);
        json_hop(&relay->hops[i], &inquiry->parsed, out);
    }
    fputc(']', out);
}

static void json_source(const struct decision *decision, FILE *out)
{
    char place[4096 + 16];
    struct text text = TEXT(place);

    if (decision->matched) {
        text_printf(&text, "%s:%u", decision->hit.file, decision->hit.line);
    }
    json_text(out, "source", decision->matched ? place : NULL);
}

static void json_contract(const struct inquiry *inquiry, FILE *out)
{
    const struct decision *decision = &inquiry->decision;
    const struct relay *relay = decision->relay;
    const struct relay *fallback = decision->fallback;
    const struct relay *unknown = decision->unknown_recipient;
    char buffer[ACTION_MAX];
    struct text action = TEXT(buffer);

    if (!relay) {
        put_action(decision, &action);
    }
    fputs("\"address\":", out);
    json_put_string(out, inquiry->asked);
    json_text(out, "matched", decision->matched ? decision->hit.key : NULL);
    json_source(decision, out);
    json_text(out, "relay", relay ? relay->name : NULL);
    json_text(out, "action", relay ? NULL : buffer);
    json_hops(inquiry, out);
    json_text(out, "fallback", fallback ? fallback->name : NULL);
    json_text(out, "unknown_recipient", unknown ? unknown->name : NULL);
    json_text(out, "tls", relay ? tls_policy_name(relay->tls) : NULL);
}

/* ---- what is behind them ---- */

static void json_tried(const struct trail *trail, FILE *out)
{
    fputs(",\"tried\":[", out);
    for (size_t i = 0; i < trail->count; i++) {
        fputs(i > 0 ? ",{\"key\":" : "{\"key\":", out);
        json_put_string(out, span_of(trail->keys[i].key));
        fprintf(out, ",\"found\":%s}", trail->keys[i].found == TABLE_HIT ? "true" : "false");
    }
    fputc(']', out);
}

static void json_address(const struct net_address *address, FILE *out)
{
    char text[NET_ADDRESS_TEXT];
    net_address_text_port(address, text, sizeof text);
    json_text(out, "address", text);
}

static void json_endpoint(const struct explanation *explanation, size_t hop,
                          const struct resolver_address *at, FILE *out)
{
    struct daemon_health health;
    fprintf(out, "{\"next_hop\":%zu", hop);
    json_text(out, "host", at->host[0] != '\0' ? at->host : NULL);
    json_address(&at->address, out);
    if (daemon_view_health(explanation->daemon, &at->address,
                           explanation->inquiry->decision.relay->identity == IDENTITY_PROXY,
                           &health)) {
        json_text(out, "health", health.state);
        fprintf(out, ",\"failures\":%u,\"seconds\":%llu}", health.failures,
                (unsigned long long)health.seconds);
    } else {
        fputs(",\"health\":null,\"failures\":null,\"seconds\":null}", out);
    }
}

/* Next hops are numbered from 0, as they stand in next_hops. */
static void json_endpoints(const struct explanation *explanation, FILE *out)
{
    const struct hops *hops = &explanation->inquiry->hops[ROLE_RELAY];
    const char *between = "";

    fputs(",\"endpoints\":", out);
    if (!explanation->inquiry->looked_up) {
        fputs("null", out);
        return;
    }
    fputc('[', out);
    for (size_t i = 0; i < hops->count; i++) {
        for (size_t k = 0; k < hops->items[i].count; k++) {
            fputs(between, out);
            json_endpoint(explanation, i, &hops->items[i].addresses[k], out);
            between = ",";
        }
    }
    fputc(']', out);
}

static void json_attempt(const struct attempt *attempt, FILE *out)
{
    static const char *const roles[ROLES] = {"relay", "fallback", "unknown_recipient"};
    const struct call *call = &attempt->call;
    const char *why = attempt->own          ? "this server itself"
                      : attempt->at == NULL ? attempt->hop->why
                      : call->answered == 0 ? call->why
                                            : NULL;
    fprintf(out, "{\"role\":\"%s\"", roles[attempt->role]);
    json_text(out, "relay", attempt->relay->name);
    json_text(out, "host", attempt->at && attempt->at->host[0] != '\0' ? attempt->at->host : NULL);
    if (attempt->at) {
        json_address(&attempt->at->address, out);
    } else {
        json_text(out, "address", NULL);
    }
    json_text(out, "name", call->name[0] != '\0' ? call->name : NULL);
    json_text(out, "tls", call->tls[0] != '\0' ? call->tls : NULL);
    json_text(out, "command", call->answered == 0 ? NULL : call->mail_refused ? "MAIL" : "RCPT");
    json_text(out, "reply", call->answered > 0 ? call->answers[0].words : NULL);
    json_text(out, "why", why);
    fputc('}', out);
}

static void json_probe(const struct inquiry *inquiry, FILE *out)
{
    const struct verdict *verdict = &inquiry->verdict;

    fprintf(out, ",\"probe\":{\"accepted\":%s,\"code\":%u", verdict->accepted ? "true" : "false",
            verdict->code);
    json_text(out, "enhanced", verdict->enhanced);
    json_text(out, "text", verdict->words);
    fputs(",\"attempts\":[", out);
    for (size_t i = 0; i < inquiry->attempt_count; i++) {
        fputs(i > 0 ? "," : "", out);
        json_attempt(inquiry->attempts[i], out);
    }
    fputs("]}", out);
}

void explain_json(const struct explanation *explanation, FILE *out)
{
    const struct inquiry *inquiry = explanation->inquiry;

    fputc('{', out);
    json_contract(inquiry, out);
    json_tried(&inquiry->trail, out);
    json_endpoints(explanation, out);
    fprintf(out, ",\"daemon\":%s", daemon_view_runs(explanation->daemon) ? "true" : "false");
    if (explanation->probed) {
        json_probe(inquiry, out);
    }
    fputs("}\n", out);
}
