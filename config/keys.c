#include "config/keys.h"

#include <stdlib.h>

#include "config/net_address.h"
#include "config/scalar.h"
#include "config/text.h"

#define COUNT(array)      (sizeof(array) / sizeof((array)[0]))
#define RELAY_NAME_MAX    63
#define RELAY_CONNECTIONS 100

#define KIB UINT64_C(1024)
#define MIB (KIB * 1024)
#define GIB (MIB * 1024)

#define SECOND UINT64_C(1000)
#define MINUTE (SECOND * 60)
#define DAY    (MINUTE * 60 * 24)

/* Checks of texts. */

static bool is_host_port(struct span text)
{
    struct span host;
    uint16_t port;
    return host_port_split(text, &host, &port);
}

static bool is_address_port(struct span text)
{
    struct net_address address;
    return net_address_parse_port(text, &address);
}

static bool is_network(struct span text)
{
    struct net_prefix prefix;
    return net_prefix_parse(text, &prefix);
}

static bool is_address(struct span text)
{
    struct net_address address;
    return net_address_parse(text, 0, &address);
}

/* A name of DNS and not an address; a last label of digits only is none (RFC 3696 section 2). */
static bool is_host_name(struct span text)
{
    size_t dot = span_rfind(text, '.');
    unsigned long long number;
    struct span last = dot < text.len ? span_skip(text, dot + 1) : text;
    return host_name_valid(text) && !span_number(last, UINT64_MAX, &number);
}

static bool is_host_or_address(struct span text)
{
    return is_host_name(text) || is_address(text);
}

/* An address literal, RFC 5321 4.1.3: [192.0.2.1] or [IPv6:2001:db8::1]. */
static bool is_literal(struct span text)
{
    if (text.len < 2 || text.ptr[0] != '[' || text.ptr[text.len - 1] != ']') {
        return false;
    }
    struct span inside = span_make(text.ptr + 1, text.len - 2);
    bool six = span_starts_fold(inside, SPAN("IPv6:"));
    inside = span_skip(inside, six ? 5 : 0);
    return is_address(inside) && (span_find(inside, ':') < inside.len) == six;
}

/* A host name, or one with labels beyond ASCII (RFC 5890), which YAML has as good UTF-8. */
static bool is_domain_name(struct span text)
{
    char ascii[256]; /* what is longer than a name may be stays too long */
    size_t len = 0;
    for (; len < text.len && len < sizeof ascii; len++) {
        ascii[len] = (unsigned char)text.ptr[len] < 0x80 ? text.ptr[len] : 'u';
    }
    return is_host_name(span_make(ascii, len));
}

static bool is_domain(struct span text)
{
    bool dot = text.len > 0 && text.ptr[0] == '.';
    return is_literal(text) || is_domain_name(span_skip(text, dot ? 1 : 0));
}

static bool is_version(struct span text)
{
    return span_equal(text, SPAN("1.2")) || span_equal(text, SPAN("1.3"));
}

/* Readers of single keys. */

static void read_domains(struct loader *loader, const struct field *field, struct yaml_event value,
                         void *base)
{
    struct config *config = base;
    read_texts(loader, field, value, base);
    for (size_t i = 0; i < config->domains.count; i++) {
        for (char *c = config->domains.items[i].text; *c; c++) {
            *c = ascii_lower(*c);
        }
    }
}

static void read_workers(struct loader *loader, const struct field *field, struct yaml_event value,
                         void *base)
{
    struct config *config = base;
    unsigned long long number;
    if (value.kind == YAML_SCALAR_VALUE && span_equal(value.value, SPAN("auto"))) {
        config->workers = 0;
        return;
    }
    if (value.kind == YAML_SCALAR_VALUE && value.plain &&
        span_number(value.value, field->max, &number) && number >= field->min) {
        config->workers = (unsigned)number;
        return;
    }
    loader_expected(loader, field, value, field->expected);
    yaml_skip(loader->reader, value);
}

/* One character that may stand in an unquoted local part (RFC 5321 4.1.2), but not those that the
 * routing refuses; "" for none. */
