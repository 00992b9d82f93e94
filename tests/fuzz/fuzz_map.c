/* Postfix transport maps: what is wrong is told with its place, and the YAML that `splitmx import`
 * makes of a sound one says the same. */
#include <stdio.h>

#include "config/text.h"
#include "routing/address.h"
#include "routing/import.h"
#include "tests/fuzz/require.h"
#include "tests/fuzz/scratch.h"

/* Routes as text, a line each. */
struct listing {
    struct text text;
    bool first_wins; /* as in maps */
};

static bool has_key(const struct listing *listing, struct span key)
{
    struct span rest = text_span(&listing->text);
    while (rest.len > 0) {
        const size_t end = span_find(rest, '\n');
        if (span_equal(span_first(rest, span_find(rest, '\t')), key)) {
            return true;
        }
        rest = span_skip(rest, end + 1);
    }
    return false;
}

static bool on_route(void *context, const struct import_route *route)
{
    struct listing *listing = context;
    const struct span relay = SPAN("relay:");
    struct span to = route->to;
    char folded[ADDRESS_MAX + 2];
    require(route->key.len > 0 && route->place.line > 0 && route->to_place.line > 0);
    require_no_control(route->key);
    require_printable(to);
    require(span_equal(address_fold(route->key, folded), route->key));
    if (listing->first_wins && has_key(listing, route->key)) {
        return true;
    }
    text_put(&listing->text, route->key);
    text_putc(&listing->text, '\t');
    if (route->dialect == TRANSPORT_MAP && span_starts_fold(to, relay)) {
        text_puts(&listing->text, "smtp:");
        to = span_skip(to, relay.len);
    }
    text_put(&listing->text, to);
    text_putc(&listing->text, '\n');
    return true;
}

/* What a scalar of YAML may not hold is told as an error there: a destination of that length. */
static bool has_long_line(struct span content)
{
    return content.len > 4000;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char bytes[2][1 << 20];
    const struct span content = span_make((const char *)data, size);
    const char *path = scratch_write(".cf", content);
    struct diag_list *diags = diag_list_new();
    struct listing map = {text_over(bytes[0], sizeof bytes[0]), true};
    struct listing made = {text_over(bytes[1], sizeof bytes[1]), false};
    char *yaml = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&yaml, &len);
    require(diags != NULL && out != NULL);

    import_read(path, on_route, &map, diags);
    scratch_require_places(diags, path, content);
    const bool sound = diag_errors(diags) == 0;
    const struct import_job job = {&path, 1, IMPORT_MAP, "local"};
    struct import_outcome outcome;
    require(import_to_yaml(&job, out, "out", &outcome, diags) == sound);
    fclose(out);
    diag_list_free(diags);
    if (sound && !map.text.full && !has_long_line(content)) {
        diags = diag_list_new();
        path = scratch_write(".yaml", span_make(yaml, len));
        import_read(path, on_route, &made, diags);
        require(diag_errors(diags) == 0);
        require(span_equal(text_span(&map.text), text_span(&made.text)));
        diag_list_free(diags);
    } else {
        require(sound || len == 0);
    }
    free(yaml);
    return 0;
}
