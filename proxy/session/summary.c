#include "proxy/session/summary.h"

static void begin(struct record *record, const struct policy *policy,
                  const struct client_view *client, const char *event)
{
    record_begin(record, policy->config->log_format);
    record_str(record, "session", client->session_id);
    record_str(record, "event", event);
}

static void end(struct record *record, struct world *world, enum config_log_level level)
{
    world->ops->log(world, level, record_end(record));
}

static bool is_logged(const struct policy *policy, enum config_log_level level)
{
    return level <= policy->config->log_level;
}

static void put_client(struct record *record, const struct client_view *client)
{
    record_str(record, "client", client->ip);
    if (client->name != NULL) {
        record_str(record, "name", client->name);
    }
    record_span(record, "helo", client->helo);
}

static void put_reply(struct record *record, const struct reply *reply)
{
    char text[REPLY_TEXT + 32];
    struct text out = TEXT(text);
    reply_tell(reply, &out);
    record_span(record, "reply", text_span(&out));
}

static const char *outcome_of(const struct summary *summary)
{
    if (reply_is(summary->reply, 2)) {
        return "accepted";
    }
    if (summary->client_gone) {
        return "client-gone";
    }
    return reply_is(summary->reply, 4) ? "deferred" : "rejected";
}

/* Behind the name of a relay that a recipient came to by a detour. */
static const char *kind_mark(const struct leg *leg)
{
    if (leg == NULL || leg_kind(leg) == LEG_IS_PLAIN) {
        return "";
    }
    return leg_kind(leg) == LEG_IS_FALLBACK ? "(fallback)" : "(unknown-recipient)";
}

/* Behind the reply, where the fates of several legs may differ: what came of the message there. */
static const char *fate_mark(const struct leg *leg)
{
    static const char *const marks[] = {"/none", "/accepted", "/refused", "/unknown"};
    return leg != NULL ? marks[leg_fate(leg)] : "";
}

/* The list of recipients in one record, with room for the quotes around it. */
#define RECIPIENTS_MAX (RECORD_VALUE_MAX - 8)

/*
 * One value for as many as fit, "user@example.com=local:250;kingmail@example.com=kingmailer:250":
 * relay, and the answer to its RCPT. Returns the first that did not fit.
 */
static const struct recipient *put_recipients(struct record *record,
                                              const struct recipient *recipient, bool fates)
{
    char text[RECIPIENTS_MAX], one[512];
    struct text out = TEXT(text);
    for (; recipient != NULL; recipient = recipient->next) {
        const struct leg *leg = recipient->leg;
        struct text entry = TEXT(one);
        text_puts(&entry, out.len != 0 ? ";" : "");
        text_put(&entry, recipient->path);
        text_putc(&entry, '=');
        text_puts(&entry, leg != NULL ? leg_relay(leg)->name : "discard");
        text_puts(&entry, kind_mark(leg));
        text_putc(&entry, ':');
        text_number(&entry, recipient->code);
        text_puts(&entry, fates ? fate_mark(leg) : "");
        if (out.len + entry.len >= sizeof text) {
            break;
        }
        text_put(&out, text_span(&entry));
    }
    record_span(record, "recipients", text_span(&out));
    return recipient;
}

/* event=recipients: those that the transaction's own line had no room for. */
static void summary_more_recipients(struct world *world, const struct policy *policy,
                                    const struct client_view *client, const char *id,
                                    const struct recipient *recipient, bool fates)
{
    struct record record;
    while (recipient != NULL) {
        begin(&record, policy, client, "recipients");
        record_str(&record, "id", id);
        recipient = put_recipients(&record, recipient, fates);
        end(&record, world, LOG_INFO);
    }
}