static void read_delimiter(struct loader *loader, const struct field *field,
                           struct yaml_event value, void *base)
{
    struct config *config = base;
    bool text = value.kind == YAML_SCALAR_VALUE && !value.refused;
    if (text && value.value.len == 0 && !value.plain) {
        config->recipient_delimiter = '\0';
    } else if (text && value.value.len == 1 && strchr("#$&'*+-./=?^_`{|}~", value.value.ptr[0]) &&
               (value.value.ptr[0] != '~' || !value.plain)) { /* a plain ~ is null */
        config->recipient_delimiter = value.value.ptr[0];
    } else {
        loader_expected(loader, field, value, field->expected);
        yaml_skip(loader->reader, value);
    }
}

/* Relays: a mapping of names. */

static bool is_reserved(const char *name)
{
    static const char *const words[] = {"smtp", "error", "retry", "discard", "relay"};
    for (size_t i = 0; i < COUNT(words); i++) {
        if (span_equal_fold(span_of(name), span_of(words[i]))) {
            return true;
        }
    }
    return false;
}

bool config_is_relay_name(struct span name)
{
    for (size_t i = 0; i < name.len; i++) {
        char lower = ascii_lower(name.ptr[i]);
        if (!((lower >= 'a' && lower <= 'z') || (lower >= '0' && lower <= '9') || lower == '-' ||
              lower == '_')) {
            return false;
        }
    }
    return name.len > 0 && name.len <= RELAY_NAME_MAX;
}

static void check_relay_name(struct loader *loader, const struct config_text *name)
{
    struct diag_place place = config_place(loader->config, name);
    if (!config_is_relay_name(span_of(name->text))) {
        diag_error(loader->diags, place,
                   "`%s` cannot be a relay's name; use letters, digits, `-` and `_`, at most %d",
                   name->text, RELAY_NAME_MAX);
    } else if (is_reserved(name->text)) {
        diag_error(loader->diags, place,
                   "`%s` cannot be a relay's name; it means something else in routes", name->text);
    }
}

/* Gmail is where `hosts` and `port` say, or where a `next-hop` does. */
static void refuse_key(struct loader *loader, const struct config_relay *relay, bool gmail,
                       const char *key, struct config_mark mark)
{
    diag_error(loader->diags, config_at(loader->config, mark),
               gmail ? "`%s` would not be used beside `next-hop` of relay `%s`; leave one out"
                     : "`%s` is for the relay `gmail` only; relay `%s` says where it is with "
                       "`next-hop`",
               key, relay->name.text);
}

/* What is asked of a relay depends on whether it is the built-in one. */
static void check_relay(struct loader *loader, const struct config_relay *relay, bool next_hop)
{
    const bool gmail = strcmp(relay->name.text, "gmail") == 0;
    if (relay->hosts && (next_hop || !gmail)) {
        refuse_key(loader, relay, gmail, "hosts", relay->hosts_place);
    }
    if (relay->port > 0 && (next_hop || !gmail)) {
        refuse_key(loader, relay, gmail, "port", relay->port_place);
    }
    if (!next_hop && !gmail) {
        diag_error(loader->diags, config_place(loader->config, &relay->name),
                   "relay `%s` needs `next-hop`: where it is, such as smtp:[127.0.0.1]:10025",
                   relay->name.text);
    }
}

#define RELAY(member) offsetof(struct config_relay, member)
#define HOST(member)  offsetof(struct config_host, member)

static const char *const identities[] = {"none", "xclient", "proxy", NULL};
static const char *const relay_tls[] = {"none", "may", "encrypt", "verify", NULL};

/* The words begin with `none`, the enum with "unset". */
static void read_identity(struct loader *loader, const struct field *field, struct yaml_event value,
                          void *base)
{
    struct config_relay *relay = base;
    struct { /* as read_word writes it */
        unsigned word;
    } read = {UINT32_MAX};
    struct field word = *field;
    char text[16];
    struct text copy = TEXT(text);
    text_put(&copy, value.value);
    word.offset = 0;
    read_word(loader, &word, value, &read);
    if (read.word == UINT32_MAX) {
        return;
    }
    relay->identity = (enum config_identity)(read.word + IDENTITY_NONE);
    loader_text(loader, &relay->identity_place, text_span(&copy), value.place);
}

