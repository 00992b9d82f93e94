/*
 * explain: what the table says for one address, as text or as a line of JSON (design: section 8).
 */
#ifndef SPLITMX_PROXY_CLI_EXPLAIN_H
#define SPLITMX_PROXY_CLI_EXPLAIN_H

#include <stdio.h>

#include "routing/route.h"

/* One question and its answer. */
struct explanation {
    struct span address; /* as asked */
    const struct address *parsed;
    const struct decision *decision;
};

void explain_text(const struct explanation *explanation, FILE *out);
void explain_json(const struct explanation *explanation, FILE *out);

#endif
