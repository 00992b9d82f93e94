#include "proxy/admin/query.h"

const char *query_address(const char *encoded, char out[ADDRESS_MAX + 1])
{
    size_t len = 0;
    for (const char *at = encoded; *at != '\0'; at++) {
        char c = *at;
        if (c == '%') {
            const int high = ascii_hex(at[1]);
            const int low = high >= 0 ? ascii_hex(at[2]) : -1;
            if (low < 0) {
                return "behind % come two hexadecimal digits";
            }
            c = (char)(high * 16 + low);
            at += 2;
        }
        if (c == '\0') {
            return "no address holds a NUL";
        }
        if (len == ADDRESS_MAX) {
            return "an address has 320 octets at most";
        }
        out[len++] = c;
    }
    out[len] = '\0';
    return len > 0 ? NULL : "ask with ?address=user@example.com";
}
