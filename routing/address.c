#include "routing/address.h"

#include "config/net_address.h"

#define DOMAIN_MAX 255 /* RFC 5321 4.5.3.1.2 */
#define LABEL_MAX  63

/* The length of the well-formed UTF-8 sequence that s begins with (RFC 3629), else 0. C1 controls
 * count as malformed: they are no more welcome than C0. */
static size_t utf8_sequence(struct span s)
{
    const unsigned char *p = (const unsigned char *)s.ptr;
    if (s.len >= 2 && p[0] >= 0xc2 && p[0] <= 0xdf && (p[1] & 0xc0) == 0x80) {
        return p[0] == 0xc2 && p[1] < 0xa0 ? 0 : 2;
    }
    if (s.len >= 3 && (p[0] & 0xf0) == 0xe0 && (p[1] & 0xc0) == 0x80 && (p[2] & 0xc0) == 0x80) {
        bool overlong = p[0] == 0xe0 && p[1] < 0xa0;
        bool surrogate = p[0] == 0xed && p[1] >= 0xa0;
        return overlong || surrogate ? 0 : 3;
    }
    if (s.len >= 4 && p[0] >= 0xf0 && p[0] <= 0xf4 && (p[1] & 0xc0) == 0x80 &&
        (p[2] & 0xc0) == 0x80 && (p[3] & 0xc0) == 0x80) {
        bool overlong = p[0] == 0xf0 && p[1] < 0x90;
        bool beyond = p[0] == 0xf4 && p[1] >= 0x90;
        return overlong || beyond ? 0 : 4;
    }
    return 0;
}

/* Control characters nowhere; bytes above 127 only as UTF-8 and only where they are allowed. */
static enum address_error check_bytes(struct span s, bool utf8)
{
    bool high = false, control = false;
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.ptr[i];
        control |= c < 0x20 || c == 0x7f;
        high |= c >= 0x80;
    }
    if (control || !high) {
        return control ? ADDRESS_SYNTAX : ADDRESS_OK;
    }
    if (!utf8) {
        return ADDRESS_UTF8;
    }
    while (s.len > 0) {
        size_t step = (unsigned char)s.ptr[0] < 0x80 ? 1 : utf8_sequence(s);
        if (step == 0) {
            return ADDRESS_SYNTAX;
        }
        s = span_skip(s, step);
    }
    return ADDRESS_OK;
}

/* Of RFC 5322 3.2.3, with the bytes of UTF-8 (RFC 6532). */
static bool is_atext(unsigned char c)
{
    static const bool atext[256] = {
        ['a' ... 'z'] = true,  ['A' ... 'Z'] = true,  ['0' ... '9'] = true, ['!'] = true,
        ['#' ... '\''] = true, ['*'] = true,          ['+'] = true,         ['-'] = true,
        ['/'] = true,          ['='] = true,          ['?'] = true,         ['^' ... '`'] = true,
        ['{' ... '~'] = true,  [0x80 ... 0xff] = true};
    return atext[c];
}

/* Position of the last @ outside quotes, or s.len; s.len + 1 when a quoted string does not end. */
static size_t find_last_at(struct span s)
{
    size_t at = s.len;
    bool quoted = false;
    if (span_find(s, '"') == s.len) {
        return span_rfind(s, '@');
    }
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i];
        if (quoted && c == '\\') {
            i++;
        } else if (c == '"') {
            quoted = !quoted;
        } else if (c == '@' && !quoted) {
            at = i;
        }
    }
    return quoted ? s.len + 1 : at;
}

/* Quoted-string of RFC 5321 4.1.2, quotes included: the one that opens must close at the very end.
 */
static bool quoted_valid(struct span s)
{
    if (s.len < 3 || s.ptr[0] != '"') { /* "" has no content and names nobody */
        return false;
    }
    for (size_t i = 1; i < s.len; i++) {
        if (s.ptr[i] == '"') {
            return i + 1 == s.len;
        }
        if (s.ptr[i] == '\\') {
            i++;
        }
    }
    return false;
}

/* Dots may stand anywhere: mailboxes such as "a..b" and "a." exist, and other servers take them. */
static bool unquoted_valid(struct span s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] != '.' && s.ptr[i] != '@' && !is_atext((unsigned char)s.ptr[i])) {
            return false;
        }
    }
    return s.len > 0;
}

static bool utf8_domain_valid(struct span domain)
{
    size_t label = 0, most = LABEL_MAX;
    for (size_t i = 0; i < domain.len; i++) {
        unsigned char c = (unsigned char)domain.ptr[i];
        bool letter = c >= 0x80 || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                      (c >= '0' && c <= '9') || c == '-' || c == '_';
        if (c == '.' ? label == 0 : !letter) {
            return false;
        }
        label = c == '.' ? 0 : label + 1;
        if (c >= 0x80) { /* a U-label may be longer than its 63 octets of A-label */
            most = LABEL_MAX * 4;
        } else if (c == '.') {
            most = LABEL_MAX;
        }
        if (label > most) {
            return false;
        }
    }
    return label > 0;
}

