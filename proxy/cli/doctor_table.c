/* What the table has for the doctor: domains, addresses of each to ask about, relays in use. */
#include <stdlib.h>

#include "config/hash.h"
#include "proxy/cli/doctor_state.h"
#include "routing/gmail.h"
#include "routing/table_walk.h"

/* ---- domains ---- */

static struct doctor_domain *domain_find(struct doctor *doctor, struct span name)
{
    for (size_t i = 0; i < doctor->domain_count; i++) {
        if (span_equal(span_of(doctor->domains[i].name), name)) {
            return &doctor->domains[i];
        }
    }
    return NULL;
}

/* name: folded. Twice the same is once. */
static void domain_add(struct doctor *doctor, const char *name)
{
    if (domain_find(doctor, span_of(name)) != NULL) {
        return;
    }
    if (doctor->domain_count == DOCTOR_DOMAINS) {
        doctor->domains_left++;
        return;
    }
    struct text text = TEXT(doctor->domains[doctor->domain_count++].name);
    text_puts(&text, name);
}

static bool on_domain(void *context, struct span domain)
{
    struct doctor *doctor = context;
    char name[DNS_NAME_MAX + 1];
    if (domain.len > 0 && domain.ptr[0] == '.') {
        doctor->subdomains++;
    } else if (name_fold(domain, name)) { /* an address literal has no MX */
        domain_add(doctor, name);
    }
    return true;
}

/* ---- relays ---- */

static void relay_add(struct doctor *doctor, const struct relay *relay)
{
    for (size_t i = 0; i < doctor->relay_count; i++) {
        if (doctor->relays[i] == relay) {
            return;
        }
    }
    if (relay != NULL && doctor->relay_count < DOCTOR_RELAYS) {
        doctor->relays[doctor->relay_count++] = relay;
    }
}

/* Those of the configuration, used or not; the built-in one only where something leads to it. */
static void relays_configured(struct doctor *doctor)
{
    const struct relay_set *set = doctor->prepared->relays;
    const struct config *config = doctor_config(doctor);
    for (size_t i = 0; i < config->relay_count; i++) {
        relay_add(doctor, relay_find(set, span_of(config->relays[i].name.text)));
    }
    for (size_t i = 0; i < relay_count(set); i++) {
        const struct relay *relay = relay_at(set, i);
        if (strcmp(relay->name, GMAIL_NAME) != 0) {
            relay_add(doctor, relay->fallback);
            relay_add(doctor, relay->unknown_recipient);
        }
    }
}

/* ---- a sample ---- */

struct reading {
    struct doctor *doctor;
    struct hash_key hash; /* the same in each run: so is the sample */
    bool broken;
};

/* Keeps the addresses whose hashes are the least: spread over the table, and every time the same.
 */
static void sample_take(struct reading *reading, struct doctor_domain *domain, struct span key)
{
    uint64_t order = hash_bytes(&reading->hash, key.ptr, key.len);
    size_t room = sizeof domain->sample / sizeof domain->sample[0];
    size_t at = domain->sampled < room ? domain->sampled : room - 1;
    domain->exact++;
    if (domain->sampled == room) {
        if (order >= domain->order[at]) {
            return;
        }
        free(domain->sample[at]);
        domain->sampled--;
    }
    char *copy = span_dup(key);
    if (copy == NULL) {
        reading->broken = true;
        return;
    }
    for (; at > 0 && domain->order[at - 1] > order; at--) {
        domain->order[at] = domain->order[at - 1];
        domain->sample[at] = domain->sample[at - 1];
    }
    domain->order[at] = order;
    domain->sample[at] = copy;
    domain->sampled++;
}

static bool on_route(void *context, struct span key, const struct destination *destination)
{
    struct reading *reading = context;
    struct doctor *doctor = reading->doctor;
    size_t at = span_rfind(key, '@');
    relay_add(doctor, destination->relay);
    relay_add(doctor, destination->fallback);
    relay_add(doctor, destination->unknown_recipient);
    if (at < key.len && at > 0 &&
        (destination->kind == TRANSPORT_SMTP || destination->kind == TRANSPORT_DISCARD)) {
        struct doctor_domain *domain = domain_find(doctor, span_skip(key, at + 1));
        if (domain != NULL) {
            sample_take(reading, domain, key);
        }
    }
    return !reading->broken;
}

static int compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

bool doctor_read_table(struct doctor *doctor, char **named, int count)
{
    char name[DNS_NAME_MAX + 1];
    struct reading reading = {.doctor = doctor, .hash = hash_key_of(1)};
    const struct table *table = doctor->prepared->table;
    doctor->domains = calloc(DOCTOR_DOMAINS, sizeof *doctor->domains);
    if (doctor->domains == NULL) {
        return false;
    }
    for (int i = 0; i < count; i++) {
        if (name_fold(span_of(named[i]), name)) {
            domain_add(doctor, name);
        }
    }
    relays_configured(doctor);
    if ((count == 0 && !table_walk_domains(table, on_domain, doctor)) ||
        !table_walk_routes(table, on_route, &reading) || reading.broken) {
        return false;
    }
    for (size_t i = 0; i < doctor->domain_count; i++) {
        struct doctor_domain *domain = &doctor->domains[i];
        qsort(domain->sample, domain->sampled, sizeof domain->sample[0], compare);
    }
    return true;
}
