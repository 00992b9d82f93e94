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

/* Whose MX records a next hop means; empty for one that is the host itself. */
static struct span mx_domain(const struct nexthop *hop, const struct address *parsed)
{
    switch (hop->kind) {
    case NEXTHOP_MX:
        return span_of(hop->host);
    case NEXTHOP_DOMAIN:
        return parsed->domain;
    case NEXTHOP_HOST:
    case NEXTHOP_ADDRESS:
        break;
    }
    return SPAN("");
}

/* ---- text ---- */

static void text_hop(const struct nexthop *hop, const struct address *parsed, FILE *out)
{
    char spelt[NEXTHOP_TEXT];
    const struct span mx = mx_domain(hop, parsed);

    fputs("  next hop   ", out);
    if (hop->kind == NEXTHOP_DOMAIN) {
        fputs("MX of ", out);
        print_plain(out, mx);
        fprintf(out, ", port %u\n", hop->port);
        return;
    }
    nexthop_text(hop, spelt, sizeof(spelt));
    print_plain(out, span_of(spelt));
    if (hop->kind == NEXTHOP_MX) {
        fprintf(out, " (by the MX records of %s)", hop->host);
    } else if (hop->kind == NEXTHOP_HOST) {
        fputs(" (the host itself, no MX)", out);
    }
    fputc('\n', out);
}

static void text_relay(const struct explanation *explanation, FILE *out)
{
    const struct decision *decision = explanation->decision;
    const struct relay *relay = decision->relay;

    fprintf(out, "  relay      %s%s\n", relay->name, relay->direct ? " (as written)" : "");
    for (size_t i = 0; i < relay->hop_count; i++) {
        text_hop(&relay->hops[i], explanation->parsed, out);
    }
    if (decision->fallback) {
        fprintf(out, "  fallback   %s\n", decision->fallback->name);
    }
    if (decision->unknown_recipient) {
        fprintf(out, "  unknown    %s (asked for recipients that %s does not know)\n",
                decision->unknown_recipient->name, relay->name);
    }
    fprintf(out, "  tls        %s\n", tls_policy_name(relay->tls));
}

void explain_text(const struct explanation *explanation, FILE *out)
{
    const struct decision *decision = explanation->decision;

    print_plain(out, explanation->address);
    fputc('\n', out);
    if (decision->matched) {
        fputs("  matched    ", out);
        print_plain(out, span_of(decision->hit.key));
        fputs(", ", out);
        print_plain(out, span_of(decision->hit.file));
        fprintf(out, ":%u\n", decision->hit.line);
    } else {
        fputs("  matched    nothing\n", out);
    }
    switch (decision->kind) {
    case DECISION_RELAY:
        text_relay(explanation, out);
        break;
    case DECISION_REPLY:
        fprintf(out, "  %-10s %u %s %s\n", decision->code / 100 == 4 ? "put off" : "refused",
                decision->code, decision->enhanced, decision->text);
        if (decision->outside) {
            fputs("  because    ", out);
            print_plain(out, explanation->parsed->domain);
            fputs(" is not among the `domains:` (default: those in the keys of YAML routes;\n"
                  "             a transport map and `*` add none)\n",
                  out);
        }
        break;
    case DECISION_DISCARD:
        fputs("  discarded  accepted and dropped\n", out);
        break;
    }
}

/* ---- JSON ---- */

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
    const struct span mx = mx_domain(hop, parsed);
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

static void json_hops(const struct explanation *explanation, FILE *out)
{
    const struct relay *relay = explanation->decision->relay;

    fputs(",\"next_hops\":", out);
    if (!relay) {
        fputs("null", out);
        return;
    }
    fputc('[', out);
    for (size_t i = 0; i < relay->hop_count; i++) {
        fputs(i > 0 ? "," : "", out);
        json_hop(&relay->hops[i], explanation->parsed, out);
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

void explain_json(const struct explanation *explanation, FILE *out)
{
    const struct decision *decision = explanation->decision;
    const struct relay *relay = decision->relay;
    const struct relay *fallback = decision->fallback;
    const struct relay *unknown = decision->unknown_recipient;
    char buffer[ACTION_MAX];
    struct text action = TEXT(buffer);

    if (!relay) {
        put_action(decision, &action);
    }
    fputs("{\"address\":", out);
    json_put_string(out, explanation->address);
    json_text(out, "matched", decision->matched ? decision->hit.key : NULL);
    json_source(decision, out);
    json_text(out, "relay", relay ? relay->name : NULL);
    json_text(out, "action", relay ? NULL : buffer);
    json_hops(explanation, out);
    json_text(out, "fallback", fallback ? fallback->name : NULL);
    json_text(out, "unknown_recipient", unknown ? unknown->name : NULL);
    json_text(out, "tls", relay ? tls_policy_name(relay->tls) : NULL);
    fputs("}\n", out);
}
