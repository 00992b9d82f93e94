#include "tests/bench/bench_line.h"

static void keep(struct bench_line *kept, struct span bytes)
{
    bytes = span_first(bytes, sizeof(kept->bytes) - kept->len);
    memcpy(kept->bytes + kept->len, bytes.ptr, bytes.len);
    kept->len += bytes.len;
}

bool bench_line_take(struct bench_line *kept, struct span *bytes, struct span *line)
{
    const size_t end = span_find(*bytes, '\n');
    const bool found = end < bytes->len;

    *line = span_first(*bytes, end);
    *bytes = span_skip(*bytes, end + 1);
    if (kept->len > 0 || !found) {
        keep(kept, *line);
        *line = span_make(kept->bytes, kept->len);
    }
    if (!found) {
        return false;
    }
    kept->len = 0;
    if (line->len > 0 && line->ptr[line->len - 1] == '\r') {
        line->len--;
    }
    return true;
}
