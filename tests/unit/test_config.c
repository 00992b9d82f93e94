/* config: what splitmx.yaml may say, what it means, and what is told when it is wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/config.h"
#include "config/hostname.h"
#include "config/scalar.h"
#include "config/text.h"

static char folder[] = "/tmp/test_config.XXXXXX";

static int enter_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) && chdir(folder) == 0 && mkdir("sub", 0700) == 0 ? 0 : -1;
}

static int leave_folder(void **state)
{
    (void)state;
    unlink("f");
    unlink("sub/f");
    rmdir("sub");
    return chdir("/") == 0 && rmdir(folder) == 0 ? 0 : -1;
}

static struct config *load(const char *path, const char *content, struct diag_list *diags)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(content, file);
    assert_int_equal(fclose(file), 0);
    return config_load(path, diags);
}

/* Loads what must be right, warnings aside. */
static struct config *load_fine(const char *content)
{
    struct diag_list *diags = diag_list_new();
    struct config *config = load("f", content, diags);
    if (!config) {
        diag_print(diags, stderr);
    }
    assert_non_null(config);
    diag_list_free(diags);
    return config;
}

static void told(const struct diag_list *diags, char *out, size_t cap)
{
    char line[2048];
    struct text text = text_over(out, cap);
    for (size_t i = 0; i < diag_count(diags); i++) {
        diag_format(diag_at(diags, i), line, sizeof(line));
        text_printf(&text, "%s%s", i > 0 ? "\n" : "", line);
    }
}

static void an_almost_empty_file_means_the_defaults(void **state)
{
    char path[256];
    (void)state;
    struct config *config = load_fine("hostname: mx.example.com\n");
    assert_string_equal(config->path, "f");
    assert_string_equal(config->folder, folder);
    snprintf(path, sizeof(path), "%s/routes.yaml", folder);
    assert_int_equal(config->routes.count, 1);
    assert_string_equal(config->routes.items[0].text, path);
    assert_string_equal(config->state_directory.text, "/var/lib/splitmx");
    assert_string_equal(config->user.text, "splitmx");
    assert_int_equal(config->workers, 0);
    assert_false(config->domains_given);
    assert_int_equal(config->listener_count, 1);
    assert_string_equal(config->listeners[0].address.text, "[::]:25");
    assert_int_equal(config->listeners[0].tls, LISTEN_TLS_NONE);
    assert_int_equal(config->relay_count, 0);
    assert_int_equal(config->split, SPLIT_TOGETHER);
    assert_int_equal(config->recipient_delimiter, '+');
    assert_int_equal(config->limits.message_size, 50 << 20);
    assert_int_equal(config->limits.recipients, 1000);
    assert_int_equal(config->limits.connections, 10000);
    assert_int_equal(config->limits.connections_per_client, 50);
    assert_int_equal(config->limits.errors, 20);
    assert_int_equal(config->limits.received_hops, 50);
    assert_int_equal(config->timeouts.command, 300000);
    assert_int_equal(config->timeouts.connect, 10000);
    assert_int_equal(config->timeouts.greeting, 30000);
    assert_int_equal(config->timeouts.recipient, 60000);
    assert_int_equal(config->timeouts.data, 180000);
    assert_int_equal(config->timeouts.end_of_data, 540000);
    assert_int_equal(config->timeouts.pool_idle, 30000);
    assert_int_equal(config->timeouts.drain, 30000);
    assert_int_equal(config->ledger_retry_window, 432000000);
    assert_int_equal(config->ledger_max_size, 256 << 20);
    assert_int_equal(config->log_level, LOG_INFO);
    assert_int_equal(config->log_format, LOG_TEXT);
    assert_null(config->admin_listen.text);
    config_unref(config);
}

