#include "proxy/net/ledger_reader.h"

#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define PATIENCE 20000 /* milliseconds for the child's next bytes: a disk may be slow */
#define BUFFER   65536
#define MAGIC    "splitmx.ledger 1" /* without its NUL */
#define ENDED    UINT32_MAX         /* in place of a key's length: behind it comes LMDB's verdict */

/* What goes through the pipe: this, then key and data. */
struct row_head {
    uint32_t key, data;
};

void ledger_key(unsigned char key[LEDGER_KEY], uint64_t set)
{
    for (int i = 0; i < LEDGER_KEY; i++) {
        key[i] = (unsigned char)(set >> (8 * (LEDGER_KEY - 1 - i)));
    }
}

static uint64_t number_of(const char *bytes)
{
    uint64_t number = 0;
    for (int i = 0; i < LEDGER_KEY; i++) {
        number = number << 8 | (unsigned char)bytes[i];
    }
    return number;
}

void ledger_head(unsigned char head[LEDGER_HEAD], uint64_t sets)
{
    memcpy(head, MAGIC, LEDGER_HEAD - LEDGER_KEY);
    ledger_key(head + LEDGER_HEAD - LEDGER_KEY, sets);
}

/* ---- the child: it calls nothing that another thread may hold, but malloc, which the C library
 * keeps usable ---- */

struct writer {
    int fd;
    size_t len;
    char buffer[BUFFER];
};

static void child_flush(struct writer *writer)
{
    for (size_t done = 0; done < writer->len;) {
        ssize_t n = write(writer->fd, writer->buffer + done, writer->len - done);
        if (n < 0 && errno != EINTR) {
            _exit(EXIT_FAILURE);
        }
        done += n > 0 ? (size_t)n : 0;
    }
    writer->len = 0;
}

static void child_put(struct writer *writer, const void *bytes, size_t len)
{
    const char *at = bytes;
    while (len > 0) {
        size_t room = sizeof writer->buffer - writer->len;
        size_t part = len < room ? len : room;
        memcpy(writer->buffer + writer->len, at, part);
        writer->len += part;
        at += part;
        len -= part;
        if (writer->len == sizeof writer->buffer) {
            child_flush(writer);
        }
    }
}

static int child_walk(MDB_txn *txn, struct writer *writer)
{
    MDB_dbi dbi;
    MDB_cursor *cursor;
    MDB_val key, data;
    int rc = mdb_dbi_open(txn, NULL, 0, &dbi);
    if (rc == 0) {
        rc = mdb_cursor_open(txn, dbi, &cursor);
    }
    while (rc == 0 && (rc = mdb_cursor_get(cursor, &key, &data, MDB_NEXT)) == 0) {
        struct row_head head = {(uint32_t)key.mv_size, (uint32_t)data.mv_size};
        if (key.mv_size >= ENDED || data.mv_size > UINT32_MAX) {
            return MDB_CORRUPTED;
        }
        child_put(writer, &head, sizeof head);
        child_put(writer, key.mv_data, key.mv_size);
        child_put(writer, data.mv_data, data.mv_size);
    }
    return rc == MDB_NOTFOUND ? 0 : rc;
}

static int child_read(const char *path, struct writer *writer)
{
    MDB_env *env;
    MDB_txn *txn;
    int rc = mdb_env_create(&env);
    if (rc == 0) {
        rc = mdb_env_open(env, path, MDB_NOSUBDIR | MDB_RDONLY | MDB_NOLOCK | MDB_NOTLS, 0);
    }
    if (rc == 0) {
        rc = mdb_txn_begin(env, NULL, MDB_RDONLY, &txn);
    }
    return rc == 0 ? child_walk(txn, writer) : rc;
}

/* Holds nothing of the daemon's: a connection that the daemon closes has to be closed. Dies of a
 * damaged page as a program without any handlers would, with no word and no core. */
