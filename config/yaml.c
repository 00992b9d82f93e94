#include "config/yaml.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/yaml_problem.h"
#include "config/yaml_scan.h"

struct key {
    char *text;
    size_t len;
    unsigned line;
};

/* One open mapping or list. */
struct frame {
    bool map;
    bool value_next;  /* mappings: the next node is the value of the key just read */
    size_t key_count; /* all keys so far; `keys` holds them up to YAML_KEYS_CHECKED */
    struct key *keys;
};

/* Of an empty file a mapping without keys is made up. */
enum root_state { ROOT_EXPECTED, ROOT_MADE_UP, ROOT_READ };

struct yaml_reader {
    struct yaml_scan *scan;  /* its current event owns the scalar last returned */
    const yaml_event_t *raw; /* that event */
    FILE *file;
    int open_errno;
    char *path;
    struct diag_list *diags;
    bool ended;
    enum root_state root;
    struct yaml_event last; /* once ended: what is returned for ever */
    size_t depth;
    struct frame frames[YAML_DEPTH];
};

/* What is read may be read again, at a reload; and a pipe would hold us until somebody writes. */
static void open_file(struct yaml_reader *reader, const char *path)
{
    struct stat status;
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd >= 0 && fstat(fd, &status) == 0) {
        errno = S_ISDIR(status.st_mode) ? EISDIR : EINVAL;
        reader->file = S_ISREG(status.st_mode) ? fdopen(fd, "rb") : NULL;
    }
    reader->open_errno = errno;
    if (!reader->file && fd >= 0) {
        close(fd);
    }
}

static void frame_forget_keys(struct frame *frame)
{
    size_t held = frame->key_count < YAML_KEYS_CHECKED ? frame->key_count : YAML_KEYS_CHECKED;
    if (!frame->keys) {
        return;
    }
    for (size_t i = 0; i < held; i++) {
        free(frame->keys[i].text);
    }
    free(frame->keys);
    frame->keys = NULL;
}

void yaml_close(struct yaml_reader *reader)
{
    if (!reader) {
        return;
    }
    for (size_t i = 0; i < reader->depth; i++) {
        frame_forget_keys(&reader->frames[i]);
    }
    yaml_scan_free(reader->scan);
    if (reader->file) {
        fclose(reader->file);
    }
    free(reader->path);
    free(reader);
}

struct yaml_reader *yaml_open(const char *path, struct diag_list *diags)
{
    struct yaml_reader *reader = calloc(1, sizeof(*reader));
    if (!reader) {
        return NULL;
    }
    reader->diags = diags;
    reader->path = span_dup(span_of(path));
    if (reader->path) {
        open_file(reader, path);
    }
    if (reader->file) {
        reader->scan = yaml_scan_new(fileno(reader->file));
    }
    if (!reader->path || (reader->file && !reader->scan)) {
        yaml_close(reader);
        return NULL;
    }
    return reader;
}

static struct diag_place place_at(const struct yaml_reader *reader, yaml_mark_t mark)
{
    return (struct diag_place){reader->path, (unsigned)mark.line + 1, (unsigned)mark.column + 1};
}

static struct diag_place place_of_file(const struct yaml_reader *reader)
{
    return (struct diag_place){.file = reader->path};
}

static struct yaml_event end_with(struct yaml_reader *reader, enum yaml_kind kind,
                                  struct diag_place place)
{
    reader->ended = true;
    reader->last = (struct yaml_event){.kind = kind, .value = SPAN(""), .place = place};
    return reader->last;
}

/* The byte at this offset, or EOF. */
static int byte_at(const struct yaml_reader *reader, size_t offset)
{
    return fseek(reader->file, (long)offset, SEEK_SET) == 0 ? getc(reader->file) : EOF;
}

