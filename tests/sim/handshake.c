#include "tests/sim/handshake.h"

#include <stdlib.h>

#include "tls/context.h"

/* ---- contexts ---- */

struct tls_context {
    bool verifies;
    unsigned number; /* of its policy */
};

struct tls_contexts {
    struct tls_context server, plain, verifying;
};

struct tls_contexts *handshake_contexts_new(struct sim *sim)
{
    struct tls_contexts *contexts = sim_alloc(1, sizeof *contexts);
    contexts->plain.number = contexts->verifying.number = ++sim->contexts;
    contexts->verifying.verifies = true;
    return contexts;
}

void handshake_contexts_free(struct tls_contexts *contexts)
{
    free(contexts);
}

const struct tls_context *tls_server_context(const struct tls_contexts *contexts)
{
    return &contexts->server;
}

const struct tls_context *tls_client_context(const struct tls_contexts *contexts,
                                             enum config_relay_tls policy, const char *ca_file)
{
    (void)ca_file;
    switch (policy) {
    case RELAY_TLS_NONE:
        break;
    case RELAY_TLS_MAY:
    case RELAY_TLS_ENCRYPT:
        return &contexts->plain;
    case RELAY_TLS_VERIFY:
        return &contexts->verifying;
    }
    return NULL;
}

/* Each policy has its own here, so that what stands under an old one has to go. */
bool tls_contexts_have(const struct tls_contexts *contexts, const struct tls_context *context)
{
    return context == &contexts->plain || context == &contexts->verifying;
}

/* ---- the proxy's end ---- */

void handshake_begin(struct link *link, const struct tls_context *context, const char *name,
                     struct buffer *said)
{
    if (context == NULL) {
        sim_fail(link->sim, "link %u: a handshake without a context", link->id);
    }
    link->tls = LINK_SHAKING;
    link->is_tls_server = name == NULL;
    link->verifies = context->verifies;
    link->contexts = context->number;
    if (name != NULL) {
        struct text text = TEXT(link->name);
        text_puts(&text, name);
        buffer_put(said, SPAN(HANDSHAKE_HELLO " "));
        buffer_put(said, span_of(name));
        buffer_put(said, SPAN("\n"));
    }
}

static enum handshake_status as_server(struct span line, struct buffer *said)
{
    if (span_starts_fold(line, SPAN(HANDSHAKE_HELLO))) {
        buffer_put(said, SPAN(HANDSHAKE_HELLO "\n"));
        return HANDSHAKE_MORE;
    }
    return span_equal(line, SPAN(HANDSHAKE_FINISHED)) ? HANDSHAKE_DONE : HANDSHAKE_FAILED;
}

static enum handshake_status as_client(const struct link *link, struct span line,
                                       struct buffer *said)
{
    bool wrong = span_equal(line, SPAN(HANDSHAKE_WRONG));
    if (wrong && link->verifies) {
        buffer_put(said, SPAN(HANDSHAKE_ALERT));
        return HANDSHAKE_FAILED;
    }
    if (wrong || span_equal(line, SPAN(HANDSHAKE_HELLO "\n"))) {
        buffer_put(said, SPAN(HANDSHAKE_FINISHED));
        return HANDSHAKE_DONE;
    }
    return HANDSHAKE_FAILED;
}

enum handshake_status handshake_take(struct link *link, struct buffer *said)
{
    enum handshake_status status = HANDSHAKE_MORE;
    while (status == HANDSHAKE_MORE && link->shake.len != 0) {
        struct span input = buffer_span(&link->shake);
        size_t end = span_find(input, '\n');
        if (input.ptr[0] != '\x16') {
            return HANDSHAKE_FAILED;
        }
        if (end == input.len) {
            break;
        }
        struct span line = span_first(input, end + 1);
        status = link->is_tls_server ? as_server(line, said) : as_client(link, line, said);
        buffer_drop(&link->shake, end + 1);
    }
    return status;
}

/* ---- for actors ---- */

bool handshake_line(struct link *link, struct text *line)
{
    struct span input = buffer_span(&link->inbox);
    size_t end = span_find(input, '\n');
    if (end == input.len) {
        return false;
    }
    text_put(line, span_first(input, end + 1));
    buffer_drop(&link->inbox, end + 1);
    return true;
}
