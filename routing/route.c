#include "routing/route.h"

static void set_reply(struct decision *decision, unsigned code, const char *enhanced,
                      const char *text)
{
    decision->kind = DECISION_REPLY;
    decision->code = code;
    decision->enhanced = enhanced;
    decision->text = text;
}

static void set_broken(struct decision *decision)
{
    decision->broken = true;
    set_reply(decision, 451, "4.3.0", "routing table unavailable, try again later");
}

static void set_no_route(struct decision *decision)
{
    set_reply(decision, 550, "5.7.1", "no route for this recipient");
}

static void set_relay(struct decision *decision, const struct relay *relay,
                      const struct relay *fallback, const struct relay *unknown_recipient)
{
    decision->kind = DECISION_RELAY;
    decision->relay = relay;
    decision->fallback = fallback;
    decision->unknown_recipient = unknown_recipient;
}

/* What the address itself is refused for; false when it is fine. */
static bool refuse_address(enum address_error error, struct decision *decision)
{
    switch (error) {
    case ADDRESS_OK:
        return false;
    case ADDRESS_SYNTAX:
        set_reply(decision, 501, "5.1.3", "bad recipient address syntax");
        return true;
    case ADDRESS_TOO_LONG:
        set_reply(decision, 501, "5.1.3", "recipient address too long");
        return true;
    case ADDRESS_ROUTING:
        set_reply(decision, 550, "5.7.1", "source-routed addresses are not accepted");
        return true;
    case ADDRESS_UTF8:
        set_reply(decision, 553, "5.6.7", "recipient address must be ASCII");
        return true;
    }
    return false;
}

static void take_hit(struct decision *decision)
{
    const struct destination *destination = decision->hit.destination;
    decision->matched = true;
    switch (destination->kind) {
    case TRANSPORT_SMTP:
    case TRANSPORT_RELAY: /* names are resolved when a table is opened */
        set_relay(decision, destination->relay, destination->fallback,
                  destination->unknown_recipient);
        return;
    case TRANSPORT_ERROR:
    case TRANSPORT_RETRY:
        set_reply(decision, destination->code, destination->enhanced, destination->text);
        return;
    case TRANSPORT_DISCARD:
        decision->kind = DECISION_DISCARD;
        return;
    }
}

static void take_found(enum table_found found, struct decision *decision)
{
    switch (found) {
    case TABLE_HIT:
        take_hit(decision);
        return;
    case TABLE_MISS:
        set_no_route(decision);
        return;
    case TABLE_BROKEN:
        set_broken(decision);
        return;
    }
}

/* RFC 5321 4.5.1: <postmaster> is to be taken without a domain, wherever mail is taken at all. */
static void decide_postmaster(const struct config *config, const struct relay_set *relays,
                              const struct table *table, struct decision *decision)
{
    enum table_found found = table_find_postmaster(table, config->hostname.text, &decision->hit);
    const struct relay *local = relay_find(relays, SPAN("local"));
    if (found == TABLE_MISS && local) {
        set_relay(decision, local, local->fallback, local->unknown_recipient);
    } else {
        take_found(found, decision);
    }
}

static void decide_mailbox(const struct config *config, const struct table *table,
                           const struct address *address, struct decision *decision)
{
    char folded[ADDRESS_MAX];
    switch (table_accepts_domain(table, address_fold(address->domain, folded))) {
    case TABLE_HIT:
        take_found(table_lookup(table, address, config->recipient_delimiter, &decision->hit),
                   decision);
        return;
    case TABLE_MISS:
        decision->outside = true;
        set_reply(decision, 550, "5.7.1", "mail for this domain is not accepted here");
        return;
    case TABLE_BROKEN:
        set_broken(decision);
        return;
    }
}

void route_decide(const struct config *config, const struct relay_set *relays,
                  const struct table *table, struct span text, struct address *address,
                  struct decision *decision)
{
    *decision = (struct decision){.kind = DECISION_REPLY};
    if (refuse_address(address_parse(text, false, config->smtputf8, address), decision)) {
        return;
    }
    if (!table_intact(table)) {
        set_broken(decision);
    } else if (address->domain.len == 0) {
        decide_postmaster(config, relays, table, decision);
    } else {
        decide_mailbox(config, table, address, decision);
    }
}
