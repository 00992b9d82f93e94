#include "routing/relay.h"

#include <stdlib.h>

#include "config/text.h"
#include "routing/gmail.h"

#define NAMES_MAX   8 /* names of relays in a message */
#define KNOWN_MAX   (NAMES_MAX * 70 + 100)
#define NEAREST_MAX 256 /* names looked at for a did-you-mean */

struct relay_set {
    struct relay **relays;
    const struct config_relay **sources; /* beside relays; NULL for what is built in */
    size_t count;
};

struct compiler {
    const struct config *config;
    struct relay_set *set;
    struct diag_list *diags;
};

void relay_free(struct relay *relay)
{
    if (!relay) {
        return;
    }
    free(relay->name);
    free(relay->hops);
    free(relay->tls_name);
    free(relay->ca_file);
    free(relay);
}

static struct relay *relay_new(struct span name)
{
    struct relay *relay = calloc(1, sizeof(*relay));
    if (!relay) {
        return NULL;
    }
    relay->identity = IDENTITY_UNSET;
    relay->tls = RELAY_TLS_MAY;
    relay->max_connections = RELAY_MAX_CONNECTIONS;
    relay->name = span_dup(name);
    if (!relay->name) {
        relay_free(relay);
        return NULL;
    }
    return relay;
}

/* One blank for many: a map's continuation lines indent the next hops. */
static void squeeze(char *name)
{
    char *to = name;
    for (const char *from = name; *from; from++) {
        if (*from != ' ' || from[1] != ' ') {
            *to++ = *from;
        }
    }
    *to = '\0';
}

struct relay *relay_direct(struct transport *transport, struct span text)
{
    struct relay *relay = relay_new(text);
    if (!relay) {
        return NULL;
    }
    squeeze(relay->name);
    relay->direct = true;
    relay->hops = transport->hops;
    relay->hop_count = transport->hop_count;
    transport->hops = NULL;
    transport->hop_count = 0;
    return relay;
}

static bool is_loopback(const struct net_address *address)
{
    if (address->any.sa_family == AF_INET) {
        return ntohl(address->in4.sin_addr.s_addr) >> 24 == 127;
    }
    return address->any.sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&address->in6.sin6_addr);
}

/* Connecting to a wildcard address reaches this host's loopback; a listener on [::] also takes
 * IPv4, one on 0.0.0.0 takes IPv4 only. */
static bool reaches(const struct net_address *listener, const struct net_address *hop)
{
    bool families =
        listener->any.sa_family == hop->any.sa_family || listener->any.sa_family == AF_INET6;
    if (net_address_equal(listener, hop)) {
        return true;
    }
    if (net_address_is_wildcard(listener)) {
        return families && (is_loopback(hop) || net_address_is_wildcard(hop));
    }
    return net_address_is_wildcard(hop) && is_loopback(listener) &&
           (listener->any.sa_family == hop->any.sa_family || hop->any.sa_family == AF_INET6);
}

bool relay_hop_is_own(const struct config *config, const struct nexthop *hop)
{
    if (hop->kind != NEXTHOP_ADDRESS || hop->port == 0) {
        return false;
    }
    for (size_t i = 0; i < config->listener_count; i++) {
        struct net_address listener;
        const char *text = config->listeners[i].address.text;
        if (text && net_address_parse_port(span_of(text), &listener) &&
            net_address_port(&listener) == hop->port && reaches(&listener, &hop->address)) {
            return true;
        }
    }
    return false;
}

static bool set_add(struct relay_set *set, struct relay *relay, const struct config_relay *source)
{
    struct relay **relays = realloc(set->relays, (set->count + 1) * sizeof(struct relay *));
    if (relays) {
        set->relays = relays;
    }
    const struct config_relay **sources =
        realloc(set->sources, (set->count + 1) * sizeof(const struct config_relay *));
    if (sources) {
        set->sources = sources;
    }
    if (!relays || !sources) {
        relay_free(relay);
        return false;
    }
    set->relays[set->count] = relay;
    set->sources[set->count++] = source;
    return true;
}

static void out_of_memory(struct compiler *compiler)
{
    diag_error(compiler->diags, DIAG_NOWHERE, "out of memory");
}

