/*
 * route: from a recipient's address to the decision what to do with it (design: sections 2 law 4,
 * 4).
 */
#ifndef SPLITMX_ROUTING_ROUTE_H
#define SPLITMX_ROUTING_ROUTE_H

#include "routing/table.h"

enum decision_kind { DECISION_RELAY, DECISION_REPLY, DECISION_DISCARD };

struct decision {
    enum decision_kind kind;
    const struct relay *relay; /* RELAY; lives as long as the table and the relay set */
    const struct relay *fallback;
    const struct relay *unknown_recipient;
    unsigned code;        /* REPLY: "550", "5.7.1", words */
    const char *enhanced; /* static or owned by the table */
    const char *text;
    bool broken;  /* the table cannot be read: REPLY 451 */
    bool outside; /* the domain is not in `domains`: REPLY 550 */
    bool matched; /* hit below says what matched */
    struct table_hit hit;
};

/*
 * Decides for one recipient, the text between the angle brackets. Never fails: what is wrong
 * becomes a REPLY decision (501, 550, 553 or 451). `address` receives the parsed address on RELAY
 * and DISCARD, whose spans point into text (postmaster without a domain keeps its form).
 */
void route_decide(const struct config *config, const struct relay_set *relays,
                  const struct table *table, struct span text, struct address *address,
                  struct decision *decision);

#endif
