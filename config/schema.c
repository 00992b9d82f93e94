#include "config/schema.h"

#include <stdlib.h>

#include "config/scalar.h"
#include "config/text.h"

#define QUOTED_MAX 80 /* bytes of a value that a message repeats */
#define KEYS_MAX   32 /* of one schema */
#define PHRASE_MAX 256

struct yaml_event loader_next(struct loader *loader)
{
    struct yaml_event event = yaml_next(loader->reader);
    if (event.kind == YAML_BAD) {
        loader->broken = true;
    }
    return event;
}

static void skip(struct loader *loader, struct yaml_event event)
{
    yaml_skip(loader->reader, event);
}

bool loader_text(struct loader *loader, struct config_text *out, struct span text,
                 struct diag_place place)
{
    char *copy = span_dup(text);
    if (!copy) {
        loader->no_memory = true;
        return false;
    }
    free(out->text);
    *out = (struct config_text){copy, place.line, place.column};
    return true;
}

void *loader_add(struct loader *loader, void **items, size_t *count, size_t size)
{
    if ((*count & (*count - 1)) == 0) { /* room doubles at each power of two */
        size_t room = *count ? *count * 2 : 1;
        void *grown = reallocarray(*items, room, size);
        if (!grown) {
            loader->no_memory = true;
            return NULL;
        }
        *items = grown;
    }
    char *item = (char *)*items + *count * size;
    memset(item, 0, size);
    (*count)++;
    return item;
}

/* What stands there, for "must be …, not FOUND". */
static void describe(struct yaml_event value, struct text *out)
{
    if (value.kind == YAML_LIST) {
        text_puts(out,
                  value.flow
                      ? "a list (text that begins with `[` needs quotes around the whole of it)"
                      : "a list (its entries begin with `-`)");
    } else if (value.kind == YAML_MAP) {
        text_puts(out, "a mapping");
    } else if (scalar_is_null(value.value, value.plain)) {
        text_puts(out, "nothing");
    } else if (value.value.len == 0) {
        text_puts(out, "`\"\"`");
    } else {
        text_printf(out, "`%.*s%s`", SPAN_ARGS(span_first(value.value, QUOTED_MAX)),
                    value.value.len > QUOTED_MAX ? "…" : "");
    }
}

void loader_expected(struct loader *loader, const struct field *field, struct yaml_event value,
                     const char *expected)
{
    char found[PHRASE_MAX];
    struct text text = TEXT(found);
    if (value.refused || value.kind == YAML_BAD) {
        return;
    }
    describe(value, &text);
    diag_error(loader->diags, value.place, "%s`%s` must be %s, not %s",
               loader->in_list ? "each entry of " : "", field->key, expected, found);
}

/* The value's text when it is a scalar that is not null; else the error is told. */
static bool scalar_of(struct loader *loader, const struct field *field, struct yaml_event value,
                      const char *expected, struct span *out)
{
    if (value.kind == YAML_SCALAR_VALUE && !value.refused &&
        !scalar_is_null(value.value, value.plain)) {
        *out = value.value;
        return true;
    }
    loader_expected(loader, field, value, expected);
    skip(loader, value);
    return false;
}

/* A text that passes its field's check. */
static bool checked_text(struct loader *loader, const struct field *field, struct yaml_event value,
                         struct span *out)
{
    if (!scalar_of(loader, field, value, field->expected, out)) {
        return false;
    }
    if (field->check ? field->check(*out) : out->len > 0) {
        return true;
    }
    loader_expected(loader, field, value, field->expected);
    return false;
}

void read_text(struct loader *loader, const struct field *field, struct yaml_event value,
               void *base)
{
    struct span text;
    if (checked_text(loader, field, value, &text)) {
        loader_text(loader, (struct config_text *)((char *)base + field->offset), text,
                    value.place);
    }
}

bool loader_path(struct loader *loader, struct config_text *out, struct span path,
                 struct diag_place place)
{
    char *joined = NULL;
    const char *folder = loader->config->folder;
    if (path.len > 0 && path.ptr[0] == '/') {
        return loader_text(loader, out, path, place);
    }
    folder = strcmp(folder, "/") == 0 ? "" : folder;
    if (asprintf(&joined, "%s/%.*s", folder, SPAN_ARGS(path)) < 0) {
        loader->no_memory = true;
        return false;
    }
    bool fine = loader_text(loader, out, span_of(joined), place);
    free(joined);
    return fine;
}

