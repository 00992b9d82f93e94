/* Command lines: taken the same however they are cut; what a parser accepts lies inside its
 * argument. */
#include "proxy/wire/command.h"
#include "tests/fuzz/require.h"

static uint64_t digest(uint64_t sum, const char *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        sum = (sum ^ (unsigned char)bytes[i]) * UINT64_C(0x100000001b3);
    }
    return sum;
}

static void require_path(struct span path, struct span argument)
{
    require(path.ptr > argument.ptr && path.ptr + path.len < argument.ptr + argument.len);
    require(path.ptr[-1] == '<' && path.ptr[path.len] == '>');
    for (size_t i = 0; i < path.len; i++) {
        require((unsigned char)path.ptr[i] >= ' ' && path.ptr[i] != 0x7f);
    }
}

static void line_check(struct span line)
{
    const struct command command = command_parse(line);
    struct mail_command mail;
    struct rcpt_command rcpt;

    require(command.verb < VERB_COUNT);
    require(line.len + 2 <= COMMAND_LINE_MAX);
    require(span_find(line, '\r') == line.len && span_find(line, '\n') == line.len);
    if (mail_parse(command.argument, &mail) == PARSE_OK) {
        require_path(mail.path, command.argument);
        require(mail.body_given || !mail.body_8bit);
    }
    if (rcpt_parse(command.argument, &rcpt) == PARSE_OK) {
        require_path(rcpt.path, command.argument);
    }
    if (helo_valid(command.argument)) {
        require(span_find(command.argument, ' ') == command.argument.len);
    }
}

/* Returns a digest of all lines and faults in order; step 0: lengths of the pieces are taken from
 * the input. */
static uint64_t drive(struct span in, size_t step)
{
    struct line_reader reader = {0};
    uint64_t sum = UINT64_C(0xcbf29ce484222325);
    size_t end = 0, taken = 0;

    while (end < in.len) {
        const size_t next = step > 0 ? step : (unsigned char)in.ptr[end] % 7u + 1;
        enum line_status status;
        end = next < in.len - end ? end + next : in.len;
        do {
            struct span line;
            size_t consumed;
            status = line_take(&reader, span_make(in.ptr + taken, end - taken), &line, &consumed);
            taken += consumed;
            require(taken <= end && (status == LINE_MORE || consumed > 0));
            if (status != LINE_MORE) {
                const char mark = (char)status;
                sum = digest(sum, &mark, 1);
            }
            if (status == LINE_OK) {
                line_check(line);
                sum = digest(sum, line.ptr, line.len);
            }
        } while (status != LINE_MORE);
        require(end - taken < COMMAND_LINE_MAX);
    }
    return digest(sum, in.ptr + taken, in.len - taken);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct span in = span_make((const char *)data, size);
    const uint64_t whole = drive(in, size + 1);

    require(drive(in, 1) == whole);
    require(drive(in, 0) == whole);
    return 0;
}