/* libyaml tells where a wrong byte is by its offset only: the file is read again up to there. */
static struct diag_place place_of_offset(struct yaml_reader *reader, size_t offset)
{
    struct diag_place place = {reader->path, 1, 1};
    int before = 0;
    if (fseek(reader->file, 0, SEEK_SET) != 0) {
        return place_of_file(reader);
    }
    for (size_t i = 0; i < offset; i++) {
        int c = getc(reader->file);
        if (c == EOF) {
            break;
        }
        if (c == '\n' && before == '\r') {
            before = c;
            continue; /* counted with its CR */
        }
        if (c == '\n' || c == '\r') {
            place.line++;
            place.column = 1;
        } else if ((c & 0xc0) != 0x80) {
            place.column++;
        }
        before = c;
    }
    return place;
}

/* What is wrong with a sequence shows at the byte that does not belong to it, but it is the byte
 * that begins it that the operator has to change: an "ä" of Latin-1 looks like such a begin. */
static void tell_bad_utf8(struct yaml_reader *reader, const struct yaml_scan_problem *problem)
{
    size_t offset = (size_t)problem->offset;
    if (problem->value > 0xff) {
        diag_error(reader->diags, place_of_offset(reader, offset),
                   "not valid UTF-8 (character U+%04X); save the file as UTF-8",
                   (unsigned)problem->value);
        return;
    }
    if (strstr(problem->problem, "trailing")) {
        do {
            offset--;
        } while (offset > 0 && (byte_at(reader, offset) & 0xc0) == 0x80);
    }
    int byte = byte_at(reader, offset);
    if (byte == EOF) { /* a pipe */
        diag_error(reader->diags, place_of_file(reader), "not valid UTF-8; save it as UTF-8");
        return;
    }
    diag_error(reader->diags, place_of_offset(reader, offset),
               "not valid UTF-8 (byte 0x%02x); save the file as UTF-8", (unsigned)byte);
}

static void tell_reader_error(struct yaml_reader *reader, const struct yaml_scan_problem *problem)
{
    if (problem->read_errno == EFBIG) {
        diag_error(reader->diags, place_at(reader, problem->here),
                   "the entry here goes on for more than 64 MiB; is a closing quote missing?");
    } else if (problem->read_errno != 0) {
        diag_error(reader->diags, place_of_file(reader), "cannot be read: %s",
                   strerror(problem->read_errno));
    } else if (strstr(problem->problem, "control characters")) {
        diag_error(reader->diags, place_of_offset(reader, (size_t)problem->offset),
                   "control character 0x%02x; only printable text is allowed",
                   (unsigned)problem->value);
    } else {
        tell_bad_utf8(reader, problem);
    }
}

static struct yaml_event syntax_error(struct yaml_reader *reader)
{
    const struct yaml_scan_problem theirs = yaml_scan_problem(reader->scan);
    struct diag_place place = place_at(reader, theirs.mark);
    const struct yaml_problem *ours = yaml_problem_find(theirs.problem);
    if (theirs.error == YAML_MEMORY_ERROR) {
        diag_error(reader->diags, place_of_file(reader), "out of memory");
    } else if (theirs.error == YAML_READER_ERROR) {
        tell_reader_error(reader, &theirs);
    } else if (ours) {
        if (ours->at_begin && theirs.has_context) {
            place = place_at(reader, theirs.context_mark);
        }
        diag_error(reader->diags, place, "%s", ours->ours);
    } else {
        diag_error(reader->diags, place, "not valid YAML: %s",
                   theirs.problem ? theirs.problem : "unknown error");
    }
    return end_with(reader, YAML_BAD, place);
}

static struct frame *top_frame(struct yaml_reader *reader)
{
    return reader->depth > 0 ? &reader->frames[reader->depth - 1] : NULL;
}

/* Notes that a node begins; true when it stands where a key does. */
static bool node_is_key(struct yaml_reader *reader)
{
    struct frame *frame = top_frame(reader);
    if (!frame || !frame->map) {
        return false;
    }
    frame->value_next = !frame->value_next;
    return frame->value_next;
}

static bool frame_push(struct yaml_reader *reader, bool map)
{
    if (reader->depth == YAML_DEPTH) {
        return false;
    }
    reader->frames[reader->depth++] = (struct frame){.map = map};
    return true;
}

static void frame_pop(struct yaml_reader *reader)
{
    frame_forget_keys(top_frame(reader));
    reader->depth--;
}