void read_path(struct loader *loader, const struct field *field, struct yaml_event value,
               void *base)
{
    struct span path;
    if (checked_text(loader, field, value, &path)) {
        loader_path(loader, (struct config_text *)((char *)base + field->offset), path,
                    value.place);
    }
}

static void add_text(struct loader *loader, const struct field *field, struct yaml_event value,
                     struct config_texts *texts, bool path)
{
    struct span text;
    if (!checked_text(loader, field, value, &text)) {
        return;
    }
    void *items = texts->items;
    struct config_text *item = loader_add(loader, &items, &texts->count, sizeof(*item));
    texts->items = items;
    if (!item) {
        return;
    }
    bool fine = path ? loader_path(loader, item, text, value.place)
                     : loader_text(loader, item, text, value.place);
    if (!fine) {
        texts->count--;
    }
}

static void read_list(struct loader *loader, const struct field *field, struct yaml_event value,
                      void *base, bool path)
{
    struct config_texts *texts = (struct config_texts *)((char *)base + field->offset);
    bool empty = true;
    if (value.kind == YAML_SCALAR_VALUE && field->alone) {
        add_text(loader, field, value, texts, path);
        return;
    }
    if (value.kind != YAML_LIST) {
        char expected[PHRASE_MAX];
        struct text text = TEXT(expected);
        text_printf(&text, "a list, each entry %s%s", field->expected,
                    path && value.kind == YAML_MAP ? " (what is here goes into such a file)" : "");
        loader_expected(loader, field, value, expected);
        skip(loader, value);
        return;
    }
    for (struct yaml_event item = loader_next(loader);
         item.kind != YAML_LIST_END && !loader->broken; item = loader_next(loader)) {
        empty = false;
        loader->in_list = true;
        add_text(loader, field, item, texts, path);
        loader->in_list = false;
    }
    if (empty && !loader->broken) {
        diag_error(loader->diags, value.place,
                   "`%s` is an empty list; write at least one entry (%s), or leave the key out",
                   field->key, field->expected);
    }
}

void read_texts(struct loader *loader, const struct field *field, struct yaml_event value,
                void *base)
{
    read_list(loader, field, value, base, false);
}

void read_paths(struct loader *loader, const struct field *field, struct yaml_event value,
                void *base)
{
    read_list(loader, field, value, base, true);
}

void read_unsigned(struct loader *loader, const struct field *field, struct yaml_event value,
                   void *base)
{
    char expected[PHRASE_MAX];
    struct text phrase = TEXT(expected);
    struct span text;
    unsigned long long number;
    text_printf(&phrase, "a whole number from %llu to %llu", field->min, field->max);
    if (!scalar_of(loader, field, value, expected, &text)) {
        return;
    }
    if (!value.plain) {
        diag_error(loader->diags, value.place, "`%s` must be %s, without quotes", field->key,
                   expected);
    } else if (!span_number(text, field->max, &number) || number < field->min) {
        loader_expected(loader, field, value, expected);
    } else {
        *(unsigned *)((char *)base + field->offset) = (unsigned)number;
    }
}

/* A number whose unit is written otherwise than here. */
static void tell_meant(struct loader *loader, const struct field *field, struct yaml_event value,
                       const char *units, const char *meant)
{
    diag_error(loader->diags, value.place, "`%s: %.*s`: %s; write %s", field->key,
               SPAN_ARGS(span_first(value.value, QUOTED_MAX)), units, meant);
}

void read_size(struct loader *loader, const struct field *field, struct yaml_event value,
               void *base)
{
    char expected[PHRASE_MAX], least[SCALAR_TEXT], most[SCALAR_TEXT];
    struct text phrase = TEXT(expected);
    struct span text;
    uint64_t bytes;
    scalar_size_text(field->min, least, sizeof(least));
    scalar_size_text(field->max, most, sizeof(most));
    text_printf(&phrase, "a size from %s to %s, such as 50M (bytes, or with K, M, G)", least, most);
    if (!scalar_of(loader, field, value, expected, &text)) {
        return;
    }
    const bool parsed = scalar_size(text, &bytes);
    char meant[SCALAR_TEXT];
    if (!parsed && scalar_size_meant(text, meant, sizeof(meant))) {
        tell_meant(loader, field, value, "a size has the units K, M, G", meant);
    } else if (!parsed || bytes < field->min || bytes > field->max) {
        loader_expected(loader, field, value, expected);
    } else {
        *(uint64_t *)((char *)base + field->offset) = bytes;
    }
}