static const char every_key[] = "hostname: MX.example.com\n"
                                "domains: [Example.COM, .example.com, \"[IPv6:::1]\"]\n"
                                "routes: [routes.yaml, /etc/postfix/transport]\n"
                                "state-directory: state\n"
                                "user: mail\n"
                                "workers: 4\n"
                                "listen:\n"
                                "  - address: 127.0.0.1:2525\n"
                                "    tls: none\n"
                                "  - {address: \"[::1]:2525\"}\n"
                                "relays:\n"
                                "  local:\n"
                                "    next-hop: smtp:[127.0.0.1]:10025\n"
                                "    identity: none\n"
                                "    max-connections: 7\n"
                                "    tls: none\n"
                                "  king_2-x: {next-hop: \"smtp:[kingmailer.org]\"}\n"
                                "split: defer\n"
                                "smtputf8: false\n"
                                "recipient-delimiter: \"\"\n"
                                "limits: {message-size: 1K, recipients: 1, connections: 2, "
                                "connections-per-client: 3, errors: 4, received-hops: 5}\n"
                                "timeouts: {command: 1m, connect: 2s, greeting: 3s, "
                                "recipient: 4s, data: 5s, end-of-data: 6s, pool-idle: 0, "
                                "drain: 8ms}\n"
                                "ledger: {retry-window: 60d, max-size: 1M}\n"
                                "dns: {servers: [\"127.0.0.1:53\", \"[::1]:5353\"]}\n"
                                "admin: {listen: \"127.0.0.1:8025\"}\n"
                                "log: {level: debug, format: json}\n";

static void every_key_goes_where_it_belongs(void **state)
{
    (void)state;
    struct config *config = load_fine(every_key);
    char path[256];
    assert_string_equal(config->hostname.text, "MX.example.com");
    assert_int_equal(config->hostname.line, 1);
    assert_int_equal(config->hostname.column, 11);
    assert_true(config->domains_given);
    assert_int_equal(config->domains.count, 3);
    assert_string_equal(config->domains.items[0].text, "example.com");
    assert_string_equal(config->domains.items[1].text, ".example.com");
    assert_string_equal(config->domains.items[2].text, "[ipv6:::1]");
    assert_string_equal(config->routes.items[1].text, "/etc/postfix/transport");
    snprintf(path, sizeof(path), "%s/state", folder);
    assert_string_equal(config->state_directory.text, path);
    assert_string_equal(config->user.text, "mail");
    assert_int_equal(config->workers, 4);
    assert_int_equal(config->listener_count, 2);
    assert_string_equal(config->listeners[0].address.text, "127.0.0.1:2525");
    assert_true(config->listeners[0].tls_given);
    assert_string_equal(config->listeners[1].address.text, "[::1]:2525");
    assert_false(config->listeners[1].tls_given);
    config_unref(config);
}

static void every_key_of_a_relay_goes_where_it_belongs(void **state)
{
    (void)state;
    struct config *config = load_fine(every_key);
    assert_int_equal(config->relay_count, 2);
    const struct config_relay *relay = &config->relays[0];
    assert_string_equal(relay->name.text, "local");
    assert_string_equal(relay->next_hop.text, "smtp:[127.0.0.1]:10025");
    assert_int_equal(relay->next_hop.line, 13);
    assert_int_equal(relay->next_hop.column, 15);
    assert_int_equal(relay->identity, IDENTITY_NONE);
    assert_string_equal(relay->identity_place.text, "none");
    assert_int_equal(relay->max_connections, 7);
    assert_int_equal(relay->tls, RELAY_TLS_NONE);
    assert_true(relay->tls_given);
    relay = &config->relays[1];
    assert_string_equal(relay->name.text, "king_2-x");
    assert_int_equal(relay->identity, IDENTITY_UNSET);
    assert_null(relay->identity_place.text);
    assert_int_equal(relay->max_connections, 100);
    assert_int_equal(relay->tls, RELAY_TLS_MAY);
    assert_false(relay->tls_given);
    config_unref(config);
}

static void every_limit_and_time_goes_where_it_belongs(void **state)
{
    (void)state;
    struct config *config = load_fine(every_key);
    assert_int_equal(config->split, SPLIT_DEFER);
    assert_int_equal(config->recipient_delimiter, 0);
    assert_int_equal(config->limits.message_size, 1024);
    assert_int_equal(config->limits.recipients, 1);
    assert_int_equal(config->limits.connections, 2);
    assert_int_equal(config->limits.connections_per_client, 3);
    assert_int_equal(config->limits.errors, 4);
    assert_int_equal(config->limits.received_hops, 5);
    assert_int_equal(config->timeouts.command, 60000);
    assert_int_equal(config->timeouts.connect, 2000);
    assert_int_equal(config->timeouts.greeting, 3000);
    assert_int_equal(config->timeouts.recipient, 4000);
    assert_int_equal(config->timeouts.data, 5000);
    assert_int_equal(config->timeouts.end_of_data, 6000);
    assert_int_equal(config->timeouts.pool_idle, 0);
    assert_int_equal(config->timeouts.drain, 8);
    assert_int_equal(config->ledger_retry_window, 5184000000);
    assert_int_equal(config->ledger_max_size, 1 << 20);
    assert_int_equal(config->dns_servers.count, 2);
    assert_string_equal(config->dns_servers.items[1].text, "[::1]:5353");
    assert_string_equal(config->admin_listen.text, "127.0.0.1:8025");
    assert_int_equal(config->log_level, LOG_DEBUG);
    assert_int_equal(config->log_format, LOG_JSON);
    config_unref(config);
}

