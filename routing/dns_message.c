#include "routing/dns_message.h"

#include <stdlib.h>
#include <string.h>

#include "config/text.h"

enum {
    HEADER_BYTES = 12,
    CLASS_IN = 1,
    RCODE_NXDOMAIN = 3,
    NEGATIVE_TTL = 60, /* without an SOA to say otherwise */
};

const struct dns_answer dns_answer_no_memory = {
    .status = DNS_FAIL, .ours = true, .why = "out of memory"};

struct message {
    const uint8_t *bytes;
    size_t len;
};

struct resource {
    char owner[DNS_NAME_MAX + 1];
    bool plain; /* the owner is a name that can be compared */
    uint16_t type;
    uint16_t class;
    uint32_t ttl;
    size_t data;
    size_t data_len;
};

struct found {
    size_t count;
    uint32_t ttl;
    struct {
        uint16_t preference;
        uint8_t address[16];
        char name[DNS_NAME_MAX + 1];
    } items[DNS_RECORDS_MAX];
};

struct dns_answer *dns_answer_new(enum dns_status status, size_t count, size_t name_bytes)
{
    size_t size = sizeof(struct dns_answer) + count * sizeof(struct dns_record) + name_bytes;
    struct dns_answer *answer = calloc(1, size);
    if (answer == NULL) {
        return NULL;
    }
    answer->refs = 1;
    answer->status = status;
    answer->size = size;
    answer->count = count;
    return answer;
}

const struct dns_answer *dns_answer_failure(enum dns_status status, const char *why)
{
    struct dns_answer *answer = dns_answer_new(status, 0, 0);
    if (answer == NULL) {
        return &dns_answer_no_memory;
    }
    answer->why = why;
    answer->ttl = NEGATIVE_TTL;
    return answer;
}

/* The count is the one thing about an answer that changes; the object is ours and was never const.
 */
static struct dns_answer *counted(const struct dns_answer *answer)
{
    return answer == NULL || answer->refs == 0 ? NULL : (struct dns_answer *)(uintptr_t)answer;
}

const struct dns_answer *dns_answer_ref(const struct dns_answer *answer)
{
    struct dns_answer *own = counted(answer);
    if (own != NULL) {
        own->refs++;
    }
    return answer;
}

void dns_answer_unref(const struct dns_answer *answer)
{
    struct dns_answer *own = counted(answer);
    if (own != NULL && --own->refs == 0) {
        free(own);
    }
}

static uint16_t read_16(const struct message *m, size_t at)
{
    return (uint16_t)(m->bytes[at] << 8 | m->bytes[at + 1]);
}

static uint32_t read_32(const struct message *m, size_t at)
{
    return (uint32_t)read_16(m, at) << 16 | read_16(m, at + 2);
}

/* RFC 2181 section 8: a TTL with the highest bit set counts as zero. */
static uint32_t read_ttl(const struct message *m, size_t at)
{
    uint32_t ttl = read_32(m, at);
    return ttl > INT32_MAX ? 0 : ttl;
}

static bool label_put(const uint8_t *label, size_t n, char *out, size_t *len, bool *plain)
{
    size_t dot = *len > 0 ? 1 : 0;
    if (*len + dot + n > DNS_NAME_MAX) {
        return false;
    }
    if (dot > 0) {
        out[(*len)++] = '.';
    }
    for (size_t i = 0; i < n; i++) {
        if (label[i] <= ' ' || label[i] >= 0x7f || label[i] == '.') {
            *plain = false; /* a dot inside a label would read as two labels */
        }
        out[(*len)++] = ascii_lower((char)label[i]);
    }
    return true;
}

/*
 * Reads a name at *pos and moves past it. RFC 1035 4.1.4: a pointer refers to an earlier place;
 * each one must lead to before the run of labels it ends, so a loop cannot be built.
 */
static bool name_read(const struct message *m, size_t *pos, char *out, bool *plain)
{
    size_t at = *pos, run = *pos, len = 0;
    bool jumped = false;
    *plain = true;
    while (at < m->len) {
        size_t n = m->bytes[at];
        if ((n & 0xc0) == 0xc0) {
            if (m->len - at < 2) {
                return false;
            }
            size_t target = read_16(m, at) & 0x3fff;
            if (target >= run) {
                return false;
            }
            if (!jumped) {
                *pos = at + 2;
            }
            jumped = true;
            run = at = target;
            continue;
        }
        if ((n & 0xc0) != 0) {
            return false;
        }
        if (n == 0) {
            if (!jumped) {
                *pos = at + 1;
            }
            out[len] = '\0';
            return true;
        }
        if (n > m->len - at - 1 || !label_put(m->bytes + at + 1, n, out, &len, plain)) {
            return false;
        }
        at += 1 + n;
    }
    return false;
}