static void check_hops(struct compiler *compiler, const struct relay *relay,
                       const struct config_text *place)
{
    char text[NEXTHOP_TEXT];
    bool local = false;
    for (size_t i = 0; i < relay->hop_count; i++) {
        const struct nexthop *hop = &relay->hops[i];
        nexthop_text(hop, text, sizeof(text));
        if (relay_hop_is_own(compiler->config, hop)) {
            diag_error(compiler->diags, config_place(compiler->config, place),
                       "next hop %s is one of our own listeners: mail would go round in a loop",
                       text);
        }
        if (hop->kind == NEXTHOP_DOMAIN) {
            diag_error(compiler->diags, config_place(compiler->config, place),
                       "a relay needs a next hop: expected `smtp:[host]` or the like");
        }
        local = local || (hop->kind == NEXTHOP_ADDRESS && net_address_is_local(&hop->address));
    }
    if (local && relay->identity == IDENTITY_UNSET) {
        diag_warning(compiler->diags, config_place(compiler->config, place),
                     "without `identity:` the server behind will take this host for the client; "
                     "say `identity: none` if that is meant");
    }
}

static void compile_next_hop(struct compiler *compiler, struct relay *relay,
                             const struct config_relay *source)
{
    struct transport transport;
    char why[256];
    size_t where;
    struct diag_place place = config_place(compiler->config, &source->next_hop);
    const struct span name =
        span_first(span_of(source->next_hop.text), span_find(span_of(source->next_hop.text), ':'));
    const bool is_word = span_find(name, '[') == name.len && span_find(name, ' ') == name.len;
    if (name.len < strlen(source->next_hop.text) && is_word &&
        !span_equal_fold(name, SPAN("smtp"))) {
        diag_error(
            compiler->diags, place,
            "`%.*s:` is no transport of a relay: expected `smtp:` with one or more next hops, "
            "such as `smtp:[127.0.0.1]:10025`",
            SPAN_ARGS(name));
        return;
    }
    if (!transport_parse(span_of(source->next_hop.text), TRANSPORT_YAML, &transport, why,
                         sizeof(why), &where)) {
        diag_error(compiler->diags, place, "%s", why);
        return;
    }
    if (transport.kind != TRANSPORT_SMTP) {
        diag_error(compiler->diags, place,
                   "a relay's next hop is `smtp:` with one or more next hops");
    } else {
        free(relay->hops);
        relay->hops = transport.hops;
        relay->hop_count = transport.hop_count;
        transport.hops = NULL;
        check_hops(compiler, relay, &source->next_hop);
    }
    transport_release(&transport);
}

static bool copy_text(char **out, const struct config_text *text)
{
    if (!text->text) {
        return true;
    }
    *out = span_dup(span_of(text->text));
    return *out != NULL;
}

static struct relay *compile_relay(struct compiler *compiler, const struct config_relay *source)
{
    struct relay *relay = relay_new(span_of(source->name.text));
    if (!relay || !copy_text(&relay->tls_name, &source->tls_name) ||
        !copy_text(&relay->ca_file, &source->ca_file)) {
        relay_free(relay);
        return NULL;
    }
    relay->identity = source->identity;
    relay->tls = source->tls;
    relay->max_connections = source->max_connections;
    if (source->next_hop.text) {
        compile_next_hop(compiler, relay, source);
    }
    return relay;
}

/* One of Gmail's hosts, by name (its A and AAAA, no MX) or as a literal address. */
static bool set_gmail_hop(struct nexthop *hop, struct span host, unsigned priority, uint16_t port)
{
    struct text name = TEXT(hop->host);
    hop->port = port;
    hop->priority = (uint16_t)priority;
    hop->kind = net_address_parse(host, port, &hop->address) ? NEXTHOP_ADDRESS : NEXTHOP_HOST;
    if (hop->kind == NEXTHOP_HOST && !host_name_valid(host)) {
        return false;
    }
    for (size_t i = 0; i < host.len; i++) {
        text_putc(&name, ascii_lower(host.ptr[i]));
    }
    return !name.full;
}

static int compare_priority(const void *a, const void *b)
{
    unsigned x = ((const struct config_host *)a)->priority;
    unsigned y = ((const struct config_host *)b)->priority;
    return x < y ? -1 : x > y;
}

/* The configuration's hosts in the order of their priority, but for those whose names were refused
 * when it was read. */
