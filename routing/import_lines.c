#include "routing/import_lines.h"

#include <errno.h>

#include "config/text.h"

#define BYTE_ORDER_MARK SPAN("\xef\xbb\xbf")

#define SEGMENTS_MAX 32 /* physical lines of one logical line whose places are known */

/* A physical line's share of the logical one. */
struct segment {
    size_t offset;
    unsigned line;
};

struct line_reader {
    struct import_reader *import;
    import_line *take;
    void *context;
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

bool import_is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\f' || c == '\v';
}

/* One line without its end and the blanks before it (of a binary file: what stands before the NUL);
 * tabs become spaces, which mean the same. */
static enum physical read_physical(struct line_reader *reader, struct span *out)
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
    while (len > 0 && import_is_blank(reader->physical[len - 1])) {
        len--;
    }
    *out = span_make(reader->physical, len);
    if (reader->line == 1 && span_starts_fold(*out, BYTE_ORDER_MARK)) {
        *out = span_skip(*out, BYTE_ORDER_MARK.len); /* an editor's, and no part of the key */
    }
    return too_long ? PHYSICAL_LONG : PHYSICAL_LINE;
}

struct diag_place import_line_place(const struct line_reader *reader, size_t offset)
{
    size_t i = reader->segment_count - 1;
    while (i > 0 && reader->segments[i].offset > offset) {
        i--;
    }
    return (struct diag_place){.file = reader->import->path,
                               .line = reader->segments[i].line,
                               .column = (unsigned)(offset - reader->segments[i].offset) + 1};
}

size_t import_key_length(struct span line)
{
    bool quoted = false;
    size_t i = 0;
    for (; i < line.len && (quoted || !import_is_blank(line.ptr[i])); i++) {
        if (line.ptr[i] == '\\' && quoted && i + 1 < line.len) {
            i++;
        } else if (line.ptr[i] == '"') {
            quoted = !quoted;
        }
    }
    return i;
}

bool import_is_account(struct span line)
{
    const size_t at = span_find(line, '@');
    const size_t word = import_key_length(line);
    if (at >= word || line.ptr[0] == '"') {
        return false;
    }
    const struct span domain = span_make(line.ptr + at, word - at);
    const size_t bar = span_find(domain, '|'), colon = span_find(domain, ':');
    struct span behind = span_trim(span_skip(line, word));
    return bar < domain.len || (behind.len > 0 && behind.ptr[0] == '|') ||
           (domain.len > 1 && domain.ptr[1] != '[' && colon + 1 < domain.len);
}

static void give_logical(struct line_reader *reader)
{
    if (reader->segment_count > 0 && !reader->spoilt &&
        !reader->take(reader->context, reader, text_span(&reader->text))) {
        reader->failed = true;
    }
}

static void begin_logical(struct line_reader *reader, struct span line)
{
    reader->says_something = true;
    reader->text = TEXT(reader->logical);
    reader->segments[0] = (struct segment){0, reader->line};
    reader->segment_count = 1;
    reader->spoilt = false;
    text_put(&reader->text, line);
}

/* Column 0: the whole line. */
static void spoil(struct line_reader *reader, unsigned column, const char *why)
{
    struct diag_place place = {reader->import->path, reader->line, column};
    size_t *left_out = reader->import->left_out;
    if (!reader->spoilt && left_out) {
        diag_warning(reader->import->diags, place, "not carried over: %s", why);
        (*left_out)++;
    } else if (!reader->spoilt) {
        diag_error(reader->import->diags, place, "%s", why);
    }
    reader->spoilt = true;
}

static void continue_logical(struct line_reader *reader, struct span line)
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

