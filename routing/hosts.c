#include "routing/hosts.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    FILE_MAX = 16 << 20, /* what follows is not read */
};

/* An address as bytes, IPv4 in the first four. */
struct key {
    sa_family_t family;
    uint8_t bytes[16];
};

struct line {
    struct key key;
    const char *name; /* folded, in the buffer */
    size_t order;     /* in the file */
};

struct resolver_hosts {
    atomic_uint refs;
    char *buffer;
    struct line *by_name; /* then by order */
    struct line *by_key;
    size_t count;
    size_t cap; /* of by_name, while reading */
};

static bool key_of(const struct net_address *address, struct key *out)
{
    *out = (struct key){.family = address->any.sa_family};
    if (out->family == AF_INET) {
        memcpy(out->bytes, &address->in4.sin_addr, sizeof(address->in4.sin_addr));
    } else if (out->family == AF_INET6) {
        memcpy(out->bytes, &address->in6.sin6_addr, sizeof(address->in6.sin6_addr));
    } else {
        return false;
    }
    return true;
}

static int key_compare(const struct key *a, const struct key *b)
{
    if (a->family != b->family) {
        return a->family < b->family ? -1 : 1;
    }
    return memcmp(a->bytes, b->bytes, sizeof(a->bytes));
}

static int order_compare(const struct line *a, const struct line *b)
{
    return (a->order > b->order) - (a->order < b->order);
}

static int compare_by_name(const void *a, const void *b)
{
    const struct line *x = a, *y = b;
    int names = strcmp(x->name, y->name);
    return names != 0 ? names : order_compare(x, y);
}

static int compare_by_key(const void *a, const void *b)
{
    const struct line *x = a, *y = b;
    int keys = key_compare(&x->key, &y->key);
    return keys != 0 ? keys : order_compare(x, y);
}

/* The whole file with a NUL behind it; NULL when it cannot be read. */
static char *file_read(const char *path, size_t *len)
{
    char *buffer = NULL;
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) {
        return NULL;
    }
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        goto out;
    }
    size_t cap = st.st_size < FILE_MAX ? (size_t)st.st_size : FILE_MAX;
    buffer = malloc(cap + 1);
    if (buffer == NULL) {
        goto out;
    }
    for (*len = 0; *len < cap;) {
        ssize_t n = read(fd, buffer + *len, cap - *len);
        if (n <= 0) {
            break;
        }
        *len += (size_t)n;
    }
    buffer[*len] = '\0';
out:
    close(fd);
    return buffer;
}

static bool line_add(struct resolver_hosts *hosts, const struct key *key, const char *name)
{
    if (hosts->count == hosts->cap) {
        size_t cap = hosts->cap == 0 ? 64 : hosts->cap * 2;
        struct line *grown = realloc(hosts->by_name, cap * sizeof(*grown));
        if (grown == NULL) {
            return false;
        }
        hosts->by_name = grown;
        hosts->cap = cap;
    }
    hosts->by_name[hosts->count] = (struct line){*key, name, hosts->count};
    hosts->count++;
    return true;
}

/* The next word, made a string where it stands, or NULL at the end of the line. */
static char *word_next(char **at)
{
    static const char blanks[] = " \t\r\f\v";
    char *word = *at + strspn(*at, blanks);
    if (*word == '\0') {
        return NULL;
    }
    char *end = word + strcspn(word, blanks);
    *at = *end == '\0' ? end : end + 1;
    *end = '\0';
    return word;
}

/* One line without its newline. What is no address or no name is passed over, as hosts(5) readers
 * do. */
static bool line_read(struct resolver_hosts *hosts, char *line)
{
    struct net_address address;
    struct key key;
    line[strcspn(line, "#")] = '\0';
    char *word = word_next(&line);
    if (word == NULL || !net_address_parse(span_of(word), 0, &address) || !key_of(&address, &key)) {
        return true;
    }
    while ((word = word_next(&line)) != NULL) {
        size_t len = strlen(word);
        if (len > 1 && word[len - 1] == '.') {
            word[--len] = '\0';
        }
        if (!host_name_valid(span_make(word, len))) {
            continue;
        }
        for (size_t i = 0; i < len; i++) {
            word[i] = ascii_lower(word[i]);
        }
        if (!line_add(hosts, &key, word)) {
            return false;
        }
    }
    return true;
}