static const struct field host_fields[] = {
    {.key = "host",
     .read = read_text,
     .offset = HOST(host),
     .required = true,
     .check = is_host_or_address,
     .expected = "a host name or an IP address"},
    {.key = "priority", .read = read_unsigned, .offset = HOST(priority), .max = 65535},
};
static const struct schema host_schema = {
    .what = "a host",
    .fields = host_fields,
    .field_count = COUNT(host_fields),
    .size = sizeof(struct config_host),
};

static const struct field relay_fields[] = {
    {.key = "next-hop",
     .read = read_text,
     .offset = RELAY(next_hop),
     .expected = "a transport and next hop, such as smtp:[127.0.0.1]:10025"},
    {.key = "identity", .read = read_identity, .words = identities},
    {.key = "max-connections",
     .read = read_unsigned,
     .offset = RELAY(max_connections),
     .min = 1,
     .max = 100000},
    {.key = "fallback",
     .read = read_text,
     .offset = RELAY(fallback),
     .check = config_is_relay_name,
     .expected = "the name of one of `relays:`, or gmail"},
    {.key = "unknown-recipient",
     .read = read_text,
     .offset = RELAY(unknown_recipient),
     .check = config_is_relay_name,
     .expected = "the name of one of `relays:`, or gmail"},
    {.key = "tls",
     .read = read_word,
     .offset = RELAY(tls),
     .given = RELAY(tls_given),
     .words = relay_tls},
    {.key = "tls-name",
     .read = read_text,
     .offset = RELAY(tls_name),
     .check = is_host_or_address,
     .expected = "the host name in the relay's certificate"},
    {.key = "ca-file",
     .read = read_path,
     .offset = RELAY(ca_file),
     .expected = "a file of CA certificates in PEM form"},
    {.key = "hosts",
     .read = read_maps,
     .offset = RELAY(hosts),
     .count = RELAY(host_count),
     .place = RELAY(hosts_place),
     .schema = &host_schema,
     .expected = "a list of `{host: NAME, priority: NUMBER}`"},
    {.key = "port",
     .read = read_unsigned,
     .offset = RELAY(port),
     .place = RELAY(port_place),
     .min = 1,
     .max = 65535},
};
static const struct schema relay_schema = {
    .what = "a relay",
    .fields = relay_fields,
    .field_count = COUNT(relay_fields),
    .size = sizeof(struct config_relay),
};

static struct config_relay *add_relay(struct loader *loader, struct yaml_event key)
{
    struct config *config = loader->config;
    void *items = config->relays;
    struct config_relay *relay =
        loader_add(loader, &items, &config->relay_count, sizeof(*config->relays));
    config->relays = items;
    if (!relay) {
        return NULL;
    }
    relay->max_connections = RELAY_CONNECTIONS;
    relay->tls = RELAY_TLS_MAY;
    if (!loader_text(loader, &relay->name, key.value, key.place)) {
        config->relay_count--;
        return NULL;
    }
    return relay;
}

static void read_relay(struct loader *loader, const struct schema *schema, struct yaml_event key)
{
    struct config_relay *relay = add_relay(loader, key);
    struct diag_place key_place = key.place;
    struct yaml_event value = loader_next(loader);
    if (!relay) {
        yaml_skip(loader->reader, value);
        return;
    }
    check_relay_name(loader, &relay->name);
    if (value.kind != YAML_MAP) {
        struct field named = {.key = relay->name.text};
        loader_expected(loader, &named, value,
                        "a mapping such as `{next-hop: \"smtp:[127.0.0.1]:10025\"}`");
        yaml_skip(loader->reader, value);
        return;
    }
    unsigned long long seen = schema_read(loader, schema, key_place, schema->what, relay);
    if (!loader->broken) {
        check_relay(loader, relay, schema_has(schema, seen, "next-hop"));
    }
}

static void read_relays(struct loader *loader, const struct field *field, struct yaml_event value,
                        void *base)
{
    (void)base;
    if (value.kind == YAML_SCALAR_VALUE && !value.refused &&
        scalar_is_null(value.value, value.plain)) {
        return; /* all of them commented out */
    }
    if (value.kind != YAML_MAP) {
        loader_expected(loader, field, value, field->expected);
        yaml_skip(loader->reader, value);
        return;
    }
    for (struct yaml_event key = loader_next(loader);
         key.kind == YAML_SCALAR_VALUE && !loader->broken; key = loader_next(loader)) {
        read_relay(loader, field->schema, key);
    }
}