static void child_detach(int out)
{
    static const int deadly[] = {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL, SIGPIPE};
    const struct rlimit none = {0, 0};
    sigset_t set;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setrlimit(RLIMIT_CORE, &none);
    sigemptyset(&set);
    for (size_t i = 0; i < sizeof deadly / sizeof deadly[0]; i++) {
        signal(deadly[i], SIG_DFL);
        sigaddset(&set, deadly[i]);
    }
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    int null = open("/dev/null", O_RDWR);
    for (int fd = 0; fd <= STDERR_FILENO && null >= 0; fd++) {
        dup2(null, fd);
    }
    if (out > STDERR_FILENO + 1) {
        close_range(STDERR_FILENO + 1, (unsigned)out - 1, 0);
    }
    close_range((unsigned)out + 1, ~0u, 0);
}

static _Noreturn void child(const char *path, int out)
{
    struct writer writer = {.fd = out};
    child_detach(out);
    struct row_head end = {ENDED, (uint32_t)child_read(path, &writer)};
    child_put(&writer, &end, sizeof end);
    child_flush(&writer);
    _exit(EXIT_SUCCESS);
}

/* ---- the parent ---- */

struct reading {
    int fd;
    uint64_t room;     /* octets that the child may still send: a damaged tree may be endless */
    const char *stall; /* why the pipe gave no more; NULL: its end */
    ledger_read_set *take;
    void *context;
    char *row;
    size_t row_cap;
    uint64_t sets, refused, told; /* found; of these not understood; by the head */
    bool head;
    size_t at, len; /* in the buffer */
    char buffer[BUFFER];
};

static bool fill(struct reading *reading)
{
    struct pollfd poller = {.fd = reading->fd, .events = POLLIN};
    for (;;) {
        int ready = poll(&poller, 1, PATIENCE);
        ssize_t n = ready > 0 ? read(reading->fd, reading->buffer, sizeof reading->buffer) : ready;
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (ready == 0) {
            reading->stall = "it took too long";
        }
        reading->at = 0;
        reading->len = n > 0 ? (size_t)n : 0;
        return n > 0;
    }
}

static bool get(struct reading *reading, void *out, size_t len)
{
    char *to = out;
    if (len > reading->room) {
        reading->stall = "there is no end to it";
        return false;
    }
    reading->room -= len;
    while (len > 0) {
        if (reading->at == reading->len && !fill(reading)) {
            return false;
        }
        size_t there = reading->len - reading->at;
        size_t part = len < there ? len : there;
        memcpy(to, reading->buffer + reading->at, part);
        reading->at += part;
        to += part;
        len -= part;
    }
    return true;
}

static bool is_head(struct reading *reading, struct span key, struct span data)
{
    unsigned char head[LEDGER_HEAD];
    ledger_head(head, 0);
    if (number_of(key.ptr) != 0 || data.len != LEDGER_HEAD ||
        memcmp(data.ptr, head, LEDGER_HEAD - LEDGER_KEY) != 0) {
        return false;
    }
    reading->head = true;
    reading->told = number_of(data.ptr + LEDGER_HEAD - LEDGER_KEY);
    return true;
}

static void take_row(struct reading *reading, struct span key, struct span data)
{
    if (key.len == LEDGER_KEY && is_head(reading, key, data)) {
        return;
    }
    reading->sets++;
    if (key.len != LEDGER_KEY || data.len < LEDGER_KEY ||
        memcmp(key.ptr, data.ptr, LEDGER_KEY) != 0 ||
        !reading->take(reading->context, number_of(key.ptr), span_skip(data, LEDGER_KEY))) {
        reading->refused++;
    }
}

/* Up to the child's last word, which is the result; EPIPE: there was none. */
static int take_rows(struct reading *reading)
{
    struct row_head head;
    while (get(reading, &head, sizeof head)) {
        if (head.key == ENDED) {
            return (int)head.data;
        }
        size_t len = (size_t)head.key + head.data;
        if (len > reading->room) {
            reading->stall = "there is no end to it";
            break;
        }
        if (len > reading->row_cap) {
            char *grown = realloc(reading->row, len);
            if (grown == NULL) {
                return ENOMEM;
            }
            reading->row = grown;
            reading->row_cap = len;
        }
        if (!get(reading, reading->row, len)) {
            break;
        }
        take_row(reading, span_make(reading->row, head.key),
                 span_make(reading->row + head.key, head.data));
    }
    return EPIPE;
}