static void lines_read(struct resolver_hosts *hosts, size_t len)
{
    char *at = hosts->buffer, *end = at + len;
    while (at < end) {
        char *newline = memchr(at, '\n', (size_t)(end - at));
        char *next = newline == NULL ? end : newline + 1;
        if (newline != NULL) {
            *newline = '\0';
        }
        if (!line_read(hosts, at)) {
            return;
        }
        at = next;
    }
}

struct resolver_hosts *resolver_hosts_read(const char *path)
{
    size_t len = 0;
    struct resolver_hosts *hosts = calloc(1, sizeof(*hosts));
    if (hosts == NULL) {
        return NULL;
    }
    atomic_init(&hosts->refs, 1);
    hosts->buffer = file_read(path, &len);
    if (hosts->buffer != NULL) {
        lines_read(hosts, len);
    }
    if (hosts->count == 0) {
        return hosts;
    }
    hosts->by_key = malloc(hosts->count * sizeof(*hosts->by_key));
    if (hosts->by_key == NULL) {
        hosts->count = 0;
        return hosts;
    }
    memcpy(hosts->by_key, hosts->by_name, hosts->count * sizeof(*hosts->by_key));
    qsort(hosts->by_name, hosts->count, sizeof(*hosts->by_name), compare_by_name);
    qsort(hosts->by_key, hosts->count, sizeof(*hosts->by_key), compare_by_key);
    return hosts;
}

struct resolver_hosts *resolver_hosts_ref(struct resolver_hosts *hosts)
{
    if (hosts != NULL) {
        atomic_fetch_add_explicit(&hosts->refs, 1, memory_order_relaxed);
    }
    return hosts;
}

void resolver_hosts_unref(struct resolver_hosts *hosts)
{
    if (hosts == NULL || atomic_fetch_sub_explicit(&hosts->refs, 1, memory_order_acq_rel) > 1) {
        return;
    }
    free(hosts->by_name);
    free(hosts->by_key);
    free(hosts->buffer);
    free(hosts);
}

/* The first line that compares not less than `wanted` (whose order is 0), by halving. */
static size_t lower_bound(const struct line *lines, size_t count, const struct line *wanted,
                          int (*compare)(const void *, const void *))
{
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (compare(&lines[middle], wanted) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* The lines of a name: the first, and how many. */
static const struct line *lines_of(const struct resolver_hosts *hosts, const char *name,
                                   size_t *count)
{
    *count = 0;
    if (hosts == NULL || hosts->count == 0) {
        return NULL;
    }
    const struct line wanted = {.name = name};
    size_t first = lower_bound(hosts->by_name, hosts->count, &wanted, compare_by_name);
    while (first + *count < hosts->count &&
           strcmp(hosts->by_name[first + *count].name, name) == 0) {
        (*count)++;
    }
    return *count > 0 ? &hosts->by_name[first] : NULL;
}

bool hosts_has(const struct resolver_hosts *hosts, const char *name)
{
    size_t count;
    return lines_of(hosts, name, &count) != NULL;
}

const struct dns_answer *hosts_answer(const struct resolver_hosts *hosts, const char *name,
                                      enum dns_type type)
{
    size_t count, kept = 0;
    const sa_family_t family = type == DNS_A ? AF_INET : AF_INET6;
    const struct line *lines = lines_of(hosts, name, &count);
    for (size_t i = 0; i < count && kept < DNS_RECORDS_MAX; i++) {
        kept += lines[i].key.family == family;
    }
    if (kept == 0) {
        return dns_answer_failure(DNS_NODATA, "not in the hosts file");
    }
    struct dns_answer *answer = dns_answer_new(DNS_OK, kept, 0);
    if (answer == NULL) {
        return &dns_answer_no_memory;
    }
    struct dns_record *record = answer->records, *end = record + kept;
    for (size_t i = 0; i < count && record < end; i++) {
        if (lines[i].key.family != family) {
            continue;
        }
        memcpy(&record->in4, lines[i].key.bytes, sizeof(record->in4));
        memcpy(&record->in6, lines[i].key.bytes, sizeof(record->in6));
        record++;
    }
    return answer;
}

const char *hosts_name(const struct resolver_hosts *hosts, const struct net_address *address)
{
    struct line wanted = {.order = 0};
    if (hosts == NULL || hosts->count == 0 || !key_of(address, &wanted.key)) {
        return NULL;
    }
    size_t first = lower_bound(hosts->by_key, hosts->count, &wanted, compare_by_key);
    if (first == hosts->count || key_compare(&hosts->by_key[first].key, &wanted.key) != 0) {
        return NULL;
    }
    return hosts->by_key[first].name;
}
