#include "proxy/wire/identity.h"

#include <openssl/evp.h>

#include "proxy/wire/field.h"

/* Longer than every name that is listed; of longer ones only Content- matters. */
#define NAME_KEPT 16

enum part {
    IN_HEADER,
    IN_BODY,
    HAS_NONE, /* the message has no identity, whatever may follow */
};

enum judgement { FIELD_UNKNOWN, FIELD_COUNTS, FIELD_IGNORED };

/* So much of a message is held, and hashed only when somebody asks or more comes: of most messages
 * nobody does. With what else is in the struct, a block of 16 KiB. */
#define HELD (15 * 1024)

struct message_identity {
    EVP_MD_CTX *context; /* NULL: all that came is in held[] */
    struct field_walk walk;
    enum part part;
    enum judgement field;
    bool in_value;
    bool dated, numbered; /* a Date, a Message-ID was seen */
    size_t kept;
    char name[NAME_KEPT]; /* in lower case; what was hashed already is not kept */
    size_t held_len;
    char held[HELD];
};

struct message_identity *message_identity_new(struct spares *spares)
{
    struct message_identity *identity = spare_take(spares, sizeof *identity);
    if (identity != NULL) {
        memset(identity, 0, offsetof(struct message_identity, held));
    }
    return identity;
}

static void hash(struct message_identity *identity, struct span bytes)
{
    if (EVP_DigestUpdate(identity->context, bytes.ptr, bytes.len) != 1) {
        identity->part = HAS_NONE;
    }
}

static void hash_name(struct message_identity *identity)
{
    hash(identity, span_make(identity->name, identity->kept));
    identity->kept = 0;
}

/* Of the name as far as it is kept. */
static bool is_counted(struct span name)
{
    static const struct span listed[] = {
        {"from", 4},    {"sender", 6}, {"to", 2},          {"cc", 2},
        {"subject", 7}, {"date", 4},   {"message-id", 10}, {"mime-version", 12},
    };

    for (size_t i = 0; i < sizeof listed / sizeof *listed; i++) {
        if (span_equal(name, listed[i])) {
            return true;
        }
    }
    return span_starts_fold(name, SPAN("content-"));
}

static void judge(struct message_identity *identity)
{
    const bool counts = is_counted(span_make(identity->name, identity->kept));
    identity->field = counts ? FIELD_COUNTS : FIELD_IGNORED;
}

static void expect_first(struct message_identity *identity, bool *seen)
{
    if (*seen) {
        identity->part = HAS_NONE;
    }
    *seen = true;
}

/* Every field that counts is hashed as name, colon, value, CRLF, and one more CRLF goes before the
 * body. As no name has a colon and no value a CRLF, only this message's fields and body read so. */
static void end_field(struct message_identity *identity)
{
    if (identity->field == FIELD_COUNTS) {
        hash(identity, SPAN("\r\n"));
    }
    identity->field = FIELD_UNKNOWN;
    identity->in_value = false;
    identity->kept = 0;
}

/* A name that fills name[] is in no list, so it is known by its beginning whether it counts. */
static void give_way(struct message_identity *identity)
{
    if (identity->field == FIELD_UNKNOWN) {
        judge(identity);
    }
    if (identity->field == FIELD_COUNTS) {
        hash_name(identity);
    }
}

static void add_name(struct message_identity *identity, struct span bytes)
{
    if (identity->in_value) {
        end_field(identity);
    }
    for (size_t i = 0; i < bytes.len && identity->field != FIELD_IGNORED; i++) {
        identity->name[identity->kept++] = ascii_lower(bytes.ptr[i]);
        if (identity->kept == sizeof identity->name) {
            give_way(identity);
        }
    }
}

static void begin_value(struct message_identity *identity)
{
    const struct span name = span_make(identity->name, identity->kept);

    identity->in_value = true;
    if (identity->field == FIELD_UNKNOWN) {
        judge(identity);
        if (span_equal(name, SPAN("date"))) {
            expect_first(identity, &identity->dated);
        } else if (span_equal(name, SPAN("message-id"))) {
            expect_first(identity, &identity->numbered);
        }
    }
    if (identity->field == FIELD_COUNTS) {
        hash_name(identity);
        hash(identity, SPAN(":"));
    }
}

static void end_header(struct message_identity *identity)
{
    end_field(identity);
    hash(identity, SPAN("\r\n"));
    if (identity->part == IN_HEADER) {
        identity->part = identity->dated && identity->numbered ? IN_BODY : HAS_NONE;
    }
}

static void feed_header(struct message_identity *identity, struct span *input)
{
    struct span bytes = SPAN("");

    switch (field_next(&identity->walk, input, &bytes)) {
    case FIELD_NAME:
        add_name(identity, bytes);
        break;
    case FIELD_COLON:
        begin_value(identity);
        break;
    case FIELD_VALUE:
        if (identity->field == FIELD_COUNTS) {
            hash(identity, bytes);
        }
        break;
    case FIELD_MORE:
    case FIELD_LINE: /* unfolded (RFC 5322 2.2.3), should the field go on */
        break;
    case FIELD_END:
        end_header(identity);
        break;
    case FIELD_WRONG:
        identity->part = HAS_NONE;
        break;
    }
}

static void feed(struct message_identity *identity, struct span bytes)
{
    while (identity->part == IN_HEADER && bytes.len > 0) {
        feed_header(identity, &bytes);
    }
    if (identity->part == IN_BODY && bytes.len > 0) {
        hash(identity, bytes);
    }
}

/* From here on bytes are hashed as they come; those that were held now. */
static void begin_hashing(struct message_identity *identity)
{
    identity->context = EVP_MD_CTX_new();
    if (identity->context == NULL ||
        EVP_DigestInit_ex(identity->context, EVP_sha256(), NULL) != 1) {
        identity->part = HAS_NONE;
        return;
    }
    feed(identity, span_make(identity->held, identity->held_len));
}

void message_identity_feed(struct message_identity *identity, struct span bytes)
{
    if (identity->context == NULL && bytes.len <= HELD - identity->held_len) {
        memcpy(identity->held + identity->held_len, bytes.ptr, bytes.len);
        identity->held_len += bytes.len;
        return;
    }
    if (identity->context == NULL) {
        begin_hashing(identity);
    }
    feed(identity, bytes);
}

bool message_identity_end(struct message_identity *identity,
                          unsigned char digest[MESSAGE_IDENTITY_SIZE])
{
    if (identity->context == NULL) {
        begin_hashing(identity);
    }
    return identity->part == IN_BODY && EVP_DigestFinal_ex(identity->context, digest, NULL) == 1;
}

void message_identity_free(struct message_identity *identity)
{
    if (identity != NULL) {
        EVP_MD_CTX_free(identity->context);
        spare_free(identity);
    }
}
