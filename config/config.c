#include "config/config.h"

#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "config/hostname.h"
#include "config/keys.h"
#include "config/net_address.h"
#include "config/text.h"

#define DEFAULT_LISTEN "[::]:25"
#define DEFAULT_ROUTES "routes.yaml"
#define DEFAULT_STATE  "/var/lib/splitmx"
#define DEFAULT_USER   "splitmx"

#define SECOND UINT64_C(1000)
#define MINUTE (60 * SECOND)
#define DAY    (24 * 60 * MINUTE)
#define MIB    (UINT64_C(1) << 20)

/* Clients wait so long for the answer to end-of-data: RFC 5321 4.5.3.2.6. */
#define CLIENT_WAIT (10 * MINUTE)

/* Of which a server that scans for viruses may need the whole. */
#define SHORT_END_OF_DATA (2 * MINUTE)

/* Postfix waits for up to 4,000 seconds between attempts, Exim for 6 hours. */
#define SHORT_RETRY_WINDOW (6 * 60 * MINUTE)

/* What callers see is its first member. */
struct counted_config {
    struct config config;
    atomic_uint references;
};

static void text_release(struct config_text *text)
{
    free(text->text);
}

static void texts_release(struct config_texts *texts)
{
    for (size_t i = 0; i < texts->count; i++) {
        text_release(&texts->items[i]);
    }
    free(texts->items);
}

static void relay_release(struct config_relay *relay)
{
    text_release(&relay->name);
    text_release(&relay->next_hop);
    text_release(&relay->identity_place);
    text_release(&relay->fallback);
    text_release(&relay->unknown_recipient);
    text_release(&relay->tls_name);
    text_release(&relay->ca_file);
    for (size_t i = 0; i < relay->host_count; i++) {
        text_release(&relay->hosts[i].host);
    }
    free(relay->hosts);
}

static void config_free(struct config *config)
{
    free(config->path);
    free(config->folder);
    text_release(&config->hostname);
    texts_release(&config->domains);
    texts_release(&config->routes);
    text_release(&config->state_directory);
    text_release(&config->user);
    for (size_t i = 0; i < config->listener_count; i++) {
        text_release(&config->listeners[i].address);
        texts_release(&config->listeners[i].proxy_protocol);
        free(config->listeners[i].proxy_networks);
    }
    free(config->listeners);
    for (size_t i = 0; i < config->certificate_count; i++) {
        text_release(&config->certificates[i].certificate);
        text_release(&config->certificates[i].private_key);
        text_release(&config->certificates[i].minimum_version);
    }
    free(config->certificates);
    for (size_t i = 0; i < config->relay_count; i++) {
        relay_release(&config->relays[i]);
    }
    free(config->relays);
    texts_release(&config->dns_servers);
    text_release(&config->admin_listen);
    free(config);
}

struct config *config_ref(struct config *config)
{
    struct counted_config *counted = (struct counted_config *)config;
    atomic_fetch_add_explicit(&counted->references, 1, memory_order_relaxed);
    return config;
}

void config_unref(struct config *config)
{
    struct counted_config *counted = (struct counted_config *)config;
    if (config && atomic_fetch_sub_explicit(&counted->references, 1, memory_order_acq_rel) == 1) {
        config_free(config);
    }
}

struct diag_place config_place(const struct config *config, const struct config_text *text)
{
    return (struct diag_place){config->path, text->line, text->column};
}

struct diag_place config_at(const struct config *config, struct config_mark mark)
{
    return (struct diag_place){config->path, mark.line, mark.column};
}

/* The defaults that are numbers and words; texts come when it is known which are absent. */
static struct config *config_new(void)
{
    struct counted_config *counted = calloc(1, sizeof(*counted));
    if (!counted) {
        return NULL;
    }
    atomic_init(&counted->references, 1);
    struct config *config = &counted->config;
    config->split = SPLIT_TOGETHER;
    config->recipient_delimiter = '+';
    config->limits = (struct config_limits){.message_size = 50 * MIB,
                                            .recipients = 1000,
                                            .connections = 10000,
                                            .connections_per_client = 50,
                                            .errors = 20,
                                            .received_hops = 50};
    config->timeouts = (struct config_timeouts){.command = 5 * MINUTE,
                                                .connect = 10 * SECOND,
                                                .greeting = 30 * SECOND,
                                                .recipient = 60 * SECOND,
                                                .data = 3 * MINUTE,
                                                .end_of_data = 9 * MINUTE,
                                                .pool_idle = 30 * SECOND,
                                                .drain = 30 * SECOND};
    config->ledger_retry_window = 5 * DAY;
    config->ledger_max_size = 256 * MIB;
    config->log_level = LOG_INFO;
    config->log_format = LOG_TEXT;
    return config;
}

