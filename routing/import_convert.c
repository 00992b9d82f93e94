#include <errno.h>
#include <stdlib.h>

#include "config/text.h"
#include "routing/import.h"
#include "routing/import_mailboxes.h"
#include "routing/intern.h"

/* What is under way: keys by number, and the destination of each. */
struct conversion {
    FILE *out;
    struct intern *keys;
    struct intern *destinations;
    uint32_t *goes_to; /* by number of key */
    size_t room;
    enum import_kind kind; /* of the file that is read */
    struct diag_list *diags;
    bool no_memory;
};

static bool is_plain(struct span s)
{
    static const char *const words[] = {"null", "true", "false", "yes", "no", "on", "off"};
    for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++) {
        if (span_equal_fold(s, span_of(words[i]))) {
            return false;
        }
    }
    for (size_t i = 0; i < s.len; i++) {
        char c = ascii_lower(s.ptr[i]);
        bool letter = c >= 'a' && c <= 'z';
        bool inside = (c >= '0' && c <= '9') || (c != '\0' && strchr(".@+-_:[]/,", c));
        if (!letter && (i == 0 || !inside)) {
            return false;
        }
    }
    return s.len > 0 && s.ptr[s.len - 1] != ':';
}

/* What YAML takes for the end of a line, or does not take at all (YAML 1.1 5.1, 5.4), and its name
 * in double quotes. */
static const struct {
    const char *character, *name;
} escapes[] = {{"\"", "\\\""},
               {"\\", "\\\\"},
               {"\xe2\x80\xa8", "\\L"},
               {"\xe2\x80\xa9", "\\P"},
               {"\xef\xbb\xbf", "\\uFEFF"},
               {"\xef\xbf\xbe", "\\uFFFE"},
               {"\xef\xbf\xbf", "\\uFFFF"}};

/* Writes the first character, or a byte of it. Returns its length. */
static size_t write_character(FILE *out, struct span s)
{
    for (size_t i = 0; i < sizeof(escapes) / sizeof(*escapes); i++) {
        struct span character = span_of(escapes[i].character);
        if (span_starts_fold(s, character)) {
            fputs(escapes[i].name, out);
            return character.len;
        }
    }
    fputc(s.ptr[0], out);
    return 1;
}

/* As a YAML scalar: as it is where nothing in it can mean anything to YAML, else in double quotes.
 */
static void write_scalar(FILE *out, struct span s)
{
    if (is_plain(s)) {
        fprintf(out, "%.*s", SPAN_ARGS(s));
        return;
    }
    fputc('"', out);
    while (s.len > 0) {
        s = span_skip(s, write_character(out, s));
    }
    fputc('"', out);
}

static void write_route(FILE *out, const struct import_route *route)
{
    struct span relay = SPAN("relay:"); /* what transport maps call smtp: */
    write_scalar(out, route->key);
    fputs(": ", out);
    if (route->dialect == TRANSPORT_MAP && span_starts_fold(route->to, relay)) {
        char buffer[IMPORT_VALUE_MAX + 1];
        struct text text = TEXT(buffer);
        text_puts(&text, "smtp:");
        text_put(&text, span_skip(route->to, relay.len));
        write_scalar(out, text_span(&text));
    } else {
        write_scalar(out, route->to);
    }
    fputc('\n', out);
}

static bool keep_destination(struct conversion *conversion, uint32_t key, struct span to)
{
    uint32_t number;
    if (key >= conversion->room) {
        const size_t room = conversion->room ? conversion->room * 2 : 1024;
        uint32_t *grown = reallocarray(conversion->goes_to, room, sizeof(*grown));
        if (!grown) {
            return false;
        }
        conversion->goes_to = grown;
        conversion->room = room;
    }
    if (intern_add(conversion->destinations, to, &number) == INTERN_NO_MEMORY) {
        return false;
    }
    conversion->goes_to[key] = number;
    return true;
}

/* In a map the first of equal keys wins; in YAML they would be an error. An account that has an
 * alias of its name is nothing to speak of. */
static void tell_known(const struct conversion *conversion, uint32_t key,
                       const struct import_route *route)
{
    const struct span to = intern_at(conversion->destinations, conversion->goes_to[key]);
    if (conversion->kind == IMPORT_MAP) {
        diag_warning(conversion->diags, route->place,
                     "`%.*s` is there already; the first one is taken", SPAN_ARGS(route->key));
    } else if (!span_equal(to, route->to)) {
        diag_warning(conversion->diags, route->place,
                     "`%.*s` goes to `%.*s` already; the first one is taken", SPAN_ARGS(route->key),
                     SPAN_ARGS(to));
    }
}

