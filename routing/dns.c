#include "routing/dns.h"

#include <stdlib.h>
#include <string.h>

#include "routing/answer.h"
#include "routing/dns_cache.h"
#include "routing/dns_channel.h"

enum {
    CACHE_ENTRIES = 4096,
    CACHE_BYTES = 4 << 20,
    BUCKETS = 256,
    JOBS_MAX = 4096, /* a flood of clients must not make memory grow with questions for their names
                        that nobody answers ... */
    JOBS_CLIENT_NAMES = 2048, /* ... nor keep next hops from being asked for */
    SILENCES = 3,             /* in a row; a single one may be a question that takes its time */
    TURNED_MS = 30000,
};

#define NEVER UINT64_MAX

/* A question at the servers, and who waits for it. */
struct job {
    struct ring link;   /* dns->jobs, in order of deadline, or dns->late */
    struct ring bucket; /* where equal questions look for it */
    struct ring waits;
    struct dns *dns;
    struct dns_channel *channel;
    unsigned generation; /* of the servers */
    uint64_t deadline;
    struct dns_failures before; /* of the channel when the job began */
    enum dns_type type;
    char name[];
};

struct dns {
    uv_loop_t *loop;
    struct dns_channel *channel;
    char servers[RESOLVER_SERVERS_MAX][NET_ADDRESS_TEXT];
    size_t server_count;
    size_t server_first; /* which of them is asked first now */
    unsigned silences;   /* of that one, in a row */
    uint64_t turn_at;    /* when another is to be; it takes a turn of the loop */
    size_t turn_to;
    unsigned generation; /* grows with each configuration */
    struct dns_cache *cache;
    uint64_t seed;
    uv_timer_t timer; /* runs to the first job's deadline, or to turn_at */
    struct ring jobs;
    struct ring late; /* past their deadline, c-ares not done with them */
    size_t job_count; /* in both */
    struct ring buckets[BUCKETS];
};

/* False: one is no server. */
static bool servers_set(struct dns *dns, const char *const *servers, size_t count)
{
    dns->server_count = 0;
    for (size_t i = 0; i < count && i < RESOLVER_SERVERS_MAX; i++) {
        size_t bytes = strlen(servers[i]) + 1;
        if (bytes > sizeof(dns->servers[0])) {
            return false;
        }
        memcpy(dns->servers[dns->server_count++], servers[i], bytes);
    }
    dns->server_first = 0;
    dns->silences = 0;
    dns->turn_at = NEVER;
    return true;
}

/* With the servers in the order that holds now. NULL when c-ares cannot start. */
static struct dns_channel *channel_of(const struct dns *dns)
{
    const char *order[RESOLVER_SERVERS_MAX];
    for (size_t i = 0; i < dns->server_count; i++) {
        order[i] = dns->servers[(dns->server_first + i) % dns->server_count];
    }
    return dns_channel_new(dns->loop, order, dns->server_count);
}

struct dns *dns_new(uv_loop_t *loop, const char *const *servers, size_t count, uint64_t seed)
{
    struct dns *dns = calloc(1, sizeof(*dns));
    if (dns == NULL) {
        return NULL;
    }
    dns->loop = loop;
    dns->seed = seed;
    ring_init(&dns->jobs);
    ring_init(&dns->late);
    for (size_t i = 0; i < BUCKETS; i++) {
        ring_init(&dns->buckets[i]);
    }
    dns->cache = dns_cache_new(CACHE_ENTRIES, CACHE_BYTES, seed);
    if (dns->cache != NULL && servers_set(dns, servers, count)) {
        dns->channel = channel_of(dns);
    }
    if (dns->channel == NULL) {
        dns_cache_free(dns->cache);
        free(dns);
        return NULL;
    }
    uv_timer_init(loop, &dns->timer);
    dns->timer.data = dns;
    return dns;
}

static void on_closed(uv_handle_t *handle)
{
    free(handle->data);
}

/* Closing a channel ends its jobs; a retired one that is still open has a job to find it by. */
static void channels_of_close(struct dns *dns, const struct ring *jobs)
{
    while (!ring_empty(jobs)) {
        struct dns_channel *channel = RING_OF(jobs->next, struct job, link)->channel;
        if (channel == dns->channel) {
            dns->channel = NULL;
        }
        dns_channel_close(channel);
    }
}

void dns_close(struct dns *dns)
{
    channels_of_close(dns, &dns->jobs);
    channels_of_close(dns, &dns->late);
    if (dns->channel != NULL) {
        dns_channel_close(dns->channel);
    }
    dns_cache_free(dns->cache);
    uv_close((uv_handle_t *)&dns->timer, on_closed);
}

