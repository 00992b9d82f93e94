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

static size_t slot_of(const struct recent *recent, struct span text)
{
    return (size_t)hash_own(text.ptr, text.len) & recent->mask;
}

bool recent_has(const struct recent *recent, struct span text)
{
    if (!recent || text.len > RECENT_TEXT) {
        return false;
    }
    const struct slot *slot = &recent->slots[slot_of(recent, text)];
    return slot->len == text.len + 1 && memcmp(slot->text, text.ptr, text.len) == 0;
}

void recent_add(struct recent *recent, struct span text)
{
    if (!recent || text.len > RECENT_TEXT) {
        return;
    }
    struct slot *slot = &recent->slots[slot_of(recent, text)];
    memcpy(slot->text, text.ptr, text.len);
    slot->len = (unsigned char)(text.len + 1);
}
