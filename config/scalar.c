#include "config/scalar.h"

#include "config/text.h"

struct unit {
    const char *name;
    uint64_t factor;
};

static const struct unit size_units[] = {
    {"G", UINT64_C(1) << 30}, {"M", UINT64_C(1) << 20}, {"K", UINT64_C(1) << 10}};

static const struct unit time_units[] = {
    {"d", UINT64_C(86400000)}, {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static size_t digits(struct span text)
{
    size_t n = 0;
    while (n < text.len && text.ptr[n] >= '0' && text.ptr[n] <= '9') {
        n++;
    }
    return n;
}

static bool multiply(struct span number, uint64_t factor, uint64_t *out)
{
    unsigned long long value;
    if (!span_number(number, UINT64_MAX / factor, &value)) {
        return false;
    }
    *out = value * factor;
    return true;
}

bool scalar_size(struct span text, uint64_t *bytes)
{
    size_t n = digits(text);
    struct span unit = span_skip(text, n);
    if (unit.len == 0) {
        return multiply(text, 1, bytes);
    }
    for (size_t i = 0; i < COUNT(size_units); i++) {
        if (span_equal_fold(unit, span_of(size_units[i].name))) {
            return multiply(span_first(text, n), size_units[i].factor, bytes);
        }
    }
    return false;
}

bool scalar_time(struct span text, uint64_t *milliseconds)
{
    size_t n = digits(text);
    struct span unit = span_skip(text, n);
    if (span_equal(text, SPAN("0"))) {
        *milliseconds = 0;
        return true;
    }
    for (size_t i = 0; i < COUNT(time_units); i++) { /* case matters: 5M is no time */
        if (span_equal(unit, span_of(time_units[i].name))) {
            return multiply(span_first(text, n), time_units[i].factor, milliseconds);
        }
    }
    return false;
}

/* How a unit is written elsewhere. */
struct alias {
    const char *word, *unit;
};

static const struct alias size_aliases[] = {
    {"kb", "K"}, {"kib", "K"}, {"k", "K"}, {"mb", "M"}, {"mib", "M"}, {"m", "M"},
    {"gb", "G"}, {"gib", "G"}, {"g", "G"}, {"b", ""},   {"byte", ""}, {"bytes", ""}};

static const struct alias time_aliases[] = {
    {"ms", "ms"},     {"msec", "ms"},   {"milliseconds", "ms"},
    {"s", "s"},       {"sec", "s"},     {"secs", "s"},
    {"second", "s"},  {"seconds", "s"}, {"m", "m"},
    {"min", "m"},     {"mins", "m"},    {"minute", "m"},
    {"minutes", "m"}, {"h", "h"},       {"hr", "h"},
    {"hour", "h"},    {"hours", "h"},   {"d", "d"},
    {"day", "d"},     {"days", "d"}};

#define MEANT_MAX 12 /* digits */

static bool is_meant(struct span text, const struct alias *aliases, size_t count, char *out,
                     size_t cap)
{
    const size_t n = digits(text);
    const struct span word = span_trim(span_skip(text, n));
    struct text meant = text_over(out, cap);
    for (size_t i = 0; i < count && n > 0 && n <= MEANT_MAX; i++) {
        if (span_equal_fold(word, span_of(aliases[i].word))) {
            text_put(&meant, span_first(text, n));
            text_puts(&meant, aliases[i].unit);
            return true;
        }
    }
    return false;
}

bool scalar_size_meant(struct span text, char *out, size_t cap)
{
    return is_meant(text, size_aliases, COUNT(size_aliases), out, cap);
}

bool scalar_time_meant(struct span text, char *out, size_t cap)
{
    return is_meant(text, time_aliases, COUNT(time_aliases), out, cap);
}

static void unit_text(uint64_t value, const struct unit *units, size_t count, char *out, size_t cap)
{
    struct text text = text_over(out, cap);
    for (size_t i = 0; i < count && value > 0; i++) {
        if (value % units[i].factor == 0) {
            text_printf(&text, "%llu%s", (unsigned long long)(value / units[i].factor),
                        units[i].name);
            return;
        }
    }
    text_printf(&text, "%llu", (unsigned long long)value);
}

void scalar_size_text(uint64_t bytes, char *out, size_t cap)
{
    unit_text(bytes, size_units, COUNT(size_units), out, cap);
}

void scalar_time_text(uint64_t milliseconds, char *out, size_t cap)
{
    unit_text(milliseconds, time_units, COUNT(time_units), out, cap);
}

bool scalar_is_null(struct span text, bool plain)
{
    return plain &&
           (text.len == 0 || span_equal(text, SPAN("~")) || span_equal_fold(text, SPAN("null")));
}
