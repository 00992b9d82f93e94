#include "routing/resolver.h"

#include <stdlib.h>
#include <string.h>

#include "config/text.h"
#include "routing/dns.h"
#include "routing/exchange.h"
#include "routing/hosts.h"

enum {
    SMTP_PORT = 25,
    PTR_NAMES_MAX = 4, /* names of one address that are confirmed */
};

/* What a query waits for. */
enum stage {
    STAGE_MX,
    STAGE_ADDRESSES, /* of the hosts */
    STAGE_PTR,
    STAGE_CONFIRM, /* the addresses of the PTR's names */
    STAGE_READY,   /* for the loop's next turn */
};

/* One question of a query: it waits, then it has an answer. */
struct question {
    struct dns_wait wait;
    const struct dns_answer *answer;
};

struct resolver {
    struct dns *dns;
    struct resolver_hosts *hosts;
    struct net_address *own;
    size_t own_count;
    uint64_t random;
    uv_timer_t turn; /* runs while something is ready */
    struct ring queries;
    struct ring ready;
    bool closing;
};

struct resolver_query {
    struct ring link; /* resolver->queries, or ready */
    struct resolver *resolver;
    enum stage stage;
    bool delivering; /* its callback is running */
    bool strict;     /* a name outside brackets */
    uint16_t port;
    size_t pending; /* questions without an answer, and one while questions are being put */
    char name[NEXTHOP_HOST_MAX + 1];
    struct question first; /* MX or PTR */
    struct exchange_host *hosts;
    struct question *v4; /* of the host of the same index */
    struct question *v6;
    size_t host_count;
    void *context;
    resolver_callback *callback;
    resolver_ptr_callback *ptr_callback;
    struct resolver_answer answer;
    struct resolver_address *addresses;
    struct net_address client;        /* whose name is looked for */
    struct resolver_name client_name; /* in name or hosts */
};

/* The end of a query */

static void question_release(struct question *question)
{
    dns_forget(&question->wait);
    dns_answer_unref(question->answer);
}

static void query_free(struct resolver_query *query)
{
    ring_unlink(&query->link);
    question_release(&query->first);
    for (size_t i = 0; i < query->host_count; i++) {
        question_release(&query->v4[i]);
        question_release(&query->v6[i]);
    }
    free(query->hosts);
    free(query->v4);
    free(query->v6);
    free(query->addresses);
    free(query);
}

static void query_deliver(struct resolver_query *query)
{
    query->delivering = true;
    if (query->ptr_callback != NULL) {
        query->ptr_callback(query->context, &query->client_name);
    } else {
        query->callback(query->context, &query->answer);
    }
    query_free(query);
}

static void on_turn(uv_timer_t *timer)
{
    struct resolver *resolver = timer->data;
    struct ring batch;
    /* What becomes ready while we deliver has its turn next, so that the loop is not held. */
    ring_move(&batch, &resolver->ready);
    while (!ring_empty(&batch)) {
        struct resolver_query *query = RING_OF(batch.next, struct resolver_query, link);
        ring_unlink(&query->link);
        if (resolver->closing) {
            query_free(query);
        } else {
            query_deliver(query);
        }
    }
}

static void query_ready(struct resolver_query *query)
{
    struct resolver *resolver = query->resolver;
    query->stage = STAGE_READY;
    ring_unlink(&query->link);
    ring_append(&resolver->ready, &query->link);
    uv_timer_start(&resolver->turn, on_turn, 0, 0);
}

/* Without what was asked for. */
static void query_end(struct resolver_query *query, enum resolver_status status, const char *why)
{
    query->client_name.later = status == RESOLVER_FAIL;
    query->answer = (struct resolver_answer){.status = status, .why = why};
    query_ready(query);
}

static void query_fail(struct resolver_query *query, const struct dns_answer *answer)
{
    query_end(query, RESOLVER_FAIL, answer->why);
    query->answer.ours = answer->ours;
}

/* Asking */

static void query_advance(struct resolver_query *query);

static void pending_less(struct resolver_query *query)
{
    if (--query->pending == 0) {
        query_advance(query);
    }
}

static void on_dns(struct dns_wait *wait, const struct dns_answer *answer)
{
    RING_OF(wait, struct question, wait)->answer = dns_answer_ref(answer);
    pending_less(wait->owner);
}

static void question_put(struct resolver_query *query, struct question *question, const char *name,
                         enum dns_type type)
{
    enum dns_purpose purpose = query->ptr_callback != NULL ? DNS_FOR_CLIENT_NAME : DNS_FOR_NEXT_HOP;
    query->pending++;
    dns_ask(query->resolver->dns, name, type, purpose, &question->wait, on_dns, query);
}