/* The absolute folder that holds the file; that of a file that does not exist is left as spelt. */
static char *folder_of(const char *path)
{
    struct span whole = span_of(path);
    size_t slash = span_rfind(whole, '/');
    char *spelt = slash == whole.len ? span_dup(SPAN("."))
                                     : span_dup(span_first(whole, slash > 0 ? slash : 1));
    if (!spelt) {
        return NULL;
    }
    char *resolved = realpath(spelt, NULL);
    if (!resolved) {
        return spelt;
    }
    free(spelt);
    return resolved;
}

static void default_text(struct loader *loader, struct config_text *text, const char *value)
{
    if (!text->text) {
        loader_text(loader, text, span_of(value), DIAG_NOWHERE);
    }
}

static void default_routes(struct loader *loader)
{
    struct config_texts *routes = &loader->config->routes;
    void *items = routes->items;
    if (routes->count > 0) {
        return;
    }
    struct config_text *item = loader_add(loader, &items, &routes->count, sizeof(*item));
    routes->items = items;
    if (item) {
        loader_path(loader, item, SPAN(DEFAULT_ROUTES), DIAG_NOWHERE);
    }
}

static void default_listeners(struct loader *loader)
{
    struct config *config = loader->config;
    void *items = config->listeners;
    if (config->listener_count > 0) {
        return;
    }
    struct config_listener *listener =
        loader_add(loader, &items, &config->listener_count, sizeof(*listener));
    config->listeners = items;
    if (listener) {
        default_text(loader, &listener->address, DEFAULT_LISTEN);
    }
}

static void default_all(struct loader *loader)
{
    struct config *config = loader->config;
    default_routes(loader);
    default_text(loader, &config->state_directory, DEFAULT_STATE);
    default_text(loader, &config->user, DEFAULT_USER);
    default_listeners(loader);
    for (size_t i = 0; i < config->listener_count; i++) {
        struct config_listener *listener = &config->listeners[i];
        if (!listener->tls_given) {
            listener->tls = config->certificate_count > 0 ? LISTEN_TLS_MAY : LISTEN_TLS_NONE;
        }
    }
    for (size_t i = 0; i < config->certificate_count; i++) {
        default_text(loader, &config->certificates[i].minimum_version, "1.2");
    }
}

static void check_given_hostname(struct loader *loader)
{
    const char *name = loader->config->hostname.text;
    struct diag_place place = config_place(loader->config, &loader->config->hostname);
    if (!strchr(name, '.')) {
        diag_warning(loader->diags, place,
                     "`hostname: %s` has no dot; other mail servers expect a full name, such as "
                     "mx.example.com",
                     name);
    }
    if (strchr(name, '_')) { /* RFC 5321 4.1.2 */
        diag_warning(loader->diags, place,
                     "`hostname: %s` has an underscore; SMTP has none in the name of a server, and "
                     "others refuse such a greeting",
                     name);
    }
}

static void check_hostname(struct loader *loader, bool given)
{
    struct config *config = loader->config;
    char machine[HOSTNAME_MAX];
    if (config->hostname.text) {
        check_given_hostname(loader);
        return;
    }
    if (given) { /* and refused */
        return;
    }
    struct diag_place file = {config->path, 0, 0};
    if (!hostname_of_machine(machine, sizeof(machine))) {
        diag_error(loader->diags, file,
                   "`hostname` is absent and this machine has no valid name; write `hostname: "
                   "mx.example.com` with this host's full name");
        return;
    }
    if (!strchr(machine, '.') || strchr(machine, '_')) {
        diag_warning(loader->diags, file,
                     "`hostname` is absent and this machine's name, `%s`, has %s; write "
                     "`hostname: mx.example.com` with this host's full name",
                     machine, strchr(machine, '.') ? "an underscore" : "no dot");
    }
    default_text(loader, &config->hostname, machine);
}

/* Port 25 is where mail servers meet, and some of them speak in clear only (RFC 3207 4, RFC 7435).
 */
