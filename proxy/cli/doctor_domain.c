/*
 * A domain: its MX records, this host's place among them, and what the hosts below it would bounce
 * (design: section 6, what DNS does to a 4xx).
 */
#include <stdlib.h>

#include "proxy/cli/doctor_state.h"
#include "routing/exchange.h"

#define SMTP_PORT 25

/* The words of a domain's findings are the same in many places. */
#define REMEDY                                                                                     \
    "make a mailbox or an alias for it there, have that host send unknown addresses here, or put " \
    "a second splitmx in its place"

struct exchange {
    char name[DNS_NAME_MAX + 1];
    uint16_t preference;
    struct host_lookup lookup;
    struct net_address addresses[DOCTOR_ADDRESSES];
    size_t count;
    size_t tried; /* of these, in turn until one answers */
    bool own;
    bool special; /* it leads senders to themselves */
    bool foreign; /* own, and an address of another host as well */
    struct call *call;
};

enum stage { STAGE_MX, STAGE_ADDRESSES, STAGE_SORT, STAGE_ASK };

struct domain_check {
    struct check check;
    struct doctor_domain *domain;
    struct lookup mx;
    struct exchange hosts[EXCHANGE_HOSTS_MAX];
    size_t count;
    bool implicit; /* no MX: the domain's own addresses stand for it */
    bool accepted, postmaster;
    char postmaster_address[DNS_NAME_MAX + 16];
    const char *recipients[CALL_RECIPIENTS];
    size_t recipient_count;
};

static void domain_free(struct check *check)
{
    struct domain_check *domain = (struct domain_check *)(void *)check;
    lookup_release(&domain->mx);
    for (size_t i = 0; i < domain->count; i++) {
        host_lookup_release(&domain->hosts[i].lookup);
        free(domain->hosts[i].call);
    }
    free(domain);
}

/* ---- MX ---- */

/* By preference, then by name, so that it reads the same each time. */
static int compare(const void *a, const void *b)
{
    const struct exchange_host *x = a, *y = b;
    return x->preference != y->preference ? (x->preference < y->preference ? -1 : 1)
                                          : strcmp(x->name, y->name);
}

/* False: there is nothing more to find out, and that is told. */
static bool domain_take_mx(struct domain_check *domain)
{
    struct check *check = &domain->check;
    const struct dns_answer *mx = domain->mx.answer;
    struct exchange_host hosts[EXCHANGE_HOSTS_MAX];
    uint64_t random = 0;
    switch (mx->status) {
    case DNS_OK:
        break;
    case DNS_NODATA:
        domain->implicit = true;
        domain->count = 1;
        memcpy(domain->hosts[0].name, domain->domain->name, sizeof domain->hosts[0].name);
        return true;
    case DNS_NXDOMAIN:
        check_say(check, LEVEL_ERROR,
                  "is not in DNS, so no mail for it comes here; register it, or take it out of "
                  "`domains`");
        return false;
    case DNS_FAIL:
        check_say(
            check, LEVEL_WARNING,
            "its MX records cannot be looked up: %s; see that its name servers answer, and ask "
            "again",
            mx->why);
        return false;
    }
    if (exchange_is_null_mx(mx)) {
        check_say(check, LEVEL_ERROR,
                  "its MX says that it takes no mail (RFC 7505); make it MX "
                  "0 %s",
                  doctor_config(check->doctor)->hostname.text);
        return false;
    }
    domain->count = exchange_order(mx, &random, hosts);
    qsort(hosts, domain->count, sizeof hosts[0], compare);
    for (size_t i = 0; i < domain->count; i++) {
        domain->hosts[i].preference = hosts[i].preference;
        memcpy(domain->hosts[i].name, hosts[i].name, sizeof domain->hosts[i].name);
    }
    if (domain->count == 0) {
        check_say(check, LEVEL_ERROR, "no MX of it is a host name; make it MX 0 %s",
                  doctor_config(check->doctor)->hostname.text);
    }
    return domain->count > 0;
}

static void exchange_find(struct domain_check *domain, struct exchange *host)
{
    const struct doctor *doctor = domain->check.doctor;
    host->count =
        host_lookup_addresses(&host->lookup, SMTP_PORT, host->addresses, DOCTOR_ADDRESSES);
    for (size_t i = 0; i < host->count; i++) {
        bool special = net_address_is_special(&host->addresses[i]);
        bool own = !special && doctor_is_own(doctor, &host->addresses[i]);
        host->own = host->own || own;
        host->foreign = host->foreign || !own;
        host->special = host->special || special;
    }
    /* Where no interface has what is public, the name is all there is to go by. */
    host->own = host->own ||
                (doctor->hidden && span_equal_fold(span_of(host->name),
                                                   span_of(doctor_config(doctor)->hostname.text)));
}

/* ---- its place ---- */