/* [192.0.2.1] or [IPv6:2001:db8::1] (RFC 5321 4.1.3); no other tags exist. */
static bool literal_valid(struct span domain)
{
    struct net_address ignored;
    if (domain.len < 3 || domain.ptr[domain.len - 1] != ']') {
        return false;
    }
    struct span inside = span_make(domain.ptr + 1, domain.len - 2);
    if (span_starts_fold(inside, SPAN("IPv6:"))) {
        inside = span_skip(inside, 5);
        return span_find(inside, ':') < inside.len && net_address_parse(inside, 0, &ignored);
    }
    return span_find(inside, ':') == inside.len && net_address_parse(inside, 0, &ignored);
}

static bool domain_valid(struct span domain, bool *literal)
{
    *literal = domain.len > 0 && domain.ptr[0] == '[';
    if (domain.len > DOMAIN_MAX) {
        return false;
    }
    if (*literal) {
        return literal_valid(domain);
    }
    return host_name_valid(domain) || utf8_domain_valid(domain);
}

/* "@a,@b:" in front of a mailbox (RFC 5321 4.1.2 A-d-l, appendix C): to be accepted and ignored. */
static bool strip_source_route(struct span *text)
{
    bool literal;
    if (text->len == 0 || text->ptr[0] != '@') {
        return true;
    }
    while (text->len > 0 && text->ptr[0] == '@') {
        size_t end = 1;
        bool bracket = false;
        while (end < text->len) {
            char c = text->ptr[end];
            bracket = c == '[' ? true : c == ']' ? false : bracket;
            if (!bracket && (c == ',' || c == ':')) {
                break;
            }
            end++;
        }
        if (end == text->len || !domain_valid(span_make(text->ptr + 1, end - 1), &literal)) {
            return false;
        }
        bool last = text->ptr[end] == ':';
        *text = span_skip(*text, end + 1);
        if (last) {
            return true;
        }
    }
    return false;
}

bool address_has_routing(const struct address *address)
{
    struct span local = address->local;
    bool found = false;
    for (size_t i = 0; i < local.len; i++) {
        found |= local.ptr[i] == '%' || local.ptr[i] == '!' || local.ptr[i] == '@';
    }
    return found;
}

enum address_error address_parse(struct span text, bool routing_ok, bool utf8, struct address *out)
{
    *out = (struct address){.whole = span_first(text, 0)};
    enum address_error bytes = check_bytes(text, utf8);
    if (bytes != ADDRESS_OK) {
        return bytes;
    }
    if (!strip_source_route(&text) || text.len == 0) {
        return ADDRESS_SYNTAX;
    }
    if (text.len > ADDRESS_MAX) {
        return ADDRESS_TOO_LONG;
    }
    out->whole = text;
    size_t at = find_last_at(text);
    if (at >= text.len) {
        out->local = text;
        return span_equal_fold(text, SPAN("postmaster")) ? ADDRESS_OK : ADDRESS_SYNTAX;
    }
    out->local = span_first(text, at);
    out->domain = span_skip(text, at + 1);
    out->quoted = at > 0 && text.ptr[0] == '"';
    if (out->quoted ? !quoted_valid(out->local) : !unquoted_valid(out->local)) {
        return ADDRESS_SYNTAX;
    }
    if (!domain_valid(out->domain, &out->literal)) {
        return ADDRESS_SYNTAX;
    }
    if (!routing_ok) {
        return address_has_routing(out) ? ADDRESS_ROUTING : ADDRESS_OK;
    }
    bool bare_at = !out->quoted && span_find(out->local, '@') < out->local.len;
    return bare_at ? ADDRESS_SYNTAX : ADDRESS_OK;
}

struct span address_fold(struct span s, char *out)
{
    for (size_t i = 0; i < s.len; i++) {
        out[i] = ascii_lower(s.ptr[i]);
    }
    return span_make(out, s.len);
}

struct span address_fold_local(const struct address *address, char *out)
{
    struct span local = address->local;
    size_t len = 0;
    if (!address->quoted) {
        return address_fold(local, out);
    }
    for (size_t i = 1; i + 1 < local.len; i++) { /* between the quotes */
        i += local.ptr[i] == '\\';
        out[len++] = ascii_lower(local.ptr[i]);
    }
    struct span words = span_make(out, len);
    if (unquoted_valid(words) && span_find(words, '@') == len) {
        return words;
    }
    len = 0;
    out[len++] = '"';
    for (size_t i = 1; i + 1 < local.len; i++) {
        i += local.ptr[i] == '\\';
        if (local.ptr[i] == '"' || local.ptr[i] == '\\') {
            out[len++] = '\\';
        }
        out[len++] = ascii_lower(local.ptr[i]);
    }
    out[len++] = '"';
    return span_make(out, len);
}

struct span address_without_extension(struct span local, char delimiter)
{
    if (delimiter == '\0' || local.len < 2 || local.ptr[0] == '"') {
        return span_first(local, 0);
    }
    size_t found = span_find(span_skip(local, 1), delimiter) + 1;
    return span_first(local, found < local.len ? found : 0);
}
