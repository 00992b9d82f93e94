#include "routing/sorter.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "routing/key_sort.h"

#define ARENA_FIRST  ((size_t)64 << 10)
#define BUFFER_BYTES ((size_t)64 << 10) /* read from or written to a run at a time */
#define PATH_BYTES   4096
#define AHEAD        16

#define ITEM_BYTES (sizeof(struct key_item) * 3 / 2) /* a record's share of what sorting takes */

/* In the arena and in runs alike: this, then the key, then the value. */
struct head {
    uint16_t key_len;
    uint16_t value_len;
};

static_assert(SORTER_RECORD_MAX <= UINT16_MAX, "a length fits");

/* A run being read. */
struct run {
    off_t at; /* next byte of the file to read */
    off_t end;
    char *buffer;
    size_t used; /* bytes of the buffer that were read from the file */
    size_t next; /* where in the buffer the record behind the current one begins */
    struct sorter_record record;
};

struct sorter {
    char *folder;
    size_t run_bytes;
    char *arena;
    size_t arena_used, arena_room;
    size_t record_count;
    size_t last;            /* offset of the one added last */
    bool out_of_order;      /* the arena */
    struct key_item *items; /* the arena's records in order, if they did not come so */
    size_t record_next;     /* to be read: its number */
    const char *next;       /* and, if they came in order, where it is in the arena */
    bool reading;
    int fd; /* of the spill file, -1 before the first spill */
    off_t file_end;
    struct run *runs;
    size_t run_count;
    struct run **heap; /* runs that have a record, the least on top */
    size_t heap_count;
};

struct sorter *sorter_new(const char *folder, size_t run_bytes)
{
    struct sorter *sorter = calloc(1, sizeof(*sorter));
    if (!sorter) {
        return NULL;
    }
    sorter->fd = -1;
    sorter->run_bytes = run_bytes;
    sorter->folder = span_dup(span_of(folder));
    if (!sorter->folder) {
        sorter_free(sorter);
        return NULL;
    }
    return sorter;
}

void sorter_free(struct sorter *sorter)
{
    if (!sorter) {
        return;
    }
    for (size_t i = 0; i < sorter->run_count; i++) {
        free(sorter->runs[i].buffer);
    }
    if (sorter->fd >= 0) {
        close(sorter->fd);
    }
    free(sorter->runs);
    free(sorter->heap);
    free(sorter->items);
    free(sorter->arena);
    free(sorter->folder);
    free(sorter);
}

size_t sorter_runs(const struct sorter *sorter)
{
    return sorter->run_count;
}

static struct sorter_record record_at(const char *bytes)
{
    struct head head;
    memcpy(&head, bytes, sizeof(head));
    bytes += sizeof(head);
    return (struct sorter_record){span_make(bytes, head.key_len),
                                  span_make(bytes + head.key_len, head.value_len)};
}

static int compare_keys(struct span a, struct span b)
{
    size_t common = a.len < b.len ? a.len : b.len;
    int order = common > 0 ? memcmp(a.ptr, b.ptr, common) : 0;
    return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

static size_t size_of(struct sorter_record record)
{
    return sizeof(struct head) + record.key.len + record.value.len;
}

static struct span key_at(const char *bytes)
{
    return record_at(bytes).key;
}

/* From here on the arena's records are read in order. */
static bool arena_begin(struct sorter *sorter)
{
    size_t count = sorter->record_count;
    const char *at = sorter->arena;
    sorter->record_next = 0;
    sorter->next = sorter->arena;
    free(sorter->items);
    sorter->items = NULL;
    if (!sorter->out_of_order) {
        return true;
    }
    struct key_item *spare = malloc((count / 2 + 1) * sizeof(*spare));
    sorter->items = malloc(count * sizeof(*sorter->items));
    if (spare && sorter->items) {
        for (size_t i = 0; i < count; i++) {
            sorter->items[i].record = at;
            at += size_of(record_at(at));
        }
        key_sort(sorter->items, count, spare, key_at);
    }
    free(spare);
    return spare && sorter->items;
}

/* The bytes of the next record; NULL behind the last. */
static const char *arena_next(struct sorter *sorter)
{
    if (sorter->record_next == sorter->record_count) {
        return NULL;
    }
    size_t number = sorter->record_next++;
    if (sorter
            ->items) { /* from all over the arena: asked for some time before they are looked at */
        size_t ahead = number + AHEAD < sorter->record_count ? number + AHEAD : number;
        __builtin_prefetch(sorter->items[ahead].record);
        return sorter->items[number].record;
    }
    const char *at = sorter->next;
    sorter->next += size_of(record_at(at));
    return at;
}

static int open_spill(const char *folder)
{
    char path[PATH_BYTES];
    int fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd >= 0) {
        return fd;
    }
    if (snprintf(path, sizeof(path), "%s/routes-XXXXXX.tmp", folder) >= (int)sizeof(path)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    fd = mkostemps(path, 4, O_CLOEXEC);
    if (fd >= 0) {
        unlink(path);
    }
    return fd;
}

static bool write_all(struct sorter *sorter, const char *bytes, size_t len)
{
    while (len > 0) {
        ssize_t n = pwrite(sorter->fd, bytes, len, sorter->file_end);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return false;
        }
        bytes += n;
        len -= (size_t)n;
        sorter->file_end += n;
    }
    return true;
}