bool dns_configure(struct dns *dns, const char *const *servers, size_t count)
{
    struct dns_channel *channel = dns_channel_new(dns->loop, servers, count);
    if (channel == NULL) {
        return false;
    }
    servers_set(dns, servers, count); /* addresses, and so not too long */
    dns_channel_retire(dns->channel);
    dns->channel = channel;
    dns->generation++;
    dns_cache_clear(dns->cache);
    return true;
}

void dns_wait_init(struct dns_wait *wait)
{
    ring_init(&wait->link);
}

void dns_doubt(struct dns *dns, const char *name)
{
    static const enum dns_type types[] = {DNS_A, DNS_AAAA, DNS_MX};
    uint64_t until = uv_now(dns->loop) + DNS_DOUBT_MS;
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        dns_cache_shorten(dns->cache, name, types[i], until);
    }
}

void dns_forget(struct dns_wait *wait)
{
    ring_unlink(&wait->link);
}

static void on_timer(uv_timer_t *timer);

static void timer_set(struct dns *dns)
{
    uint64_t now = uv_now(dns->loop);
    uint64_t due = dns->turn_at;
    if (!ring_empty(&dns->jobs)) {
        uint64_t deadline = RING_OF(dns->jobs.next, struct job, link)->deadline;
        due = deadline < due ? deadline : due;
    }
    if (due == NEVER) {
        uv_timer_stop(&dns->timer);
    } else {
        uv_timer_start(&dns->timer, on_timer, due > now ? due - now : 0, 0);
    }
}

/* Another server comes first. Without memory all stays as it is. */
static void servers_turn(struct dns *dns, uint64_t now)
{
    size_t before = dns->server_first;
    dns->server_first = dns->turn_to;
    struct dns_channel *channel = channel_of(dns);
    if (channel != NULL) {
        dns_channel_retire(dns->channel);
        dns->channel = channel;
    } else {
        dns->server_first = before;
    }
    dns->silences = 0;
    dns->turn_to = 0; /* the order that was given holds again after a while */
    dns->turn_at = dns->server_first != 0 ? now + TURNED_MS : NEVER;
}

/* How many servers were waited for in vain before the answer came. */
static void servers_judge(struct dns *dns, const struct job *job, int timeouts)
{
    if (job->channel != dns->channel || dns->server_count < 2) {
        return;
    }
    dns->silences = timeouts > 0 ? dns->silences + 1 : 0;
    if (dns->silences == SILENCES) {
        dns->turn_to = (dns->server_first + 1) % dns->server_count;
        dns->turn_at = uv_now(dns->loop);
    }
}

/* Keeps the answer and tells all who wait for the job. */
static void job_tell(struct job *job, const struct dns_answer *answer)
{
    struct dns *dns = job->dns;
    /* What servers say that are configured no more is for those who asked them, not for the cache.
     */
    if (job->generation == dns->generation) {
        dns_cache_put(dns->cache, job->name, job->type, answer, uv_now(dns->loop));
    }
    while (!ring_empty(&job->waits)) {
        struct dns_wait *wait = RING_OF(job->waits.next, struct dns_wait, link);
        ring_unlink(&wait->link);
        wait->done(wait, answer);
    }
}

/* c-ares is left to finish the job, since single queries cannot be called off; nobody waits any
 * more. */
static void on_timer(uv_timer_t *timer)
{
    struct dns *dns = timer->data;
    uint64_t now = uv_now(dns->loop);
    while (!ring_empty(&dns->jobs)) {
        struct job *job = RING_OF(dns->jobs.next, struct job, link);
        if (job->deadline > now) {
            break;
        }
        ring_unlink(&job->link);
        ring_unlink(&job->bucket);
        ring_append(&dns->late, &job->link);
        const struct dns_answer *answer = dns_answer_failure(DNS_FAIL, "DNS time-out");
        job_tell(job, answer);
        dns_answer_unref(answer);
    }
    if (dns->turn_at <= now) {
        servers_turn(dns, now);
    }
    timer_set(dns);
}

/* No server has answered so that it helps: because of what they said meanwhile, if they spoke. */
static const char *unanswered_text(const struct job *job)
{
    struct dns_failures failures = dns_channel_failures(job->channel);
    if (failures.count == job->before.count) {
        return "no DNS server can be reached";
    }
    switch (failures.code) {
    case 2:
        return "DNS server failure (SERVFAIL)";
    case 5:
        return "the DNS server refused to answer (REFUSED)";
    default:
        return "the DNS server does not answer such questions";
    }
}

/* c-ares could ask nobody. */
static const struct dns_answer *unanswered(const struct job *job)
{
    static const struct dns_answer no_socket = {
        .status = DNS_FAIL, .ours = true, .why = "no socket for DNS: too many open files"};
    if (dns_channel_failures(job->channel).sockets != job->before.sockets) {
        return &no_socket;
    }
    return dns_answer_failure(DNS_FAIL, unanswered_text(job));
}

