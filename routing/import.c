#include "routing/import.h"

#include <errno.h>
#include <stdlib.h>

#include "config/text.h"
#include "routing/address.h"
#include "routing/import_check.h"
#include "routing/intern.h"

#define KEY_MAX (ADDRESS_MAX + 1) /* ".domain" */
#define WHY_MAX 512

#define FINE_SLOTS 256

/* As look-ups spell it. */
static struct span fold_address(const struct address *address, char *out)
{
    size_t len = address_fold_local(address, out).len;
    out[len++] = '@';
    return span_make(out, len + address_fold(address->domain, out + len).len);
}

static bool check_address_key(struct import_reader *reader, struct import_route *route,
                              char *folded)
{
    struct address address;
    struct span key = route->key;
    if (key.ptr[0] == '@') {
        diag_error(reader->diags, route->place, "a whole domain is written without `@`: `%.*s`",
                   SPAN_ARGS(span_skip(key, 1)));
        return false;
    }
    switch (address_parse(key, true, true, &address)) {
    case ADDRESS_OK:
        break;
    case ADDRESS_TOO_LONG:
        diag_error(reader->diags, route->place, "the address is longer than %d octets",
                   ADDRESS_MAX);
        return false;
    case ADDRESS_SYNTAX:
    case ADDRESS_ROUTING:
    case ADDRESS_UTF8:
        diag_error(reader->diags, route->place, "`%.*s` is no address", SPAN_ARGS(key));
        return false;
    }
    if (span_starts_fold(key, SPAN("*@"))) {
        diag_warning(reader->diags, route->place,
                     "`%.*s` is a mailbox called `*`; everyone at a domain is written as the "
                     "domain alone: `%.*s`",
                     SPAN_ARGS(key), SPAN_ARGS(span_skip(key, 2)));
    }
    if (address_has_routing(&address)) {
        diag_warning(reader->diags, route->place,
                     "`%.*s` is never used: addresses with `%%`, `!` or `@` in the local part are "
                     "refused",
                     SPAN_ARGS(key));
    }
    route->key = fold_address(&address, folded);
    return true;
}

/* "domain", ".domain" or "[literal]": read as the domain of an address. */
static bool check_domain_key(struct import_reader *reader, struct import_route *route, char *folded)
{
    struct address address;
    char buffer[KEY_MAX + 3];
    struct text text = TEXT(buffer);
    bool dot = route->key.ptr[0] == '.';
    text_puts(&text, "x@");
    text_put(&text, span_skip(route->key, dot ? 1 : 0));
    if (!text.full && address_parse(text_span(&text), true, true, &address) == ADDRESS_OK &&
        !(dot && address.literal)) {
        route->key = address_fold(route->key, folded);
        return true;
    }
    if (route->key.ptr[0] == '/') {
        diag_error(reader->diags, route->place,
                   "regular expressions are not read here: expected an address or a domain");
    } else {
        diag_error(reader->diags, route->place,
                   "`%.*s` is no pattern: expected user@domain, domain, .domain or *",
                   SPAN_ARGS(route->key));
    }
    return false;
}

/* False when it is none, which is told; else route's key is as look-ups spell it, in `folded`. */
static bool check_key(struct import_reader *reader, struct import_route *route, char *folded)
{
    struct span key = route->key;
    if (key.len == 0) {
        diag_error(reader->diags, route->place, "an empty pattern");
        return false;
    }
    if (key.len > KEY_MAX) {
        diag_error(reader->diags, route->place, "the pattern is longer than %d octets", KEY_MAX);
        return false;
    }
    if (span_equal(key, SPAN("*"))) {
        return true;
    }
    return span_find(key, '@') < key.len ? check_address_key(reader, route, folded)
                                         : check_domain_key(reader, route, folded);
}

/* "error:550 5.1.1 gone", as in access maps: taken as it stands, that is, as words. */
static bool warn_code(struct import_reader *reader, const struct import_route *route,
                      const struct transport *transport)
{
    unsigned long long code;
    bool reply = transport->kind == TRANSPORT_ERROR || transport->kind == TRANSPORT_RETRY;
    if (reply && strlen(transport->text) > 3 && transport->text[3] == ' ' &&
        span_number(span_make(transport->text, 3), 599, &code) && code >= 400) {
        diag_warning(reader->diags, route->to_place,
                     "`%llu` is sent as words behind %u %s: a status is written x.y.z, as in "
                     "`error:5.1.1 text`",
                     code, transport->code, transport->enhanced);
        return true;
    }
    return false;
}