void summary_transaction(struct world *world, const struct policy *policy,
                         const struct client_view *client, const struct summary *summary)
{
    struct record record;
    if (!is_logged(policy, LOG_INFO)) {
        return;
    }
    /* All accepted, or one relay for all: the outcome says it. */
    bool fates = summary->several && !reply_is(summary->reply, 2);
    begin(&record, policy, client, "transaction");
    record_str(&record, "id", summary->id);
    put_client(&record, client);
    record_str(&record, "protocol", client->protocol);
    if (client->tls[0] != '\0') {
        record_str(&record, "tls", client->tls);
    }
    record_span(&record, "sender", summary->envelope->sender);
    const struct recipient *rest = put_recipients(&record, summary->recipients, fates);
    record_number(&record, "size", summary->size);
    record_number(&record, "ms", summary->milliseconds);
    record_str(&record, "outcome", outcome_of(summary));
    put_reply(&record, summary->reply);
    if (summary->ledger != NULL) {
        record_str(&record, "ledger", summary->ledger);
    }
    end(&record, world, LOG_INFO);
    summary_more_recipients(world, policy, client, summary->id, rest, fates);
}

void summary_refused(struct world *world, const struct policy *policy,
                     const struct client_view *client, const char *id,
                     const struct recipient *recipient, const struct reply *reply)
{
    struct record record;
    if (!is_logged(policy, LOG_INFO)) {
        return;
    }
    begin(&record, policy, client, "recipient");
    record_str(&record, "id", id);
    put_client(&record, client);
    record_span(&record, "recipient", recipient->path);
    if (recipient->leg != NULL) {
        record_str(&record, "relay", leg_relay(recipient->leg)->name);
    }
    put_reply(&record, reply);
    end(&record, world, LOG_INFO);
}

void summary_elsewhere(struct world *world, const struct policy *policy,
                       const struct client_view *client, const char *id, const char *event,
                       const struct recipient *recipient, const struct relay *to,
                       const struct reply *why)
{
    struct record record;
    if (!is_logged(policy, LOG_INFO)) {
        return;
    }
    begin(&record, policy, client, event);
    record_str(&record, "id", id);
    record_span(&record, "recipient", recipient->path);
    record_str(&record, "relay", leg_relay(recipient->leg)->name);
    put_reply(&record, why);
    record_str(&record, "to", to->name);
    end(&record, world, LOG_INFO);
}

void summary_slowed(struct world *world, const struct policy *policy, const struct relay *relay,
                    const struct reply *reply)
{
    struct record record;
    if (!is_logged(policy, LOG_WARNING)) {
        return;
    }
    record_begin(&record, policy->config->log_format);
    record_str(&record, "event", "relay-slowed");
    record_str(&record, "relay", relay->name);
    put_reply(&record, reply);
    end(&record, world, LOG_WARNING);
}

static const char *health_event(enum health_change change)
{
    switch (change) {
    case HEALTH_SUSPECTED:
        return "endpoint-suspected";
    case HEALTH_CLEARED:
        return "endpoint-cleared";
    case HEALTH_OPENED:
        return "endpoint-down";
    case HEALTH_CLOSED:
        return "endpoint-up";
    case HEALTH_SAME:
        break;
    }
    return "endpoint-same";
}

void summary_health(struct world *world, const struct net_address *address,
                    enum health_change change, const char *failure)
{
    struct record record;
    char text[NET_ADDRESS_TEXT];
    if (!is_logged(world->policy, LOG_WARNING)) {
        return;
    }
    net_address_text_port(address, text, sizeof text);
    record_begin(&record, world->policy->config->log_format);
    record_str(&record, "event", health_event(change));
    record_str(&record, "endpoint", text);
    if (failure != NULL) {
        record_str(&record, "why", failure);
    }
    end(&record, world, LOG_WARNING);
}

void summary_may_repeat(struct world *world, const struct policy *policy,
                        const struct client_view *client, const char *id, const struct reply *reply)
{
    struct record record;
    if (!is_logged(policy, LOG_WARNING)) {
        return;
    }
    begin(&record, policy, client, "may-be-delivered-twice");
    record_str(&record, "id", id);
    put_client(&record, client);
    put_reply(&record, reply);
    end(&record, world, LOG_WARNING);
}

void summary_session(struct world *world, const struct client_view *client, const char *event,
                     const char *why)
{
    struct record record;
    if (!is_logged(world->policy, LOG_INFO)) {
        return;
    }
    begin(&record, world->policy, client, event);
    put_client(&record, client);
    record_str(&record, "why", why);
    end(&record, world, LOG_INFO);
}