/* The first that is this host, or count. */
static size_t own_place(const struct domain_check *domain)
{
    size_t at = 0;
    while (at < domain->count && !domain->hosts[at].own) {
        at++;
    }
    return at;
}

static void put_hosts(const struct domain_check *domain, size_t count, struct text *out)
{
    for (size_t i = 0; i < count; i++) {
        text_printf(out, "%s%u %s", i > 0 ? ", " : "", domain->hosts[i].preference,
                    domain->hosts[i].name);
    }
}

/* Whether a load balancer is in front, whose addresses senders then see, and not ours. */
static bool behind_another(const struct config *config)
{
    for (size_t i = 0; i < config->listener_count; i++) {
        if (config->listeners[i].proxy_protocol.count > 0) {
            return true;
        }
    }
    return false;
}

static void say_absent(struct domain_check *domain)
{
    char list[2000];
    struct text text = TEXT(list);
    const struct config *config = doctor_config(domain->check.doctor);
    const char *hostname = config->hostname.text;
    if (domain->implicit && domain->hosts[0].count == 0) {
        check_say(&domain->check, LEVEL_ERROR,
                  "has neither an MX nor an address in DNS, so no mail for it comes here; make its "
                  "MX 0 %s",
                  hostname);
        return;
    }
    if (domain->implicit) {
        check_say(&domain->check, LEVEL_ERROR,
                  "has no MX, and its own address is not this host's: its mail does not come here; "
                  "make its MX 0 %s",
                  hostname);
        return;
    }
    put_hosts(domain, domain->count, &text);
    if (behind_another(config)) {
        check_say(&domain->check, LEVEL_WARNING,
                  "none of its MX is this host (%s): as is right when they lead to the load "
                  "balancer that `proxy-protocol` lists; make sure that they do",
                  list);
        return;
    }
    check_say(&domain->check, LEVEL_ERROR,
              "none of its MX is this host (%s): its mail does not come here; put %s before them",
              list, hostname);
}

static void say_place(struct domain_check *domain, size_t at)
{
    struct check *check = &domain->check;
    const struct exchange *own = &domain->hosts[at];
    char list[2000], all[600];
    struct text text = TEXT(list), addresses = TEXT(all);
    size_t equal = 0;
    for (size_t i = 0; i < domain->count; i++) {
        equal += !domain->hosts[i].own && domain->hosts[i].preference == own->preference;
    }
    if (domain->implicit) {
        check_say(check, LEVEL_NOTE,
                  "has no MX; servers take its own address, which is this host's; an MX says so");
    } else if (domain->hosts[0].preference < own->preference) {
        put_hosts(domain, at, &text);
        check_say(check, LEVEL_WARNING,
                  "MX %u %s is this host, but others are before it (%s): mail comes here only "
                  "when they are away, as is right for a second splitmx alone",
                  own->preference, own->name, list);
    } else if (equal > 0) {
        check_say(check, LEVEL_WARNING,
                  "MX %u %s is this host, but others have the same preference: a part of the mail "
                  "goes past it; give this host a lower number",
                  own->preference, own->name);
    } else {
        check_say(check, LEVEL_OK, "MX %u %s is this host, before all others", own->preference,
                  own->name);
    }
    if (own->foreign && !check->doctor->hidden) {
        addresses_put(own->addresses, own->count, &addresses);
        check_say(
            check, LEVEL_WARNING,
            "%s leads to addresses that are not this host's, too: all are %s; take the others out "
            "of its A and AAAA records",
            own->name, all);
    }
    if (!doctor_certified(check->doctor, own->name)) {
        check_say(check, LEVEL_WARNING,
                  "no certificate is for the MX name %s; servers that verify will not deliver to "
                  "it; get one that names it, too",
                  own->name);
    }
}

/* ---- lower hosts ---- */

/* Where mail goes that this host defers: behind the first MX that is this host, or beside it. */
static bool is_lower(const struct domain_check *domain, size_t i)
{
    size_t own = own_place(domain);
    return own < domain->count && !domain->hosts[i].own &&
           domain->hosts[i].preference >= domain->hosts[own].preference;
}

static bool is_google(const struct exchange *host)
{
    return span_ends(span_of(host->name), SPAN(".google.com")) ||
           span_ends(span_of(host->name), SPAN(".googlemail.com"));
}

/* Google's hosts all know the same, and hold it against an address that it asks much in vain. */
static bool is_asked_elsewhere(const struct domain_check *domain, size_t i)
{
    for (size_t k = 0; is_google(&domain->hosts[i]) && k < domain->count; k++) {
        const struct exchange *other = &domain->hosts[k];
        if (k != i && other->call != NULL && is_google(other) &&
            (other->call->end != CALL_UNAVAILABLE || other->tried < other->count)) {
            return true;
        }
    }
    return false;
}