/* The tables. */

#define LISTENER(member)    offsetof(struct config_listener, member)
#define CERTIFICATE(member) offsetof(struct config_certificate, member)
#define FILE_KEY(member)    offsetof(struct config, member)

static const char *const listen_tls[] = {"none", "may", "encrypt", "implicit", NULL};
static const char *const splits[] = {"together", "defer", NULL};
static const char *const log_levels[] = {"error", "warning", "info", "debug", NULL};
static const char *const log_formats[] = {"text", "json", NULL};

static const struct field listen_fields[] = {
    {.key = "address",
     .read = read_text,
     .offset = LISTENER(address),
     .required = true,
     .check = is_host_port,
     .expected = "an address and a port, such as \"[::]:25\" or 127.0.0.1:2525"},
    {.key = "tls",
     .read = read_word,
     .offset = LISTENER(tls),
     .given = LISTENER(tls_given),
     .words = listen_tls},
    {.key = "proxy-protocol",
     .read = read_texts,
     .offset = LISTENER(proxy_protocol),
     .check = is_network,
     .expected = "a network such as 10.0.0.0/8 or 2001:db8::/32"},
};
static const struct schema listen_schema = {
    .what = "a listener",
    .fields = listen_fields,
    .field_count = COUNT(listen_fields),
    .size = sizeof(struct config_listener),
};

static const struct field tls_fields[] = {
    {.key = "certificate",
     .read = read_path,
     .offset = CERTIFICATE(certificate),
     .required = true,
     .expected = "a file with the certificate and its chain in PEM form"},
    {.key = "private-key",
     .read = read_path,
     .offset = CERTIFICATE(private_key),
     .required = true,
     .expected = "a file with the private key in PEM form"},
    {.key = "minimum-version",
     .read = read_text,
     .offset = CERTIFICATE(minimum_version),
     .check = is_version,
     .expected = "\"1.2\" or \"1.3\""},
};
static const struct schema tls_schema = {
    .what = "`tls`",
    .fields = tls_fields,
    .field_count = COUNT(tls_fields),
    .size = sizeof(struct config_certificate),
};

#define LIMIT(name, member, least, most)                                                           \
    .key = (name), .read = read_unsigned, .offset = FILE_KEY(limits.member), .min = (least),       \
    .max = (most)

static const struct field limits_fields[] = {
    {.key = "message-size",
     .read = read_size,
     .offset = FILE_KEY(limits.message_size),
     .min = KIB,
     .max = 64 * GIB},
    {LIMIT("recipients", recipients, 1, 100000)},
    {LIMIT("connections", connections, 1, 1000000), .place = FILE_KEY(limits.connections_place)},
    {LIMIT("connections-per-client", connections_per_client, 1, 1000000)},
    {LIMIT("errors", errors, 1, 100000)},
    {LIMIT("received-hops", received_hops, 1, 1000)},
};
static const struct schema limits_schema = {
    .what = "`limits`",
    .fields = limits_fields,
    .field_count = COUNT(limits_fields),
};

#define TIMEOUT(name, member, least)                                                               \
    .key = (name), .read = read_time, .offset = FILE_KEY(timeouts.member), .min = (least),         \
    .max = DAY

static const struct field timeouts_fields[] = {
    {TIMEOUT("command", command, 1)},
    {TIMEOUT("connect", connect, 1)},
    {TIMEOUT("greeting", greeting, 1)},
    {TIMEOUT("recipient", recipient, 1)},
    {TIMEOUT("data", data, 1)},
    {TIMEOUT("end-of-data", end_of_data, 1), .place = FILE_KEY(timeouts.end_of_data_place)},
    {TIMEOUT("pool-idle", pool_idle, 0)}, /* 0: no connection is kept */
    {TIMEOUT("drain", drain, 0)},
};
static const struct schema timeouts_schema = {
    .what = "`timeouts`",
    .fields = timeouts_fields,
    .field_count = COUNT(timeouts_fields),
};

