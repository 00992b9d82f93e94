/* Upstream replies: read the same however they are cut, scrubbed, and written in lines that can be
 * read again. */
#include "proxy/wire/reply.h"
#include "proxy/wire/utf8.h"
#include "tests/fuzz/require.h"

/* step 0: lengths of the pieces are taken from the input itself. */
static enum reply_status drive(struct span in, size_t step, struct reply *out, size_t *taken)
{
    struct reply_parser parser = {0};
    enum reply_status status = REPLY_MORE;
    size_t end = 0;

    *taken = 0;
    while (end < in.len && status == REPLY_MORE) {
        const size_t next = step > 0 ? step : (unsigned char)in.ptr[end] % 7u + 1;
        size_t consumed;
        end = next < in.len - end ? end + next : in.len;
        status = reply_parse(&parser, span_make(in.ptr + *taken, end - *taken), out, &consumed);
        *taken += consumed;
        require(*taken <= end);
    }
    return status;
}

static void require_equal(const struct reply *a, const struct reply *b)
{
    require(a->code == b->code && strcmp(a->enhanced, b->enhanced) == 0);
    require(span_equal(span_make(a->text, a->text_len), span_make(b->text, b->text_len)));
}

static void require_scrubbed(const struct reply *reply)
{
    struct span text = span_make(reply->text, reply->text_len);

    require(reply->text_len < REPLY_TEXT && reply->text[reply->text_len] == '\0');
    while (text.len > 0) {
        const size_t len = utf8_length(text);
        require(len > 0);
        require(text.ptr[0] == '\n' || !utf8_is_control(utf8_code(text.ptr, len)));
        text = span_skip(text, len);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct span in = span_make((const char *)data, size);
    struct reply whole, cut, again;
    size_t taken, cut_taken;
    const enum reply_status status = drive(in, size + 1, &whole, &taken);

    for (size_t step = 0; step < 2; step++) {
        require(drive(in, step, &cut, &cut_taken) == status);
        if (status == REPLY_DONE) {
            require(cut_taken == taken);
            require_equal(&whole, &cut);
        }
    }
    if (status == REPLY_DONE) {
        /* Every line may gain code and enhanced code. */
        static char buffer[REPLY_LINES * 32 + REPLY_TEXT];
        struct text out = TEXT(buffer);
        require_scrubbed(&whole);
        reply_write(&whole, false, &out);
        require(!out.full);
        require(drive(text_span(&out), out.len, &again, &taken) == REPLY_DONE);
        require(taken == out.len && again.code == whole.code);
    }
    return 0;
}
