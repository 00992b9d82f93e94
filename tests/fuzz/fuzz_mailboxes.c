/* Accounts and aliases: what `splitmx import` makes of them reads as routes without an error, and
 * of accounts no message repeats anything. The first byte says which of the two. */
#include <stdio.h>

#include "config/text.h"
#include "routing/import.h"
#include "tests/fuzz/require.h"
#include "tests/fuzz/scratch.h"

static bool on_route(void *context, const struct import_route *route)
{
    size_t *count = context;
    require(route->key.len > 0 && span_equal(route->to, SPAN("local")));
    require_no_control(route->key);
    (*count)++;
    return true;
}

/* Quotes stand around what is repeated; but for the bar, accounts' messages have none. */
static void require_silent(const struct diag_list *diags)
{
    for (size_t i = 0; i < diag_count(diags); i++) {
        struct span text = span_of(diag_at(diags, i)->text);
        for (size_t at; (at = span_find(text, '`')) < text.len; text = span_skip(text, at + 3)) {
            require(span_starts_fold(span_skip(text, at), SPAN("`|`")));
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const bool accounts = size > 0 && data[0] % 2 == 0;
    const struct span content = span_skip(span_make((const char *)data, size), 1);
    const char *path = scratch_write(".cf", content);
    const struct import_job job = {&path, 1, accounts ? IMPORT_ACCOUNTS : IMPORT_VIRTUAL, "local"};
    struct diag_list *diags = diag_list_new();
    struct import_outcome outcome;
    char *yaml = NULL;
    size_t len = 0, count = 0;
    FILE *out = open_memstream(&yaml, &len);
    require(diags != NULL && out != NULL);

    const bool written = import_to_yaml(&job, out, "out", &outcome, diags);
    fclose(out);
    require(written == (diag_errors(diags) == 0) && (written || len == 0));
    require(outcome.mailboxes && (!written || outcome.routes > 0));
    scratch_require_places(diags, path, content);
    if (accounts && span_find(content, '\0') == content.len) {
        require_silent(diags);
    }
    diag_list_free(diags);
    if (written) {
        diags = diag_list_new();
        path = scratch_write(".yaml", span_make(yaml, len));
        import_read(path, on_route, &count, diags);
        require(diag_errors(diags) == 0 && count == outcome.routes);
        diag_list_free(diags);
    }
    free(yaml);
    return 0;
}
