/* The message identity: the same whole, bytewise and cut as the input says; and the same with a
 * field in front that does not count. */
#include "proxy/wire/identity.h"
#include "tests/fuzz/require.h"

struct outcome {
    bool has;
    unsigned char digest[MESSAGE_IDENTITY_SIZE];
};

static struct spares spares;

/* step 0: lengths of the pieces are taken from the message itself. */
static struct outcome drive(struct span before, struct span in, size_t step)
{
    struct message_identity *identity = message_identity_new(&spares);
    struct outcome out = {0};

    require(identity != NULL);
    message_identity_feed(identity, before);
    while (in.len > 0) {
        const size_t next = step > 0 ? step : (unsigned char)in.ptr[0] % 7u + 1;
        message_identity_feed(identity, span_first(in, next));
        in = span_skip(in, next);
    }
    out.has = message_identity_end(identity, out.digest);
    message_identity_free(identity);
    return out;
}

static void require_equal(struct outcome a, struct outcome b)
{
    require(a.has == b.has && memcmp(a.digest, b.digest, sizeof a.digest) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct span in = span_make((const char *)data, size);
    const struct outcome whole = drive(SPAN(""), in, size + 1);

    require_equal(drive(SPAN(""), in, 1), whole);
    require_equal(drive(SPAN(""), in, 0), whole);
    if (whole.has) {
        /* More than is held: from here on it is hashed as it comes. */
        static char much[20 * 1024] = "Received: by a\r\n\tDate: b\r\nX-To: c\r\nX-Long: ";
        memset(much + 43, 'x', sizeof much - 45);
        memcpy(much + sizeof much - 2, "\r\n", 2);
        require_equal(drive(SPAN("Received: by a\r\n\tDate: b\r\nX-To: c\r\n"), in, 1), whole);
        require_equal(drive(span_make(much, sizeof much), in, 1), whole);
        require_equal(drive(span_make(much, sizeof much), in, 0), whole);
    }
    return 0;
}