static void warn_encrypt(struct loader *loader, const struct config_listener *listener)
{
    struct span host;
    uint16_t port;
    if (listener->tls == LISTEN_TLS_ENCRYPT && listener->address.text &&
        host_port_split(span_of(listener->address.text), &host, &port) && port == 25) {
        diag_warning(loader->diags, config_place(loader->config, &listener->address),
                     "`tls: encrypt` on port 25 turns away mail servers that have no TLS; `tls: "
                     "may` takes it from all others");
    }
}

/* However the address is spelt: [::ffff:0.0.0.0]:25 is 0.0.0.0:25. Names are as they are written.
 */
static bool same_listener(struct span a, struct span b)
{
    struct net_address one, other;
    if (span_equal_fold(a, b)) {
        return true;
    }
    return net_address_parse_port(a, &one) && net_address_parse_port(b, &other) &&
           net_address_equal(&one, &other);
}

/* Whoever may send a PROXY header may say that he is anybody. */
static void read_networks(struct loader *loader, struct config_listener *listener)
{
    size_t count = listener->proxy_protocol.count;
    listener->proxy_networks = calloc(count + 1, sizeof *listener->proxy_networks);
    if (!listener->proxy_networks) {
        loader->no_memory = true;
        return;
    }
    for (size_t i = 0; i < count; i++) {
        const struct config_text *network = &listener->proxy_protocol.items[i];
        struct net_prefix *prefix = &listener->proxy_networks[i];
        if (net_prefix_parse(span_of(network->text), prefix) && prefix->bits == 0) {
            diag_warning(loader->diags, config_place(loader->config, network),
                         "`proxy-protocol: %s` lets everyone claim any address; list the load "
                         "balancers only",
                         network->text);
        }
    }
}

static void check_relays(struct loader *loader)
{
    const struct config *config = loader->config;
    for (size_t i = 0; i < config->relay_count; i++) {
        const struct config_relay *relay = &config->relays[i];
        bool verifies = relay->tls == RELAY_TLS_VERIFY ||
                        (!relay->tls_given && strcmp(relay->name.text, "gmail") == 0);
        const struct config_text *idle = relay->ca_file.text ? &relay->ca_file : &relay->tls_name;
        if (!verifies && idle->text) {
            diag_warning(loader->diags, config_place(config, idle),
                         "relay `%s` verifies nothing without `tls: verify`", relay->name.text);
        }
    }
}

static void check_listeners(struct loader *loader)
{
    struct config *config = loader->config;
    for (size_t i = 0; i < config->listener_count; i++) {
        const struct config_text *address = &config->listeners[i].address;
        warn_encrypt(loader, &config->listeners[i]);
        read_networks(loader, &config->listeners[i]);
        for (size_t j = 0; j < i; j++) {
            const struct config_text *other = &config->listeners[j].address;
            if (address->text && other->text &&
                same_listener(span_of(address->text), span_of(other->text))) {
                diag_error(loader->diags, config_place(config, address),
                           "`address: %s` is already on line %u; an address is listened on once",
                           address->text, other->line);
                break;
            }
        }
    }
}

static void check_routes(struct loader *loader)
{
    const struct config_texts *routes = &loader->config->routes;
    for (size_t i = 0; i < routes->count; i++) {
        for (size_t j = 0; j < i; j++) {
            if (strcmp(routes->items[i].text, routes->items[j].text) == 0) {
                diag_error(loader->diags, config_place(loader->config, &routes->items[i]),
                           "routes %s is named twice; it is already on line %u",
                           routes->items[i].text, routes->items[j].line);
                break;
            }
        }
    }
}

/* It asks for no password, and shows who writes to whom. */
static void warn_admin(struct loader *loader)
{
    const struct config_text *listen = &loader->config->admin_listen;
    struct net_address address;
    if (listen->text != NULL && net_address_parse_port(span_of(listen->text), &address) &&
        (net_address_is_wildcard(&address) || !net_address_is_local(&address))) {
        diag_warning(loader->diags, config_place(loader->config, listen),
                     "whoever reaches `%s` reads who writes to whom, without a password: listen on "
                     "127.0.0.1, or see that a firewall stands before it",
                     listen->text);
    }
}