static void collect_recipients(struct domain_check *domain)
{
    struct doctor_domain *of = domain->domain;
    for (size_t i = 0; i < of->sampled; i++) {
        if (!span_equal(span_of(of->sample[i]), span_of(domain->postmaster_address))) {
            domain->recipients[domain->recipient_count++] = of->sample[i];
        }
    }
    if (domain->postmaster) {
        domain->recipients[domain->recipient_count++] = domain->postmaster_address;
    }
}

/* An address of each lower host that has not answered yet; false: there is none to ask. */
static bool ask_lower(struct domain_check *domain)
{
    bool asked = false;
    for (size_t i = 0; i < domain->count && domain->recipient_count > 0; i++) {
        struct exchange *host = &domain->hosts[i];
        struct net_address source;
        if (!is_lower(domain, i) || host->special || is_asked_elsewhere(domain, i) ||
            (host->call != NULL && host->call->end != CALL_UNAVAILABLE)) {
            continue;
        }
        while (host->tried < host->count &&
               !address_towards(&host->addresses[host->tried], &source)) {
            host->tried++; /* no way to this family from here */
        }
        if (host->tried == host->count) {
            continue;
        }
        const struct call_wish wish = {.address = host->addresses[host->tried++],
                                       .tls = RELAY_TLS_MAY,
                                       .tls_name = host->name,
                                       .identity = IDENTITY_NONE,
                                       .recipients = domain->recipients,
                                       .recipient_count = domain->recipient_count};
        if (host->call == NULL) {
            host->call = malloc(sizeof *host->call);
        }
        if (host->call == NULL) {
            check_fail(&domain->check);
            return false;
        }
        call_begin(host->call, &domain->check, &wish);
        asked = true;
    }
    return asked;
}

static void say_answers(struct domain_check *domain, const struct exchange *host)
{
    struct check *check = &domain->check;
    const struct call *call = host->call;
    size_t later = 0, refused = 0;
    for (size_t i = 0; i < call->answered; i++) {
        later += call->answers[i].code / 100 == 4;
        refused += call->answers[i].code / 100 == 5;
    }
    if (refused > 1 && refused == domain->recipient_count) {
        check_say(check, LEVEL_ERROR,
                  "MX %u %s takes none of the %zu addresses asked about: whatever this host "
                  "defers is bounced there (\"%s\"); have it take mail for the domain, or remove "
                  "that MX",
                  host->preference, host->name, refused, call->answers[0].words);
        return;
    }
    for (size_t i = 0; i < call->answered; i++) {
        if (call->answers[i].code / 100 == 5) {
            check_say(check, LEVEL_ERROR,
                      "%s would be bounced by MX %u %s while this host defers (\"%s\"); " REMEDY,
                      domain->recipients[i], host->preference, host->name, call->answers[i].words);
        }
    }
    if (later > 0 || call->answered < domain->recipient_count) {
        check_say(check, LEVEL_NOTE,
                  "MX %u %s has not told of %zu of %zu addresses whether it would bounce them%s%s; "
                  "ask again later",
                  host->preference, host->name, later + domain->recipient_count - call->answered,
                  domain->recipient_count, call->why[0] != '\0' ? ": " : "", call->why);
    } else if (refused == 0) {
        check_say(check, LEVEL_OK,
                  "MX %u %s takes all of the %zu addresses asked about (%llu are routed here by "
                  "name)",
                  host->preference, host->name, domain->recipient_count,
                  (unsigned long long)domain->domain->exact);
    }
}

static void say_lower(struct domain_check *domain, const struct exchange *host)
{
    struct check *check = &domain->check;
    const struct call *call = host->call;
    bool failed;
    const char *why = host_lookup_why(&host->lookup, &failed);
    if (host->count == 0) {
        check_say(check, LEVEL_WARNING,
                  "MX %u %s has no address: %s; give it one, or remove that MX", host->preference,
                  host->name, why);
    } else if (call == NULL && domain->recipient_count > 0) {
        check_say(
            check, LEVEL_NOTE,
            "MX %u %s cannot be asked: there is no way to its addresses; ask from a host that has "
            "one",
            host->preference, host->name);
    } else if (call == NULL) {
        check_say(
            check, LEVEL_NOTE,
            "MX %u %s was not asked: no address of the domain is known; routes that name addresses "
            "tell whom to ask about",
            host->preference, host->name);
    } else if (call->end != CALL_DONE) {
        check_say(
            check, LEVEL_WARNING,
            "MX %u %s cannot be asked what it would bounce: %s; see that it runs and takes mail "
            "from here, or remove that MX",
            host->preference, host->name, call->why);
    } else if (call->mail_refused) {
        check_say(
            check, LEVEL_WARNING,
            "MX %u %s cannot be asked what it would bounce: the answer to MAIL was \"%s\"; have it "
            "take mail from this host",
            host->preference, host->name, call->answers[0].words);
    } else {
        say_answers(domain, host);
    }
}

