/* What DNS says of this host: `hostname`, and the names of its addresses. */
#include <stdlib.h>
#include <unistd.h>

#include "proxy/cli/doctor_state.h"
#include "routing/exchange.h"
#include "routing/own.h"

#define SMTP_PORT 25

/* ---- look-ups ---- */

static void on_answer(struct dns_wait *wait, const struct dns_answer *answer)
{
    struct lookup *lookup = wait->owner;
    lookup->answer = dns_answer_ref(answer);
    check_release(lookup->check);
}

void lookup_begin(struct lookup *lookup, struct check *check, const char *name, enum dns_type type)
{
    lookup->check = check;
    dns_wait_init(&lookup->wait);
    check_hold(check);
    dns_ask(check->doctor->dns, name, type, DNS_FOR_NEXT_HOP, &lookup->wait, on_answer, lookup);
}

/* Only once the answer is there: the command waits for all. */
void lookup_release(struct lookup *lookup)
{
    dns_answer_unref(lookup->answer);
    lookup->answer = NULL;
}

void host_lookup_begin(struct host_lookup *lookup, struct check *check, const char *name)
{
    lookup_begin(&lookup->v4, check, name, DNS_A);
    lookup_begin(&lookup->v6, check, name, DNS_AAAA);
}

void host_lookup_release(struct host_lookup *lookup)
{
    lookup_release(&lookup->v4);
    lookup_release(&lookup->v6);
}

size_t host_lookup_addresses(const struct host_lookup *lookup, uint16_t port,
                             struct net_address *out, size_t cap)
{
    const struct lookup *const both[] = {&lookup->v4, &lookup->v6};
    const enum dns_type types[] = {DNS_A, DNS_AAAA};
    size_t count = 0;
    for (size_t k = 0; k < 2; k++) {
        const struct dns_answer *answer = both[k]->answer;
        for (size_t i = 0; answer != NULL && i < answer->count && count < cap; i++) {
            count += exchange_record_address(&answer->records[i], types[k], port, &out[count]);
        }
    }
    return count;
}

const char *host_lookup_why(const struct host_lookup *lookup, bool *failed)
{
    const struct dns_answer *v4 = lookup->v4.answer;
    const struct dns_answer *v6 = lookup->v6.answer;
    *failed = v4->status == DNS_FAIL || v6->status == DNS_FAIL;
    return v6->status == DNS_FAIL ? v6->why : v4->status != DNS_OK ? v4->why : "no address";
}

void addresses_put(const struct net_address *addresses, size_t count, struct text *out)
{
    char name[NET_ADDRESS_TEXT];
    for (size_t i = 0; i < count; i++) {
        net_address_text(&addresses[i], name, sizeof name);
        text_printf(out, "%s%s", i > 0 ? ", " : "", name);
    }
}

bool name_fold(struct span name, char *out)
{
    if (name.len > 1 && name.ptr[name.len - 1] == '.') {
        name.len--;
    }
    if (!host_name_valid(name) || host_name_is_numeric(name)) {
        return false;
    }
    for (size_t i = 0; i < name.len; i++) {
        out[i] = ascii_lower(name.ptr[i]);
    }
    out[name.len] = '\0';
    return true;
}

/* ---- this machine ---- */

