#include "proxy/wire/body.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

/*
 * How many bytes at the front are neither CR, LF nor NUL. This is the only loop that every message
 * byte passes, so it looks at 16 (or 8) bytes at once: bytewise costs about eight times as much.
 */
#ifdef __SSE2__
static size_t plain_length(const char *bytes, size_t len)
{
    const __m128i cr = _mm_set1_epi8('\r'), lf = _mm_set1_epi8('\n'), nul = _mm_setzero_si128();
    size_t at = 0;
    for (; len - at >= 16; at += 16) {
        const __m128i block = _mm_loadu_si128((const __m128i *)(const void *)(bytes + at));
        const __m128i hit =
            _mm_or_si128(_mm_or_si128(_mm_cmpeq_epi8(block, cr), _mm_cmpeq_epi8(block, lf)),
                         _mm_cmpeq_epi8(block, nul));
        const int mask = _mm_movemask_epi8(hit);
        if (mask != 0) {
            return at + (size_t)__builtin_ctz((unsigned)mask);
        }
    }
    while (at < len && bytes[at] != '\r' && bytes[at] != '\n' && bytes[at] != '\0') {
        at++;
    }
    return at;
}
#else
/* Not zero when a byte of the word is zero; never zero by mistake, which is all that is asked of
 * it. */
static uint64_t has_zero(uint64_t word)
{
    return (word - 0x0101010101010101u) & ~word & 0x8080808080808080u;
}

static size_t plain_length(const char *bytes, size_t len)
{
    const uint64_t cr = 0x0101010101010101u * '\r', lf = 0x0101010101010101u * '\n';
    size_t at = 0;
    for (; len - at >= sizeof(uint64_t); at += sizeof(uint64_t)) {
        uint64_t word;
        memcpy(&word, bytes + at, sizeof word);
        if ((has_zero(word) | has_zero(word ^ cr) | has_zero(word ^ lf)) != 0) {
            break;
        }
    }
    while (at < len && bytes[at] != '\r' && bytes[at] != '\n' && bytes[at] != '\0') {
        at++;
    }
    return at;
}
#endif

enum end_match { END_NO, END_PERHAPS, END_YES };

/* Whether a line that starts here is the terminator; perhaps when input ends too soon to know. */
static enum end_match end_match(struct span line)
{
    static const char terminator[3] = ".\r\n";
    const size_t len = line.len < sizeof terminator ? line.len : sizeof terminator;
    if (len == 0) {
        return END_PERHAPS;
    }
    if (memcmp(line.ptr, terminator, len) != 0) {
        return END_NO;
    }
    return len == sizeof terminator ? END_YES : END_PERHAPS;
}

enum body_status body_scan(struct body_scanner *scanner, struct span input, size_t *clean,
                           size_t *consumed)
{
    enum body_status status = BODY_MORE;
    bool line_start = scanner->line_start;
    size_t at = 0, stuffed = 0, terminator = 0;

    while (at < input.len) {
        if (line_start && input.ptr[at] == '.') {
            const enum end_match match = end_match(span_skip(input, at));
            if (match == END_YES) {
                status = BODY_END;
                terminator = 3;
            }
            if (match != END_NO) {
                break;
            }
            at++;
            stuffed++;
        }
        line_start = false;
        at += plain_length(input.ptr + at, input.len - at);
        if (at == input.len || (input.ptr[at] == '\r' && at + 1 == input.len)) {
            break;
        }
        if (input.ptr[at] != '\r' || input.ptr[at + 1] != '\n') {
            status = BODY_DIRTY;
            break;
        }
        at += 2;
        line_start = true;
    }
    if (at > 0) {
        /* An LF that was passed on always had its CR. */
        scanner->line_start = input.ptr[at - 1] == '\n';
    }
    scanner->size += at - stuffed;
    *clean = at;
    *consumed = at + terminator;
    return status;
}

bool body_skip(struct body_scanner *scanner, struct span input, size_t *consumed)
{
    size_t at = 0;

    while (at < input.len) {
        if (scanner->line_start) {
            const enum end_match match = end_match(span_skip(input, at));
            if (match != END_NO) {
                *consumed = match == END_YES ? at + 3 : at;
                return match == END_YES;
            }
            scanner->line_start = false;
        }
        const char *cr = memchr(input.ptr + at, '\r', input.len - at);
        if (cr == NULL) {
            at = input.len;
            break;
        }
        at = (size_t)(cr - input.ptr);
        if (at + 1 == input.len) {
            break;
        }
        /* A bare CR goes alone: what follows it may be the CR of a real line end. */
        scanner->line_start = input.ptr[at + 1] == '\n';
        at += scanner->line_start ? 2 : 1;
    }
    *consumed = at;
    return false;
}
