#include "routing/seal.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define NANOSECONDS UINT64_C(1000000000)
#define COARSEST    2 /* seconds: what any file system keeps of a time */
#define BLOCK       65536
#define DIGEST      32

/* In the machine's byte order: the file does not leave it. */
struct seal {
    char magic[12]; /* with its NUL */
    uint32_t format;
    uint64_t size;                /* of the file, this included */
    uint64_t modified;            /* nanoseconds since the epoch */
    unsigned char digest[DIGEST]; /* of all bytes before this one */
};

#define MAGIC    "splitmx.tbl"
#define DIGESTED offsetof(struct seal, digest) /* of the seal itself */

static bool mark_of(int fd, struct seal_mark *mark)
{
    struct stat st;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        return false;
    }
    *mark = (struct seal_mark){
        .device = st.st_dev,
        .inode = st.st_ino,
        .size = (uint64_t)st.st_size,
        .modified = (uint64_t)st.st_mtim.tv_sec * NANOSECONDS + (uint64_t)st.st_mtim.tv_nsec,
    };
    return true;
}

static bool same(const struct seal_mark *a, const struct seal_mark *b)
{
    return a->device == b->device && a->inode == b->inode && a->size == b->size &&
           a->modified == b->modified;
}

/* All of it, or false with errno; EIO when the file ends before. */
static bool read_at(int fd, void *out, size_t len, uint64_t at)
{
    char *bytes = out;
    while (len > 0) {
        ssize_t n = pread(fd, bytes, len, (off_t)at);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            errno = n == 0 ? EIO : errno;
            return false;
        }
        bytes += n;
        len -= (size_t)n;
        at += (uint64_t)n;
    }
    return true;
}

static bool write_at(int fd, const void *from, size_t len, uint64_t at)
{
    const char *bytes = from;
    while (len > 0) {
        ssize_t n = pwrite(fd, bytes, len, (off_t)at);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            errno = n == 0 ? ENOSPC : errno;
            return false;
        }
        bytes += n;
        len -= (size_t)n;
        at += (uint64_t)n;
    }
    return true;
}

/* Of the first `size` bytes of the file and of the seal that follows them. */
static bool digest_all(int fd, uint64_t size, const struct seal *seal, unsigned char *digest,
                       struct quiet *quiet)
{
    unsigned char block[BLOCK];
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool ok = context && EVP_DigestInit_ex(context, EVP_sha256(), NULL) == 1;
    errno = context ? errno : ENOMEM;
    for (uint64_t at = 0; ok && at < size;) {
        size_t len = size - at < BLOCK ? (size_t)(size - at) : BLOCK;
        ok = read_at(fd, block, len, at) && EVP_DigestUpdate(context, block, len) == 1;
        at += len;
        quiet_rest(quiet);
    }
    ok = ok && EVP_DigestUpdate(context, seal, DIGESTED) == 1 &&
         EVP_DigestFinal_ex(context, digest, NULL) == 1;
    int saved = errno;
    EVP_MD_CTX_free(context);
    errno = saved;
    return ok;
}

int seal_put(int fd, uint32_t format, struct quiet *quiet)
{
    struct seal seal = {.magic = MAGIC, .format = format};
    struct seal_mark mark;
    struct timespec now;
    if (!mark_of(fd, &mark) || clock_gettime(CLOCK_REALTIME, &now) != 0) {
        return errno ? errno : EIO;
    }
    /* So early, and so round, that a write from now on has another time on any file system. */
    now.tv_sec -= now.tv_sec % COARSEST + 2 * COARSEST;
    now.tv_nsec = 0;
    seal.size = mark.size + sizeof(seal);
    seal.modified = (uint64_t)now.tv_sec * NANOSECONDS;
    if (!digest_all(fd, mark.size, &seal, seal.digest, quiet) ||
        !write_at(fd, &seal, sizeof(seal), mark.size)) {
        return errno ? errno : EIO;
    }
    /* Where times cannot be set the file is read at each opening: nothing is lost but time. */
    const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, now};
    (void)!futimens(fd, times);
    return fsync(fd) == 0 ? 0 : errno;
}

void seal_path(int fd, char path[SEAL_PATH])
{
    snprintf(path, SEAL_PATH, "/proc/self/fd/%d", fd);
}

/* The first `size` bytes, in memory that nobody can write to or cut; -1: no memory, or no way to
 * open it by a name. */
static int copy_to_memory(int fd, uint64_t size)
{
    unsigned char block[BLOCK];
    char path[SEAL_PATH];
    int copy = memfd_create("splitmx-routes", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    bool ok = copy >= 0;
    for (uint64_t at = 0; ok && at < size;) {
        size_t len = size - at < BLOCK ? (size_t)(size - at) : BLOCK;
        ok = read_at(fd, block, len, at) && write_at(copy, block, len, at);
        at += len;
    }
    if (copy < 0) {
        return -1;
    }
    seal_path(copy, path);
    if (!ok || access(path, R_OK) != 0 ||
        fcntl(copy, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
        close(copy);
        return -1;
    }
    return copy;
}

static bool read_seal(int fd, uint32_t format, struct seal_mark *mark, struct seal *seal)
{
    return mark_of(fd, mark) && mark->size >= sizeof(*seal) &&
           read_at(fd, seal, sizeof(*seal), mark->size - sizeof(*seal)) &&
           memcmp(seal->magic, MAGIC, sizeof(seal->magic)) == 0 && seal->format == format &&
           seal->size == mark->size;
}

static bool digest_holds(int fd, const struct seal *seal)
{
    unsigned char digest[DIGEST];
    return digest_all(fd, seal->size - sizeof(*seal), seal, digest, NULL) &&
           memcmp(digest, seal->digest, DIGEST) == 0;
}

int seal_open(const char *path, uint32_t format, struct seal_mark *mark)
{
    struct seal seal;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* waits for no pipe's writer */
    if (fd < 0) {
        return -1;
    }
    bool ok = read_seal(fd, format, mark, &seal);
    if (ok && mark->size <= SEAL_READ_ALWAYS) {
        int copy = copy_to_memory(fd, mark->size);
        if (copy >= 0) {
            close(fd);
            fd = copy;
        }
        ok = mark_of(fd, mark) && digest_holds(fd, &seal);
    } else if (ok && mark->modified != seal.modified) {
        ok = digest_holds(fd, &seal);
    }
    if (!ok) {
        close(fd);
        return -1;
    }
    return fd;
}

bool seal_holds(int fd, const struct seal_mark *mark)
{
    struct seal_mark now;
    return mark_of(fd, &now) && same(&now, mark);
}
