/* keys: splitmx.yaml(5) has every key of the tables, with the type, range and default that the
 * program has, and no other. The page's form: after `.It Ic KEY : …`, somewhere in the item,
 *     .D1 TYPE; default: VALUE; example: Li EXAMPLE
 * or `needed` in place of the default. `as above`: the words of the item tell it. What the examples
 * mean is for tests/e2e/test_manual.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/keys.h"
#include "config/scalar.h"
#include "config/text.h"

#define LINE_CAP 512

static char *page; /* all of it */
static unsigned compared;

static int read_page(void **state)
{
    (void)state;
    size_t size = 0;
    FILE *file = fopen("docs/splitmx.yaml.5", "r");
    if (!file) {
        return -1;
    }
    ssize_t len = getdelim(&page, &size, '\0', file);
    fclose(file);
    return len > 0 ? 0 : -1;
}

static int drop_page(void **state)
{
    (void)state;
    free(page);
    return 0;
}

/* Where a line with this text (that begins with the newline before it) begins; NULL: nowhere. */
static const char *line_in(const char *from, const char *line)
{
    const char *at = strstr(from, line);
    return at ? at + 1 : NULL;
}

/* The `.D1` line of a key, without its example; NULL when the page lacks the key in that section.
 */
static const char *told_of(const char *section, const char *key, char *out, size_t cap)
{
    char line[LINE_CAP];
    snprintf(line, sizeof(line), "\n.Ss %s\n", section);
    const char *from = line_in(page, line);
    const char *end = from ? line_in(from, "\n.Ss ") : NULL; /* the last one: NULL */
    snprintf(line, sizeof(line), "\n.It Ic %s : ", key);
    const char *item = from ? line_in(from, line) : NULL;
    const char *told = item ? line_in(item, "\n.D1 ") : NULL;
    const char *next = item ? line_in(item, "\n.It Ic ") : NULL;
    if (!told || (next && told > next) || (end && told > end)) {
        return NULL;
    }
    const char *example = strstr(told, "; example: Li ");
    assert_non_null(example);
    snprintf(out, cap, "%.*s", (int)(example - told), told);
    return item;
}

static void put_range(struct text *out, const struct field *field)
{
    char least[SCALAR_TEXT], most[SCALAR_TEXT];
    if (field->read == read_size) {
        scalar_size_text(field->min, least, sizeof(least));
        scalar_size_text(field->max, most, sizeof(most));
        text_printf(out, "size, %s to %s", least, most);
    } else if (field->read == read_time) {
        scalar_time_text(field->min, least, sizeof(least));
        scalar_time_text(field->max, most, sizeof(most));
        text_printf(out, "time, %s to %s", least, most);
    } else {
        text_printf(out, "number, %llu to %llu", field->min, field->max);
    }
}

static void put_type(struct text *out, const struct field *field)
{
    if (field->max > 0) {
        put_range(out, field);
    } else if (field->words) {
        text_puts(out, "word");
    } else if (field->read == read_bool) {
        text_puts(out, "true or false");
    } else if (field->read == read_maps) {
        text_puts(out, "list of mappings");
    } else if (field->read == read_paths) {
        text_puts(out, "path, or list of paths");
    } else if (field->read == read_path) {
        text_puts(out, "path");
    } else if (field->read == read_texts || strcmp(field->key, "domains") == 0) {
        text_puts(out, "list of texts");
    } else if (strcmp(field->key, "recipient-delimiter") == 0) {
        text_puts(out, "character");
    } else {
        text_puts(out, "text");
    }
}

/* The value that the program has without the key; nothing is put where the page has to tell. */
static void put_default(struct text *out, const struct field *field, const struct config *config,
                        const char *base)
{
    char value[SCALAR_TEXT];
    const char *member = base + field->offset;
    if (field->read == read_size) {
        scalar_size_text(*(const uint64_t *)member, value, sizeof(value));
        text_puts(out, value);
    } else if (field->read == read_time) {
        scalar_time_text(*(const uint64_t *)member, value, sizeof(value));
        text_puts(out, value);
    } else if (field->read == read_unsigned && *(const unsigned *)member >= field->min) {
        text_printf(out, "%u", *(const unsigned *)member);
    } else if (field->read == read_word) {
        text_puts(out, field->words[*(const unsigned *)member]);
    } else if (field->read == read_bool) {
        text_puts(out, *(const bool *)member ? "true" : "false");
    } else if (strcmp(field->key, "workers") == 0 && config->workers == 0) {
        text_puts(out, "auto");
    } else if (strcmp(field->key, "recipient-delimiter") == 0) {
        text_printf(out, "%c", config->recipient_delimiter);
    } else if (field->read == read_paths) {
        const char *path = ((const struct config_texts *)member)->items[0].text;
        text_puts(out, strrchr(path, '/') + 1); /* relative to the configuration's folder */
    } else if ((field->read == read_text || field->read == read_path) &&
               strcmp(field->key, "hostname") != 0 && ((const struct config_text *)member)->text) {
        text_puts(out, ((const struct config_text *)member)->text);
    }
}