static const struct field ledger_fields[] = {
    {.key = "retry-window",
     .read = read_time,
     .offset = FILE_KEY(ledger_retry_window),
     .place = FILE_KEY(ledger_retry_window_place),
     .min = MINUTE,
     .max = 60 * DAY},
    {.key = "max-size",
     .read = read_size,
     .offset = FILE_KEY(ledger_max_size),
     .min = MIB,
     .max = 64 * GIB},
};
static const struct schema ledger_schema = {
    .what = "`ledger`",
    .fields = ledger_fields,
    .field_count = COUNT(ledger_fields),
};

static const struct field dns_fields[] = {
    {.key = "servers",
     .read = read_texts,
     .offset = FILE_KEY(dns_servers),
     .check = is_address_port,
     .expected = "a name server's address and port, such as \"127.0.0.1:53\""},
};
static const struct schema dns_schema = {
    .what = "`dns`", .fields = dns_fields, .field_count = COUNT(dns_fields)};

static const struct field admin_fields[] = {
    {.key = "listen",
     .read = read_text,
     .offset = FILE_KEY(admin_listen),
     .required = true,
     .check = is_host_port,
     .expected = "an address and a port, such as \"127.0.0.1:8025\""},
};
static const struct schema admin_schema = {
    .what = "`admin`", .fields = admin_fields, .field_count = COUNT(admin_fields)};

static const struct field log_fields[] = {
    {.key = "level", .read = read_word, .offset = FILE_KEY(log_level), .words = log_levels},
    {.key = "format", .read = read_word, .offset = FILE_KEY(log_format), .words = log_formats},
};
static const struct schema log_schema = {
    .what = "`log`", .fields = log_fields, .field_count = COUNT(log_fields)};

static const struct field file_fields[] = {
    {.key = "hostname",
     .read = read_text,
     .offset = FILE_KEY(hostname),
     .check = is_host_name,
     .expected = "this host's name, such as mx.example.com"},
    {.key = "domains",
     .read = read_domains,
     .offset = FILE_KEY(domains),
     .given = FILE_KEY(domains_given),
     .check = is_domain,
     .expected = "a domain such as example.com, .example.com (its subdomains) or \"[192.0.2.1]\""},
    {.key = "routes",
     .read = read_paths,
     .offset = FILE_KEY(routes),
     .alone = true,
     .expected = "a file's path, such as routes.yaml"},
    {.key = "state-directory",
     .read = read_path,
     .offset = FILE_KEY(state_directory),
     .expected = "a folder's path, such as /var/lib/splitmx"},
    {.key = "user",
     .read = read_text,
     .offset = FILE_KEY(user),
     .expected = "a user's name, such as splitmx"},
    {.key = "workers",
     .read = read_workers,
     .place = FILE_KEY(workers_place),
     .min = 1,
     .max = 1024,
     .expected = "auto, or a whole number from 1 to 1024"},
    {.key = "listen",
     .read = read_maps,
     .offset = FILE_KEY(listeners),
     .count = FILE_KEY(listener_count),
     .schema = &listen_schema,
     .expected = "a list of listeners, such as `- address: \"[::]:25\"`"},
    {.key = "tls",
     .read = read_maps,
     .offset = FILE_KEY(certificates),
     .count = FILE_KEY(certificate_count),
     .alone = true,
     .schema = &tls_schema,
     .expected = "a mapping with `certificate` and `private-key`, or a list of such mappings"},
    {.key = "relays",
     .read = read_relays,
     .schema = &relay_schema,
     .expected = "a mapping of names, such as `local: {next-hop: \"smtp:[127.0.0.1]:10025\"}`"},
    {.key = "split", .read = read_word, .offset = FILE_KEY(split), .words = splits},
    {.key = "smtputf8", .read = read_bool, .offset = FILE_KEY(smtputf8)},
    {.key = "recipient-delimiter",
     .read = read_delimiter,
     .expected = "one character such as \"+\", or \"\" for none"},
    {.key = "limits", .read = read_map, .schema = &limits_schema},
    {.key = "timeouts", .read = read_map, .schema = &timeouts_schema},
    {.key = "ledger", .read = read_map, .schema = &ledger_schema},
    {.key = "dns", .read = read_map, .schema = &dns_schema},
    {.key = "admin", .read = read_map, .schema = &admin_schema},
    {.key = "log", .read = read_map, .schema = &log_schema},
};
const struct schema keys_of_file = {
    .what = "the file",
    .fields = file_fields,
    .field_count = COUNT(file_fields),
};
