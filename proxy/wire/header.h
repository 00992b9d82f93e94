/*
 * header: watches the header section go by and counts what loops are known by (RFC 5321 6.3;
 * design: section 6). Pure.
 */
#ifndef SPLITMX_PROXY_WIRE_HEADER_H
#define SPLITMX_PROXY_WIRE_HEADER_H

#include "config/span.h"

/* More than what received_write puts in front of its fallback mark, however long HELO, PTR and host
 * names are. */
#define HEADER_LINE_KEPT 1024

/* Where the watch is; for header.c only. */
enum header_place {
    HEADER_LINE_START, /* at the first byte of a line */
    HEADER_NAME,       /* in a field's name */
    HEADER_NAME_END,   /* in the blanks that old mail may have between name and colon */
    HEADER_RECEIVED,   /* in the body of a Received field */
    HEADER_OTHER,      /* in the body of any other */
};

struct header_watch {
    unsigned received; /* Received: fields begun so far */
    bool done;         /* the empty line was seen, or something that is no header */
    bool own_fallback; /* a Received field by our hostname with "(splitmx fallback)" */
    bool in_field;     /* a field has begun, so a line that begins with a blank continues it */
    bool in_received;  /* and it is a Received field */
    enum header_place place;
    unsigned short kept;         /* bytes of the current unfolded field in line[] */
    unsigned short judged;       /* of them, those that were looked at */
    char line[HEADER_LINE_KEPT]; /* each run of blanks and line ends as one space */
    struct span hostname;        /* ours, set by init, must outlive the watch */
};

void header_watch_init(struct header_watch *watch, struct span hostname);

/* Clean bytes as they are passed on, cut in any way. What is told counts whole lines only. Cheap
 * once done. */
void header_watch_feed(struct header_watch *watch, struct span bytes);

#endif