enum key_seen { KEY_NEW, KEY_DUPLICATE, KEY_NO_MEMORY };

/* Remembers the first keys of a mapping; beyond YAML_KEYS_CHECKED the mapping is let alone. */
static enum key_seen key_remember(struct yaml_reader *reader, const struct yaml_event *event)
{
    struct frame *frame = top_frame(reader);
    size_t count = frame->key_count;
    if (count >= YAML_KEYS_CHECKED) {
        frame_forget_keys(frame);
        return KEY_NEW;
    }
    for (size_t i = 0; i < count; i++) {
        struct key *key = &frame->keys[i];
        if (span_equal(span_make(key->text, key->len), event->value)) {
            diag_error(reader->diags, event->place,
                       "duplicate key `%.*s`; it is already on line %u", SPAN_ARGS(event->value),
                       key->line);
            return KEY_DUPLICATE;
        }
    }
    if ((count & (count - 1)) == 0) { /* room doubles at each power of two */
        size_t room = count ? count * 2 : 1;
        struct key *keys = realloc(frame->keys, room * sizeof(*keys));
        if (!keys) {
            return KEY_NO_MEMORY;
        }
        frame->keys = keys;
    }
    char *text = span_dup(event->value);
    if (!text) {
        return KEY_NO_MEMORY;
    }
    frame->keys[frame->key_count++] = (struct key){text, event->value.len, event->place.line};
    return KEY_NEW;
}

/* What a configuration has no use for; true when the node's value is not to be believed. */
static bool node_is_refused(struct yaml_reader *reader, const yaml_char_t *anchor,
                            const yaml_char_t *tag)
{
    struct diag_place place = place_at(reader, reader->raw->start_mark);
    if (anchor) {
        diag_error(reader->diags, place,
                   "anchors (`&%s`) are not accepted; write the value out, or put text that "
                   "begins with `&` in quotes",
                   (const char *)anchor);
    }
    if (tag && strcmp((const char *)tag, YAML_STR_TAG) != 0) {
        diag_error(reader->diags, place,
                   "tags (`%s`) are not accepted; write the value out, or put text that begins "
                   "with `!` in quotes",
                   (const char *)tag);
        return true;
    }
    return false;
}

static struct yaml_event make_scalar(struct yaml_reader *reader)
{
    const yaml_event_t *raw = reader->raw;
    struct yaml_event event = {
        .kind = YAML_SCALAR_VALUE,
        .value = span_make((const char *)raw->data.scalar.value, raw->data.scalar.length),
        .plain = raw->data.scalar.style == YAML_PLAIN_SCALAR_STYLE && !raw->data.scalar.tag,
        .place = place_at(reader, raw->start_mark),
    };
    event.refused = node_is_refused(reader, raw->data.scalar.anchor, raw->data.scalar.tag);
    if (event.value.len > YAML_SCALAR) {
        diag_error(reader->diags, event.place, "text of %zu bytes; at most %d are accepted",
                   event.value.len, YAML_SCALAR);
        event.refused = true;
    } else if (memchr(event.value.ptr, '\0', event.value.len)) {
        diag_error(reader->diags, event.place, "text with a NUL (`\\0`) in it is not accepted");
        event.refused = true;
    }
    if (event.refused) {
        event.value = SPAN("");
    }
    return event;
}

static struct yaml_event make_alias(struct yaml_reader *reader)
{
    struct diag_place place = place_at(reader, reader->raw->start_mark);
    const char *name = (const char *)reader->raw->data.alias.anchor;
    diag_error(reader->diags, place,
               "aliases (`*%s`) are not accepted; write the value out, or put text that begins "
               "with `*` in quotes",
               name);
    return (struct yaml_event){
        .kind = YAML_SCALAR_VALUE, .value = SPAN(""), .refused = true, .place = place};
}