static void question_first(struct resolver_query *query, enum stage stage, const char *name,
                           enum dns_type type)
{
    query->stage = stage;
    query->pending++;
    question_put(query, &query->first, name, type);
    pending_less(query);
}

/* RFC 6761 6.3: this name is never asked of the DNS. */
static const struct dns_answer *localhost_answer(enum dns_type type)
{
    struct dns_answer *answer = dns_answer_new(DNS_OK, 1, 0);
    if (answer == NULL) {
        return &dns_answer_no_memory;
    }
    if (type == DNS_A) {
        answer->records[0].in4.s_addr = htonl(INADDR_LOOPBACK);
    } else {
        answer->records[0].in6 = in6addr_loopback;
    }
    return answer;
}

static bool is_localhost(const char *name)
{
    return strcmp(name, "localhost") == 0 || span_ends(span_of(name), SPAN(".localhost"));
}

/* The query's own copy of the hosts, as many as there are: queries wait in thousands. */
static bool hosts_take(struct resolver_query *query, const struct exchange_host *hosts,
                       size_t count)
{
    if (count == 0) {
        return true;
    }
    query->hosts = calloc(count, sizeof(*query->hosts));
    query->v4 = calloc(count, sizeof(*query->v4));
    query->v6 = calloc(count, sizeof(*query->v6));
    if (query->hosts == NULL || query->v4 == NULL || query->v6 == NULL) {
        return false;
    }
    memcpy(query->hosts, hosts, count * sizeof(*hosts));
    for (size_t i = 0; i < count; i++) {
        dns_wait_init(&query->v4[i].wait);
        dns_wait_init(&query->v6[i].wait);
    }
    query->host_count = count;
    return true;
}

/* One host's two questions; whether they go to the DNS depends on the hosts file. */
static void host_ask(struct resolver_query *query, size_t i)
{
    const struct resolver_hosts *file = query->resolver->hosts;
    const char *name = query->hosts[i].name;
    if (hosts_has(file, name)) {
        query->v4[i].answer = hosts_answer(file, name, DNS_A);
        query->v6[i].answer = hosts_answer(file, name, DNS_AAAA);
    } else if (is_localhost(name)) {
        query->v4[i].answer = localhost_answer(DNS_A);
        query->v6[i].answer = localhost_answer(DNS_AAAA);
    } else {
        question_put(query, &query->v6[i], name, DNS_AAAA);
        question_put(query, &query->v4[i], name, DNS_A);
    }
}

static void hosts_ask(struct resolver_query *query, enum stage stage,
                      const struct exchange_host *hosts, size_t count)
{
    if (!hosts_take(query, hosts, count)) {
        query_fail(query, &dns_answer_no_memory);
        return;
    }
    query->stage = stage;
    query->pending++;
    for (size_t i = 0; i < count; i++) {
        host_ask(query, i);
    }
    pending_less(query);
}

static void host_only(struct resolver_query *query)
{
    struct exchange_host host = {.preference = 0};
    memcpy(host.name, query->name, sizeof(host.name));
    hosts_ask(query, STAGE_ADDRESSES, &host, 1);
}

/* What follows each stage */

static void after_mx(struct resolver_query *query)
{
    const struct dns_answer *mx = query->first.answer;
    struct exchange_host hosts[EXCHANGE_HOSTS_MAX];
    size_t count;
    switch (mx->status) {
    case DNS_OK:
        if (exchange_is_null_mx(mx)) {
            query_end(query, RESOLVER_NULL_MX, "the domain takes no mail (null MX)");
            return;
        }
        count = exchange_order(mx, &query->resolver->random, hosts);
        if (count == 0) {
            query_end(query, RESOLVER_NONE, "no MX is a host name");
        } else {
            hosts_ask(query, STAGE_ADDRESSES, hosts, count);
        }
        return;
    case DNS_NXDOMAIN:
        if (!hosts_has(query->resolver->hosts, query->name)) {
            query_end(query, RESOLVER_NONE, mx->why);
            return;
        }
        host_only(query);
        return;
    case DNS_NODATA:
        host_only(query); /* RFC 5321 5.1: the implicit MX */
        return;
    case DNS_FAIL:
        query_fail(query, mx);
        return;
    }
}

static void after_addresses(struct resolver_query *query)
{
    const struct exchange_own own = {query->resolver->own, query->resolver->own_count};
    for (size_t i = 0; i < query->host_count; i++) {
        query->hosts[i].v4 = query->v4[i].answer;
        query->hosts[i].v6 = query->v6[i].answer;
    }
    query->addresses = calloc(RESOLVER_ADDRESSES_MAX, sizeof(*query->addresses));
    if (query->addresses == NULL) {
        query_fail(query, &dns_answer_no_memory);
        return;
    }
    exchange_addresses(query->hosts, query->host_count, query->port, query->strict ? &own : NULL,
                       query->addresses, &query->answer);
    query_ready(query);
}

