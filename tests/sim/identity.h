/*
 * identity: who a client is, and what an upstream was told of it (design: section 5, identity).
 */
#ifndef SPLITMX_TESTS_SIM_IDENTITY_H
#define SPLITMX_TESTS_SIM_IDENTITY_H

#include "config/text.h"
#include "tests/sim/sim.h"

enum name_state { NAME_AWAITED, NAME_KNOWN, NAME_NONE, NAME_TOO_LATE };

/* The same as long as the client's session lasts. */
struct identity {
    unsigned number; /* of the client */
    char ip[64], local_ip[64];
    unsigned port, local_port;
    bool six;
    char name[256]; /* that its address has */
    enum name_state name_state;
    bool guesses;             /* addresses */
    unsigned unknown;         /* recipients of its that their relay did not know */
    unsigned asked_elsewhere; /* of them, those that another relay was asked for */
    uint64_t asked_since;
};

/* As it last introduced itself. */
struct hello {
    char name[256];
    bool extended, secure;
};

/* XCLIENT's attributes, in the order of their bits. */
#define ATTRIBUTES     9
#define ATTRIBUTE_NAME (1u << 7)
#define ATTRIBUTE_ADDR (1u << 8)
#define ATTRIBUTES_ALL ((1u << ATTRIBUTES) - 1)

/* What an upstream was told by XCLIENT. */
struct told {
    unsigned set;
    char values[ATTRIBUTES][300];
};

void identity_make(struct sim *sim, unsigned number, struct identity *identity);
struct identity *identity_of_ip(struct sim *sim, struct span ip);
void identity_offer(unsigned attributes, struct text *out); /* EHLO's line, without 250- */

/* One line of XCLIENT. False: not as it ought to be. */
bool identity_take_line(struct told *told, unsigned offered, struct span line);
/* Whether all of what was offered was told as it is. */
bool identity_is_told(const struct told *told, unsigned offered, const struct identity *identity,
                      const struct hello *hello);
struct span identity_proxy_line(const struct identity *identity, char *out, size_t size);

#endif
