/*
 * body: the scanner between a client's message and the legs (design: section 5; RFC
 * 5321 2.3.8, 4.1.1.4).
 *
 * Pure. Input is the message in wire form. The scanner tells how many bytes from the front are
 * clean, that is, may be passed on as they are; a CR that waits for its LF and a dot at a line's
 * start that may be the end are not clean yet: the caller presents them again with what follows. So
 * the result does not depend on how input is cut. Only CRLF.CRLF ends data (the first CRLF may be
 * that of the DATA command).
 */
#ifndef SPLITMX_PROXY_WIRE_BODY_H
#define SPLITMX_PROXY_WIRE_BODY_H

#include <stdint.h>

#include "config/span.h"

enum body_status {
    BODY_MORE, /* clean bytes passed; wants more input */
    BODY_END,  /* the clean bytes are the last; the terminator (".\r\n") is counted in `consumed` */
    BODY_DIRTY, /* bare CR, bare LF or NUL behind the clean bytes */
};

/* Zero-initialise at each message, with line_start = true. */
struct body_scanner {
    bool line_start; /* the last byte passed on was a line's end */
    uint64_t size;   /* message octets passed so far, unstuffed (RFC 1870) */
};

/*
 * Looks at input; *clean is how many bytes may be passed on. At BODY_END *consumed = *clean + 3.
 * Otherwise *consumed = *clean.
 */
enum body_status body_scan(struct body_scanner *scanner, struct span input, size_t *clean,
                           size_t *consumed);

/* After BODY_DIRTY: throws input away until the true end. True when it was seen; *consumed may be
 * less than the input (what may be part of the end is presented again). */
bool body_skip(struct body_scanner *scanner, struct span input, size_t *consumed);

#endif