static bool is_told(const char *told, const struct field *field, const struct config *config,
                    const char *base, char *wanted, size_t cap)
{
    char value[LINE_CAP] = "";
    struct text type = text_over(wanted, cap), out = TEXT(value);
    text_puts(&type, ".D1 ");
    put_type(&type, field);
    if (field->required) {
        text_puts(&type, "; needed");
        return strcmp(told, wanted) == 0;
    }
    put_default(&out, field, config, base);
    size_t so_far = strlen(wanted);
    text_printf(&type, "; default: %s", value[0] ? value : "none");
    if (strcmp(told, wanted) == 0) {
        return true;
    }
    /* A default that depends on something. */
    if (value[0] && !(field->given && field->words)) {
        return false;
    }
    snprintf(wanted + so_far, cap - so_far, "; default: as above");
    return strcmp(told, wanted) == 0;
}

/* `.It Ic tls : Li none | may`: exactly the words of the table. */
static void words_are_told(const char *item, const struct field *field)
{
    static const char *const truth[] = {"true", "false", NULL};
    const char *const *words = field->read == read_bool ? truth : field->words;
    char line[LINE_CAP];
    struct text out = TEXT(line);
    text_printf(&out, ".It Ic %s : Li ", field->key);
    for (size_t i = 0; words && words[i]; i++) {
        text_printf(&out, "%s%s", i > 0 ? " | " : "", words[i]);
    }
    text_puts(&out, "\n");
    if (words && strncmp(item, line, strlen(line)) != 0) {
        fail_msg("the page has `%.40s…`, the program %s", item, line);
    }
}

static void section_is_told(const char *section, const struct schema *schema,
                            const struct config *config, const void *base)
{
    for (size_t i = 0; i < schema->field_count; i++) {
        const struct field *field = &schema->fields[i];
        char told[LINE_CAP], wanted[LINE_CAP] = "";
        if (field->schema && field->read != read_maps) {
            continue; /* a section of its own */
        }
        if (schema == &keys_of_file && field->schema) {
            continue;
        }
        const char *item = told_of(section, field->key, told, sizeof(told));
        if (!item && strcmp(section, "relays") == 0) {
            item = told_of("The relay gmail", field->key, told, sizeof(told));
        }
        if (!item) {
            fail_msg("splitmx.yaml(5) has no `%s` with a line `.D1` under `%s`", field->key,
                     section);
        } else if (!is_told(told, field, config, base, wanted, sizeof(wanted))) {
            fail_msg("`%s` of `%s`: the page has `%s`, the program `%s`", field->key, section, told,
                     wanted);
        } else {
            words_are_told(item, field);
        }
        compared++;
    }
}

/* Where the defaults of a section's keys are. */
static const void *base_of(const struct config *config, const struct field *section)
{
    static const struct config_certificate none;
    if (strcmp(section->key, "listen") == 0) {
        return &config->listeners[0];
    }
    if (strcmp(section->key, "tls") == 0) {
        return config->certificate_count > 0 ? &config->certificates[0] : &none;
    }
    return strcmp(section->key, "relays") == 0 ? (const void *)&config->relays[0] : config;
}

static struct config *config_of(const char *content)
{
    char path[] = "/tmp/test_keys.XXXXXX";
    int fd = mkstemp(path);
    FILE *file = fd >= 0 ? fdopen(fd, "w") : NULL;
    assert_non_null(file);
    fputs(content, file);
    assert_int_equal(fclose(file), 0);
    struct diag_list *diags = diag_list_new();
    struct config *config = config_load(path, diags);
    remove(path);
    if (!config) {
        diag_print(diags, stderr);
    }
    diag_list_free(diags);
    assert_non_null(config);
    return config;
}

static void the_page_has_every_key_with_its_type_range_and_default(void **state)
{
    (void)state;
    struct config *config = config_of("hostname: mx.example.com\n"
                                      "tls: {certificate: c.pem, private-key: k.pem}\n"
                                      "relays: {gmail: {}}\n");
    compared = 0;
    section_is_told("General", &keys_of_file, config, config);
    for (size_t i = 0; i < keys_of_file.field_count; i++) {
        const struct field *field = &keys_of_file.fields[i];
        if (field->schema) {
            section_is_told(field->key, field->schema, config, base_of(config, field));
        }
    }
    config_unref(config);

    /* And no other. */
    unsigned lines = 0;
    for (const char *at = page; (at = line_in(at, "\n.D1 ")) != NULL;) {
        lines++;
    }
    assert_true(compared > 40);
    assert_int_equal(lines, compared);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_page_has_every_key_with_its_type_range_and_default),
    };
    return cmocka_run_group_tests(tests, read_page, drop_page);
}