static const struct dns_answer *answer_read(const struct job *job, int status,
                                            const unsigned char *bytes, int len)
{
    switch (status) {
    case ARES_SUCCESS:
    case ARES_ENODATA:
    case ARES_ENOTFOUND:
        if (bytes != NULL && len > 0) {
            return dns_message_parse(bytes, (size_t)len, job->name, job->type);
        }
        if (status == ARES_ENOTFOUND) {
            return dns_answer_failure(DNS_NXDOMAIN, "no such name in DNS");
        }
        return dns_answer_failure(DNS_FAIL, "empty DNS answer");
    case ARES_ESERVFAIL: /* a later c-ares tells */
        return dns_answer_failure(DNS_FAIL, "DNS server failure (SERVFAIL)");
    case ARES_EREFUSED:
        return dns_answer_failure(DNS_FAIL, "the DNS server refused to answer (REFUSED)");
    case ARES_ETIMEOUT:
        return dns_answer_failure(DNS_FAIL, "DNS time-out");
    case ARES_ECONNREFUSED:
        return unanswered(job);
    case ARES_ENOMEM:
        return &dns_answer_no_memory;
    case ARES_EBADRESP:
        return dns_answer_failure(DNS_FAIL, "malformed DNS answer");
    default:
        return dns_answer_failure(DNS_FAIL, "DNS lookup failed");
    }
}

static void on_answer(void *context, int status, int timeouts, unsigned char *bytes, int len)
{
    struct job *job = context;
    struct dns *dns = job->dns;
    dns_channel_finished(job->channel);
    ring_unlink(&job->link);
    ring_unlink(&job->bucket);
    dns->job_count--;
    if (status == ARES_EDESTRUCTION || status == ARES_ECANCELLED) {
        while (!ring_empty(&job->waits)) {
            ring_unlink(job->waits.next);
        }
    } else {
        servers_judge(dns, job, timeouts);
        timer_set(dns);
        const struct dns_answer *answer = answer_read(job, status, bytes, len);
        job_tell(job, answer);
        dns_answer_unref(answer);
    }
    free(job);
}

/* Only questions to the servers of now can be shared. */
static struct job *job_find(const struct dns *dns, const struct ring *bucket, const char *name,
                            enum dns_type type)
{
    for (struct ring *link = bucket->next; link != bucket; link = link->next) {
        struct job *job = RING_OF(link, struct job, bucket);
        if (job->type == type && job->generation == dns->generation &&
            strcmp(job->name, name) == 0) {
            return job;
        }
    }
    return NULL;
}

static struct job *job_new(struct dns *dns, struct ring *bucket, const char *name,
                           enum dns_type type, enum dns_purpose purpose)
{
    if (dns->job_count >= (purpose == DNS_FOR_CLIENT_NAME ? JOBS_CLIENT_NAMES : JOBS_MAX)) {
        return NULL;
    }
    size_t name_bytes = strlen(name) + 1;
    struct job *job = malloc(sizeof(*job) + name_bytes);
    if (job == NULL) {
        return NULL;
    }
    job->dns = dns;
    job->channel = dns->channel;
    job->generation = dns->generation;
    job->before = dns_channel_failures(dns->channel);
    job->deadline = uv_now(dns->loop) + DNS_DEADLINE_MS;
    job->type = type;
    memcpy(job->name, name, name_bytes);
    ring_init(&job->waits);
    ring_append(&dns->jobs, &job->link);
    ring_append(bucket, &job->bucket);
    dns->job_count++;
    return job;
}

void dns_ask(struct dns *dns, const char *name, enum dns_type type, enum dns_purpose purpose,
             struct dns_wait *wait, dns_done *done, void *owner)
{
    dns_wait_init(wait);
    wait->done = done;
    wait->owner = owner;
    const struct dns_answer *known = dns_cache_get(dns->cache, name, type, uv_now(dns->loop));
    if (known != NULL) {
        done(wait, known);
        return;
    }
    struct ring *bucket = &dns->buckets[dns_name_hash(dns->seed, name, type) % BUCKETS];
    struct job *job = job_find(dns, bucket, name, type);
    if (job != NULL) {
        ring_append(&job->waits, &wait->link);
        return;
    }
    job = job_new(dns, bucket, name, type, purpose);
    if (job == NULL) {
        static const struct dns_answer busy = {
            .status = DNS_FAIL, .ours = true, .why = "out of memory, or too many DNS lookups"};
        done(wait, &busy);
        return;
    }
    ring_append(&job->waits, &wait->link);
    timer_set(dns);
    dns_channel_query(dns->channel, name, type, on_answer, job);
}