static bool write_records(struct sorter *sorter)
{
    size_t used = 0;
    bool ok = true;
    char *buffer = malloc(BUFFER_BYTES);
    if (!buffer) {
        return false;
    }
    for (const char *at = arena_next(sorter); ok && at; at = arena_next(sorter)) {
        size_t size = size_of(record_at(at));
        if (used + size > BUFFER_BYTES) {
            ok = write_all(sorter, buffer, used);
            used = 0;
        }
        memcpy(buffer + used, at, size);
        used += size;
    }
    ok = ok && write_all(sorter, buffer, used);
    free(buffer);
    return ok;
}

/* Sorts what is in the arena and writes it behind the runs in the file. */
static bool spill(struct sorter *sorter)
{
    struct run *runs = realloc(sorter->runs, (sorter->run_count + 1) * sizeof(*runs));
    if (!runs) {
        return false;
    }
    sorter->runs = runs;
    if (sorter->fd < 0) {
        sorter->fd = open_spill(sorter->folder);
    }
    if (sorter->fd < 0 || !arena_begin(sorter)) {
        return false;
    }
    off_t begin = sorter->file_end;
    if (!write_records(sorter)) {
        return false;
    }
    runs[sorter->run_count++] = (struct run){.at = begin, .end = sorter->file_end};
    free(sorter->items);
    sorter->items = NULL;
    sorter->arena_used = 0;
    sorter->record_count = 0;
    sorter->out_of_order = false;
    return true;
}

static bool arena_grow(struct sorter *sorter, size_t size)
{
    size_t room = sorter->arena_room ? sorter->arena_room : ARENA_FIRST;
    while (room < sorter->arena_used + size) {
        room *= 2;
    }
    if (room == sorter->arena_room) {
        return true;
    }
    char *arena = realloc(sorter->arena, room);
    if (!arena) {
        return false;
    }
    sorter->arena = arena;
    sorter->arena_room = room;
    return true;
}

enum sorter_status sorter_add(struct sorter *sorter, struct span key, struct span value)
{
    struct head head = {(uint32_t)key.len, (uint32_t)value.len};
    size_t size = sizeof(head) + key.len + value.len;
    if (key.len + value.len > SORTER_RECORD_MAX) {
        errno = EMSGSIZE;
        return SORTER_FAILED;
    }
    bool behind =
        sorter->record_count > 0 && compare_keys(key_at(sorter->arena + sorter->last), key) > 0;
    /* What sorting needs belongs to the bound as well. */
    size_t items = sorter->out_of_order || behind ? sorter->record_count + 1 : 0;
    size_t needed = sorter->arena_used + size + items * ITEM_BYTES;
    if (needed > sorter->run_bytes && sorter->record_count > 0) {
        if (!spill(sorter)) {
            return SORTER_FAILED;
        }
        behind = false;
    }
    if (!arena_grow(sorter, size)) {
        return SORTER_FAILED;
    }
    char *at = sorter->arena + sorter->arena_used;
    memcpy(at, &head, sizeof(head));
    if (key.len > 0) {
        memcpy(at + sizeof(head), key.ptr, key.len);
    }
    if (value.len > 0) {
        memcpy(at + sizeof(head) + key.len, value.ptr, value.len);
    }
    sorter->last = sorter->arena_used;
    sorter->out_of_order |= behind;
    sorter->arena_used += size;
    sorter->record_count++;
    return SORTER_OK;
}