static bool resource_read(const struct message *m, size_t *pos, struct resource *out)
{
    if (!name_read(m, pos, out->owner, &out->plain) || m->len - *pos < 10) {
        return false;
    }
    out->type = read_16(m, *pos);
    out->class = read_16(m, *pos + 2);
    out->ttl = read_ttl(m, *pos + 4);
    out->data_len = read_16(m, *pos + 8);
    out->data = *pos + 10;
    if (out->data_len > m->len - out->data) {
        return false;
    }
    *pos = out->data + out->data_len;
    return true;
}

/* The name that fills the resource's data from `skip` on. A name that is not plain reads as "?". */
static bool data_name(const struct message *m, const struct resource *rr, size_t skip, char *out)
{
    size_t at = rr->data + skip;
    bool plain = true;
    if (skip >= rr->data_len || !name_read(m, &at, out, &plain) || at != rr->data + rr->data_len) {
        return false;
    }
    if (!plain) {
        memcpy(out, "?", 2);
    }
    return true;
}

/* Where the next record goes: behind the last, or over the least preferred MX; false: not kept. */
static bool found_room(struct found *found, enum dns_type type, uint16_t preference, size_t *slot)
{
    if (found->count < DNS_RECORDS_MAX) {
        *slot = found->count++;
        return true;
    }
    if (type != DNS_MX) {
        return false;
    }
    *slot = 0;
    for (size_t i = 1; i < found->count; i++) {
        if (found->items[i].preference > found->items[*slot].preference) {
            *slot = i;
        }
    }
    return found->items[*slot].preference > preference;
}

/* Keeps one record of the type that was asked for; false when its data is malformed. */
static bool found_add(const struct message *m, const struct resource *rr, enum dns_type type,
                      struct found *found)
{
    char name[DNS_NAME_MAX + 1] = "";
    uint16_t preference = 0;
    size_t address_len = 0, slot = 0;
    switch (type) {
    case DNS_A:
        address_len = sizeof(struct in_addr);
        break;
    case DNS_AAAA:
        address_len = sizeof(struct in6_addr);
        break;
    case DNS_MX:
        if (rr->data_len < 3 || !data_name(m, rr, 2, name)) {
            return false;
        }
        preference = read_16(m, rr->data);
        break;
    case DNS_PTR:
        if (!data_name(m, rr, 0, name)) {
            return false;
        }
        break;
    case DNS_CNAME:
    case DNS_SOA:
        return false;
    }
    if (address_len > 0 && rr->data_len != address_len) {
        return false;
    }
    if (rr->ttl < found->ttl) {
        found->ttl = rr->ttl;
    }
    if (!found_room(found, type, preference, &slot)) {
        return true;
    }
    memcpy(found->items[slot].address, m->bytes + rr->data, address_len);
    memcpy(found->items[slot].name, name, sizeof(name));
    found->items[slot].preference = preference;
    return true;
}

/*
 * One pass over the answer section: the records of the type at `owner`, or else where its CNAME
 * leads (alias,
 * "" when there is none). Records may come in any order. *pos ends behind the section.
 */
static bool answers_scan(const struct message *m, size_t *pos, size_t count, const char *owner,
                         enum dns_type type, struct found *found, char *alias)
{
    struct resource rr;
    alias[0] = '\0';
    for (size_t i = 0; i < count; i++) {
        if (!resource_read(m, pos, &rr)) {
            return false;
        }
        if (!rr.plain || rr.class != CLASS_IN || strcmp(rr.owner, owner) != 0) {
            continue;
        }
        if (rr.type == type && !found_add(m, &rr, type, found)) {
            return false;
        }
        if (rr.type == DNS_CNAME && alias[0] == '\0') {
            if (!data_name(m, &rr, 0, alias)) {
                return false;
            }
            if (rr.ttl < found->ttl) {
                found->ttl = rr.ttl;
            }
        }
    }
    return true;
}

/* RFC 2308 section 5: a negative answer lives for the lesser of the SOA's TTL and its MINIMUM. */
static uint32_t negative_ttl(const struct message *m, size_t pos, size_t count, uint32_t bound)
{
    struct resource rr;
    uint32_t ttl = NEGATIVE_TTL;
    for (size_t i = 0; i < count && i < DNS_ANSWERS_MAX && resource_read(m, &pos, &rr); i++) {
        if (rr.type != DNS_SOA || rr.class != CLASS_IN || rr.data_len < 22) {
            continue;
        }
        uint32_t minimum = read_ttl(m, rr.data + rr.data_len - 4);
        ttl = rr.ttl < minimum ? rr.ttl : minimum;
        break;
    }
    return ttl < bound ? ttl : bound;
}