/* An empty file, `---` alone or `null` alone. */
static bool scalar_is_nothing(const yaml_event_t *raw)
{
    struct span value = span_make((const char *)raw->data.scalar.value, raw->data.scalar.length);
    return raw->data.scalar.style == YAML_PLAIN_SCALAR_STYLE && !raw->data.scalar.anchor &&
           !raw->data.scalar.tag &&
           (value.len == 0 || span_equal(value, SPAN("~")) || span_equal(value, SPAN("null")));
}

/* A node where the root should be: only a mapping will do, or nothing. */
static bool root_is_fine(struct yaml_reader *reader)
{
    yaml_event_type_t type = reader->raw->type;
    if (reader->depth > 0 || type == YAML_MAPPING_START_EVENT) {
        return true;
    }
    diag_error(reader->diags, place_at(reader, reader->raw->start_mark),
               "expected `key: value` lines, found %s",
               type == YAML_SEQUENCE_START_EVENT ? "a list" : "text without a `key:`");
    return false;
}

/* Passes over the value of a key that was refused; what is wrong inside it is told all the same. */
static void swallow_value(struct yaml_reader *reader)
{
    yaml_skip(reader, yaml_next(reader));
}

static struct yaml_event out_of_memory(struct yaml_reader *reader)
{
    diag_error(reader->diags, place_of_file(reader), "out of memory");
    return end_with(reader, YAML_BAD, place_of_file(reader));
}

/* True when `out` is to be returned; false when it was a key that was refused with its value. */
static bool take_scalar(struct yaml_reader *reader, struct yaml_event *out)
{
    bool alias = reader->raw->type == YAML_ALIAS_EVENT;
    bool key = node_is_key(reader);
    *out = alias ? make_alias(reader) : make_scalar(reader);
    if (!key) {
        return true;
    }
    enum key_seen seen = out->refused ? KEY_DUPLICATE : key_remember(reader, out);
    if (seen == KEY_NO_MEMORY) {
        *out = out_of_memory(reader);
    }
    if (seen != KEY_DUPLICATE) {
        return true;
    }
    swallow_value(reader);
    return false;
}

/* The same for the begin of a mapping or a list. */
static bool take_collection(struct yaml_reader *reader, struct yaml_event *out)
{
    const yaml_event_t *raw = reader->raw;
    bool map = raw->type == YAML_MAPPING_START_EVENT;
    bool key = node_is_key(reader);
    *out = (struct yaml_event){.kind = map ? YAML_MAP : YAML_LIST,
                               .value = SPAN(""),
                               .flow =
                                   map ? raw->data.mapping_start.style == YAML_FLOW_MAPPING_STYLE
                                       : raw->data.sequence_start.style == YAML_FLOW_SEQUENCE_STYLE,
                               .place = place_at(reader, raw->start_mark)};
    const yaml_char_t *tag = map ? raw->data.mapping_start.tag : raw->data.sequence_start.tag;
    out->refused = node_is_refused(
        reader, map ? raw->data.mapping_start.anchor : raw->data.sequence_start.anchor, tag);
    if (!frame_push(reader, map)) {
        diag_error(reader->diags, out->place, "nested deeper than %d levels", YAML_DEPTH);
        *out = end_with(reader, YAML_BAD, out->place);
        return true;
    }
    if (!key) {
        return true;
    }
    diag_error(reader->diags, out->place,
               "a key must be text, not a %s; put text that begins with `[` or `{` in quotes",
               map ? "mapping" : "list");
    yaml_skip(reader, *out);
    swallow_value(reader);
    return false;
}

static bool read_event(struct yaml_reader *reader)
{
    bool ok = yaml_scan_next(reader->scan);
    reader->raw = yaml_scan_event(reader->scan);
    return ok;
}

/* After the first document only the end of the file may follow. */
static struct yaml_event finish(struct yaml_reader *reader)
{
    if (!read_event(reader)) {
        return syntax_error(reader);
    }
    struct diag_place place = place_at(reader, reader->raw->start_mark);
    if (reader->raw->type == YAML_STREAM_END_EVENT) {
        return end_with(reader, YAML_END, place);
    }
    diag_error(reader->diags, place, "a second document begins here; only one is read");
    return end_with(reader, YAML_BAD, place);
}