static void relative_paths_are_relative_to_the_file(void **state)
{
    char path[256];
    struct diag_list *diags = diag_list_new();
    (void)state;
    struct config *config = load("sub/f", "hostname: a.b\nroutes: x/r.yaml\n", diags);
    assert_non_null(config);
    snprintf(path, sizeof(path), "%s/sub/x/r.yaml", folder);
    assert_string_equal(config->routes.items[0].text, path);
    struct diag_place place = config_place(config, &config->routes.items[0]);
    assert_string_equal(place.file, "sub/f");
    assert_int_equal(place.line, 2);
    assert_int_equal(place.column, 9);
    config_unref(config);
    diag_list_free(diags);
}

static void sections_without_keys_are_empty(void **state)
{
    (void)state;
    config_unref(load_fine("hostname: a.b\nlimits:\ntimeouts: {}\nlog: ~\nrelays:\n"));
}

/* Each file has `hostname: a.b` as its first line; what is told follows it. */
static const struct {
    const char *content, *told;
} wrong[] = {
    /* keys */
    {"lisen: []", "f:2:1: unknown key `lisen`; did you mean `listen`?"},
    {"log: {colour: red}", "f:2:7: unknown key `colour`; `log` takes level or format"},
    {"hostname: b.c", "f:2:1: duplicate key `hostname`; it is already on line 1"},
    {"relays:\n  local: {next_hop: \"smtp:[x]\", next-hop: \"smtp:[x]\"}",
     "f:3:11: unknown key `next_hop`; did you mean `next-hop`?"},
    {"<<: {user: x}", "f:2:1: unknown key `<<`; the file takes hostname, domains, routes, "
                      "state-directory, user, workers, listen, tls, relays, split, smtputf8, "
                      "recipient-delimiter, limits, timeouts, ledger, dns, admin or log"},
    {"user: *x", "f:2:7: aliases (`*x`) are not accepted; write the value out, or put text that "
                 "begins with `*` in quotes"},
    /* texts */
    {"user:", "f:2:6: `user` must be a user's name, such as splitmx, not nothing"},
    {"user: \"\"", "f:2:7: `user` must be a user's name, such as splitmx, not `\"\"`"},
    {"user: {a: b}", "f:2:7: `user` must be a user's name, such as splitmx, not a mapping"},
    {"state-directory: [a]",
     "f:2:18: `state-directory` must be a folder's path, such as /var/lib/splitmx, not a list "
     "(text that begins with `[` needs quotes around the whole of it)"},
    {"routes: []", "f:2:9: `routes` is an empty list; write at least one entry (a file's path, "
                   "such as routes.yaml), or leave the key out"},
    {"routes: {a: b}",
     "f:2:9: `routes` must be a list, each entry a file's path, such as routes.yaml (what is "
     "here goes into such a file), not a mapping"},
    {"domains: example.com",
     "f:2:10: `domains` must be a list, each entry a domain such as example.com, .example.com (its "
     "subdomains) or \"[192.0.2.1]\", not `example.com`"},
    {"domains: [a.b, \"*\"]",
     "f:2:16: each entry of `domains` must be a domain such as example.com, .example.com (its "
     "subdomains) or \"[192.0.2.1]\", not `*`"},
    {"domains: [\"[::1]\"]",
     "f:2:11: each entry of `domains` must be a domain such as example.com, .example.com (its "
     "subdomains) or \"[192.0.2.1]\", not `[::1]`"},
    {"recipient-delimiter: ab",
     "f:2:22: `recipient-delimiter` must be one character such as \"+\", or \"\" for none, not "
     "`ab`"},
    {"recipient-delimiter: \"@\"",
     "f:2:22: `recipient-delimiter` must be one character such as \"+\", or \"\" for none, not "
     "`@`"},
    /* numbers, sizes, times, words */
    {"workers: 0", "f:2:10: `workers` must be auto, or a whole number from 1 to 1024, not `0`"},
    {"workers: [1]",
     "f:2:10: `workers` must be auto, or a whole number from 1 to 1024, not a list (text that "
     "begins with `[` needs quotes around the whole of it)"},
    {"limits: {errors: 1.5}",
     "f:2:18: `errors` must be a whole number from 1 to 100000, not `1.5`"},
    {"limits: {errors: -1}", "f:2:18: `errors` must be a whole number from 1 to 100000, not `-1`"},
    {"limits: {errors: \"5\"}",
     "f:2:18: `errors` must be a whole number from 1 to 100000, without quotes"},
    {"limits: {received-hops: 0}",
     "f:2:25: `received-hops` must be a whole number from 1 to 1000, not `0`"},
    {"limits: {received-hops: 1001}",
     "f:2:25: `received-hops` must be a whole number from 1 to 1000, not `1001`"},
    {"limits: {message-size: 65G}",
     "f:2:24: `message-size` must be a size from 1K to 64G, such as 50M (bytes, or with K, M, G), "
     "not `65G`"},
    {"limits: 5", "f:2:9: `limits` must be a mapping (`key: value` lines, indented) with keys such "
                  "as `message-size`, not `5`"},
    {"limits: {message-size: 50MB}",
     "f:2:24: `message-size: 50MB`: a size has the units K, M, G; write 50M"},
    {"timeouts: {command: 5 minutes}",
     "f:2:21: `command: 5 minutes`: a time has the units ms, s, m, h, d; write 5m"},
    {"split: defered",
     "f:2:8: `split` must be together or defer, not `defered`; did you mean `defer`?"},
    {"limits: {message-size: 1023}",
     "f:2:24: `message-size` must be a size from 1K to 64G, such as 50M (bytes, or with K, M, G), "
     "not `1023`"},
    {"limits: {message-size: 99999999999999999999G}",
     "f:2:24: `message-size` must be a size from 1K to 64G, such as 50M (bytes, or with K, M, G), "
     "not `99999999999999999999G`"},
    {"timeouts: {connect: 10}",
     "f:2:21: `connect: 10` has no unit; write 10s for seconds (units ms, s, m, h, d)"},
    {"timeouts: {connect: 0}", "f:2:21: `connect` must be a time from 1ms to 1d, such as 30s "
                               "(units ms, s, m, h, d), not `0`"},
    {"timeouts: {connect: 25h}", "f:2:21: `connect` must be a time from 1ms to 1d, such as 30s "
                                 "(units ms, s, m, h, d), not `25h`"},
    {"ledger: {retry-window: 59s}",
     "f:2:24: `retry-window` must be a time from 1m to 60d, such as 30s (units ms, s, m, h, d), "
     "not `59s`"},
    {"ledger: {retry-window: 61d}",
     "f:2:24: `retry-window` must be a time from 1m to 60d, such as 30s (units ms, s, m, h, d), "
     "not `61d`"},
    {"ledger: {max-size: 1023K}", "f:2:20: `max-size` must be a size from 1M to 64G, such as 50M "
                                  "(bytes, or with K, M, G), not `1023K`"},
    {"ledger: {max-size: 65G}", "f:2:20: `max-size` must be a size from 1M to 64G, such as 50M "
                                "(bytes, or with K, M, G), not `65G`"},
    {"ledger: 5d", "f:2:9: `ledger` must be a mapping (`key: value` lines, indented) with keys "
                   "such as `retry-window`, not `5d`"},
    {"split: sometimes", "f:2:8: `split` must be together or defer, not `sometimes`"},
    {"smtputf8: yes", "f:2:11: `smtputf8` must be true or false, not `yes`"},
    {"log: {level: loud}", "f:2:14: `level` must be error, warning, info or debug, not `loud`"},
    /* listeners */
    {"listen: \"[::]:25\"",
     "f:2:9: `listen` must be a list of listeners, such as `- address: \"[::]:25\"`, not "
     "`[::]:25`"},
    {"listen:\n  - \"[::]:25\"",
     "f:3:5: each entry of `listen` must be a mapping (`key: value` lines, "
     "indented) with keys such as `address`, not `[::]:25`"},
    {"listen: []",
     "f:2:9: `listen` is an empty list; write at least one entry, or leave the key out"},
    {"listen:\n  - tls: none", "f:3:5: a listener needs `address`: an address and a port, such as "
                               "\"[::]:25\" or 127.0.0.1:2525"},
    {"listen:\n  - address: ::1:25", "f:3:14: `address` must be an address and a port, such as "
                                     "\"[::]:25\" or 127.0.0.1:2525, not `::1:25`"},
    {"listen:\n  - address: a:25\n  - address: A:25",
     "f:4:14: `address: A:25` is already on line 3; an address is listened on once"},
    {"listen:\n  - address: 0.0.0.0:25\n  - address: \"[::ffff:0.0.0.0]:25\"",
     "f:4:14: `address: [::ffff:0.0.0.0]:25` is already on line 3; an address is listened on once"},
    {"listen:\n  - address: \"[::1]:25\"\n  - address: \"[0::1]:25\"",
     "f:4:14: `address: [0::1]:25` is already on line 3; an address is listened on once"},
    {"dns: {servers: [127.0.0.1]}",
     "f:2:17: each entry of `servers` must be a name server's address and port, such as "
     "\"127.0.0.1:53\", not `127.0.0.1`"},
    {"dns: {servers: [\"localhost:53\"]}",
     "f:2:17: each entry of `servers` must be a name server's address and port, such as "
     "\"127.0.0.1:53\", not `localhost:53`"},
    /* relays */
    {"relays:\n  smtp: {next-hop: x}",
     "f:3:3: `smtp` cannot be a relay's name; it means something else in routes"},
    {"relays:\n  Error: {next-hop: x}",
     "f:3:3: `Error` cannot be a relay's name; it means something else in routes"},
    {"relays:\n  a.b: {next-hop: x}", "f:3:3: `a.b` cannot be a relay's name; use letters, digits, "
                                      "`-` and `_`, at most 63"},
    {"relays:\n  local: smtp:[x]", "f:3:10: `local` must be a mapping such as `{next-hop: "
                                   "\"smtp:[127.0.0.1]:10025\"}`, not `smtp:[x]`"},
    {"relays:\n  local: {max-connections: 5}",
     "f:3:3: relay `local` needs `next-hop`: where it is, such as smtp:[127.0.0.1]:10025"},
    {"relays:\n  local:\n    next-hop: [x]",
     "f:4:15: `next-hop` must be a transport and next hop, such as smtp:[127.0.0.1]:10025, not a "
     "list (text that begins with `[` needs quotes around the whole of it)"},
    {"relays:\n  gmail:\n    next-hop: x\n    port: 26",
     "f:5:11: `port` would not be used beside `next-hop` of relay `gmail`; leave one out"},
    {"relays:\n  gmail:\n    hosts: [{host: a.b}]\n    next-hop: x",
     "f:4:12: `hosts` would not be used beside `next-hop` of relay `gmail`; leave one out"},
    {"relays:\n  local: {next-hop: x, port: 25}",
     "f:3:30: `port` is for the relay `gmail` only; relay `local` says where it is with "
     "`next-hop`"},
    {"relays:\n  local: {next-hop: x, hosts: [{host: a.b}]}",
     "f:3:31: `hosts` is for the relay `gmail` only; relay `local` says where it is with "
     "`next-hop`"},
    {"relays: [local]", "f:2:9: `relays` must be a mapping of names, such as `local: {next-hop: "
                        "\"smtp:[127.0.0.1]:10025\"}`, not a list (text that begins with `[` needs "
                        "quotes around the whole of it)"},
    /* several at once, in the order of the file */
    {"usr: x\nworkers: many\nlog: {level: 5}",
     "f:2:1: unknown key `usr`; did you mean `user`?\n"
     "f:3:10: `workers` must be auto, or a whole number from 1 to 1024, not `many`\n"
     "f:4:14: `level` must be error, warning, info or debug, not `5`"},
    {"usr: x\nlog: {level: 5", "f:2:1: unknown key `usr`; did you mean `user`?\n"
                               "f:3:14: `level` must be error, warning, info or debug, not `5`\n"
                               "f:4:1: expected `,` or `}`; inside braces, text with `[`, `]`, "
                               "`{`, `}` or `,` needs quotes"},
};