void read_time(struct loader *loader, const struct field *field, struct yaml_event value,
               void *base)
{
    char expected[PHRASE_MAX], least[SCALAR_TEXT], most[SCALAR_TEXT];
    struct text phrase = TEXT(expected);
    struct span text;
    uint64_t milliseconds;
    unsigned long long bare;
    scalar_time_text(field->min, least, sizeof(least));
    scalar_time_text(field->max, most, sizeof(most));
    text_printf(&phrase, "a time from %s to %s, such as 30s (units ms, s, m, h, d)", least, most);
    if (!scalar_of(loader, field, value, expected, &text)) {
        return;
    }
    char meant[SCALAR_TEXT];
    bool parsed = scalar_time(text, &milliseconds);
    if (!parsed && span_number(text, UINT64_MAX, &bare)) {
        diag_error(loader->diags, value.place,
                   "`%s: %llu` has no unit; write %llus for seconds (units ms, s, m, h, d)",
                   field->key, bare, bare);
    } else if (!parsed && scalar_time_meant(text, meant, sizeof(meant))) {
        tell_meant(loader, field, value, "a time has the units ms, s, m, h, d", meant);
    } else if (!parsed || milliseconds < field->min || milliseconds > field->max) {
        loader_expected(loader, field, value, expected);
    } else {
        *(uint64_t *)((char *)base + field->offset) = milliseconds;
    }
}

/* "none, may, encrypt or implicit" */
static void put_words(struct text *out, const char *const *words)
{
    for (size_t i = 0; words[i]; i++) {
        if (i > 0) {
            text_puts(out, words[i + 1] ? ", " : " or ");
        }
        text_puts(out, words[i]);
    }
}

void read_word(struct loader *loader, const struct field *field, struct yaml_event value,
               void *base)
{
    char expected[PHRASE_MAX];
    struct text phrase = TEXT(expected);
    struct span text;
    put_words(&phrase, field->words);
    if (!scalar_of(loader, field, value, expected, &text)) {
        return;
    }
    for (unsigned i = 0; field->words[i]; i++) {
        if (span_equal(text, span_of(field->words[i]))) {
            *(unsigned *)((char *)base + field->offset) = i; /* an enum */
            return;
        }
    }
    char word[QUOTED_MAX + 1];
    struct text copy = TEXT(word);
    text_put(&copy, text);
    const char *nearest = copy.full ? NULL : diag_nearest(word, field->words);
    if (nearest) {
        diag_error(loader->diags, value.place, "`%s` must be %s, not `%s`; did you mean `%s`?",
                   field->key, expected, word, nearest);
    } else {
        loader_expected(loader, field, value, expected);
    }
}

void read_bool(struct loader *loader, const struct field *field, struct yaml_event value,
               void *base)
{
    struct span text;
    const char *expected = "true or false";
    if (!scalar_of(loader, field, value, expected, &text)) {
        return;
    }
    bool *target = (bool *)((char *)base + field->offset);
    if (value.plain && span_equal(text, SPAN("true"))) {
        *target = true;
    } else if (value.plain && span_equal(text, SPAN("false"))) {
        *target = false;
    } else {
        loader_expected(loader, field, value, expected);
    }
}

/* A mapping's begin, or nothing at all ("limits:" with all its lines commented out). */
static bool map_begins(struct loader *loader, const struct field *field, struct yaml_event value)
{
    char expected[PHRASE_MAX];
    struct text phrase = TEXT(expected);
    if (value.kind == YAML_MAP) {
        return true;
    }
    if (value.kind == YAML_SCALAR_VALUE && !value.refused &&
        scalar_is_null(value.value, value.plain) && !field->schema->size) {
        return false;
    }
    text_printf(&phrase, "a mapping (`key: value` lines, indented) with keys such as `%s`",
                field->schema->fields[0].key);
    loader_expected(loader, field, value, expected);
    skip(loader, value);
    return false;
}

void read_map(struct loader *loader, const struct field *field, struct yaml_event value, void *base)
{
    if (map_begins(loader, field, value)) {
        schema_read(loader, field->schema, value.place, field->schema->what, base);
    }
}