/* True when `out` holds what libyaml's event means to the caller; false: read on. */
static bool take_event(struct yaml_reader *reader, struct yaml_event *out)
{
    const yaml_event_t *raw = reader->raw;
    struct diag_place place = place_at(reader, raw->start_mark);
    switch (raw->type) {
    case YAML_NO_EVENT:
    case YAML_STREAM_START_EVENT:
    case YAML_DOCUMENT_START_EVENT:
        return false;
    case YAML_DOCUMENT_END_EVENT:
    case YAML_STREAM_END_EVENT:
        *out = raw->type == YAML_DOCUMENT_END_EVENT ? finish(reader)
                                                    : end_with(reader, YAML_END, place);
        return true;
    case YAML_ALIAS_EVENT:
    case YAML_SCALAR_EVENT:
        return take_scalar(reader, out);
    case YAML_SEQUENCE_START_EVENT:
    case YAML_MAPPING_START_EVENT:
        return take_collection(reader, out);
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        frame_pop(reader);
        *out = (struct yaml_event){.kind = raw->type == YAML_MAPPING_END_EVENT ? YAML_MAP_END
                                                                               : YAML_LIST_END,
                                   .value = SPAN(""),
                                   .place = place};
        return true;
    }
    return false;
}

/* The first event of a file: the root's mapping, made up where the file is empty. */
static bool take_root(struct yaml_reader *reader, struct yaml_event *out)
{
    yaml_event_type_t type = reader->raw->type;
    struct diag_place place = place_at(reader, reader->raw->start_mark);
    bool nothing = type == YAML_STREAM_END_EVENT ||
                   (type == YAML_SCALAR_EVENT && scalar_is_nothing(reader->raw));
    if (nothing) {
        reader->root = ROOT_MADE_UP;
        *out = (struct yaml_event){
            .kind = YAML_MAP, .value = SPAN(""), .made_up = true, .place = place};
        return true;
    }
    if (type == YAML_STREAM_START_EVENT || type == YAML_DOCUMENT_START_EVENT) {
        return false;
    }
    reader->root = ROOT_READ;
    if (root_is_fine(reader)) {
        return take_event(reader, out);
    }
    *out = end_with(reader, YAML_BAD, place);
    return true;
}

static struct yaml_event open_error(struct yaml_reader *reader)
{
    diag_error(reader->diags, place_of_file(reader), "cannot be opened: %s",
               reader->open_errno == EINVAL ? "it is no regular file"
                                            : strerror(reader->open_errno));
    return end_with(reader, YAML_BAD, place_of_file(reader));
}

struct yaml_event yaml_next(struct yaml_reader *reader)
{
    struct yaml_event event;
    if (reader->ended) {
        return reader->last;
    }
    if (!reader->file) {
        return open_error(reader);
    }
    if (reader->root == ROOT_MADE_UP) {
        struct diag_place place = place_at(reader, reader->raw->end_mark);
        reader->root = ROOT_READ;
        if (reader->raw->type == YAML_STREAM_END_EVENT) {
            end_with(reader, YAML_END, place); /* for the next call: libyaml has no more */
        }
        return (struct yaml_event){.kind = YAML_MAP_END, .value = SPAN(""), .place = place};
    }
    while (true) {
        if (!read_event(reader)) {
            return syntax_error(reader);
        }
        if (reader->root == ROOT_EXPECTED ? take_root(reader, &event)
                                          : take_event(reader, &event)) {
            return event;
        }
        if (reader->ended) { /* behind a key that was refused */
            return reader->last;
        }
    }
}

void yaml_skip(struct yaml_reader *reader, struct yaml_event event)
{
    size_t depth = 0;
    while (true) {
        if (event.kind == YAML_MAP || event.kind == YAML_LIST) {
            depth++;
        } else if (event.kind == YAML_MAP_END || event.kind == YAML_LIST_END) {
            depth--;
        } else if (event.kind == YAML_END || event.kind == YAML_BAD) {
            return;
        }
        if (depth == 0) {
            return;
        }
        event = yaml_next(reader);
    }
}
