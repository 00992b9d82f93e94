#include "routing/key_sort.h"

#include <endian.h>

#define HEAD  7  /* bytes of a key that fit into a head, beside the length */
#define AHEAD 16 /* records */
#define SMALL 12 /* so few are sorted by insertion */

/* Seven bytes in the order in which they count, then how many of them the key has, and one more
 * when it goes on. So heads compare as their keys do; equal ones are of equal keys, or of keys that
 * go on. */
static uint64_t head_of(struct span key, size_t depth)
{
    uint64_t head = 0;
    size_t left = key.len - depth;
    if (left > HEAD) {
        memcpy(&head, key.ptr + depth, sizeof(head));
        return (be64toh(head) & ~UINT64_C(0xff)) | (HEAD + 1);
    }
    for (size_t i = 0; i < left; i++) {
        head |= (uint64_t)(unsigned char)key.ptr[depth + i] << (56 - 8 * i);
    }
    return head | left;
}

static bool goes_on(uint64_t head)
{
    return (head & 0xff) > HEAD;
}

static void sort_few(struct key_item *items, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        struct key_item item = items[i];
        size_t at = i;
        for (; at > 0 && items[at - 1].head > item.head; at--) {
            items[at] = items[at - 1];
        }
        items[at] = item;
    }
}

/* The first `left` items and those behind them are in order. */
static void merge(struct key_item *items, size_t left, size_t count, struct key_item *spare)
{
    size_t a = 0, b = left, at = 0;
    memcpy(spare, items, left * sizeof(*items));
    while (a < left && b < count) {
        bool second = items[b].head < spare[a].head;
        items[at++] = second ? items[b] : spare[a];
        b += second;
        a += !second;
    }
    memcpy(items + at, spare + a, (left - a) * sizeof(*items));
}

static void sort_heads(struct key_item *items, size_t count, struct key_item *spare)
{
    size_t left = count / 2;
    if (count <= SMALL) {
        sort_few(items, count);
        return;
    }
    sort_heads(items, left, spare);
    sort_heads(items + left, count - left, spare);
    if (items[left - 1].head > items[left].head) {
        merge(items, left, count, spare);
    }
}

static void sort_from(struct key_item *items, size_t count, size_t depth, struct key_item *spare,
                      key_of *key)
{
    for (size_t i = 0; i < count; i++) { /* they are all over the memory: asked for in advance */
        __builtin_prefetch(items[i + AHEAD < count ? i + AHEAD : i].record);
        items[i].head = head_of(key(items[i].record), depth);
    }
    sort_heads(items, count, spare);
    for (size_t i = 0, end = 0; i < count; i = end) {
        for (end = i + 1; end < count && items[end].head == items[i].head; end++) {
            continue;
        }
        if (end - i > 1 && goes_on(items[i].head)) {
            sort_from(items + i, end - i, depth + HEAD, spare, key);
        }
    }
}

void key_sort(struct key_item *items, size_t count, struct key_item *spare, key_of *key)
{
    sort_from(items, count, 0, spare, key);
}