static bool convert(void *context, const struct import_route *route)
{
    struct conversion *conversion = context;
    uint32_t number;
    switch (intern_add(conversion->keys, route->key, &number)) {
    case INTERN_NEW:
        write_route(conversion->out, route);
        if (keep_destination(conversion, number, route->to)) {
            return true;
        }
        break;
    case INTERN_KNOWN:
        tell_known(conversion, number, route);
        return true;
    case INTERN_NO_MEMORY:
        break;
    }
    conversion->no_memory = true;
    return false;
}

static void write_header(FILE *out, const struct import_job *job)
{
    fputs("# Made by `splitmx import` from ", out);
    for (size_t i = 0; i < job->count; i++) {
        const bool standard = strcmp(job->paths[i], IMPORT_STDIN) == 0;
        fputs(i > 0 ? ", " : "", out);
        for (const char *p = standard ? "standard input" : job->paths[i]; *p; p++) {
            fputc((unsigned char)*p < 0x20 || *p == 0x7f ? '?' : *p, out);
        }
    }
    fputc('\n', out);
}

/* What the file is by its name; what it is said to be goes before. */
static enum import_kind kind_of(const struct import_job *job, const char *path)
{
    const struct span name = span_of(path);
    if (job->kind != IMPORT_NAMED) {
        return job->kind;
    }
    if (span_ends(name, SPAN("postfix-accounts.cf"))) {
        return IMPORT_ACCOUNTS;
    }
    return span_ends(name, SPAN("postfix-virtual.cf")) || span_ends(name, SPAN("postfix-regexp.cf"))
               ? IMPORT_VIRTUAL
               : IMPORT_MAP;
}

static void convert_file(struct conversion *conversion, struct mailboxes *mailboxes,
                         const char *path, struct import_outcome *outcome)
{
    switch (conversion->kind) {
    case IMPORT_ACCOUNTS:
    case IMPORT_VIRTUAL:
        outcome->mailboxes = true;
        mailboxes_read(mailboxes, path, conversion->kind == IMPORT_ACCOUNTS, convert, conversion,
                       conversion->diags);
        break;
    case IMPORT_NAMED:
    case IMPORT_MAP:
        if (import_is_yaml(path)) {
            diag_error(conversion->diags, (struct diag_place){.file = path},
                       "this is YAML by its name: name it in `routes:` as it is");
        } else {
            import_read(path, convert, conversion, conversion->diags);
        }
        break;
    }
}

static bool convert_all(const struct import_job *job, FILE *out, struct import_outcome *outcome,
                        struct diag_list *diags)
{
    size_t before = diag_errors(diags);
    struct mailboxes *mailboxes = mailboxes_new(job->to);
    struct conversion conversion = {
        .out = out, .keys = intern_new(), .destinations = intern_new(), .diags = diags};
    conversion.no_memory = !conversion.keys || !conversion.destinations || !mailboxes;
    write_header(out, job);
    for (size_t i = 0; i < job->count && !conversion.no_memory; i++) {
        conversion.kind = kind_of(job, job->paths[i]);
        convert_file(&conversion, mailboxes, job->paths[i], outcome);
    }
    if (!conversion.no_memory) {
        outcome->routes = intern_count(conversion.keys);
        outcome->left_out = mailboxes_left_out(mailboxes);
        outcome->elsewhere = mailboxes_tell_elsewhere(mailboxes, diags);
        conversion.no_memory = mailboxes_no_memory(mailboxes);
    }
    if (outcome->routes == 0 && outcome->mailboxes && diag_errors(diags) == before) {
        diag_error(diags, (struct diag_place){.file = job->paths[job->count - 1]},
                   "no mailbox is in what was read");
    }
    mailboxes_free(mailboxes);
    intern_free(conversion.keys);
    intern_free(conversion.destinations);
    free(conversion.goes_to);
    if (conversion.no_memory || ferror(out)) {
        diag_machine(diags, "out of memory");
    }
    return diag_errors(diags) == before;
}

/* A file is read once, for it may be a pipe, and nothing is written of one that is not fit to
 * load: so what will be written is held until then. The keys are held anyway. */
bool import_to_yaml(const struct import_job *job, FILE *out, const char *name,
                    struct import_outcome *outcome, struct diag_list *diags)
{
    char *yaml = NULL;
    size_t size = 0;
    FILE *held = open_memstream(&yaml, &size);
    *outcome = (struct import_outcome){0};
    bool fine = held && convert_all(job, held, outcome, diags);
    bool closed = held && fclose(held) == 0;
    if (!held || (fine && !closed)) {
        diag_machine(diags, "out of memory");
        fine = false;
    }
    bool written = fine && fwrite(yaml, 1, size, out) == size && fflush(out) == 0;
    if (fine && !written) {
        diag_machine(diags, "%s: cannot be written: %s", name, strerror(errno));
        clearerr(out); /* it is told */
    }
    free(yaml);
    return written;
}
