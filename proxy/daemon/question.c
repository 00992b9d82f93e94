#include "proxy/daemon/question.h"

#include <stdlib.h>

#include "config/text.h"
#include "proxy/daemon/quote.h"
#include "proxy/daemon/status.h"
#include "tls/policy.h"

/* An address as it stands in mail and logs, without its angle brackets. */
static struct span bare(struct span address)
{
    bool angled = address.len > 2 && address.ptr[0] == '<' && address.ptr[address.len - 1] == '>';
    return angled ? span_make(address.ptr + 1, address.len - 2) : address;
}

/* ---- what the table says ---- */

static void on_key(void *context, struct span key, enum table_found found)
{
    struct trail *trail = context;
    struct trail_key *keys = realloc(trail->keys, (trail->count + 1) * sizeof *keys);
    if (keys == NULL) {
        trail->broken = true;
        return;
    }
    trail->keys = keys;
    char *copy = span_dup(key);
    if (copy == NULL) {
        trail->broken = true;
        return;
    }
    keys[trail->count++] = (struct trail_key){copy, found};
}

/* As route_decide has looked: not at all where the address or its domain is refused. */
static void read_trail(struct question *question, const struct config *config,
                       const struct table *table)
{
    const struct decision *decision = &question->decision;
    struct address address = question->parsed;
    struct table_hit unused;
    char delimiter = config->recipient_delimiter;
    if (decision->broken || decision->outside || question->parsed.whole.len == 0) {
        return;
    }
    if (address.domain.len == 0) {
        address =
            (struct address){.local = SPAN("postmaster"), .domain = span_of(config->hostname.text)};
        delimiter = '\0';
    }
    (void)table_trace(table, &address, delimiter, &unused, on_key, &question->trail);
}

bool question_ask(struct question *question, const struct config *config,
                  const struct relay_set *relays, const struct table *table, struct span asked)
{
    struct address address = {0};
    *question = (struct question){.asked = bare(asked)};
    asked = question->asked;
    route_decide(config, relays, table, asked, &question->parsed, &question->decision);
    /* Of an address that is refused as such no key is looked for. */
    question->is_address = address_parse(asked, false, config->smtputf8, &address) == ADDRESS_OK;
    if (question->is_address) {
        question->parsed = address;
        read_trail(question, config, table);
    }
    if (question->trail.broken) {
        question_release(question);
        return false;
    }
    return true;
}

void question_release(struct question *question)
{
    for (size_t i = 0; i < question->trail.count; i++) {
        free(question->trail.keys[i].key);
    }
    free(question->trail.keys);
    question->trail = (struct trail){0};
}

/* ---- the answer ---- */

/* Whose MX records a next hop means; empty for one that is the host itself. */
struct span question_mx_domain(const struct nexthop *hop, const struct address *parsed)
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

void question_put_member(FILE *out, const char *key, const char *value)
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
    const struct span mx = question_mx_domain(hop, parsed);
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

static void json_hops(const struct question *question, FILE *out)
{
    const struct relay *relay = question->decision.relay;

    fputs(",\"next_hops\":", out);
    if (!relay) {
        fputs("null", out);
        return;
    }
    fputc('[', out);
    for (size_t i = 0; i < relay->hop_count; i++) {
        fputs(i > 0 ? "," : "", out);
        json_hop(&relay->hops[i], &question->parsed, out);
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
    question_put_member(out, "source", decision->matched ? place : NULL);
}

static void json_contract(const struct question *question, FILE *out)
{
    const struct decision *decision = &question->decision;
    const struct relay *relay = decision->relay;
    const struct relay *fallback = decision->fallback;
    const struct relay *unknown = decision->unknown_recipient;
    char buffer[ACTION_MAX];
    struct text action = TEXT(buffer);

    if (!relay) {
        put_action(decision, &action);
    }
    fputs("\"address\":", out);
    json_put_string(out, question->asked);
    question_put_member(out, "matched", decision->matched ? decision->hit.key : NULL);
    json_source(decision, out);
    question_put_member(out, "relay", relay ? relay->name : NULL);
    question_put_member(out, "action", relay ? NULL : buffer);
    json_hops(question, out);
    question_put_member(out, "fallback", fallback ? fallback->name : NULL);
    question_put_member(out, "unknown_recipient", unknown ? unknown->name : NULL);
    question_put_member(out, "tls", relay ? tls_policy_name(relay->tls) : NULL);
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

void question_begin(const struct question *question, FILE *out)
{
    fputc('{', out);
    json_contract(question, out);
    json_tried(&question->trail, out);
}

void question_put_endpoint(const struct question_endpoint *endpoint, FILE *out)
{
    char address[NET_ADDRESS_TEXT];
    net_address_text_port(endpoint->address, address, sizeof address);
    fprintf(out, "{\"next_hop\":%zu", endpoint->hop);
    question_put_member(out, "host", endpoint->host[0] != '\0' ? endpoint->host : NULL);
    question_put_member(out, "address", address);
    if (endpoint->state != NULL) {
        question_put_member(out, "health", endpoint->state);
        fprintf(out, ",\"failures\":%u,\"seconds\":%llu}", endpoint->failures,
                (unsigned long long)endpoint->seconds);
    } else {
        fputs(",\"health\":null,\"failures\":null,\"seconds\":null}", out);
    }
}

/* ---- in the daemon itself ---- */

static void find_health(const struct health *health, bool proxy, uint64_t now,
                        struct question_endpoint *out)
{
    const struct health_endpoint endpoint = {.address = *out->address, .proxy = proxy};
    struct health_status found;
    if (health_of(health, &endpoint, &found)) {
        out->state = health_state_text(found.state);
        out->failures = found.failures;
        out->seconds = now > found.since ? (now - found.since) / 1000 : 0;
    }
}

/* What the names among the next hops lead to would have to be asked for. */
static void put_literals(const struct relay *relay, const struct health *health, uint64_t now,
                         FILE *out)
{
    const char *between = "[";
    char host[NET_ADDRESS_TEXT];
    fputs(",\"endpoints\":", out);
    for (size_t i = 0; i < relay->hop_count; i++) {
        const struct nexthop *hop = &relay->hops[i];
        if (hop->kind == NEXTHOP_ADDRESS) {
            struct question_endpoint endpoint = {.hop = i, .host = host, .address = &hop->address};
            net_address_text(&hop->address, host, sizeof host);
            find_health(health, relay->identity == IDENTITY_PROXY, now, &endpoint);
            fputs(between, out);
            question_put_endpoint(&endpoint, out);
            between = ",";
        }
    }
    fputs(between[0] == ',' ? "]" : "null", out);
}

void question_answer(const struct question *question, const struct health *health, uint64_t now,
                     FILE *out)
{
    const bool open = question->decision.kind == DECISION_RELAY;
    question_begin(question, out);
    if (open) {
        put_literals(question->decision.relay, health, now, out);
    } else {
        fputs(",\"endpoints\":null", out);
    }
    fprintf(out, ",\"daemon\":%s}\n", open ? "true" : "false");
}
