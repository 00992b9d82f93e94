/*
 * config: `splitmx.yaml` as an immutable, reference-counted snapshot (design: section 3).
 *
 * Loaded by a schema held as a table; every error is placed and all are reported. Next hops, relay
 * names and TLS names are kept as text with their place: routing and tls compile them.
 *
 * Thread: loading blocks on files and belongs off the event loops; a loaded snapshot may be read by
 * all threads; config_ref and config_unref are atomic. Times are milliseconds, sizes bytes.
 */
#ifndef SPLITMX_CONFIG_CONFIG_H
#define SPLITMX_CONFIG_CONFIG_H

#include <stdint.h>

#include "config/diag.h"
#include "config/net_address.h"
#include "config/span.h"

/* A string with the place it was read from; text is NULL where the key is absent and has no
 * default; a default has line 0. */
struct config_text {
    char *text;
    unsigned line;
    unsigned column;
};

/* Where a value that is no text was read from; zero where it is absent. */
struct config_mark {
    unsigned line;
    unsigned column;
};

struct config_texts {
    struct config_text *items;
    size_t count;
};

enum config_listen_tls { LISTEN_TLS_NONE, LISTEN_TLS_MAY, LISTEN_TLS_ENCRYPT, LISTEN_TLS_IMPLICIT };
enum config_relay_tls { RELAY_TLS_NONE, RELAY_TLS_MAY, RELAY_TLS_ENCRYPT, RELAY_TLS_VERIFY };
enum config_identity { IDENTITY_UNSET, IDENTITY_NONE, IDENTITY_XCLIENT, IDENTITY_PROXY };
enum config_split { SPLIT_TOGETHER, SPLIT_DEFER };
enum config_log_level { LOG_ERROR, LOG_WARNING, LOG_INFO, LOG_DEBUG };
enum config_log_format { LOG_TEXT, LOG_JSON };

struct config_listener {
    struct config_text address; /* a.b.c.d:port, [IPv6]:port, host:port; syntax checked */
    enum config_listen_tls tls;
    bool tls_given;
    struct config_texts proxy_protocol; /* networks, as written */
    struct net_prefix *proxy_networks;  /* and what they say, as many */
};

struct config_certificate {
    struct config_text certificate; /* absolute paths */
    struct config_text private_key;
    struct config_text minimum_version; /* "1.2" or "1.3" */
};

struct config_host {
    struct config_text host;
    unsigned priority;
};

struct config_relay {
    struct config_text name; /* the key */
    struct config_text next_hop;
    enum config_identity identity;
    struct config_text identity_place; /* place of the value; text NULL when absent */
    unsigned max_connections;
    struct config_text fallback;
    struct config_text unknown_recipient;
    enum config_relay_tls tls;
    bool tls_given;
    struct config_text tls_name;
    struct config_text ca_file; /* absolute path */
    struct config_host *hosts;  /* gmail only */
    size_t host_count;
    struct config_mark hosts_place;
    unsigned port; /* gmail only; 0 when absent */
    struct config_mark port_place;
};

struct config_limits {
    uint64_t message_size;
    unsigned recipients;
    unsigned connections;
    struct config_mark connections_place;
    unsigned connections_per_client;
    unsigned errors;
    unsigned received_hops;
};

struct config_timeouts { /* milliseconds */
    uint64_t command, connect, greeting, recipient, data, end_of_data, pool_idle, drain;
    struct config_mark end_of_data_place;
};

struct config {
    char *path;                  /* as given */
    char *folder;                /* of path, absolute */
    struct config_text hostname; /* never NULL after a load without errors */
    struct config_texts domains; /* folded to lower case; a leading dot means subdomains */
    bool domains_given;
    struct config_texts routes;         /* absolute paths; default: routes.yaml */
    struct config_text state_directory; /* absolute; default: /var/lib/splitmx */
    struct config_text user;            /* default: splitmx */
    unsigned workers;                   /* 0: auto, one a core */
    struct config_mark workers_place;
    struct config_listener *listeners;
    size_t listener_count;
    struct config_certificate *certificates;
    size_t certificate_count;
    struct config_relay *relays;
    size_t relay_count;
    enum config_split split;
    bool smtputf8;
    char recipient_delimiter; /* 0: none (written "") */
    struct config_limits limits;
    struct config_timeouts timeouts;
    uint64_t ledger_retry_window; /* milliseconds */
    struct config_mark ledger_retry_window_place;
    uint64_t ledger_max_size;        /* bytes */
    struct config_texts dns_servers; /* address:port as written, syntax checked */
    struct config_text admin_listen;
    enum config_log_level log_level;
    enum config_log_format log_format;
};

/*
 * Reads the file at path. NULL when there was an error (told in diags); warnings alone do not stop
 * it. The snapshot has one reference.
 */
struct config *config_load(const char *path, struct diag_list *diags);
/* The same, but what could be read is returned even when there were errors (*faulty is true then),
 * so that what it names can be looked at, too. Nothing in it need be there but defaults. */
struct config *config_read(const char *path, bool *faulty, struct diag_list *diags);
/* False, and told, when there is no such file; whatever else it is, reading tells. */
bool config_is_there(const char *path, struct diag_list *diags);
/* Whether a relay may be called so: 1 to 63 letters, digits, `-` and `_`. */
bool config_is_relay_name(struct span name);
struct config *config_ref(struct config *config);
void config_unref(struct config *config); /* NULL is accepted */

/* The places of a text and of another value of this configuration, for diagnostics. */
struct diag_place config_place(const struct config *config, const struct config_text *text);
struct diag_place config_at(const struct config *config, struct config_mark mark);

/* The built-in defaults without any file, for tests and the simulator: one reference, hostname as
 * given. */
struct config *config_defaults(const char *hostname);

#endif
