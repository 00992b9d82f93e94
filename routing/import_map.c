#include <errno.h>

#include "config/text.h"
#include "routing/import_check.h"

#define BYTE_ORDER_MARK SPAN("\xef\xbb\xbf")

#define SEGMENTS_MAX 32 /* physical lines of one logical line whose places are known */

/* A physical line's share of the logical one. */
struct segment {
    size_t offset;
    unsigned line;
};

struct map_reader {
    struct import_reader *import;
    FILE *file;
    unsigned line; /* the physical line in `physical` */
    char physical[IMPORT_VALUE_MAX];
    char logical[IMPORT_VALUE_MAX];
    struct text text; /* over logical */
    struct segment segments[SEGMENTS_MAX];
    size_t segment_count; /* 0: no logical line has begun */
    bool says_something;  /* not only blanks and comments */
    bool spoilt;          /* the logical line has an error already */
    bool failed;          /* no more is to be read */
};

enum physical { PHYSICAL_LINE, PHYSICAL_LONG, PHYSICAL_BINARY, PHYSICAL_END };

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\f' || c == '\v';
}

/* One line without its end and the blanks before it (of a binary file: what stands before the NUL);
 * tabs become spaces, which mean the same. */
static enum physical read_physical(struct map_reader *reader, struct span *out)
{
    size_t len = 0;
    bool too_long = false;
    int c;
    reader->line++;
    while ((c = getc_unlocked(reader->file)) != EOF && c != '\n') {
        if (c == '\0') {
            *out = span_make(reader->physical, len);
            return PHYSICAL_BINARY;
        }
        if (len < sizeof(reader->physical) - 1) {
            reader->physical[len++] = c == '\t' ? ' ' : (char)c;
        } else {
            too_long = true;
        }
    }
    if (c == EOF && len == 0) {
        return PHYSICAL_END;
    }
    while (len > 0 && is_blank(reader->physical[len - 1])) {
        len--;
    }
    *out = span_make(reader->physical, len);
    if (reader->line == 1 && span_starts_fold(*out, BYTE_ORDER_MARK)) {
        *out = span_skip(*out, BYTE_ORDER_MARK.len); /* an editor's, and no part of the key */
    }
    return too_long ? PHYSICAL_LONG : PHYSICAL_LINE;
}

/* Where the byte at `offset` of the logical line stands in the file. */
static struct diag_place place_at(const struct map_reader *reader, size_t offset)
{
    size_t i = reader->segment_count - 1;
    while (i > 0 && reader->segments[i].offset > offset) {
        i--;
    }
    return (struct diag_place){.file = reader->import->path,
                               .line = reader->segments[i].line,
                               .column = (unsigned)(offset - reader->segments[i].offset) + 1};
}

/* Up to the first blank; one in double quotes ("a b"@example.com) does not count. */
static size_t key_length(struct span line)
{
    bool quoted = false;
    size_t i = 0;
    for (; i < line.len && (quoted || !is_blank(line.ptr[i])); i++) {
        if (line.ptr[i] == '\\' && quoted && i + 1 < line.len) {
            i++;
        } else if (line.ptr[i] == '"') {
            quoted = !quoted;
        }
    }
    return i;
}

static void give_logical(struct map_reader *reader)
{
    struct span line = text_span(&reader->text);
    if (reader->segment_count == 0 || reader->spoilt) {
        return;
    }
    size_t at = key_length(line);
    struct span key = span_first(line, at);
    while (at < line.len && is_blank(line.ptr[at])) {
        at++;
    }
    struct span to = span_skip(line, at);
    if (to.len == 0) {
        diag_error(reader->import->diags, place_at(reader, 0), "no destination for `%.*s`",
                   SPAN_ARGS(key));
        return;
    }
    struct import_route route = {
        .key = key,
        .to = to,
        .fallback = SPAN(""),
        .unknown_recipient = SPAN(""),
        .dialect = TRANSPORT_MAP,
        .place = place_at(reader, 0),
        .to_place = place_at(reader, at),
    };
    if (!import_give(reader->import, route)) {
        reader->failed = true;
    }
}

static void begin_logical(struct map_reader *reader, struct span line)
{
    reader->says_something = true;
    reader->text = TEXT(reader->logical);
    reader->segments[0] = (struct segment){0, reader->line};
    reader->segment_count = 1;
    reader->spoilt = false;
    text_put(&reader->text, line);
}

/* Column 0: the whole line. */
static void spoil(struct map_reader *reader, unsigned column, const char *why)
{
    struct diag_place place = {reader->import->path, reader->line, column};
    if (!reader->spoilt) {
        diag_error(reader->import->diags, place, "%s", why);
    }
    reader->spoilt = true;
}

static void continue_logical(struct map_reader *reader, struct span line)
{
    if (reader->segment_count == 0) {
        begin_logical(reader, line);
        spoil(reader, 1, "the line begins with a blank but there is no line that it continues");
        return;
    }
    if (reader->segment_count < SEGMENTS_MAX) {
        reader->segments[reader->segment_count++] =
            (struct segment){reader->text.len, reader->line};
    }
    text_put(&reader->text, line);
}

static void take_physical(struct map_reader *reader, struct span line, bool too_long)
{
    size_t first = 0;
    while (first < line.len && is_blank(line.ptr[first])) {
        first++;
    }
    if (first == line.len || line.ptr[first] == '#') { /* neither ends the logical line */
        return;
    }
    if (first > 0) {
        continue_logical(reader, line);
    } else {
        give_logical(reader);
        begin_logical(reader, line);
    }
    if (too_long || reader->text.full) {
        spoil(reader, 0, "the line is too long");
    }
}

static void read_all(struct map_reader *reader)
{
    struct span line;
    struct diag_place file = {.file = reader->import->path};
    while (!reader->failed) {
        enum physical kind = read_physical(reader, &line);
        switch (kind) {
        case PHYSICAL_LINE:
        case PHYSICAL_LONG:
            take_physical(reader, line, kind == PHYSICAL_LONG);
            continue;
        case PHYSICAL_BINARY:
            file.line = reader->line;
            file.column = (unsigned)line.len + 1;
            diag_error(reader->import->diags, file,
                       "a NUL: this is no text; give the text that the map is made from");
            return;
        case PHYSICAL_END:
            if (ferror(reader->file)) {
                diag_error(reader->import->diags, file, "cannot be read: %s", strerror(errno));
            } else if (!reader->says_something) {
                diag_error(reader->import->diags, file,
                           "no route is in this file, as if it were half-written; a map without "
                           "routes is left out of `routes:`");
            } else {
                give_logical(reader);
            }
            return;
        }
    }
}

void import_read_map(struct import_reader *import)
{
    const bool standard = strcmp(import->path, IMPORT_STDIN) == 0;
    struct map_reader reader = {.import = import,
                                .file = standard ? stdin : fopen(import->path, "re")};
    if (!reader.file) {
        diag_error(import->diags, (struct diag_place){.file = import->path}, "cannot be opened: %s",
                   strerror(errno));
        return;
    }
    reader.text = TEXT(reader.logical);
    read_all(&reader);
    if (!standard) {
        fclose(reader.file);
    }
}
