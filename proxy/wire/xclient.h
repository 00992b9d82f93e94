/*
 * xclient: tells an upstream who the client is (Postfix, XCLIENT_README). Pure, sans-I/O.
 *
 * How it is used: EHLO; when its reply lists XCLIENT, each line of xclient_next is sent, the next
 * one when 220 has answered it (Postfix logs pipelined ones as improper); after the last 220 EHLO
 * again, with the client's name, since XCLIENT takes the server back to its start. Never in a
 * transaction (503). The answer is the server's greeting to that client, so that a 421 may be about
 * the client's rate and a 554 about its address; 501 and 550 are about the identity.
 *
 * An attribute stays until it is set again, so every listed one is set. A server asks anew whether
 * its peer, which now is the client, may say XCLIENT: Postfix then offers it no more and answers
 * 550. Such a connection is one client's until it is closed.
 */
#ifndef SPLITMX_PROXY_WIRE_XCLIENT_H
#define SPLITMX_PROXY_WIRE_XCLIENT_H

#include "config/net_address.h"
#include "config/text.h"

#define XCLIENT_LINE_MAX 512 /* octets with CRLF */
/* Octets of a value as it is sent. Postfix answers 501 to longer ones, before it decodes them. */
#define XCLIENT_VALUE_MAX 255

/*
 * In the order in which they are sent. What a server may know us by, name and address, is last:
 * once it has them we may say nothing more. HELO and PROTO are close to them because Postfix
 * forgets those of an earlier line.
 */
enum xclient_attribute {
    XCLIENT_LOGIN,
    XCLIENT_DESTADDR,
    XCLIENT_DESTPORT,
    XCLIENT_REVERSE_NAME,
    XCLIENT_PORT,
    XCLIENT_PROTO,
    XCLIENT_HELO,
    XCLIENT_NAME,
    XCLIENT_ADDR,
    XCLIENT_ATTRIBUTES
};

/* An attribute's bit in a set. */
#define XCLIENT_BIT(attribute) (1u << (attribute))

/*
 * Takes one line of an EHLO reply (behind "250-"). When it is XCLIENT's: true, and *attributes is
 * the set that it lists; names that are not known here are left out. Otherwise false, *attributes
 * untouched: the caller zeroes it before each EHLO. A set without XCLIENT_ADDR is of little use.
 */
bool xclient_offer_line(struct span line, unsigned *attributes);

/* What is told; everything pointed at must outlive the writer. */
struct xclient_values {
    /* Host names without trailing dot. NULL, or no valid host name: there is none. */
    const char *name;         /* the PTR record's, forward-confirmed */
    const char *reverse_name; /* the PTR record's, confirmed or not */
    bool names_later; /* the look-up failed for now or is not done: what is NULL may exist */
    const struct net_address *client;      /* NULL or no IP address: not known */
    const struct net_address *destination; /* our listener's address; NULL: not known */
    struct span helo;                      /* as the client gave it; empty: none */
    bool esmtp;                            /* it said EHLO */
};

struct xclient_writer {
    struct xclient_values values;
    unsigned left; /* attributes still to be sent */
};

void xclient_init(struct xclient_writer *writer, const struct xclient_values *values,
                  unsigned attributes);

/*
 * Appends the next line with CRLF, at most XCLIENT_LINE_MAX octets, of which the caller has room;
 * false, and nothing, when all have been told. Each attribute of the set is sent once: as few lines
 * as it takes, the last as long as it can be, name and address always in that one. Values are xtext
 * (RFC 3461 4). LOGIN is always [UNAVAILABLE], as is what is not known or would be longer than
 * XCLIENT_VALUE_MAX; a name that may come later is [TEMPUNAVAIL]. HELO is passed on whatever it is:
 * whether it is good enough is the upstream's to say.
 */
bool xclient_next(struct xclient_writer *writer, struct text *line);

#endif