/* Moves what is left of the buffer to its front and fills it up from the file. */
static bool run_fill(struct sorter *sorter, struct run *run)
{
    size_t left = run->used - run->next;
    memmove(run->buffer, run->buffer + run->next, left);
    run->used = left;
    run->next = 0;
    while (run->used < BUFFER_BYTES && run->at < run->end) {
        size_t wanted = BUFFER_BYTES - run->used;
        if ((off_t)wanted > run->end - run->at) {
            wanted = (size_t)(run->end - run->at);
        }
        ssize_t n = pread(sorter->fd, run->buffer + run->used, wanted, run->at);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            errno = n == 0 ? EIO : errno;
            return false;
        }
        run->used += (size_t)n;
        run->at += n;
    }
    return true;
}

static enum sorter_status run_next(struct sorter *sorter, struct run *run)
{
    if (run->used - run->next < sizeof(struct head) + SORTER_RECORD_MAX && run->at < run->end &&
        !run_fill(sorter, run)) {
        return SORTER_FAILED;
    }
    if (run->next == run->used) {
        return SORTER_END;
    }
    run->record = record_at(run->buffer + run->next);
    run->next += size_of(run->record);
    return SORTER_OK;
}

/* Earlier runs hold what came earlier, and lie earlier in the array. */
static bool run_before(const struct run *a, const struct run *b)
{
    int order = compare_keys(a->record.key, b->record.key);
    return order != 0 ? order < 0 : a < b;
}

static void heap_sink(struct sorter *sorter, size_t at)
{
    while (true) {
        size_t least = at;
        for (size_t child = 2 * at + 1; child <= 2 * at + 2 && child < sorter->heap_count;
             child++) {
            if (run_before(sorter->heap[child], sorter->heap[least])) {
                least = child;
            }
        }
        if (least == at) {
            return;
        }
        struct run *run = sorter->heap[at];
        sorter->heap[at] = sorter->heap[least];
        sorter->heap[least] = run;
        at = least;
    }
}

static bool begin_merge(struct sorter *sorter)
{
    if (sorter->record_count > 0 && !spill(sorter)) {
        return false;
    }
    free(sorter->arena); /* its room is what the runs' buffers take */
    sorter->arena = NULL;
    sorter->heap = malloc(sorter->run_count * sizeof(struct run *));
    if (!sorter->heap) {
        return false;
    }
    for (size_t i = 0; i < sorter->run_count; i++) {
        sorter->runs[i].buffer = malloc(BUFFER_BYTES);
        if (!sorter->runs[i].buffer || run_next(sorter, &sorter->runs[i]) != SORTER_OK) {
            return false;
        }
        sorter->heap[sorter->heap_count++] = &sorter->runs[i];
    }
    for (size_t i = sorter->heap_count; i-- > 0;) {
        heap_sink(sorter, i);
    }
    return true;
}

/* The top of the heap was handed out by the last call and is moved on now. */
static enum sorter_status next_merged(struct sorter *sorter, struct sorter_record *record)
{
    if (!sorter->reading) {
        if (!begin_merge(sorter)) {
            return SORTER_FAILED;
        }
        sorter->reading = true;
    } else if (sorter->heap_count > 0) {
        enum sorter_status status = run_next(sorter, sorter->heap[0]);
        if (status == SORTER_FAILED) {
            return status;
        }
        if (status == SORTER_END) {
            sorter->heap[0] = sorter->heap[--sorter->heap_count];
        }
        heap_sink(sorter, 0);
    }
    if (sorter->heap_count == 0) {
        return SORTER_END;
    }
    *record = sorter->heap[0]->record;
    return SORTER_OK;
}

enum sorter_status sorter_next(struct sorter *sorter, struct sorter_record *record)
{
    if (sorter->run_count > 0) {
        return next_merged(sorter, record);
    }
    if (!sorter->reading && !arena_begin(sorter)) {
        return SORTER_FAILED;
    }
    sorter->reading = true;
    const char *at = arena_next(sorter);
    if (!at) {
        return SORTER_END;
    }
    *record = record_at(at);
    return SORTER_OK;
}
