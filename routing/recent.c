#include "routing/recent.h"

#include <stdlib.h>

#include "config/hash.h"

struct slot {
    unsigned char len; /* of the string, plus one; 0: free */
    char text[RECENT_TEXT];
};

struct recent {
    size_t mask;
    struct slot slots[];
};

struct recent *recent_new(size_t slots)
{
    struct recent *recent = calloc(1, sizeof(*recent) + slots * sizeof(struct slot));
    if (recent) {
        recent->mask = slots - 1;
    }
    return recent;
}

void recent_free(struct recent *recent)
{
    free(recent);
}

/* The string's pair of slots, the newer one first. */
static size_t pair_of(const struct recent *recent, struct span text)
{
    return (size_t)hash_own(text.ptr, text.len) & recent->mask & ~(size_t)1;
}

static bool slot_has(const struct slot *slot, struct span text)
{
    return slot->len == text.len + 1 && memcmp(slot->text, text.ptr, text.len) == 0;
}

bool recent_has(const struct recent *recent, struct span text)
{
    if (!recent || text.len > RECENT_TEXT) {
        return false;
    }
    const struct slot *pair = &recent->slots[pair_of(recent, text)];
    return slot_has(&pair[0], text) || slot_has(&pair[1], text);
}

void recent_add(struct recent *recent, struct span text)
{
    if (!recent || text.len > RECENT_TEXT) {
        return;
    }
    struct slot *pair = &recent->slots[pair_of(recent, text)];
    pair[1] = pair[0];
    memcpy(pair[0].text, text.ptr, text.len);
    pair[0].len = (unsigned char)(text.len + 1);
}