/* A name that may go into Received and XCLIENT: a host name of letters, digits, dots and hyphens
 * only, which reads like no address. */
static bool ptr_name_valid(const char *name)
{
    return host_name_valid(span_of(name)) && !host_name_is_numeric(span_of(name)) &&
           strchr(name, '_') == NULL;
}

static void after_ptr(struct resolver_query *query)
{
    const struct dns_answer *ptr = query->first.answer;
    struct exchange_host hosts[PTR_NAMES_MAX] = {0};
    size_t count = 0;
    if (ptr->status == DNS_FAIL) {
        query_fail(query, ptr);
        return;
    }
    for (size_t i = 0; i < ptr->count && count < PTR_NAMES_MAX; i++) {
        const char *name = ptr->records[i].name;
        if (ptr_name_valid(name)) {
            memcpy(hosts[count++].name, name, strlen(name) + 1);
        }
    }
    hosts_ask(query, STAGE_CONFIRM, hosts, count);
}

static bool answer_holds(const struct dns_answer *answer, enum dns_type type,
                         const struct net_address *wanted)
{
    struct net_address address;
    for (size_t i = 0; i < answer->count; i++) {
        if (exchange_record_address(&answer->records[i], type, 0, &address) &&
            exchange_same_host(&address, wanted)) {
            return true;
        }
    }
    return false;
}

static void after_confirm(struct resolver_query *query)
{
    struct resolver_name *name = &query->client_name;
    name->reverse = query->host_count > 0 ? query->hosts[0].name : NULL;
    for (size_t i = 0; i < query->host_count && name->confirmed == NULL; i++) {
        const struct dns_answer *v4 = query->v4[i].answer, *v6 = query->v6[i].answer;
        if (answer_holds(v4, DNS_A, &query->client) || answer_holds(v6, DNS_AAAA, &query->client)) {
            name->confirmed = name->reverse = query->hosts[i].name;
        }
        /* Only the client's own family can confirm. */
        const struct dns_answer *own = query->client.any.sa_family == AF_INET ? v4 : v6;
        name->later |= own->status == DNS_FAIL;
    }
    name->later &= name->confirmed == NULL;
    query_ready(query);
}

static void query_advance(struct resolver_query *query)
{
    switch (query->stage) {
    case STAGE_MX:
        after_mx(query);
        return;
    case STAGE_ADDRESSES:
        after_addresses(query);
        return;
    case STAGE_PTR:
        after_ptr(query);
        return;
    case STAGE_CONFIRM:
        after_confirm(query);
        return;
    case STAGE_READY:
        return;
    }
}

/* The queries */

static struct resolver_query *query_new(struct resolver *resolver, void *context)
{
    struct resolver_query *query = calloc(1, sizeof(*query));
    if (query == NULL) {
        return NULL;
    }
    query->resolver = resolver;
    query->context = context;
    dns_wait_init(&query->first.wait);
    ring_init(&query->link);
    ring_append(&resolver->queries, &query->link);
    return query;
}

/* Folded, without a last dot. */
static bool name_set(struct resolver_query *query, struct span name)
{
    if (name.len > 1 && name.ptr[name.len - 1] == '.') {
        name.len--;
    }
    if (!host_name_valid(name)) {
        return false;
    }
    for (size_t i = 0; i < name.len; i++) {
        query->name[i] = ascii_lower(name.ptr[i]);
    }
    query->name[name.len] = '\0';
    return true;
}

static void address_only(struct resolver_query *query, const struct net_address *address)
{
    query->addresses = calloc(1, sizeof(*query->addresses));
    if (query->addresses == NULL) {
        query_fail(query, &dns_answer_no_memory);
        return;
    }
    query->addresses[0].address = *address;
    net_address_text(address, query->addresses[0].host, sizeof(query->addresses[0].host));
    query->answer =
        (struct resolver_answer){.status = RESOLVER_OK, .addresses = query->addresses, .count = 1};
    query_ready(query);
}

/* RFC 5321 4.1.3: "[192.0.2.1]", "[IPv6:2001:db8::1]". */
static bool literal_parse(struct span domain, uint16_t port, struct net_address *out)
{
    const struct span tag = SPAN("IPv6:");
    if (domain.len < 2 || domain.ptr[0] != '[' || domain.ptr[domain.len - 1] != ']') {
        return false;
    }
    struct span inside = span_make(domain.ptr + 1, domain.len - 2);
    if (span_starts_fold(inside, tag)) {
        inside = span_skip(inside, tag.len);
    }
    return net_address_parse(inside, port, out);
}

