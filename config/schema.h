/*
 * schema: reading YAML into structs by tables of fields; every error is told, with its place.
 *
 * A schema is a mapping's keys; a field says how a key's value is read and where it goes. Nothing
 * here knows splitmx's keys (config/keys.c does). Internal to config/.
 */
#ifndef SPLITMX_CONFIG_SCHEMA_H
#define SPLITMX_CONFIG_SCHEMA_H

#include "config/config.h"
#include "config/yaml.h"

struct loader {
    struct config *config; /* for the folder that paths are relative to */
    struct yaml_reader *reader;
    struct diag_list *diags;
    bool broken;  /* a syntax error ended the file: what is missing is not told */
    bool in_list; /* the value being read is an entry of its field's list */
    bool no_memory;
};

struct field;
struct schema;

/* Reads the whole value that `value` begins into the struct at base. */
typedef void field_reader(struct loader *loader, const struct field *field, struct yaml_event value,
                          void *base);

struct field {
    const char *key;
    field_reader *read;
    size_t offset; /* of the member, in the struct at base */
    size_t count;  /* lists of structs: offset of the member that counts */
    size_t given;  /* offset of a bool set when the key is there; 0: none */
    size_t place;  /* offset of a struct config_mark for the value's place; 0: none */
    bool required;
    bool alone;                  /* lists: a single value without a list is accepted */
    unsigned long long min, max; /* numbers, sizes, times */
    const char *const *words;    /* read_word: value i is words[i]; ends with NULL */
    const struct schema *schema; /* mappings and lists of them */
    bool (*check)(struct span);  /* texts: NULL accepts all but the empty */
    const char *expected;        /* a noun phrase for "must be …" */
};

struct schema {
    const char *what; /* for messages: "a listener" */
    const struct field *fields;
    size_t field_count;
    size_t size;              /* of the struct; lists only */
    void (*init)(void *item); /* lists: defaults that are not zero; may be NULL */
};

/* Readers of values. */
void read_text(struct loader *, const struct field *, struct yaml_event, void *base);
void read_path(struct loader *, const struct field *, struct yaml_event, void *base);
void read_texts(struct loader *, const struct field *, struct yaml_event, void *base);
void read_paths(struct loader *, const struct field *, struct yaml_event, void *base);
void read_unsigned(struct loader *, const struct field *, struct yaml_event, void *base);
void read_size(struct loader *, const struct field *, struct yaml_event, void *base);
void read_time(struct loader *, const struct field *, struct yaml_event, void *base);
void read_word(struct loader *, const struct field *, struct yaml_event, void *base);
void read_bool(struct loader *, const struct field *, struct yaml_event, void *base);
void read_map(struct loader *, const struct field *, struct yaml_event, void *base);
void read_maps(struct loader *, const struct field *, struct yaml_event, void *base);

/*
 * Reads a mapping (already begun by `map`) into the struct at base. Errors about the whole of it
 * are placed at `place` and call it `what`. Returns which keys were there, for schema_has.
 */
unsigned long long schema_read(struct loader *loader, const struct schema *schema,
                               struct diag_place place, const char *what, void *base);
bool schema_has(const struct schema *schema, unsigned long long seen, const char *key);

/* Tells "`key` must be EXPECTED, not FOUND" unless the value was refused already. Does not pass
 * over the value. */
void loader_expected(struct loader *loader, const struct field *field, struct yaml_event value,
                     const char *expected);

/* The next event; notes a broken file. */
struct yaml_event loader_next(struct loader *loader);

/* An owned copy with its place; false when memory is short (noted). Frees what was there. */
bool loader_text(struct loader *loader, struct config_text *out, struct span text,
                 struct diag_place place);

/* The same for a path, made absolute: relative ones are relative to the configuration's folder. */
bool loader_path(struct loader *loader, struct config_text *out, struct span path,
                 struct diag_place place);

/* One more zeroed element at the end of an array that began as NULL and 0; NULL when memory is
 * short. */
void *loader_add(struct loader *loader, void **items, size_t *count, size_t size);

#endif