static bool configured_hops(struct compiler *compiler, struct relay *relay,
                            const struct config_relay *source, uint16_t port)
{
    struct config_host sorted[NEXTHOPS_MAX];
    size_t count = 0;
    for (size_t i = 0; i < source->host_count && count < NEXTHOPS_MAX; i++) {
        if (source->hosts[i].host.text) {
            sorted[count++] = source->hosts[i];
        }
    }
    relay->hops = calloc(count + 1, sizeof(*relay->hops));
    if (!relay->hops) {
        return false;
    }
    relay->hop_count = count;
    qsort(sorted, count, sizeof(*sorted), compare_priority);
    for (size_t i = 0; i < count; i++) {
        if (!set_gmail_hop(&relay->hops[i], span_of(sorted[i].host.text), sorted[i].priority,
                           port)) {
            diag_error(compiler->diags, config_place(compiler->config, &sorted[i].host),
                       "`%s` is no host name and no IP address", sorted[i].host.text);
        }
    }
    if (source->host_count > NEXTHOPS_MAX) {
        diag_error(compiler->diags, config_place(compiler->config, &source->name),
                   "more than %d hosts", NEXTHOPS_MAX);
    }
    return true;
}

static bool built_in_hops(struct relay *relay, uint16_t port)
{
    relay->hops = calloc(gmail_rule.host_count, sizeof(*relay->hops));
    if (!relay->hops) {
        return false;
    }
    relay->hop_count = gmail_rule.host_count;
    for (size_t i = 0; i < gmail_rule.host_count; i++) {
        const struct gmail_host *host = &gmail_rule.hosts[i];
        set_gmail_hop(&relay->hops[i], span_of(host->host), host->priority, port);
        relay->hops[i].guarded = true;
    }
    return true;
}

/* The built-in rule, with the keys that `source` (may be NULL) has for it. */
static struct relay *compile_gmail(struct compiler *compiler, const struct config_relay *source)
{
    struct relay *relay = source ? compile_relay(compiler, source) : relay_new(SPAN(GMAIL_NAME));
    if (!relay) {
        return NULL;
    }
    uint16_t port = (uint16_t)(source && source->port ? source->port : gmail_rule.port);
    bool ok = true;
    if (source && source->host_count > 0 && relay->hop_count == 0) {
        ok = configured_hops(compiler, relay, source, port);
    } else if (relay->hop_count == 0) {
        ok = built_in_hops(relay, port);
    }
    if (!source || !source->tls_given) {
        relay->tls = gmail_rule.tls;
    }
    relay->recipients_max = gmail_rule.recipients_max;
    relay->one_domain = gmail_rule.one_domain;
    relay->paced = gmail_rule.paced;
    if (ok) {
        return relay;
    }
    relay_free(relay);
    return NULL;
}

static bool compile_all(struct compiler *compiler)
{
    bool gmail = false;
    for (size_t i = 0; i < compiler->config->relay_count; i++) {
        const struct config_relay *source = &compiler->config->relays[i];
        bool is_gmail = span_equal(span_of(source->name.text), SPAN(GMAIL_NAME));
        struct relay *relay =
            is_gmail ? compile_gmail(compiler, source) : compile_relay(compiler, source);
        gmail = gmail || is_gmail;
        if (!relay || !set_add(compiler->set, relay, source)) {
            return false;
        }
    }
    if (gmail) {
        return true;
    }
    struct relay *relay = compile_gmail(compiler, NULL);
    return relay && set_add(compiler->set, relay, NULL);
}

const char *relay_colon(const struct relay *relay)
{
    return relay->name[strlen(relay->name) - 1] == ':' ? "" : ":";
}

static const char *relay_nearest(const struct relay_set *set, const char *word)
{
    const char *names[NEAREST_MAX + 1];
    size_t count = 0;
    for (; count < set->count && count < NEAREST_MAX; count++) {
        names[count] = set->relays[count]->name;
    }
    names[count] = NULL;
    return diag_nearest(word, names);
}

/* "local, gmail and 3 more" */
static void put_names(const struct relay_set *set, struct text *out)
{
    const size_t told = set->count <= NAMES_MAX + 1 ? set->count : NAMES_MAX;
    for (size_t i = 0; i < told; i++) {
        text_puts(out, i == 0 ? "" : i + 1 == set->count ? " and " : ", ");
        text_puts(out, set->relays[i]->name);
    }
    if (told < set->count) {
        text_printf(out, " and %zu more", set->count - told);
    }
}

