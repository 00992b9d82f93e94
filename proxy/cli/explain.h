/*
 * explain: what was found out about one address, as text or as a line of JSON (design: section 8).
 */
#ifndef SPLITMX_PROXY_CLI_EXPLAIN_H
#define SPLITMX_PROXY_CLI_EXPLAIN_H

#include <stdio.h>

#include "proxy/cli/daemon_view.h"
#include "proxy/cli/inquiry.h"

/* One question and its answer. */
struct explanation {
    const struct inquiry *inquiry;
    const struct daemon_view *daemon; /* NULL: nobody was asked */
    const char *not_looked_up;        /* why addresses are missing; NULL: they are there */
    bool probed;
};

void explain_text(const struct explanation *explanation, FILE *out);
void explain_json(const struct explanation *explanation, FILE *out);

#endif
