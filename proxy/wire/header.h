/*
 * header: watches the header section go by and counts what loops are known by (RFC 5321 6.3;
 * design: section 6). Pure.
 */
#ifndef SPLITMX_PROXY_WIRE_HEADER_H
#define SPLITMX_PROXY_WIRE_HEADER_H

#include "proxy/wire/field.h"

/* More than what received_write puts in front of its fallback mark, however long HELO, PTR and host
 * names are. */
#define HEADER_LINE_KEPT 1024

struct header_watch {
    unsigned received; /* Received: fields begun so far */
    bool done;         /* the empty line was seen, or something that is no header */
    bool own_fallback; /* a Received field by our hostname with "(splitmx fallback)" */
    bool in_value;     /* of a field, no more in its name */
    bool in_received;  /* and it is a Received field */
    struct field_walk walk;
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
