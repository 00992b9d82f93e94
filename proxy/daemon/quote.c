#include "proxy/daemon/quote.h"

#include "proxy/wire/utf8.h"

static bool is_control(struct span value, size_t valid)
{
    return utf8_is_control(utf8_code(value.ptr, valid));
}

void json_put_string(FILE *out, struct span value)
{
    fputc('"', out);
    while (value.len > 0) {
        const size_t valid = utf8_length(value);
        const size_t used = valid > 0 ? valid : 1;
        if (value.ptr[0] == '"' || value.ptr[0] == '\\') {
            fprintf(out, "\\%c", value.ptr[0]);
        } else if (valid == 0 || is_control(value, valid)) {
            fprintf(out, "\\u%04x", valid > 0 ? utf8_code(value.ptr, valid) : 0xfffdu);
        } else {
            fwrite(value.ptr, 1, used, out);
        }
        value = span_skip(value, used);
    }
    fputc('"', out);
}

void print_plain(FILE *out, struct span value)
{
    while (value.len > 0) {
        const size_t valid = utf8_length(value);
        const size_t used = valid > 0 ? valid : 1;
        if (valid == 0 || is_control(value, valid)) {
            for (size_t i = 0; i < used; i++) {
                fprintf(out, "\\x%02x", (unsigned char)value.ptr[i]);
            }
        } else {
            fwrite(value.ptr, 1, used, out);
        }
        value = span_skip(value, used);
    }
}
