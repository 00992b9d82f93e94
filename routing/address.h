/*
 * address: mailbox addresses as RFC 5321 4.1.2 writes them: parse, split, fold. Pure.
 */
#ifndef SPLITMX_ROUTING_ADDRESS_H
#define SPLITMX_ROUTING_ADDRESS_H

#include "config/span.h"

#define ADDRESS_MAX 320 /* octets, RFC 3696 with the design's section 4 */

enum address_error {
    ADDRESS_OK,
    ADDRESS_SYNTAX,   /* 501 5.1.3 */
    ADDRESS_TOO_LONG, /* 501 5.1.3 */
    ADDRESS_ROUTING,  /* %, ! or @ inside the local part: 550 5.7.1 */
    ADDRESS_UTF8,     /* bytes above 127 and utf8 not allowed: 553 5.6.7 */
};

/* Spans point into the text that was parsed. */
struct address {
    struct span whole;  /* local@domain as the client wrote it, a source route stripped */
    struct span local;  /* with its quotes when quoted */
    struct span domain; /* empty for <postmaster> and for the null sender */
    bool quoted;
    bool literal; /* domain is an address literal, brackets included */
};

/*
 * Parses the text between the angle brackets of a path. A source route "@a,@b:" is stripped. The
 * empty text is ADDRESS_SYNTAX (the null sender is the caller's matter); "postmaster" (any case)
 * without a domain is fine and any other address without a domain is ADDRESS_SYNTAX. With
 * `routing_ok` (senders)
 * %, ! and quoted @ are accepted. With `utf8`, valid UTF-8 is accepted in local part and domain.
 */
enum address_error address_parse(struct span text, bool routing_ok, bool utf8, struct address *out);

/* Whether the local part has %, ! or @ in it: what address_parse refuses without `routing_ok`. */
bool address_has_routing(const struct address *address);

/* Writes the folded (ASCII lower case) form; out holds at least s.len bytes. */
struct span address_fold(struct span s, char *out);

/*
 * The local part as tables spell it, folded: "user" and user are the same mailbox (RFC 5321 4.1.2),
 * so quotes and backslashes go where the words can do without them, and where they cannot only `"`
 * and `\` keep a backslash. out holds at least local.len bytes.
 */
struct span address_fold_local(const struct address *address, char *out);

/* "user" of "user+ext", of a local part as address_fold_local gives it: when the delimiter occurs
 * past its first byte and it needs no quotes, else an empty span. delimiter 0: never. */
struct span address_without_extension(struct span local, char delimiter);

#endif
