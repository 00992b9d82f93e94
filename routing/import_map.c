#include "routing/import_lines.h"

/* Where " #" stands in what is no text for people; `to.len`: nowhere. */
static size_t find_comment(struct span to)
{
    if (span_starts_fold(to, SPAN("error:")) || span_starts_fold(to, SPAN("retry:")) ||
        span_starts_fold(to, SPAN("discard:"))) {
        return to.len;
    }
    const size_t at = span_find(to, '#');
    return at > 0 && at < to.len && import_is_blank(to.ptr[at - 1]) ? at : to.len;
}

/* A line of a transport map: a pattern, blanks, a destination. */
static bool take_line(void *context, const struct line_reader *lines, struct span line)
{
    struct import_reader *import = context;
    size_t at = import_key_length(line);
    const struct span key = span_first(line, at);
    if (import_is_account(line)) {
        diag_error(import->diags, import_line_place(lines, 0),
                   "an address and its password, as in docker-mailserver's postfix-accounts.cf: "
                   "this is no transport map; `splitmx import --accounts FILE` makes routes of it");
        return false;
    }
    if (key.len > 1 && key.ptr[key.len - 1] == ':') {
        diag_error(import->diags, import_line_place(lines, key.len - 1),
                   "a colon behind the pattern, as in YAML: a file of YAML is named *.yaml; in a "
                   "transport map only blanks stand there");
        return true;
    }
    while (at < line.len && import_is_blank(line.ptr[at])) {
        at++;
    }
    const struct span to = span_skip(line, at);
    if (to.len == 0) {
        diag_error(import->diags, import_line_place(lines, 0),
                   "no destination for `%.*s`: expected a blank behind it and a transport, such as "
                   "smtp:[mail.example.com]",
                   SPAN_ARGS(key));
        return true;
    }
    const size_t comment = find_comment(to);
    if (comment < to.len) {
        diag_error(import->diags, import_line_place(lines, at + comment),
                   "a comment stands on a line of its own");
        return true;
    }
    return import_give(import, (struct import_route){
                                   .key = key,
                                   .to = to,
                                   .fallback = SPAN(""),
                                   .unknown_recipient = SPAN(""),
                                   .dialect = TRANSPORT_MAP,
                                   .place = import_line_place(lines, 0),
                                   .to_place = import_line_place(lines, at),
                               });
}

void import_read_map(struct import_reader *import)
{
    import_read_lines(import, take_line, import);
}