/* ---- the stages ---- */

static void say_special(struct domain_check *domain)
{
    for (size_t i = 0; i < domain->count; i++) {
        if (domain->hosts[i].special) {
            check_say(&domain->check, LEVEL_WARNING,
                      "MX %u %s leads to a loopback or like address, that is to whoever asks; "
                      "correct or remove it",
                      domain->hosts[i].preference, domain->hosts[i].name);
        }
    }
}

static void say_domain(struct domain_check *domain)
{
    size_t at = own_place(domain);
    size_t lower = 0;
    say_special(domain);
    if (at == domain->count) {
        say_absent(domain);
        return;
    }
    say_place(domain, at);
    for (size_t i = 0; i < domain->count; i++) {
        if (is_lower(domain, i)) {
            lower++;
            if (!domain->hosts[i].special &&
                (domain->hosts[i].call != NULL || !is_asked_elsewhere(domain, i))) {
                say_lower(domain, &domain->hosts[i]);
            }
        }
    }
    if (lower == 0 && at == 0) {
        check_say(&domain->check, LEVEL_NOTE,
                  "no other MX: what this host defers waits with the senders, and nothing is "
                  "bounced elsewhere");
    }
}

/* What the table says of the domain itself. */
static void say_table(struct domain_check *domain)
{
    struct check *check = &domain->check;
    const struct prepared *prepared = check->doctor->prepared;
    struct address address = {0};
    struct decision decision;
    struct text text = TEXT(domain->postmaster_address);
    domain->accepted =
        table_accepts_domain(prepared->table, span_of(domain->domain->name)) == TABLE_HIT;
    if (!domain->accepted) {
        check_say(check, LEVEL_ERROR, "mail for it is not accepted here; list it in `domains`");
        return;
    }
    text_printf(&text, "postmaster@%s", domain->domain->name);
    route_decide(prepared->config, prepared->relays, prepared->table, text_span(&text), &address,
                 &decision);
    domain->postmaster = decision.kind != DECISION_REPLY;
    if (!domain->postmaster) {
        check_say(check, LEVEL_WARNING,
                  "postmaster@%s is answered with %u %s %s; RFC 5321 (4.5.1) wants it to be "
                  "somebody: add a route",
                  domain->domain->name, decision.code, decision.enhanced, decision.text);
    }
}

static bool domain_step(struct check *check)
{
    struct domain_check *domain = (struct domain_check *)(void *)check;
    switch ((enum stage)check->stage) {
    case STAGE_MX:
        say_table(domain);
        collect_recipients(domain);
        lookup_begin(&domain->mx, check, domain->domain->name, DNS_MX);
        return true;
    case STAGE_ADDRESSES:
        if (!domain_take_mx(domain)) {
            return false;
        }
        for (size_t i = 0; i < domain->count; i++) {
            host_lookup_begin(&domain->hosts[i].lookup, check, domain->hosts[i].name);
        }
        return true;
    case STAGE_SORT:
        for (size_t i = 0; i < domain->count; i++) {
            exchange_find(domain, &domain->hosts[i]);
        }
        return true;
    case STAGE_ASK:
        break;
    }
    if (ask_lower(domain)) { /* again, as long as there is an address to try */
        return true;
    }
    say_domain(domain);
    return false;
}

/* ---- all of them ---- */

static bool left_step(struct check *check)
{
    const struct doctor *doctor = check->doctor;
    if (doctor->domains_left > 0) {
        check_say(check, LEVEL_NOTE, "%zu more are not looked at: name those that matter",
                  doctor->domains_left);
    }
    if (doctor->subdomains > 0) {
        check_say(check, LEVEL_NOTE,
                  "patterns such as .example.com stand for subdomains, of which none is looked at: "
                  "name those that matter");
    }
    if (doctor->domain_count == 0) {
        check_say(check, LEVEL_WARNING,
                  "mail is accepted for none that has a name; list them in `domains`");
    }
    return false;
}

static void left_free(struct check *check)
{
    free(check);
}

void doctor_domains(struct doctor *doctor)
{
    for (size_t i = 0; i < doctor->domain_count; i++) {
        struct domain_check *domain = calloc(1, sizeof *domain);
        if (domain == NULL) {
            doctor->broken = true;
            return;
        }
        domain->domain = &doctor->domains[i];
        domain->check.step = domain_step;
        domain->check.free = domain_free;
        check_add(doctor, &domain->check, "domain %s", domain->domain->name);
    }
    struct check *left = calloc(1, sizeof *left);
    if (left == NULL) {
        doctor->broken = true;
        return;
    }
    left->step = left_step;
    left->free = left_free;
    check_add(doctor, left, "domains");
}