static void what_is_wrong_is_told_with_its_place(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        char content[512], lines[4096];
        struct diag_list *diags = diag_list_new();
        snprintf(content, sizeof(content), "hostname: a.b\n%s\n", wrong[i].content);
        assert_null(load("f", content, diags));
        told(diags, lines, sizeof(lines));
        assert_string_equal(lines, wrong[i].told);
        diag_list_free(diags);
    }
}

static void domains_may_have_labels_beyond_ascii(void **state)
{
    struct diag_list *diags = diag_list_new();
    struct config *config = load("f",
                                 "hostname: a.b\ndomains: [B\xc3\xbc"
                                 "CHER.test, \".b\xc3\xbc"
                                 "cher.test\"]\n",
                                 diags);

    (void)state;
    assert_non_null(config);
    assert_string_equal(config->domains.items[0].text, "b\xc3\xbc"
                                                       "cher.test");
    assert_string_equal(config->domains.items[1].text, ".b\xc3\xbc"
                                                       "cher.test");
    config_unref(config);
    diag_list_free(diags);
}

/* After `hostname: a.b`. */
static const struct {
    const char *content, *told;
} in_full[] = {
    {"tls: {certificate: c, minimum-version: \"1.1\"}",
     "f:2:40: `minimum-version` must be \"1.2\" or \"1.3\", not `1.1`\n"
     "f:2:6: `tls` needs `private-key`: a file with the private key in PEM form"},
    {"admin: {}",
     "f:2:8: `admin` needs `listen`: an address and a port, such as \"127.0.0.1:8025\""},
    {"admin: {listen: \":8025\"}",
     "f:2:17: `listen` must be an address and a port, such as \"127.0.0.1:8025\", not `:8025`"},
    {"listen:\n  - {address: \"a:25\", proxy-protocol: [10.0.0.0/99]}",
     "f:3:40: each entry of `proxy-protocol` must be a network such as 10.0.0.0/8 or "
     "2001:db8::/32, not `10.0.0.0/99`"},
};