static bool check_destination(struct import_reader *reader, const struct import_route *route)
{
    struct transport transport;
    char why[WHY_MAX];
    size_t where;
    bool anywhere = false;
    bool everyone = span_equal(route->key, SPAN("*"));
    if (!everyone && recent_has(reader->fine, route->to)) {
        return true;
    }
    if (!transport_parse(route->to, route->dialect, &transport, why, sizeof(why), &where)) {
        struct diag_place place = route->to_place;
        place.column += place.column > 0 ? (unsigned)where : 0;
        diag_error(reader->diags, place, "%s", why);
        return false;
    }
    for (size_t i = 0; i < transport.hop_count; i++) {
        anywhere |= transport.hops[i].kind == NEXTHOP_DOMAIN;
    }
    bool ok = !anywhere || !everyone;
    if (!ok) {
        diag_error(reader->diags, route->to_place,
                   "`smtp:` needs a next hop under `*`, or mail would go anywhere");
    }
    if (!warn_code(reader, route, &transport)) {
        recent_add(reader->fine, route->to);
    }
    transport_release(&transport);
    return ok;
}

bool import_give(struct import_reader *reader, struct import_route route)
{
    char folded[KEY_MAX];
    bool key_ok = check_key(reader, &route, folded);
    bool to_ok = check_destination(reader, &route);
    if (!key_ok || !to_ok) {
        return true;
    }
    reader->stopped = !reader->sink(reader->context, &route);
    return !reader->stopped;
}

bool import_is_yaml(const char *path)
{
    struct span name = span_of(path);
    return span_ends(name, SPAN(".yaml")) || span_ends(name, SPAN(".yml")) ||
           span_ends(name, SPAN(".json"));
}

void import_read(const char *path, import_sink *sink, void *context, struct diag_list *diags)
{
    struct import_reader reader = {.path = path,
                                   .sink = sink,
                                   .context = context,
                                   .diags = diags,
                                   .fine = recent_new(FINE_SLOTS)};
    if (import_is_yaml(path)) {
        import_read_yaml(&reader);
    } else {
        import_read_map(&reader);
    }
    recent_free(reader.fine);
}

/* `splitmx import`. */

struct conversion {
    FILE *out;
    struct intern *keys;
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

/* In a map the first of equal keys wins; in YAML they would be an error. */
static bool convert(void *context, const struct import_route *route)
{
    struct conversion *conversion = context;
    uint32_t number;
    switch (intern_add(conversion->keys, route->key, &number)) {
    case INTERN_NEW:
        write_route(conversion->out, route);
        return true;
    case INTERN_KNOWN:
        diag_warning(conversion->diags, route->place,
                     "`%.*s` is there already; the first one is taken", SPAN_ARGS(route->key));
        return true;
    case INTERN_NO_MEMORY:
        break;
    }
    conversion->no_memory = true;
    return false;
}

static void write_header(FILE *out, const char *path)
{
    fputs("# Made by `splitmx import` from ", out);
    if (strcmp(path, IMPORT_STDIN) == 0) {
        path = "standard input";
    }
    for (const char *p = path; *p; p++) {
        fputc((unsigned char)*p < 0x20 || *p == 0x7f ? '?' : *p, out);
    }
    fputc('\n', out);
}

static bool convert_all(const char *path, FILE *out, struct diag_list *diags)
{
    size_t before = diag_errors(diags);
    struct conversion conversion = {.out = out, .keys = intern_new(), .diags = diags};
    conversion.no_memory = !conversion.keys;
    write_header(out, path);
    if (conversion.keys) {
        import_read(path, convert, &conversion, diags);
    }
    intern_free(conversion.keys);
    if (conversion.no_memory || ferror(out)) {
        diag_machine(diags, "out of memory");
    }
    return diag_errors(diags) == before;
}

/* The map is read once, for it may be a pipe, and nothing is written of one that is not fit to
 * load: so what will be written is held until then. The keys are held anyway. */
bool import_to_yaml(const char *path, FILE *out, const char *name, struct diag_list *diags)
{
    char *yaml = NULL;
    size_t size = 0;
    FILE *held = open_memstream(&yaml, &size);
    bool fine = held && convert_all(path, held, diags);
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