bool address_towards(const struct net_address *address, struct net_address *source)
{
    struct sockaddr_storage name;
    socklen_t length = sizeof name;
    int fd = socket(address->any.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    /* Nothing is sent: connecting a datagram socket asks the kernel for its route. */
    bool found = fd >= 0 && connect(fd, &address->any, net_address_length(address)) == 0 &&
                 getsockname(fd, (struct sockaddr *)&name, &length) == 0 &&
                 net_address_from((struct sockaddr *)&name, source);
    if (fd >= 0) {
        close(fd);
    }
    return found;
}

static bool is_among(const struct net_address *list, size_t count,
                     const struct net_address *address)
{
    for (size_t i = 0; i < count; i++) {
        if (exchange_same_host(&list[i], address)) {
            return true;
        }
    }
    return false;
}

bool doctor_is_own(const struct doctor *doctor, const struct net_address *address)
{
    return is_among(doctor->machine, doctor->machine_count, address) ||
           (doctor->hidden && is_among(doctor->named, doctor->named_count, address));
}

/* All interfaces, as a listener on every address would have them, and what is listened on. */
static void read_machine(struct doctor *doctor)
{
    const struct policy *policy = &doctor->prepared->policy;
    struct net_address *all = calloc(policy->own_count + 1, sizeof *all);
    if (all == NULL) {
        doctor->broken = true;
        return;
    }
    memcpy(all, policy->own, policy->own_count * sizeof *all);
    (void)net_address_parse(SPAN("::"), SMTP_PORT, &all[policy->own_count]);
    doctor->machine = own_addresses(all, policy->own_count + 1, &doctor->machine_count);
    free(all);
    doctor->broken = doctor->broken || doctor->machine == NULL;
    doctor->hidden = true;
    for (size_t i = 0; i < doctor->machine_count; i++) {
        if (!net_address_is_local(&doctor->machine[i]) &&
            !net_address_is_wildcard(&doctor->machine[i])) {
            doctor->hidden = false;
        }
    }
}

/* ---- hostname ---- */

struct hostname_check {
    struct check check;
    struct host_lookup lookup;
};

static void hostname_free(struct check *check)
{
    struct hostname_check *hostname = (struct hostname_check *)(void *)check;
    host_lookup_release(&hostname->lookup);
    free(hostname);
}

static void say_port(struct check *check)
{
    const struct doctor *doctor = check->doctor;
    const struct policy *policy = &doctor->prepared->policy;
    for (size_t i = 0; i < policy->own_count; i++) {
        if (net_address_port(&policy->own[i]) == SMTP_PORT) {
            return;
        }
    }
    check_say(check, LEVEL_NOTE,
              "nothing here listens on port 25, where other servers come: something in front has "
              "to lead that to a listener");
}

static void say_hostname(struct check *check)
{
    const struct doctor *doctor = check->doctor;
    char ours[400], others[400];
    struct text own = TEXT(ours), foreign = TEXT(others);
    size_t own_count = 0, foreign_count = 0;
    for (size_t i = 0; i < doctor->named_count; i++) {
        bool is_own = is_among(doctor->machine, doctor->machine_count, &doctor->named[i]);
        struct text *text = is_own ? &own : &foreign;
        size_t *count = is_own ? &own_count : &foreign_count;
        text_puts(text, (*count)++ > 0 ? ", " : "");
        addresses_put(&doctor->named[i], 1, text);
    }
    if (own_count > 0) {
        check_say(check, LEVEL_OK, "leads to this host (%s)", ours);
    }
    if (foreign_count > 0 && doctor->hidden) {
        check_say(check, LEVEL_NOTE,
                  "leads to %s, which no interface here has: as it is behind NAT or in a "
                  "container, where port 25 of that address has to lead here",
                  others);
    } else if (foreign_count > 0) {
        check_say(check, LEVEL_WARNING,
                  "leads to %s, which this host does not have: what EHLO says has to lead to who "
                  "says it; correct its A and AAAA records, or `hostname`",
                  others);
    }
}

static bool hostname_step(struct check *check)
{
    struct hostname_check *hostname = (struct hostname_check *)(void *)check;
    struct doctor *doctor = check->doctor;
    const char *why;
    char name[DNS_NAME_MAX + 1];
    bool failed;
    if (!name_fold(span_of(doctor_config(doctor)->hostname.text), name)) {
        check_say(check, LEVEL_ERROR, "is no host name; say the name that DNS has for this host");
        doctor_begin(doctor);
        return false;
    }
    if (check->stage == 0) {
        host_lookup_begin(&hostname->lookup, check, name);
        return true;
    }
    doctor->named_count =
        host_lookup_addresses(&hostname->lookup, SMTP_PORT, doctor->named, DOCTOR_ADDRESSES);
    why = host_lookup_why(&hostname->lookup, &failed);
    if (doctor->named_count > 0) {
        say_hostname(check);
    } else if (failed) {
        check_say(check, LEVEL_WARNING,
                  "cannot be looked up: %s; is there a name server? `dns:` or " PREPARE_SERVERS_FILE
                  " has to name one",
                  why);
    } else {
        check_say(check, LEVEL_ERROR,
                  "has no address in DNS (%s), and receivers refuse an EHLO that leads nowhere: "
                  "give it A or AAAA records, or say another `hostname`",
                  why);
    }
    say_port(check);
    doctor_begin(doctor);
    return false;
}

bool doctor_hostname(struct doctor *doctor)
{
    struct hostname_check *hostname = calloc(1, sizeof *hostname);
    read_machine(doctor);
    if (hostname == NULL) {
        return false;
    }
    hostname->check.step = hostname_step;
    hostname->check.free = hostname_free;
    check_add(doctor, &hostname->check, "hostname %s", doctor_config(doctor)->hostname.text);
    check_begin(&hostname->check);
    return true;
}

/* ---- the names of addresses ---- */

#define PTR_NAMES_MAX 4

struct address_check {
    struct check check;
    struct net_address address;
    bool outgoing; /* mail to others comes from it */
    struct lookup ptr;
    char names[PTR_NAMES_MAX][DNS_NAME_MAX + 1];
    struct host_lookup hosts[PTR_NAMES_MAX];
    size_t count;
};

static void address_free(struct check *check)
{
    struct address_check *address = (struct address_check *)(void *)check;
    lookup_release(&address->ptr);
    for (size_t i = 0; i < address->count; i++) {
        host_lookup_release(&address->hosts[i]);
    }
    free(address);
}

static void address_confirm(struct address_check *address)
{
    const struct dns_answer *answer = address->ptr.answer;
    for (size_t i = 0; i < answer->count && address->count < PTR_NAMES_MAX; i++) {
        if (name_fold(span_of(answer->records[i].name), address->names[address->count])) {
            size_t at = address->count++;
            host_lookup_begin(&address->hosts[at], &address->check, address->names[at]);
        }
    }
}

/* The first name that leads back, or NULL. */
static const char *confirmed_name(const struct address_check *address)
{
    struct net_address found[DOCTOR_ADDRESSES];
    for (size_t i = 0; i < address->count; i++) {
        size_t count = host_lookup_addresses(&address->hosts[i], 0, found, DOCTOR_ADDRESSES);
        if (is_among(found, count, &address->address)) {
            return address->names[i];
        }
    }
    return NULL;
}

static void say_address(struct address_check *address)
{
    struct check *check = &address->check;
    const char *hostname = doctor_config(check->doctor)->hostname.text;
    const char *name = confirmed_name(address);
    const struct dns_answer *ptr = address->ptr.answer;
    enum level bad = address->outgoing ? LEVEL_ERROR : LEVEL_NOTE;
    const char *matter = address->outgoing
                             ? "Gmail and many others refuse mail from such an address"
                             : "that matters once mail goes out from it";
    if (ptr->status == DNS_FAIL) {
        check_say(
            check, LEVEL_WARNING,
            "its name (PTR) cannot be looked up: %s; see that name servers answer, and ask again",
            ptr->why);
    } else if (address->count == 0) {
        check_say(check, bad,
                  "has no name (PTR): %s; have whoever assigns it set its PTR record to %s", matter,
                  hostname);
    } else if (name == NULL) {
        check_say(check, bad,
                  "its name (PTR) is %s, which does not lead back to it: %s; give that name the "
                  "address, or have the PTR record set to %s",
                  address->names[0], matter, hostname);
    } else if (!span_equal_fold(span_of(name), span_of(hostname))) {
        check_say(check, LEVEL_NOTE,
                  "its name (PTR) is %s, which leads back to it, but is not `hostname` (%s); some "
                  "receivers want them to be the same: have the PTR record or `hostname` changed",
                  name, hostname);
    } else {
        check_say(check, LEVEL_OK, "its name (PTR) is %s, which leads back to it", name);
    }
}

static bool address_step(struct check *check)
{
    struct address_check *address = (struct address_check *)(void *)check;
    char name[DNS_NAME_MAX + 1];
    switch (check->stage) {
    case 0:
        if (!dns_reverse_name(&address->address, name, sizeof name)) {
            return false;
        }
        lookup_begin(&address->ptr, check, name, DNS_PTR);
        return true;
    case 1:
        address_confirm(address);
        return true;
    default:
        say_address(address);
        return false;
    }
}

/* Addresses of which a check is made, each once, public ones only. */
struct address_list {
    struct net_address items[DOCTOR_ADDRESSES];
    size_t count;
};

static void address_add(struct doctor *doctor, struct address_list *list,
                        const struct net_address *address, bool outgoing)
{
    char text[NET_ADDRESS_TEXT];
    if (net_address_is_local(address) || net_address_is_wildcard(address) ||
        list->count == DOCTOR_ADDRESSES || is_among(list->items, list->count, address)) {
        return;
    }
    struct address_check *check = calloc(1, sizeof *check);
    if (check == NULL) {
        doctor->broken = true;
        return;
    }
    list->items[list->count++] = check->address = *address;
    if (outgoing) {
        doctor->outgoing[doctor->outgoing_count++] = *address;
    }
    net_address_text(address, text, sizeof text);
    check->outgoing = outgoing;
    check->check.step = address_step;
    check->check.free = address_free;
    check_add(doctor, &check->check, "address %s", text);
}

void doctor_addresses(struct doctor *doctor)
{
    /* Of documentation (RFC 5737, RFC 3849), which stand for any address elsewhere. */
    static const char *const elsewhere[] = {"198.51.100.1", "2001:db8:ffff::1"};
    struct address_list list = {.count = 0};
    struct net_address towards, source;
    for (size_t i = 0; i < 2; i++) {
        if (net_address_parse(span_of(elsewhere[i]), SMTP_PORT, &towards) &&
            address_towards(&towards, &source)) {
            address_add(doctor, &list, &source, true);
        }
    }
    for (size_t i = 0; i < doctor->named_count; i++) {
        if (doctor_is_own(doctor, &doctor->named[i])) {
            address_add(doctor, &list, &doctor->named[i], true);
        }
    }
    for (size_t i = 0; i < doctor->machine_count; i++) {
        address_add(doctor, &list, &doctor->machine[i], false);
    }
}