static const struct dns_answer *answer_negative(enum dns_status status, const char *why,
                                                uint32_t ttl)
{
    struct dns_answer *answer = dns_answer_new(status, 0, 0);
    if (answer == NULL) {
        return &dns_answer_no_memory;
    }
    answer->why = why;
    answer->ttl = ttl;
    return answer;
}

static const struct dns_answer *answer_found(const struct found *found)
{
    size_t name_bytes = 0;
    for (size_t i = 0; i < found->count; i++) {
        name_bytes += strlen(found->items[i].name) + 1;
    }
    struct dns_answer *answer = dns_answer_new(DNS_OK, found->count, name_bytes);
    if (answer == NULL) {
        return &dns_answer_no_memory;
    }
    answer->ttl = found->ttl;
    char *names = (char *)&answer->records[found->count];
    for (size_t i = 0; i < found->count; i++) {
        struct dns_record *record = &answer->records[i];
        size_t bytes = strlen(found->items[i].name) + 1;
        record->preference = found->items[i].preference;
        memcpy(&record->in4, found->items[i].address, sizeof(record->in4));
        memcpy(&record->in6, found->items[i].address, sizeof(record->in6));
        memcpy(names, found->items[i].name, bytes);
        record->name = names;
        names += bytes;
    }
    return answer;
}

/* The header and the question; leaves *pos at the answer section. */
static bool head_read(const struct message *m, size_t *pos)
{
    enum { RESPONSE = 0x80, TRUNCATED = 0x02 };
    if (m->len < HEADER_BYTES || (m->bytes[2] & RESPONSE) == 0 || (m->bytes[2] & TRUNCATED) != 0) {
        return false;
    }
    char name[DNS_NAME_MAX + 1];
    bool plain;
    *pos = HEADER_BYTES;
    size_t questions = read_16(m, 4);
    if (questions > 1) {
        return false;
    }
    if (questions == 1) {
        if (!name_read(m, pos, name, &plain) || m->len - *pos < 4) {
            return false;
        }
        *pos += 4;
    }
    return true;
}

const struct dns_answer *dns_message_parse(const uint8_t *bytes, size_t len, const char *name,
                                           enum dns_type type)
{
    const struct message m = {bytes, len};
    struct found found = {.ttl = INT32_MAX};
    char owner[DNS_NAME_MAX + 1], alias[DNS_NAME_MAX + 1];
    size_t start, end = 0, links = 0;
    if (strlen(name) > DNS_NAME_MAX || !head_read(&m, &start)) {
        return dns_answer_failure(DNS_FAIL, "malformed DNS answer");
    }
    memcpy(owner, name, strlen(name) + 1);

    unsigned code = bytes[3] & 0x0f;
    if (code != 0 && code != RCODE_NXDOMAIN) {
        return dns_answer_failure(DNS_FAIL, "the DNS server failed");
    }
    size_t count = read_16(&m, 6);
    bool whole = count <= DNS_ANSWERS_MAX;
    for (;;) {
        end = start;
        if (!answers_scan(&m, &end, whole ? count : DNS_ANSWERS_MAX, owner, type, &found, alias)) {
            return dns_answer_failure(DNS_FAIL, "malformed DNS answer");
        }
        if (found.count > 0 || alias[0] == '\0') {
            break;
        }
        if (++links > DNS_CHAIN_MAX) {
            return dns_answer_failure(DNS_FAIL, "CNAME chain too long");
        }
        memcpy(owner, alias, sizeof(owner));
    }
    if (code == 0 && found.count > 0) {
        return answer_found(&found);
    }
    uint32_t ttl = negative_ttl(&m, end, whole ? read_16(&m, 8) : 0, found.ttl);
    if (code == RCODE_NXDOMAIN) {
        return answer_negative(DNS_NXDOMAIN, "no such name in DNS", ttl);
    }
    return answer_negative(DNS_NODATA, "no such record in DNS", ttl);
}

bool dns_reverse_name(const struct net_address *address, char *out, size_t cap)
{
    struct text text = text_over(out, cap);
    if (address->any.sa_family == AF_INET) {
        const uint8_t *bytes = (const uint8_t *)&address->in4.sin_addr;
        text_printf(&text, "%u.%u.%u.%u.in-addr.arpa", bytes[3], bytes[2], bytes[1], bytes[0]);
    } else if (address->any.sa_family == AF_INET6) {
        const uint8_t *bytes = address->in6.sin6_addr.s6_addr;
        for (size_t i = 16; i > 0; i--) {
            text_printf(&text, "%x.%x.", bytes[i - 1] & 0xfu, (unsigned)bytes[i - 1] >> 4);
        }
        text_puts(&text, "ip6.arpa");
    } else {
        return false;
    }
    return !text.full;
}
