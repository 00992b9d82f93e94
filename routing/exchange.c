#include "routing/exchange.h"

#include "config/random.h"

#include <string.h>

bool exchange_is_null_mx(const struct dns_answer *mx)
{
    return mx->count == 1 && mx->records[0].name[0] == '\0';
}

static void shuffle(const struct dns_record **records, size_t count, uint64_t *random)
{
    for (size_t i = count; i > 1; i--) {
        size_t j = (size_t)(random_step(random) % i);
        const struct dns_record *kept = records[i - 1];
        records[i - 1] = records[j];
        records[j] = kept;
    }
}

static void sort(const struct dns_record **records, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        const struct dns_record *moved = records[i];
        size_t at = i;
        for (; at > 0 && records[at - 1]->preference > moved->preference; at--) {
            records[at] = records[at - 1];
        }
        records[at] = moved;
    }
}

size_t exchange_order(const struct dns_answer *mx, uint64_t *random, struct exchange_host *hosts)
{
    const struct dns_record *records[DNS_RECORDS_MAX];
    size_t valid = 0, count = 0;
    for (size_t i = 0; i < mx->count && i < DNS_RECORDS_MAX; i++) {
        if (host_name_valid(span_of(mx->records[i].name))) {
            records[valid++] = &mx->records[i];
        }
    }
    /* Shuffled first and sorted stably after: each run of equals keeps its shuffled order. */
    shuffle(records, valid, random);
    sort(records, valid);
    for (; count < valid && count < EXCHANGE_HOSTS_MAX; count++) {
        struct exchange_host *host = &hosts[count];
        *host = (struct exchange_host){.preference = records[count]->preference};
        memcpy(host->name, records[count]->name, strlen(records[count]->name) + 1);
    }
    return count;
}

bool exchange_record_address(const struct dns_record *record, enum dns_type type, uint16_t port,
                             struct net_address *out)
{
    const struct sockaddr_in in4 = {.sin_family = AF_INET, .sin_addr = record->in4};
    const struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_addr = record->in6};
    const void *sa = type == DNS_A ? (const void *)&in4 : (const void *)&in6;
    if (!net_address_from(sa, out)) {
        return false;
    }
    net_address_set_port(out, port);
    return true;
}

bool exchange_same_host(const struct net_address *a, const struct net_address *b)
{
    struct net_address x = *a, y = *b;
    net_address_set_port(&x, 0);
    net_address_set_port(&y, 0);
    return net_address_equal(&x, &y);
}

static bool is_own(const struct exchange_own *own, const struct net_address *address)
{
    for (size_t i = 0; i < own->count; i++) {
        uint16_t port = net_address_port(&own->addresses[i]);
        if ((port == 0 || port == net_address_port(address)) &&
            exchange_same_host(&own->addresses[i], address)) {
            return true;
        }
    }
    return false;
}

static bool answer_has_own(const struct dns_answer *answer, enum dns_type type, uint16_t port,
                           const struct exchange_own *own)
{
    struct net_address address;
    for (size_t i = 0; i < answer->count; i++) {
        if (exchange_record_address(&answer->records[i], type, port, &address) &&
            is_own(own, &address)) {
            return true;
        }
    }
    return false;
}

/* How many of the hosts, which are in the order of preference, come before our own preference. */
static size_t before_own(const struct exchange_host *hosts, size_t count, uint16_t port,
                         const struct exchange_own *own)
{
    for (size_t i = 0; i < count; i++) {
        if (!answer_has_own(hosts[i].v4, DNS_A, port, own) &&
            !answer_has_own(hosts[i].v6, DNS_AAAA, port, own)) {
            continue;
        }
        size_t first = i;
        while (first > 0 && hosts[first - 1].preference == hosts[i].preference) {
            first--;
        }
        return first;
    }
    return count;
}

/* The list as it is filled. */
struct filling {
    struct resolver_address *out;
    size_t count;
    uint16_t port;
    bool strict;  /* special addresses are refused */
    bool refused; /* one was */
};

static void fill_one(struct filling *filling, const struct exchange_host *host, enum dns_type type,
                     size_t index)
{
    const struct dns_answer *answer = type == DNS_A ? host->v4 : host->v6;
    struct net_address address;
    if (index >= answer->count || filling->count == RESOLVER_ADDRESSES_MAX ||
        !exchange_record_address(&answer->records[index], type, filling->port, &address)) {
        return;
    }
    if (filling->strict && net_address_is_special(&address)) {
        filling->refused = true;
        return;
    }
    struct resolver_address *to = &filling->out[filling->count++];
    to->address = address;
    memcpy(to->host, host->name, sizeof(to->host));
}

/* The first answer that failed, or NULL. */
static const struct dns_answer *first_failure(const struct exchange_host *hosts, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (hosts[i].v6->status == DNS_FAIL) {
            return hosts[i].v6;
        }
        if (hosts[i].v4->status == DNS_FAIL) {
            return hosts[i].v4;
        }
    }
    return NULL;
}

void exchange_addresses(const struct exchange_host *hosts, size_t count, uint16_t port,
                        const struct exchange_own *own, struct resolver_address *out,
                        struct resolver_answer *answer)
{
    struct filling filling = {.out = out, .port = port, .strict = own != NULL};
    size_t usable = own != NULL ? before_own(hosts, count, port, own) : count;
    for (size_t i = 0; i < usable; i++) {
        for (size_t k = 0; k < DNS_RECORDS_MAX; k++) {
            fill_one(&filling, &hosts[i], DNS_AAAA, k);
            fill_one(&filling, &hosts[i], DNS_A, k);
        }
    }

    const struct dns_answer *failure = first_failure(hosts, usable);
    *answer = (struct resolver_answer){.addresses = out, .count = filling.count};
    if (filling.count > 0) {
        answer->status = RESOLVER_OK;
    } else if (failure != NULL) {
        answer->status = RESOLVER_FAIL;
        answer->why = failure->why;
        answer->ours = failure->ours;
    } else {
        answer->status = RESOLVER_NONE;
        answer->why = "no address in DNS";
        if (filling.refused) {
            answer->why = "only addresses that DNS may not lead to (loopback and the like)";
        } else if (usable < count) {
            answer->status = RESOLVER_LOOP;
            answer->why = "it leads to this host itself (mail would loop)";
        }
    }
}