static void all_that_is_told_of_a_mistake_is_this(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(in_full) / sizeof(in_full[0]); i++) {
        char content[512], lines[4096];
        struct diag_list *diags = diag_list_new();
        snprintf(content, sizeof(content), "hostname: a.b\n%s\n", in_full[i].content);
        assert_null(load("f", content, diags));
        told(diags, lines, sizeof(lines));
        assert_string_equal(lines, in_full[i].told);
        diag_list_free(diags);
    }
}

/* A scan for viruses takes a minute at times, and all servers have this time together. */
static void a_short_end_of_data_is_a_warning(void **state)
{
    static const struct {
        const char *value;
        bool warned;
    } samples[] = {{"119s", true}, {"2m", false}, {"9m", false}};
    (void)state;
    for (size_t i = 0; i < sizeof(samples) / sizeof(samples[0]); i++) {
        char content[100], lines[1024];
        struct diag_list *diags = diag_list_new();
        snprintf(content, sizeof(content), "hostname: a.b\ntimeouts: {end-of-data: %s}\n",
                 samples[i].value);
        struct config *config = load("f", content, diags);
        assert_non_null(config);
        told(diags, lines, sizeof(lines));
        assert_int_equal(strstr(lines, "f:2:25: warning: `end-of-data`") != NULL,
                         samples[i].warned);
        config_unref(config);
        diag_list_free(diags);
    }
}

