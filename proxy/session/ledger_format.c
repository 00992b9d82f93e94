#include "proxy/session/ledger_format.h"

#include <stdlib.h>

#define VERSION 1

/* Against damage, not malice: the file is ours, and 0600. */
static uint64_t checksum(struct span bytes)
{
    static const struct hash_key key = {{0, 0}};
    return hash_bytes(&key, bytes.ptr, bytes.len);
}

/* ---- out ---- */

static char *put_number(char *at, uint64_t value, unsigned octets)
{
    for (unsigned i = 0; i < octets; i++) {
        *at++ = (char)(value >> (8 * i) & 0xff);
    }
    return at;
}

static char *put_bytes(char *at, const void *bytes, size_t len)
{
    memcpy(at, bytes, len);
    return at + len;
}

static char *put_span(char *at, struct span text)
{
    at = put_number(at, text.len, 2);
    return put_bytes(at, text.ptr, text.len);
}

static size_t leg_length(const struct ledger_leg *leg)
{
    size_t length = 2 + leg->label.len + 1 + leg->record_count * (MESSAGE_IDENTITY_SIZE + 8) + 4;
    for (const struct ledger_member *m = leg->members; m != NULL; m = m->next) {
        length += 2 + m->path.len;
    }
    return length;
}

static char *put_leg(char *at, const struct ledger_leg *leg)
{
    at = put_span(at, leg->label);
    at = put_number(at, leg->record_count, 1);
    for (unsigned i = 0; i < leg->record_count; i++) {
        at = put_bytes(at, leg->records[i].identity, MESSAGE_IDENTITY_SIZE);
        at = put_number(at, (uint64_t)leg->records[i].at, 8);
    }
    at = put_number(at, leg->member_count, 4);
    for (const struct ledger_member *m = leg->members; m != NULL; m = m->next) {
        at = put_span(at, m->path);
    }
    return at;
}

struct span ledger_format(const struct ledger_set *set, char **buffer, size_t *cap)
{
    size_t length = 1 + 8 + 2 + set->sender.len + 8;
    for (const struct ledger_leg *leg = set->first; leg != NULL; leg = leg->next) {
        length += leg_length(leg);
    }
    if (length > *cap) {
        char *grown = realloc(*buffer, 2 * length);
        if (grown == NULL) {
            return (struct span){0};
        }
        *buffer = grown;
        *cap = 2 * length;
    }
    char *at = put_number(*buffer, VERSION, 1);
    at = put_number(at, (uint64_t)set->touched, 8);
    at = put_span(at, set->sender);
    for (const struct ledger_leg *leg = set->first; leg != NULL; leg = leg->next) {
        at = put_leg(at, leg);
    }
    put_number(at, checksum(span_make(*buffer, length - 8)), 8);
    return span_make(*buffer, length);
}

/* ---- in ---- */

/* What is left of a record; `bad` once something was not there. */
struct reader {
    struct span rest;
    bool bad;
};

static struct span take(struct reader *reader, size_t len)
{
    struct span taken = span_first(reader->rest, len);
    reader->bad = reader->bad || taken.len < len;
    reader->rest = span_skip(reader->rest, len);
    return taken;
}

static uint64_t take_number(struct reader *reader, unsigned octets)
{
    struct span bytes = take(reader, octets);
    uint64_t value = 0;
    for (size_t i = bytes.len; i-- > 0;) {
        value = value << 8 | (unsigned char)bytes.ptr[i];
    }
    return value;
}

static struct span take_span(struct reader *reader)
{
    return take(reader, (size_t)take_number(reader, 2));
}

static unsigned take_records(struct reader *reader, struct ledger_acceptance *records)
{
    unsigned count = (unsigned)take_number(reader, 1);
    reader->bad = reader->bad || count > LEDGER_RECORDS_MAX;
    for (unsigned i = 0; i < count && !reader->bad; i++) {
        struct span identity = take(reader, MESSAGE_IDENTITY_SIZE);
        memcpy(records[i].identity, identity.ptr, identity.len);
        records[i].at = (int64_t)take_number(reader, 8);
    }
    return reader->bad ? 0 : count;
}

static enum ledger_parse take_leg(struct reader *reader, struct ledger_members *members,
                                  struct ledger_set *set)
{
    struct ledger_acceptance records[LEDGER_RECORDS_MAX];
    struct span label = take_span(reader);
    unsigned record_count = take_records(reader, records);
    uint64_t count = take_number(reader, 4);
    if (reader->bad || count == 0) {
        return LEDGER_DAMAGED;
    }
    struct ledger_leg *leg = ledger_leg_new(members, set, label, records, record_count);
    if (leg == NULL) {
        return LEDGER_NO_MEMORY;
    }
    for (uint64_t i = 0; i < count; i++) {
        struct span path = take_span(reader);
        if (reader->bad || ledger_find(members, set->sender, path) != NULL) {
            return LEDGER_DAMAGED;
        }
        if (ledger_member_new(members, leg, path) == NULL) {
            return LEDGER_NO_MEMORY;
        }
    }
    return LEDGER_PARSED;
}

enum ledger_parse ledger_parse(struct ledger_members *members, struct span record,
                               struct ledger_set **out)
{
    if (record.len < 8) {
        return LEDGER_DAMAGED;
    }
    struct reader reader = {.rest = span_skip(record, record.len - 8)};
    uint64_t sum = take_number(&reader, 8);
    reader.rest = span_first(record, record.len - 8);
    if (sum != checksum(reader.rest) || take_number(&reader, 1) != VERSION) {
        return LEDGER_DAMAGED;
    }
    int64_t touched = (int64_t)take_number(&reader, 8);
    struct span sender = take_span(&reader);
    if (reader.bad || reader.rest.len == 0) {
        return LEDGER_DAMAGED;
    }
    struct ledger_set *set = ledger_set_new(members, sender);
    if (set == NULL) {
        return LEDGER_NO_MEMORY;
    }
    set->touched = touched;
    while (reader.rest.len != 0) {
        enum ledger_parse result = take_leg(&reader, members, set);
        if (result != LEDGER_PARSED) {
            ledger_set_free(members, set);
            return result;
        }
    }
    *out = set;
    return LEDGER_PARSED;
}