void relay_report_unknown(const struct relay_set *set, const char *word, struct diag_place place,
                          struct diag_list *diags)
{
    const char *nearest = relay_nearest(set, word);
    if (nearest) {
        diag_error(diags, place, "no relay is named `%s`; did you mean `%s`?", word, nearest);
    } else if (strchr(word, '[') || strchr(word, ':')) {
        diag_error(diags, place,
                   "here stands the name of a relay: give the next hop `%s` one under `relays:`",
                   word);
    } else if (strchr(word, '@')) {
        diag_error(diags, place,
                   "no address is rewritten here: say which relay takes this mail, and forward to "
                   "`%s` there",
                   word);
    } else if (strchr(word, '.')) {
        diag_error(diags, place, "no relay is named `%s`; a host is written `smtp:[%s]`", word,
                   word);
    } else {
        char known[KNOWN_MAX];
        struct text list = TEXT(known);
        put_names(set, &list);
        diag_error(diags, place, "no relay is named `%s`; there %s %s", word,
                   set->count == 1 ? "is" : "are", known);
    }
}

static const struct relay *link_one(struct compiler *compiler, const struct config_text *name)
{
    if (!name->text) {
        return NULL;
    }
    const struct relay *found = relay_find(compiler->set, span_of(name->text));
    if (!found) {
        relay_report_unknown(compiler->set, name->text, config_place(compiler->config, name),
                             compiler->diags);
    }
    return found;
}

/* Whether following fallbacks and unknown-recipients from `relay` comes to `start`. `seen` (a flag
 * for each relay) ends walks through cycles that `start` is no part of. */
static bool leads_to(const struct relay_set *set, const struct relay *relay,
                     const struct relay *start, bool *seen)
{
    if (!relay) {
        return false;
    }
    if (relay == start) {
        return true;
    }
    for (size_t i = 0; i < set->count; i++) {
        if (set->relays[i] != relay) {
            continue;
        }
        if (seen[i]) {
            return false;
        }
        seen[i] = true;
    }
    return leads_to(set, relay->fallback, start, seen) ||
           leads_to(set, relay->unknown_recipient, start, seen);
}

static bool check_cycles(struct compiler *compiler)
{
    const struct relay_set *set = compiler->set;
    bool *seen = calloc(set->count, sizeof(*seen));
    if (!seen) {
        return false;
    }
    for (size_t i = 0; i < set->count; i++) {
        const struct relay *relay = set->relays[i];
        memset(seen, 0, set->count * sizeof(*seen));
        if (leads_to(set, relay->fallback, relay, seen)) {
            diag_error(compiler->diags, config_place(compiler->config, &set->sources[i]->fallback),
                       "fallbacks from `%s` lead back to it; a fallback is another relay, "
                       "whose own does not come back here",
                       relay->name);
        }
        memset(seen, 0, set->count * sizeof(*seen));
        if (leads_to(set, relay->unknown_recipient, relay, seen)) {
            diag_error(compiler->diags,
                       config_place(compiler->config, &set->sources[i]->unknown_recipient),
                       "unknown-recipient relays from `%s` lead back to it; it is another relay, "
                       "whose own does not come back here",
                       relay->name);
        }
    }
    free(seen);
    return true;
}

static bool link_relays(struct compiler *compiler)
{
    for (size_t i = 0; i < compiler->set->count; i++) {
        const struct config_relay *source = compiler->set->sources[i];
        struct relay *relay = compiler->set->relays[i];
        if (!source) {
            continue;
        }
        relay->fallback = link_one(compiler, &source->fallback);
        relay->unknown_recipient = link_one(compiler, &source->unknown_recipient);
    }
    return check_cycles(compiler);
}

struct relay_set *relay_set_new(const struct config *config, struct diag_list *diags)
{
    struct compiler compiler = {config, calloc(1, sizeof(struct relay_set)), diags};
    size_t before = diag_errors(diags);
    if (!compiler.set || !compile_all(&compiler) || !link_relays(&compiler)) {
        out_of_memory(&compiler);
        relay_set_free(compiler.set);
        return NULL;
    }
    if (diag_errors(diags) > before) {
        relay_set_free(compiler.set);
        return NULL;
    }
    return compiler.set;
}

void relay_set_free(struct relay_set *set)
{
    if (!set) {
        return;
    }
    for (size_t i = 0; i < set->count; i++) {
        relay_free(set->relays[i]);
    }
    free(set->relays);
    free(set->sources);
    free(set);
}

const struct relay *relay_find(const struct relay_set *set, struct span name)
{
    for (size_t i = 0; i < set->count; i++) {
        if (span_equal(span_of(set->relays[i]->name), name)) {
            return set->relays[i];
        }
    }
    return NULL;
}

size_t relay_count(const struct relay_set *set)
{
    return set->count;
}

const struct relay *relay_at(const struct relay_set *set, size_t index)
{
    return set->relays[index];
}
