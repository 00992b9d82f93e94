/* The answer of `route --json`: the members of the contract first, in its order. */
#include "proxy/cli/explain.h"

static void json_address(const struct net_address *address, FILE *out)
{
    char text[NET_ADDRESS_TEXT];
    net_address_text_port(address, text, sizeof text);
    question_put_member(out, "address", text);
}

static void json_endpoint(const struct explanation *explanation, size_t hop,
                          const struct resolver_address *at, FILE *out)
{
    struct daemon_health health;
    struct question_endpoint endpoint = {.hop = hop, .host = at->host, .address = &at->address};
    if (daemon_view_health(explanation->daemon, &at->address, &health)) {
        endpoint.state = health.state;
        endpoint.failures = health.failures;
        endpoint.seconds = health.seconds;
    }
    question_put_endpoint(&endpoint, out);
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
    question_put_member(out, "relay", attempt->relay->name);
    question_put_member(out, "host",
                        attempt->at && attempt->at->host[0] != '\0' ? attempt->at->host : NULL);
    if (attempt->at) {
        json_address(&attempt->at->address, out);
    } else {
        question_put_member(out, "address", NULL);
    }
    question_put_member(out, "name", call->name[0] != '\0' ? call->name : NULL);
    question_put_member(out, "tls", call->tls[0] != '\0' ? call->tls : NULL);
    question_put_member(out, "command",
                        call->answered == 0  ? NULL
                        : call->mail_refused ? "MAIL"
                                             : "RCPT");
    question_put_member(out, "reply", call->answered > 0 ? call->answers[0].words : NULL);
    question_put_member(out, "why", why);
    fputc('}', out);
}

static void json_probe(const struct inquiry *inquiry, FILE *out)
{
    const struct verdict *verdict = &inquiry->verdict;

    fprintf(out, ",\"probe\":{\"accepted\":%s,\"code\":%u", verdict->accepted ? "true" : "false",
            verdict->code);
    question_put_member(out, "enhanced", verdict->enhanced);
    question_put_member(out, "text", verdict->words);
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

    question_begin(&inquiry->question, out);
    json_endpoints(explanation, out);
    fprintf(out, ",\"daemon\":%s", daemon_view_runs(explanation->daemon) ? "true" : "false");
    if (explanation->probed) {
        json_probe(inquiry, out);
    }
    fputs("}\n", out);
}
