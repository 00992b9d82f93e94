#include "proxy/daemon/log_ring.h"

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

static void copy_in(struct log_ring *ring, size_t position, struct span bytes)
{
    const size_t at = position % LOG_RING_SIZE;
    const struct span first = span_first(bytes, least(bytes.len, LOG_RING_SIZE - at));
    const struct span rest = span_skip(bytes, first.len);
    if (first.len != 0) {
        memcpy(ring->bytes + at, first.ptr, first.len);
    }
    if (rest.len != 0) {
        memcpy(ring->bytes, rest.ptr, rest.len);
    }
}

/* What the other has taken is asked only when what was known of it leaves no room: its cache line
 * stays its own meanwhile. */
static bool has_room(struct log_ring *ring, size_t put, size_t length)
{
    if (put + length - ring->taken_seen > LOG_RING_SIZE) {
        ring->taken_seen = atomic_load_explicit(&ring->taken, memory_order_acquire);
    }
    return put + length - ring->taken_seen <= LOG_RING_SIZE;
}

bool log_ring_put(struct log_ring *ring, const struct span *pieces, size_t count)
{
    size_t put = atomic_load_explicit(&ring->put, memory_order_relaxed);
    size_t length = 0;
    for (size_t i = 0; i < count; i++) {
        length += pieces[i].len;
    }
    if (length > LOG_RING_SIZE || !has_room(ring, put, length)) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        copy_in(ring, put, pieces[i]);
        put += pieces[i].len;
    }
    atomic_store_explicit(&ring->put, put, memory_order_release);
    return true;
}

struct span log_ring_peek(const struct log_ring *ring)
{
    const size_t put = atomic_load_explicit(&ring->put, memory_order_acquire);
    const size_t taken = atomic_load_explicit(&ring->taken, memory_order_relaxed);
    const size_t at = taken % LOG_RING_SIZE;
    return span_make(ring->bytes + at, least(put - taken, LOG_RING_SIZE - at));
}

void log_ring_take(struct log_ring *ring, size_t count)
{
    const size_t taken = atomic_load_explicit(&ring->taken, memory_order_relaxed);
    atomic_store_explicit(&ring->taken, taken + count, memory_order_release);
}