static void put_count(struct text *why, uint64_t count, const char *what)
{
    text_printf(why, "%llu set%s %s", (unsigned long long)count, count == 1 ? "" : "s", what);
}

/* Of a file that was read to its end. */
static enum ledger_read judge(const struct reading *reading, struct text *why)
{
    if (!reading->head) {
        text_puts(why, "it is no ledger of this version");
    } else if (reading->refused > 0) {
        put_count(why, reading->refused, "cannot be understood");
    } else if (reading->sets < reading->told) {
        put_count(why, reading->told - reading->sets, "missing");
    } else if (reading->sets > reading->told) {
        put_count(why, reading->sets - reading->told, "too many");
    } else {
        return LEDGER_READ_FINE;
    }
    return LEDGER_READ_BROKEN;
}

static enum ledger_read conclude(const struct reading *reading, int verdict, int status,
                                 struct text *why)
{
    switch (verdict) {
    case 0:
        return judge(reading, why);
    case EACCES:
    case EPERM:
    case EMFILE:
    case ENFILE:
        text_puts(why, mdb_strerror(verdict));
        return LEDGER_READ_NOT_NOW;
    case ENOMEM:
        text_puts(why, mdb_strerror(verdict));
        return LEDGER_READ_NO_MEMORY;
    case EPIPE:
        if (reading->stall != NULL) {
            text_puts(why, reading->stall);
        } else if (WIFSIGNALED(status)) {
            text_printf(why, "reading it is a SIG%s", sigabbrev_np(WTERMSIG(status)));
        } else {
            text_puts(why, "reading it ended early");
        }
        return LEDGER_READ_BROKEN;
    default:
        text_puts(why, mdb_strerror(verdict));
        return LEDGER_READ_BROKEN;
    }
}

static enum ledger_read read_by_child(const char *path, struct reading *reading, struct text *why)
{
    int ends[2], status = 0;
    if (pipe2(ends, O_CLOEXEC) != 0) {
        text_printf(why, "no pipe: %s", mdb_strerror(errno));
        return LEDGER_READ_NOT_NOW;
    }
    pid_t pid = fork();
    if (pid == 0) {
        child(path, ends[1]);
    }
    close(ends[1]);
    if (pid < 0) {
        text_printf(why, "no process: %s", mdb_strerror(errno));
        close(ends[0]);
        return LEDGER_READ_NOT_NOW;
    }
    reading->fd = ends[0];
    int verdict = take_rows(reading);
    close(ends[0]);
    if (verdict == EPIPE && reading->stall != NULL) {
        kill(pid, SIGKILL);
    }
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
        continue;
    }
    return conclude(reading, verdict, status, why);
}

enum ledger_read ledger_read(const char *path, ledger_read_set *take, void *context,
                             struct text *why)
{
    struct stat st;
    if (lstat(path, &st) != 0) {
        if (errno == ENOENT) {
            return LEDGER_READ_NONE;
        }
        text_puts(why, mdb_strerror(errno));
        return LEDGER_READ_NOT_NOW;
    }
    if (!S_ISREG(st.st_mode)) { /* a pipe would hold us until somebody writes */
        text_puts(why, "it is no regular file");
        return LEDGER_READ_BROKEN;
    }
    struct reading *reading = calloc(1, sizeof *reading);
    if (reading == NULL) {
        text_puts(why, "out of memory");
        return LEDGER_READ_NO_MEMORY;
    }
    reading->take = take;
    reading->context = context;
    reading->room = 2 * (uint64_t)st.st_size + BUFFER; /* heads of rows that are nearly empty */
    enum ledger_read result = read_by_child(path, reading, why);
    free(reading->row);
    free(reading);
    return result;
}
