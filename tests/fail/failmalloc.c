/*
 * failmalloc: preloaded into the program under test, makes chosen allocations of the whole process
 * fail: ours, OpenSSL's, libuv's, the C library's.
 *
 * The file named by FAILMALLOC is mapped and shared with the test, which counts, chooses and looks
 * while the program runs (tests/e2e/splitmx_test/memory.py has the same layout). All functions of
 * the C library that give memory are here, so that none is missed: they go on to whoever has them
 * next, which is a sanitizer's runtime where there is one.
 */
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define PLACES 24

/* All fields but the last two are eight bytes, so that a test can read them anywhere. */
struct page {
    _Atomic uint64_t active; /* count, and fail what is chosen */
    _Atomic uint64_t count;  /* allocations since the test set it to 0 */
    _Atomic uint64_t from;   /* the first of them that fails; they begin with 1 */
    _Atomic uint64_t until;  /* the first that does not any more */
    _Atomic uint64_t failed; /* that have failed */
    uint64_t size;           /* of the last of those */
    uint64_t places[PLACES]; /* and who wanted it, the nearest first */
};

static struct {
    struct page *page; /* NULL: nothing fails */
    void *(*malloc)(size_t);
    void *(*calloc)(size_t, size_t);
    void *(*realloc)(void *, size_t);
    void *(*reallocarray)(void *, size_t, size_t);
    int (*posix_memalign)(void **, size_t, size_t);
    void *(*aligned_alloc)(size_t, size_t);
    void *(*memalign)(size_t, size_t);
} real;

/* Looking for the others, or for who calls, the C library may want memory itself. Where threads
 * have it is known from the start: finding it out takes a call that a sanitizer replaces, too late.
 */
static _Thread_local bool is_busy __attribute__((tls_model("initial-exec")));

static void find(void *out, const char *name)
{
    *(void **)out = dlsym(RTLD_NEXT, name);
}

static bool find_all(void)
{
    if (is_busy) {
        return false;
    }
    is_busy = true;
    find(&real.calloc, "calloc");
    find(&real.realloc, "realloc");
    find(&real.reallocarray, "reallocarray");
    find(&real.posix_memalign, "posix_memalign");
    find(&real.aligned_alloc, "aligned_alloc");
    find(&real.memalign, "memalign");
    find(&real.malloc, "malloc"); /* last: it says that all are there */
    is_busy = false;
    return real.malloc != NULL;
}

static void note_place(struct page *page, size_t size)
{
    void *places[PLACES] = {NULL};
    is_busy = true;
    page->size = size;
    backtrace(places, PLACES);
    for (size_t i = 0; i < PLACES; i++) {
        page->places[i] = (uint64_t)(uintptr_t)places[i];
    }
    is_busy = false;
}

static bool is_ready(void)
{
    if (real.malloc == NULL && !find_all()) {
        errno = ENOMEM;
        return false;
    }
    return true;
}

/* False: this one fails. */
static bool may_have(size_t size)
{
    struct page *page = real.page;
    if (!is_ready()) {
        return false;
    }
    if (page == NULL || is_busy || atomic_load(&page->active) == 0) {
        return true;
    }
    const uint64_t number = atomic_fetch_add(&page->count, 1) + 1;
    if (number < atomic_load(&page->from) || number >= atomic_load(&page->until)) {
        return true;
    }
    if (atomic_fetch_add(&page->failed, 1) == 0) {
        note_place(page, size);
    }
    errno = ENOMEM;
    return false;
}

void *malloc(size_t size)
{
    return may_have(size) ? real.malloc(size) : NULL;
}

void *calloc(size_t count, size_t size)
{
    return may_have(count * size) ? real.calloc(count, size) : NULL;
}

/* To nothing it is a way to free, which does not fail. */
void *realloc(void *block, size_t size)
{
    const bool may = size == 0 ? is_ready() : may_have(size);
    return may ? real.realloc(block, size) : NULL;
}

void *reallocarray(void *block, size_t count, size_t size)
{
    const bool may = count == 0 || size == 0 ? is_ready() : may_have(count * size);
    return may ? real.reallocarray(block, count, size) : NULL;
}

int posix_memalign(void **block, size_t alignment, size_t size)
{
    return may_have(size) ? real.posix_memalign(block, alignment, size) : ENOMEM;
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return may_have(size) ? real.aligned_alloc(alignment, size) : NULL;
}

void *memalign(size_t alignment, size_t size)
{
    return may_have(size) ? real.memalign(alignment, size) : NULL;
}

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("FAILMALLOC");
    void *places[1];
    const int file = path != NULL ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (file < 0) {
        return;
    }
    backtrace(places, 1); /* loads what it needs now, where it may */
    void *page = mmap(NULL, sizeof(struct page), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (page != MAP_FAILED) {
        real.page = page;
    }
}
