#include "routing/source.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define NANOSECONDS UINT64_C(1000000000)
#define COARSE      (NANOSECONDS / 1000) /* times that are multiples of it may be kept so */
#define SETTLED     (NANOSECONDS / 10)   /* longer than any machine's clock stands still */
#define SETTLED_MAX (2 * NANOSECONDS)    /* coarser than the times of any file system */
#define BLOCK       65536

static uint64_t nanoseconds(struct timespec t)
{
    return (uint64_t)t.tv_sec * NANOSECONDS + (uint64_t)t.tv_nsec;
}

static void stamp_from(const struct stat *st, struct source_stamp *out)
{
    struct timespec now = {0};
    clock_gettime(CLOCK_REALTIME, &now);
    *out = (struct source_stamp){
        .device = st->st_dev,
        .inode = st->st_ino,
        .size = (uint64_t)st->st_size,
        .modified = nanoseconds(st->st_mtim),
        .changed = nanoseconds(st->st_ctim),
    };
    uint64_t wait = out->changed % COARSE == 0 ? SETTLED_MAX : SETTLED;
    out->settled = out->changed + wait < nanoseconds(now);
}

static bool same_stat(const struct source_stamp *a, const struct source_stamp *b)
{
    return a->device == b->device && a->inode == b->inode && a->size == b->size &&
           a->modified == b->modified && a->changed == b->changed;
}

bool source_same(const struct source_stamp *a, const struct source_stamp *b)
{
    return same_stat(a, b) && memcmp(a->digest, b->digest, SOURCE_DIGEST) == 0;
}

static bool digest_file(int fd, EVP_MD_CTX *context, unsigned char *digest, struct quiet *quiet)
{
    unsigned char block[BLOCK];
    if (EVP_DigestInit_ex(context, EVP_sha256(), NULL) != 1) {
        return false;
    }
    while (true) {
        ssize_t n = read(fd, block, sizeof(block));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 || EVP_DigestUpdate(context, block, (size_t)n) != 1) {
            return false;
        }
        if (n == 0) {
            return EVP_DigestFinal_ex(context, digest, NULL) == 1;
        }
        quiet_rest(quiet);
    }
}

bool source_read(const char *path, struct source_stamp *out, struct quiet *quiet)
{
    struct stat st;
    bool ok = false;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* waits for no pipe's writer */
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    errno = context || fd < 0 ? errno : ENOMEM;
    if (fd >= 0 && context && fstat(fd, &st) == 0) {
        stamp_from(&st, out);
        errno = S_ISDIR(st.st_mode) ? EISDIR : EINVAL;
        ok = S_ISREG(st.st_mode) && digest_file(fd, context, out->digest, quiet);
    }
    int saved = errno;
    EVP_MD_CTX_free(context);
    if (fd >= 0) {
        close(fd);
    }
    errno = saved;
    return ok;
}

bool source_untouched(const char *path, const struct source_stamp *stamp)
{
    struct stat st;
    struct source_stamp now;
    if (stat(path, &st) != 0) {
        return false;
    }
    stamp_from(&st, &now);
    return same_stat(&now, stamp);
}

bool source_unchanged(const char *path, const struct source_stamp *stamp, struct quiet *quiet)
{
    struct source_stamp now;
    struct stat st;
    if (stamp->settled && source_untouched(path, stamp)) {
        return true;
    }
    return stat(path, &st) == 0 && (uint64_t)st.st_size == stamp->size &&
           source_read(path, &now, quiet) && memcmp(now.digest, stamp->digest, SOURCE_DIGEST) == 0;
}

static bool digest_texts(EVP_MD_CTX *context, const struct config_texts *texts)
{
    uint64_t count = texts->count;
    bool ok = EVP_DigestUpdate(context, &count, sizeof(count)) == 1;
    for (size_t i = 0; ok && i < texts->count; i++) {
        ok = EVP_DigestUpdate(context, texts->items[i].text, strlen(texts->items[i].text) + 1) == 1;
    }
    return ok;
}

bool source_digest_config(const struct config *config, uint32_t format,
                          unsigned char digest[SOURCE_DIGEST])
{
    unsigned char given = config->domains_given;
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool ok = context && EVP_DigestInit_ex(context, EVP_sha256(), NULL) == 1 &&
              EVP_DigestUpdate(context, &format, sizeof(format)) == 1 &&
              EVP_DigestUpdate(context, &given, sizeof(given)) == 1 &&
              (!given || digest_texts(context, &config->domains)) &&
              digest_texts(context, &config->routes) &&
              EVP_DigestFinal_ex(context, digest, NULL) == 1;
    EVP_MD_CTX_free(context);
    return ok;
}
