#include "proxy/admin/exposition.h"

#include <stddef.h>

void exposition_family(FILE *out, const char *name, const char *type, const char *help)
{
    fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* Backslash, quote and line feed are escaped; other control characters, which a reader need not
 * take, are none that a name may have. */
static void put_value(FILE *out, const char *value)
{
    for (; *value != '\0'; value++) {
        const unsigned char c = (unsigned char)*value;
        if (c == '\n') {
            fputs("\\n", out);
        } else if (c == '\\' || c == '"') {
            fprintf(out, "\\%c", c);
        } else {
            fputc(c < ' ' || c == 0x7f ? '?' : c, out);
        }
    }
}

static void put_labels(FILE *out, const struct labels *labels)
{
    char before = '{';
    for (size_t i = 0; i < sizeof labels->pair / sizeof labels->pair[0]; i++) {
        if (labels->pair[i].name != NULL) {
            fprintf(out, "%c%s=\"", before, labels->pair[i].name);
            put_value(out, labels->pair[i].value);
            fputc('"', out);
            before = ',';
        }
    }
    if (before == ',') {
        fputc('}', out);
    }
}

void exposition_sample(FILE *out, const char *name, struct labels labels, uint64_t value)
{
    fputs(name, out);
    put_labels(out, &labels);
    fprintf(out, " %llu\n", (unsigned long long)value);
}

void exposition_histogram(FILE *out, const char *name, struct labels labels,
                          const struct latency_sum *latency)
{
    uint64_t count = 0;
    for (size_t i = 0; i <= LATENCY_BOUNDS; i++) {
        char bound[24] = "+Inf";
        if (i < LATENCY_BOUNDS) {
            snprintf(bound, sizeof bound, "%g", latency_bounds[i] / 1000.0);
        }
        count += latency->bucket[i];
        fprintf(out, "%s_bucket", name);
        labels.pair[1].name = "le";
        labels.pair[1].value = bound;
        put_labels(out, &labels);
        fprintf(out, " %llu\n", (unsigned long long)count);
    }
    labels.pair[1].name = NULL;
    fprintf(out, "%s_sum", name);
    put_labels(out, &labels);
    fprintf(out, " %llu.%03llu\n", (unsigned long long)latency->sum / 1000,
            (unsigned long long)latency->sum % 1000);
    fprintf(out, "%s_count", name);
    put_labels(out, &labels);
    fprintf(out, " %llu\n", (unsigned long long)count);
}