/* What is forgotten before the sender comes again is delivered twice. */
static void a_short_retry_window_is_a_warning(void **state)
{
    static const struct {
        const char *value;
        bool warned;
    } samples[] = {{"359m", true}, {"6h", false}, {"5d", false}};
    (void)state;
    for (size_t i = 0; i < sizeof(samples) / sizeof(samples[0]); i++) {
        char content[100], lines[1024];
        struct diag_list *diags = diag_list_new();
        snprintf(content, sizeof(content), "hostname: a.b\nledger: {retry-window: %s}\n",
                 samples[i].value);
        struct config *config = load("f", content, diags);
        assert_non_null(config);
        told(diags, lines, sizeof(lines));
        assert_int_equal(strstr(lines, "f:2:24: warning: `retry-window`") != NULL,
                         samples[i].warned);
        config_unref(config);
        diag_list_free(diags);
    }
}

static void warnings_do_not_stop_a_load(void **state)
{
    char lines[1024];
    struct diag_list *diags = diag_list_new();
    (void)state;
    struct config *config = load("f",
                                 "hostname: m_x\ntimeouts: {end-of-data: 10m}\n"
                                 "listen: [{address: \"a:25\", tls: encrypt}, {address: \"a:587\", "
                                 "tls: encrypt, "
                                 "proxy-protocol: [\"10.0.0.0/8\", \"::/0\"]}]\n"
                                 "relays: {r: {next-hop: \"smtp:[r.test]\", tls-name: r.test}}\n",
                                 diags);
    assert_non_null(config);
    told(diags, lines, sizeof(lines));
    assert_string_equal(
        lines, "f:1:11: warning: `hostname: m_x` has no dot; other mail servers expect a "
               "full name, such as mx.example.com\n"
               "f:1:11: warning: `hostname: m_x` has an underscore; SMTP has none in the "
               "name of a server, and others refuse such a greeting\n"
               "f:3:20: warning: `tls: encrypt` on port 25 turns away mail servers that "
               "have no TLS; `tls: may` takes it from all others\n"
               "f:3:107: warning: `proxy-protocol: ::/0` lets everyone claim any address; list "
               "the load balancers only\n"
               "f:4:51: warning: relay `r` verifies nothing without `tls: verify`\n"
               "f:2:25: warning: `end-of-data` should be less than 10m: clients wait no "
               "longer, and send the message again");
    config_unref(config);
    diag_list_free(diags);
}