static void take_physical(struct line_reader *reader, struct span line, bool too_long)
{
    size_t first = 0;
    while (first < line.len && import_is_blank(line.ptr[first])) {
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

/* Databases that postmap makes, and what one is known by: its first bytes, or its name. */
static const struct database {
    const char *type, *name, *suffix;
    size_t at;
    struct span magic;
} databases[] = {
    {"hash", "a Berkeley DB", ".db", 12, {"\x61\x15\x06\x00", 4}},
    {"hash", "a Berkeley DB", ".db", 12, {"\x00\x06\x15\x61", 4}},
    {"btree", "a Berkeley DB", ".db", 12, {"\x62\x31\x05\x00", 4}},
    {"btree", "a Berkeley DB", ".db", 12, {"\x00\x05\x31\x62", 4}},
    {"lmdb", "an LMDB file", ".lmdb", 16, {"\xde\xc0\xef\xbe", 4}},
    {"lmdb", "an LMDB file", ".lmdb", 16, {"\xbe\xef\xc0\xde", 4}},
    {"cdb", "a CDB file", ".cdb", 0, {"", 0}},
};

#define DATABASES (sizeof(databases) / sizeof(*databases))
#define HEAD_MAX  20 /* bytes in front of a file that tell */

/* What the file is, of which the reader has met a NUL behind `line`; NULL: nobody knows. */
static const struct database *database_of(struct line_reader *reader, struct span line)
{
    char head[HEAD_MAX] = {0};
    if (reader->line == 1 && line.len < HEAD_MAX) {
        memcpy(head, line.ptr, line.len);
        const size_t room = HEAD_MAX - line.len - 1;
        const size_t more = fread(head + line.len + 1, 1, room, reader->file);
        for (size_t i = 0; i < DATABASES && more == room; i++) {
            const struct span magic = databases[i].magic;
            if (magic.len > 0 && memcmp(head + databases[i].at, magic.ptr, magic.len) == 0) {
                return &databases[i];
            }
        }
    }
    for (size_t i = 0; i < DATABASES; i++) {
        if (span_ends(span_of(reader->import->path), span_of(databases[i].suffix))) {
            return &databases[i];
        }
    }
    return NULL;
}

static void tell_binary(struct line_reader *reader, struct span line)
{
    const struct diag_place place = {reader->import->path, reader->line, (unsigned)line.len + 1};
    const struct database *database = database_of(reader, line);
    struct span path = span_of(reader->import->path);
    if (!database) {
        diag_error(reader->import->diags, place,
                   "a NUL: this is no text; give the text that the map is made from");
        return;
    }
    if (span_ends(path, span_of(database->suffix))) {
        path.len -= strlen(database->suffix);
    } else if (span_equal(path, SPAN(IMPORT_STDIN))) {
        path = SPAN("/etc/postfix/transport");
    }
    diag_error(
        reader->import->diags, place,
        "this is %s that postmap has made (`%s:`), and only text is read here: give the text "
        "that it is made from, or what `postmap -s %s:%.*s | splitmx import -` writes",
        database->name, database->type, database->type, SPAN_ARGS(path));
}

/* "hash:/etc/postfix/transport", as Postfix names its tables: what is behind the colon, and its
 * type; in a configuration the folder stands in front. */
static bool is_typed(const char *path, struct span *type, const char **name)
{
    static const char *const types[] = {"texthash:", "hash:", "btree:", "lmdb:",   "cdb:",  "dbm:",
                                        "sdbm:",     "ldap:", "mysql:", "sqlite:", "pgsql:"};
    for (size_t i = 0; i < sizeof(types) / sizeof(*types); i++) {
        const char *found = strstr(path, types[i]);
        if (found && (found == path || found[-1] == '/')) {
            *type = span_of(types[i]);
            *name = found + type->len;
            return true;
        }
    }
    return false;
}

bool import_is_typed(const char *path)
{
    struct span type;
    const char *name;
    return is_typed(path, &type, &name);
}

static void tell_not_opened(struct import_reader *import, const char *why)
{
    const struct diag_place file = {.file = import->path};
    struct span type;
    const char *name;
    if (!is_typed(import->path, &type, &name)) {
        diag_error(import->diags, file, "cannot be opened: %s", why);
    } else if (span_equal(type, SPAN("texthash:"))) {
        diag_error(import->diags, file, "cannot be opened: %s; leave `texthash:` out: %s", why,
                   name);
    } else {
        diag_error(import->diags, file,
                   "cannot be opened: %s; only text is read here: give the text that the table is "
                   "made from, or what `postmap -s %.*s%s | splitmx import -` writes",
                   why, SPAN_ARGS(type), name);
    }
}

static void read_all(struct line_reader *reader)
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
            tell_binary(reader, line);
            return;
        case PHYSICAL_END:
            if (ferror(reader->file)) {
                diag_error(reader->import->diags, file, "cannot be read: %s", strerror(errno));
            } else if (!reader->says_something && !reader->import->left_out) {
                diag_error(reader->import->diags, file,
                           "no route is in this file, as if it were half-written; a map without "
                           "routes is left out of `routes:`");
            } else if (reader->says_something) {
                give_logical(reader);
            }
            return;
        }
    }
}

void import_read_lines(struct import_reader *import, import_line *take, void *context)
{
    const bool standard = strcmp(import->path, IMPORT_STDIN) == 0;
    struct line_reader reader = {.import = import,
                                 .take = take,
                                 .context = context,
                                 .file = standard ? stdin : fopen(import->path, "re")};
    if (!reader.file) {
        tell_not_opened(import, strerror(errno));
        return;
    }
    reader.text = TEXT(reader.logical);
    read_all(&reader);
    if (!standard) {
        fclose(reader.file);
    }
}