static void mx_start(struct resolver_query *query, struct span domain)
{
    query->strict = true;
    if (name_set(query, domain)) {
        question_first(query, STAGE_MX, query->name, DNS_MX);
    } else {
        query_end(query, RESOLVER_NONE, "not a host name");
    }
}

struct resolver_query *resolver_nexthop(struct resolver *resolver, const struct nexthop *hop,
                                        struct span domain, resolver_callback *callback,
                                        void *context)
{
    struct net_address literal;
    struct resolver_query *query = query_new(resolver, context);
    if (query == NULL) {
        return NULL;
    }
    query->callback = callback;
    query->port = hop->port != 0 ? hop->port : SMTP_PORT;
    switch (hop->kind) {
    case NEXTHOP_HOST:
        query->strict = hop->guarded;
        if (name_set(query, span_of(hop->host))) {
            host_only(query);
        } else {
            query_end(query, RESOLVER_NONE, "not a host name");
        }
        break;
    case NEXTHOP_MX:
        mx_start(query, span_of(hop->host));
        break;
    case NEXTHOP_ADDRESS:
        address_only(query, &hop->address);
        break;
    case NEXTHOP_DOMAIN:
        if (literal_parse(domain, query->port, &literal)) {
            address_only(query, &literal);
        } else {
            mx_start(query, domain);
        }
        break;
    }
    return query;
}

struct resolver_query *resolver_ptr(struct resolver *resolver, const struct net_address *address,
                                    resolver_ptr_callback *callback, void *context)
{
    struct resolver_query *query = query_new(resolver, context);
    if (query == NULL) {
        return NULL;
    }
    query->ptr_callback = callback;
    query->client = *address;
    const char *known = hosts_name(resolver->hosts, address);
    if (known != NULL && ptr_name_valid(known)) {
        memcpy(query->name, known, strlen(known) + 1);
        query->client_name = (struct resolver_name){query->name, query->name, false};
        query_ready(query);
    } else if (dns_reverse_name(address, query->name, sizeof(query->name))) {
        question_first(query, STAGE_PTR, query->name, DNS_PTR);
    } else {
        query_ready(query);
    }
    return query;
}

void resolver_doubt(struct resolver *resolver, const char *name)
{
    dns_doubt(resolver->dns, name);
}

void resolver_cancel(struct resolver_query *query)
{
    /* From inside its own callback the query is over anyhow. */
    if (!query->delivering) {
        query_free(query);
    }
}

/* The resolver itself */

static void settings_take(struct resolver *resolver, const struct resolver_options *options)
{
    size_t size = options->own_count * sizeof *options->own;
    struct net_address *own = size != 0 ? malloc(size) : NULL;
    if (own != NULL) {
        memcpy(own, options->own, size);
    }
    if (own != NULL || size == 0) { /* without memory the addresses that we knew stay */
        free(resolver->own);
        resolver->own = own;
        resolver->own_count = options->own_count;
    }
    struct resolver_hosts *before = resolver->hosts;
    resolver->hosts = resolver_hosts_ref(options->hosts);
    resolver_hosts_unref(before);
}

struct resolver *resolver_new(uv_loop_t *loop, const struct resolver_options *options)
{
    struct resolver *resolver = calloc(1, sizeof(*resolver));
    if (resolver == NULL) {
        return NULL;
    }
    resolver->dns = dns_new(loop, options->servers, options->server_count, options->seed);
    if (resolver->dns == NULL) {
        free(resolver);
        return NULL;
    }
    resolver->random = options->seed;
    ring_init(&resolver->queries);
    ring_init(&resolver->ready);
    uv_timer_init(loop, &resolver->turn);
    resolver->turn.data = resolver;
    settings_take(resolver, options);
    return resolver;
}

void resolver_configure(struct resolver *resolver, const struct resolver_options *options)
{
    dns_configure(resolver->dns, options->servers, options->server_count);
    settings_take(resolver, options);
}

static void on_closed(uv_handle_t *handle)
{
    struct resolver *resolver = handle->data;
    resolver_hosts_unref(resolver->hosts);
    free(resolver->own);
    free(resolver);
}

static void queries_drop(struct ring *queries)
{
    while (!ring_empty(queries)) {
        query_free(RING_OF(queries->next, struct resolver_query, link));
    }
}

void resolver_close(struct resolver *resolver)
{
    resolver->closing = true;
    queries_drop(&resolver->queries);
    queries_drop(&resolver->ready);
    dns_close(resolver->dns);
    uv_close((uv_handle_t *)&resolver->turn, on_closed);
}