static struct config *reads(const char *content, bool *faulty, struct diag_list *diags)
{
    FILE *file = fopen("f", "we");
    assert_non_null(file);
    fputs(content, file);
    fclose(file);
    return config_read("f", faulty, diags);
}

static void what_could_be_read_of_a_faulty_file_is_there_for_a_survey(void **state)
{
    bool faulty = false;
    struct diag_list *diags = diag_list_new();
    (void)state;
    struct config *config =
        reads("hostname: a.b\nusr: x\nrelays:\n  local: {next-hop: y, max-connections: 0}\n",
              &faulty, diags);
    assert_non_null(config);
    assert_true(faulty);
    assert_int_equal(diag_errors(diags), 2);
    assert_int_equal(config->relay_count, 1);
    assert_string_equal(config->relays[0].next_hop.text, "y");
    assert_int_equal(config->routes.count, 1); /* the default */
    config_unref(config);
    assert_null(reads("hostname: a.b\nrelays: [\n", &faulty, diags));
    assert_true(faulty);
    config = reads("hostname: a.b\nworkers: 3\nlimits: {connections: 7}\n", &faulty, diags);
    assert_non_null(config);
    assert_false(faulty);
    assert_int_equal(config_at(config, config->workers_place).line, 2);
    assert_int_equal(config_at(config, config->limits.connections_place).column, 23);
    config_unref(config);
    diag_list_free(diags);
}

static void a_wrong_hostname_is_told_once(void **state)
{
    char lines[1024];
    struct diag_list *diags = diag_list_new();
    (void)state;
    assert_null(load("f", "hostname: 192.0.2.1\n", diags));
    told(diags, lines, sizeof(lines));
    assert_string_equal(lines,
                        "f:1:11: `hostname` must be this host's name, such as mx.example.com, not "
                        "`192.0.2.1`");
    diag_list_free(diags);
}

static void an_absent_hostname_is_the_machines(void **state)
{
    char machine[HOSTNAME_MAX];
    (void)state;
    if (!hostname_of_machine(machine, sizeof(machine))) {
        skip();
    }
    struct config *config = load_fine("# all by default\n");
    assert_string_equal(config->hostname.text, machine);
    config_unref(config);
}

static void canonical_is(const char *hosts, const char *bare, const char *expected)
{
    char name[HOSTNAME_MAX] = "";
    FILE *file = fmemopen((void *)(uintptr_t)hosts, strlen(hosts), "r");
    assert_non_null(file);
    bool found = hostname_canonical(file, span_of(bare), name, sizeof(name));
    fclose(file);
    assert_int_equal(found, expected != NULL);
    if (expected) {
        assert_string_equal(name, expected);
    }
}

static void a_bare_name_is_made_whole_from_the_hosts_file(void **state)
{
    (void)state;
    canonical_is("127.0.0.1 localhost\n127.0.1.1\tmx.example.com mx\n", "mx", "mx.example.com");
    canonical_is("127.0.1.1 MX mx.example.com # mx.example.org\n", "mx", "mx.example.com");
    canonical_is("192.0.2.1 box.example.com mail mx\n", "mx", "box.example.com");
    canonical_is("# 192.0.2.1 mx.example.com mx\n", "mx", NULL);
    canonical_is("192.0.2.1 other.example.com other\n", "mx", NULL);
    canonical_is("127.0.0.1 localhost.localdomain localhost mx\n", "mx", NULL);
    canonical_is("192.0.2.1 mxa.example.com mxa\n192.0.2.2 mx", "mx", NULL);
    canonical_is("192.0.2.1 bad/name.example.com mx\n", "mx", NULL);
}

