/* The body scanner: what passes and where it ends is the same whole, bytewise and cut as the input
 * says. */
#include "proxy/wire/body.h"
#include "tests/fuzz/require.h"

struct outcome {
    size_t passed, taken;
    uint64_t size;
    enum body_status status;
    bool ended;
};

static size_t min(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* step 0: lengths of the pieces are taken from the message itself. */
static struct outcome drive(struct span in, size_t step)
{
    struct body_scanner scanner = {.line_start = true};
    struct outcome out = {.status = BODY_MORE};
    size_t end = 0;

    while (end < in.len && !out.ended) {
        const size_t next = step > 0 ? step : (unsigned char)in.ptr[end] % 7u + 1;
        end += min(next, in.len - end);
        const struct span piece = span_make(in.ptr + out.taken, end - out.taken);
        size_t clean = 0, consumed = 0;
        if (out.status == BODY_MORE) {
            out.status = body_scan(&scanner, piece, &clean, &consumed);
            out.ended = out.status == BODY_END;
            out.passed += clean;
            out.taken += consumed;
        }
        if (out.status == BODY_DIRTY) {
            out.ended =
                body_skip(&scanner, span_make(in.ptr + out.taken, end - out.taken), &consumed);
            out.taken += consumed;
        }
        if (out.taken > end) {
            abort();
        }
    }
    out.size = scanner.size;
    return out;
}

static void require_equal(struct outcome a, struct outcome b)
{
    require(a.passed == b.passed && a.taken == b.taken && a.size == b.size &&
            a.status == b.status && a.ended == b.ended);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct span in = span_make((const char *)data, size);
    const struct outcome whole = drive(in, size + 1);

    require_equal(drive(in, 1), whole);
    require_equal(drive(in, 0), whole);
    /* What passed has only whole line ends, no NUL, and no terminator inside. */
    bool line_start = true;
    for (size_t i = 0; i < whole.passed; i++) {
        const char c = in.ptr[i];
        require(c != '\0' && (c != '\n' || (i > 0 && in.ptr[i - 1] == '\r')));
        require(c != '\r' || (i + 1 < whole.passed && in.ptr[i + 1] == '\n'));
        require(!(line_start && whole.passed - i >= 3 && memcmp(in.ptr + i, ".\r\n", 3) == 0));
        line_start = c == '\n';
    }
    require(whole.size <= whole.passed);
    return 0;
}
