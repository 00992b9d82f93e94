#include "config/text.h"
#include "config/yaml.h"
#include "routing/address.h"
#include "routing/import_check.h"

/* A scalar that outlives the next event. */
struct kept {
    char bytes[YAML_SCALAR + 1];
    struct span value;
    struct diag_place place;
};

enum part { PART_TO, PART_FALLBACK, PART_UNKNOWN_RECIPIENT, PART_COUNT };

static const char *const part_keys[] = {"to", "fallback", "unknown-recipient", NULL};

struct route_reader {
    struct import_reader *import;
    struct yaml_reader *yaml;
    struct kept key;
    struct kept parts[PART_COUNT];
};

static void keep(struct kept *kept, const struct yaml_event *event)
{
    struct text text = TEXT(kept->bytes);
    text_put(&text, event->value);
    kept->value = text_span(&text);
    kept->place = event->place;
}

static bool is_null(const struct yaml_event *event)
{
    static const char *const words[] = {"", "~", "null", "Null", "NULL"};
    if (!event->plain) {
        return event->value.len == 0;
    }
    for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++) {
        if (span_equal(event->value, span_of(words[i]))) {
            return true;
        }
    }
    return false;
}

/* A scalar that says something; anything else is told and passed over. */
static bool take_scalar(struct route_reader *reader, struct yaml_event event, const char *expected,
                        struct kept *kept)
{
    struct diag_list *diags = reader->import->diags;
    if (event.kind != YAML_SCALAR_VALUE) {
        if (!event.refused) {
            diag_error(diags, event.place, "expected %s, not %s", expected,
                       event.kind == YAML_LIST
                           ? "a list; a host in brackets has its transport before it, smtp:[host]"
                           : "a mapping");
        }
        yaml_skip(reader->yaml, event);
        return false;
    }
    if (event.refused) {
        return false;
    }
    if (is_null(&event)) {
        diag_error(diags, event.place, "nothing is here: expected %s", expected);
        return false;
    }
    keep(kept, &event);
    if (!event.plain) {
        kept->place.column += kept->place.column > 0; /* past the quote */
    }
    return true;
}

static void report_unknown_key(struct route_reader *reader, const struct yaml_event *key)
{
    const char *nearest = diag_nearest(key->value.ptr, part_keys);
    if (transport_is_name(key->value)) { /* "x:", and on the next line "discard:" */
        diag_error(reader->import->diags, key->place,
                   "a destination that begins with `%.*s:` goes in quotes: \"%.*s:…\"",
                   SPAN_ARGS(key->value), SPAN_ARGS(key->value));
    } else if (nearest) {
        diag_error(reader->import->diags, key->place, "unknown key `%.*s`; did you mean `%s`?",
                   SPAN_ARGS(key->value), nearest);
    } else {
        diag_error(reader->import->diags, key->place,
                   "unknown key `%.*s`: expected to, fallback, unknown-recipient",
                   SPAN_ARGS(key->value));
    }
}

/* {to:, fallback:, unknown-recipient:}, behind its YAML_MAP. False when it is not fit to be used.
 */
static bool take_long_form(struct route_reader *reader, struct diag_place place)
{
    static const char *const expected[] = {"a destination", "the name of a relay",
                                           "the name of a relay"};
    bool ok = true;
    struct yaml_event event = yaml_next(reader->yaml);
    for (; event.kind == YAML_SCALAR_VALUE; event = yaml_next(reader->yaml)) {
        int part = 0;
        while (part < PART_COUNT && !span_equal(event.value, span_of(part_keys[part]))) {
            part++;
        }
        if (part == PART_COUNT) {
            report_unknown_key(reader, &event);
            yaml_skip(reader->yaml, yaml_next(reader->yaml));
            ok = false;
        } else if (!take_scalar(reader, yaml_next(reader->yaml), expected[part],
                                &reader->parts[part])) {
            ok = false;
        }
    }
    if (event.kind == YAML_BAD) {
        return false;
    }
    if (ok && reader->parts[PART_TO].value.len == 0) {
        diag_error(reader->import->diags, place, "no `to:` here: expected a destination");
        ok = false;
    }
    return ok;
}

/* The value of a key. False when there is no route to give. */
static bool take_value(struct route_reader *reader, struct yaml_event event)
{
    if (event.kind == YAML_MAP && !event.refused) {
        return take_long_form(reader, event.place);
    }
    return take_scalar(reader, event, "a destination, or {to:, fallback:, unknown-recipient:}",
                       &reader->parts[PART_TO]);
}

static bool give(struct route_reader *reader)
{
    const struct kept *parts = reader->parts;
    struct import_route route = {
        .key = reader->key.value,
        .to = parts[PART_TO].value,
        .fallback = parts[PART_FALLBACK].value,
        .unknown_recipient = parts[PART_UNKNOWN_RECIPIENT].value,
        .dialect = TRANSPORT_YAML,
        .place = reader->key.place,
        .to_place = parts[PART_TO].place,
        .fallback_place = parts[PART_FALLBACK].place,
        .unknown_place = parts[PART_UNKNOWN_RECIPIENT].place,
    };
    return import_give(reader->import, route);
}

void import_read_yaml(struct import_reader *import)
{
    static const struct span nothing = {"", 0};
    struct route_reader reader = {.import = import, .yaml = yaml_open(import->path, import->diags)};
    if (!reader.yaml) {
        diag_error(import->diags, (struct diag_place){.file = import->path}, "out of memory");
        return;
    }
    struct yaml_event event = yaml_next(reader.yaml);
    if (event.kind == YAML_MAP && event.made_up) {
        diag_error(import->diags, (struct diag_place){.file = import->path},
                   "no route is in this file, as if it were half-written; where none is meant, "
                   "write `{}`");
    }
    if (event.kind == YAML_MAP) {
        event = yaml_next(reader.yaml);
    }
    for (; event.kind == YAML_SCALAR_VALUE; event = yaml_next(reader.yaml)) {
        keep(&reader.key, &event);
        for (int i = 0; i < PART_COUNT; i++) {
            reader.parts[i].value = nothing;
        }
        if (take_value(&reader, yaml_next(reader.yaml)) && !give(&reader)) {
            break;
        }
    }
    if (event.kind == YAML_MAP_END) {
        yaml_next(reader.yaml); /* what stands behind the mapping is told */
    }
    yaml_close(reader.yaml);
}