static void an_unreadable_file_is_told(void **state)
{
    char lines[512];
    struct diag_list *diags = diag_list_new();
    (void)state;
    assert_null(config_load("nowhere/f", diags));
    told(diags, lines, sizeof(lines));
    assert_string_equal(
        lines, "nowhere/f: cannot be opened: there is no such file; -c FILE names another");
    diag_list_free(diags);
    assert_null(config_load("nowhere/f", NULL));
}

static void errors_of_an_earlier_load_do_not_count(void **state)
{
    struct diag_list *diags = diag_list_new();
    (void)state;
    assert_null(load("f", "usr: x\n", diags));
    struct config *config = load("f", "hostname: a.b\n", diags);
    assert_non_null(config);
    config_unref(config_ref(config));
    assert_string_equal(config->hostname.text, "a.b");
    config_unref(config);
    config_unref(NULL);
    diag_list_free(diags);
}

static void defaults_need_no_file(void **state)
{
    (void)state;
    struct config *config = config_defaults("sim.example.com");
    assert_string_equal(config->hostname.text, "sim.example.com");
    assert_int_equal(config->listener_count, 1);
    assert_int_equal(config->timeouts.end_of_data, 540000);
    config_unref(config);
}

static void sizes_and_times_are_read_and_written(void **state)
{
    uint64_t value;
    char text[SCALAR_TEXT];
    (void)state;
    assert_true(scalar_size(SPAN("50M"), &value));
    assert_int_equal(value, 50 << 20);
    assert_true(scalar_size(SPAN("3g"), &value));
    assert_true(value == UINT64_C(3) << 30);
    assert_true(scalar_size(SPAN("7"), &value));
    assert_int_equal(value, 7);
    assert_false(scalar_size(SPAN("M"), &value));
    assert_false(scalar_size(SPAN("5 M"), &value));
    assert_false(scalar_size(SPAN("17179869184G"), &value)); /* 2^64 */
    assert_true(scalar_time(SPAN("500ms"), &value));
    assert_int_equal(value, 500);
    assert_true(scalar_time(SPAN("2d"), &value));
    assert_int_equal(value, 172800000);
    assert_true(scalar_time(SPAN("0"), &value));
    assert_int_equal(value, 0);
    assert_false(scalar_time(SPAN("5"), &value));
    assert_false(scalar_time(SPAN("5M"), &value));
    assert_false(scalar_time(SPAN("1h30m"), &value));
    assert_false(scalar_time(SPAN("18446744073709551615d"), &value));
    scalar_size_text(50 << 20, text, sizeof(text));
    assert_string_equal(text, "50M");
    scalar_size_text(1000, text, sizeof(text));
    assert_string_equal(text, "1000");
    scalar_time_text(90000, text, sizeof(text));
    assert_string_equal(text, "90s");
    scalar_time_text(0, text, sizeof(text));
    assert_string_equal(text, "0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_almost_empty_file_means_the_defaults),
        cmocka_unit_test(every_key_goes_where_it_belongs),
        cmocka_unit_test(every_key_of_a_relay_goes_where_it_belongs),
        cmocka_unit_test(every_limit_and_time_goes_where_it_belongs),
        cmocka_unit_test(relative_paths_are_relative_to_the_file),
        cmocka_unit_test(sections_without_keys_are_empty),
        cmocka_unit_test(what_is_wrong_is_told_with_its_place),
        cmocka_unit_test(domains_may_have_labels_beyond_ascii),
        cmocka_unit_test(all_that_is_told_of_a_mistake_is_this),
        cmocka_unit_test(a_short_end_of_data_is_a_warning),
        cmocka_unit_test(a_short_retry_window_is_a_warning),
        cmocka_unit_test(warnings_do_not_stop_a_load),
        cmocka_unit_test(what_could_be_read_of_a_faulty_file_is_there_for_a_survey),
        cmocka_unit_test(a_wrong_hostname_is_told_once),
        cmocka_unit_test(an_absent_hostname_is_the_machines),
        cmocka_unit_test(a_bare_name_is_made_whole_from_the_hosts_file),
        cmocka_unit_test(an_unreadable_file_is_told),
        cmocka_unit_test(errors_of_an_earlier_load_do_not_count),
        cmocka_unit_test(defaults_need_no_file),
        cmocka_unit_test(sizes_and_times_are_read_and_written),
    };
    return cmocka_run_group_tests(tests, enter_folder, leave_folder);
}
