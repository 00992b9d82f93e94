/*
 * identity: by what a message is known again when its sender tries once more (design: section 5):
 * SHA-256 over the header fields From, Sender, To, Cc, Subject, Date, Message-ID, MIME-Version and
 * Content-*, in order, and the body as it is. Other fields do not count, as relays add some on the
 * way, nor does where lines are folded.
 *
 * A message has an identity when it has exactly one Date and one Message-ID, a header section
 * without a line that is no field, and an empty line behind it.
 *
 * Pure. 16 KiB for any message: what fits is kept, and hashed only when the identity is asked for.
 */
#ifndef SPLITMX_PROXY_WIRE_IDENTITY_H
#define SPLITMX_PROXY_WIRE_IDENTITY_H

#include "config/span.h"
#include "config/spares.h"

#define MESSAGE_IDENTITY_SIZE 32

struct message_identity;

/* NULL without memory. Free with message_identity_free. */
struct message_identity *message_identity_new(struct spares *spares);

/* The message as it is passed on: clean bytes in wire form, without the final dot, cut in any way.
 * What goes wrong here is told by message_identity_end. */
void message_identity_feed(struct message_identity *identity, struct span bytes);

/* Once, behind the last byte. False: the message has none, or it could not be computed, for want of
 * memory or of SHA-256. */
bool message_identity_end(struct message_identity *identity,
                          unsigned char digest[MESSAGE_IDENTITY_SIZE]);

/* NULL is fine. */
void message_identity_free(struct message_identity *identity);

#endif
