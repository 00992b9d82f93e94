#include "proxy/admin/exposition.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool grow(struct exposition *out, size_t room)
{
    char *text = realloc(out->text, room);
    if (text == NULL) {
        out->failed = true;
        return false;
    }
    out->text = text;
    out->room = room;
    return true;
}

/* For so many more octets, and a NUL. */
static bool has_room(struct exposition *out, size_t more)
{
    return !out->failed && (out->room - out->size > more || grow(out, 2 * out->room + more + 4096));
}

static void put_char(struct exposition *out, char c)
{
    if (has_room(out, 1)) {
        out->text[out->size++] = c;
        out->text[out->size] = '\0';
    }
}

static void put_text(struct exposition *out, const char *text)
{
    const size_t size = strlen(text);
    if (has_room(out, size)) {
        memcpy(out->text + out->size, text, size + 1);
        out->size += size;
    }
}

/* A number, at the end of a line. */
__attribute__((format(printf, 2, 3))) static void put_line(struct exposition *out,
                                                           const char *format, ...)
{
    char text[64];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    put_text(out, text);
    put_char(out, '\n');
}

void exposition_family(struct exposition *out, const char *name, const char *type, const char *help)
{
    const char *const parts[] = {"# HELP ", name, " ", help, "\n# TYPE ", name, " ", type, "\n"};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        put_text(out, parts[i]);
    }
}

/* Backslash, quote and line feed are escaped; other control characters, which a reader need not
 * take, are none that a name may have. */
static void put_value(struct exposition *out, const char *value)
{
    for (; *value != '\0'; value++) {
        const unsigned char c = (unsigned char)*value;
        if (c == '\n') {
            put_text(out, "\\n");
        } else if (c == '\\' || c == '"') {
            put_char(out, '\\');
            put_char(out, (char)c);
        } else {
            put_char(out, c < ' ' || c == 0x7f ? '?' : (char)c);
        }
    }
}

static void put_labels(struct exposition *out, const struct labels *labels)
{
    char before = '{';
    for (size_t i = 0; i < sizeof labels->pair / sizeof labels->pair[0]; i++) {
        if (labels->pair[i].name != NULL) {
            put_char(out, before);
            put_text(out, labels->pair[i].name);
            put_text(out, "=\"");
            put_value(out, labels->pair[i].value);
            put_char(out, '"');
            before = ',';
        }
    }
    if (before == ',') {
        put_char(out, '}');
    }
}

void exposition_sample(struct exposition *out, const char *name, struct labels labels,
                       uint64_t value)
{
    put_text(out, name);
    put_labels(out, &labels);
    put_line(out, " %llu", (unsigned long long)value);
}

void exposition_histogram(struct exposition *out, const char *name, struct labels labels,
                          const struct latency_sum *latency)
{
    uint64_t count = 0;
    for (size_t i = 0; i <= LATENCY_BOUNDS; i++) {
        char bound[24] = "+Inf";
        if (i < LATENCY_BOUNDS) {
            snprintf(bound, sizeof bound, "%g", latency_bounds[i] / 1000.0);
        }
        count += latency->bucket[i];
        put_text(out, name);
        put_text(out, "_bucket");
        labels.pair[1].name = "le";
        labels.pair[1].value = bound;
        put_labels(out, &labels);
        put_line(out, " %llu", (unsigned long long)count);
    }
    labels.pair[1].name = NULL;
    put_text(out, name);
    put_text(out, "_sum");
    put_labels(out, &labels);
    put_line(out, " %llu.%03llu", (unsigned long long)latency->sum / 1000,
             (unsigned long long)latency->sum % 1000);
    put_text(out, name);
    put_text(out, "_count");
    put_labels(out, &labels);
    put_line(out, " %llu", (unsigned long long)count);
}