/* What needs more than one key to judge. */
static void check_all(struct loader *loader, bool hostname_given)
{
    const struct config *config = loader->config;
    check_hostname(loader, hostname_given);
    check_listeners(loader);
    check_routes(loader);
    check_relays(loader);
    warn_admin(loader);
    if (config->timeouts.end_of_data >= CLIENT_WAIT) {
        diag_warning(loader->diags, config_at(config, config->timeouts.end_of_data_place),
                     "`end-of-data` should be less than 10m: clients wait no longer, and send the "
                     "message again");
    } else if (config->timeouts.end_of_data < SHORT_END_OF_DATA) {
        diag_warning(loader->diags, config_at(config, config->timeouts.end_of_data_place),
                     "`end-of-data` is the time of all servers of a message together; with less "
                     "than 2m one that scans what it takes may be cut, and mail come twice");
    }
    if (config->ledger_retry_window < SHORT_RETRY_WINDOW) {
        diag_warning(loader->diags, config_at(config, config->ledger_retry_window_place),
                     "`retry-window` is less than 6h: a sender that comes again later than that "
                     "has its message delivered twice");
    }
}

/* Nothing from its first octet on, not even a comment: somebody is about to write it, and did not
 * mean that all is as by default. */
static bool is_blank(const struct yaml_event *root)
{
    return root->made_up && root->place.line == 1 && root->place.column == 1;
}

/* Reads the open file into the configuration; errors are in the diagnostics. False when the end of
 * it was not reached: then defaults are missing. */
static bool read_file(struct loader *loader)
{
    struct yaml_event root = loader_next(loader);
    if (root.kind != YAML_MAP) {
        return false;
    }
    if (is_blank(&root)) {
        diag_error(loader->diags, root.place,
                   "nothing is in this file, as if it were half-written; `{}` takes the defaults");
        return false;
    }
    unsigned long long seen =
        schema_read(loader, &keys_of_file, root.place, keys_of_file.what, loader->config);
    if (!loader->broken) {
        loader_next(loader); /* what follows the mapping */
    }
    if (loader->broken) {
        return false;
    }
    default_all(loader);
    check_all(loader, schema_has(&keys_of_file, seen, "hostname"));
    return true;
}

bool config_is_there(const char *path, struct diag_list *diags)
{
    if (access(path, F_OK) == 0 || errno != ENOENT) {
        return true;
    }
    diag_error(diags, (struct diag_place){path, 0, 0},
               "cannot be opened: there is no such file; -c FILE names another");
    return false;
}

/* diags is not NULL here. */
static struct config *load(const char *path, bool *faulty, struct diag_list *diags)
{
    size_t errors = diag_errors(diags);
    struct loader loader = {.diags = diags};
    loader.config = config_new();
    if (!loader.config) {
        goto no_memory;
    }
    if (!config_is_there(path, diags)) {
        config_unref(loader.config);
        return NULL;
    }
    loader.config->path = span_dup(span_of(path));
    loader.config->folder = folder_of(path);
    loader.reader = yaml_open(path, diags);
    if (!loader.config->path || !loader.config->folder || !loader.reader) {
        goto no_memory;
    }
    bool whole = read_file(&loader);
    yaml_close(loader.reader);
    loader.reader = NULL;
    if (loader.no_memory) {
        goto no_memory;
    }
    *faulty = diag_errors(diags) != errors;
    if (whole) {
        return loader.config;
    }
    config_unref(loader.config);
    return NULL;
no_memory:
    diag_error(diags, (struct diag_place){path, 0, 0}, "out of memory");
    yaml_close(loader.reader);
    config_unref(loader.config);
    return NULL;
}

struct config *config_read(const char *path, bool *faulty, struct diag_list *diags)
{
    struct diag_list *own = diags ? NULL : diag_list_new();
    *faulty = true;
    if (!diags && !own) {
        return NULL;
    }
    struct config *config = load(path, faulty, diags ? diags : own);
    diag_list_free(own);
    return config;
}

struct config *config_load(const char *path, struct diag_list *diags)
{
    bool faulty;
    struct config *config = config_read(path, &faulty, diags);
    if (faulty) {
        config_unref(config);
        return NULL;
    }
    return config;
}

struct config *config_defaults(const char *hostname)
{
    struct loader loader = {.config = config_new()};
    if (!loader.config) {
        return NULL;
    }
    loader.config->path = span_dup(SPAN("(defaults)"));
    loader.config->folder = folder_of("./");
    if (!loader.config->path || !loader.config->folder) {
        loader.no_memory = true;
    } else {
        default_all(&loader);
    }
    default_text(&loader, &loader.config->hostname, hostname);
    if (!loader.no_memory) {
        return loader.config;
    }
    config_unref(loader.config);
    return NULL;
}