static void add_map(struct loader *loader, const struct field *field, struct yaml_event value,
                    void *base)
{
    const struct schema *schema = field->schema;
    void *items;
    size_t *count = (size_t *)((char *)base + field->count);
    if (!map_begins(loader, field, value)) {
        return;
    }
    memcpy(&items, (char *)base + field->offset, sizeof(items));
    void *item = loader_add(loader, &items, count, schema->size);
    memcpy((char *)base + field->offset, &items, sizeof(items));
    if (!item) {
        skip(loader, value);
        return;
    }
    if (schema->init) {
        schema->init(item);
    }
    schema_read(loader, schema, value.place, schema->what, item);
}

void read_maps(struct loader *loader, const struct field *field, struct yaml_event value,
               void *base)
{
    bool empty = true;
    if (value.kind == YAML_MAP && field->alone) {
        add_map(loader, field, value, base);
        return;
    }
    if (value.kind != YAML_LIST) {
        loader_expected(loader, field, value, field->expected);
        skip(loader, value);
        return;
    }
    for (struct yaml_event item = loader_next(loader);
         item.kind != YAML_LIST_END && !loader->broken; item = loader_next(loader)) {
        empty = false;
        loader->in_list = item.kind != YAML_MAP;
        add_map(loader, field, item, base);
        loader->in_list = false;
    }
    if (empty && !loader->broken) {
        diag_error(loader->diags, value.place,
                   "`%s` is an empty list; write at least one entry, or leave the key out",
                   field->key);
    }
}

static const struct field *schema_find(const struct schema *schema, struct span key)
{
    for (size_t i = 0; i < schema->field_count; i++) {
        if (span_equal(key, span_of(schema->fields[i].key))) {
            return &schema->fields[i];
        }
    }
    return NULL;
}

static void tell_unknown(struct loader *loader, const struct schema *schema, struct yaml_event key,
                         const char *what)
{
    const char *names[KEYS_MAX + 1] = {NULL};
    char word[QUOTED_MAX + 1], known[1024];
    struct text copy = TEXT(word), list = TEXT(known);
    for (size_t i = 0; i < schema->field_count && i < KEYS_MAX; i++) {
        names[i] = schema->fields[i].key;
    }
    text_put(&copy, key.value);
    const char *nearest = copy.full ? NULL : diag_nearest(word, names);
    if (nearest) {
        diag_error(loader->diags, key.place, "unknown key `%s`; did you mean `%s`?", word, nearest);
        return;
    }
    put_words(&list, names);
    diag_error(loader->diags, key.place, "unknown key `%s`; %s takes %s", word, what, known);
}

static void tell_missing(struct loader *loader, const struct schema *schema,
                         struct diag_place place, const char *what, unsigned long long seen)
{
    for (size_t i = 0; i < schema->field_count; i++) {
        const struct field *field = &schema->fields[i];
        if (field->required && !(seen >> i & 1)) {
            diag_error(loader->diags, place, "%s needs `%s`: %s", what, field->key,
                       field->expected);
        }
    }
}

static void read_field(struct loader *loader, const struct field *field, void *base)
{
    struct yaml_event value = loader_next(loader);
    field->read(loader, field, value, base);
    if (field->given) {
        *((bool *)((char *)base + field->given)) = true;
    }
    if (field->place) {
        *((struct config_mark *)((char *)base + field->place)) =
            (struct config_mark){value.place.line, value.place.column};
    }
}

bool schema_has(const struct schema *schema, unsigned long long seen, const char *key)
{
    const struct field *field = schema_find(schema, span_of(key));
    return field && (seen >> (field - schema->fields) & 1);
}

unsigned long long schema_read(struct loader *loader, const struct schema *schema,
                               struct diag_place place, const char *what, void *base)
{
    unsigned long long seen = 0;
    for (struct yaml_event key = loader_next(loader);
         key.kind == YAML_SCALAR_VALUE && !loader->broken; key = loader_next(loader)) {
        const struct field *field = schema_find(schema, key.value);
        if (!field) {
            tell_unknown(loader, schema, key, what);
            skip(loader, loader_next(loader));
            continue;
        }
        seen |= 1ull << (field - schema->fields);
        read_field(loader, field, base);
    }
    if (!loader->broken) {
        tell_missing(loader, schema, place, what, seen);
    }
    return seen;
}
