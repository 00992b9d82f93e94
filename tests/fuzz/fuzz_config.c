/* A whole configuration: what is wrong is told with its place, and what is let through is within
 * its bounds; its relays are compiled too. */
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "config/config.h"
#include "routing/relay.h"
#include "tests/fuzz/require.h"
#include "tests/fuzz/scratch.h"

/* Folded as look-ups need it; a leading dot stands for subdomains. */
static void require_domains(const struct config *config)
{
    for (size_t i = 0; i < config->domains.count; i++) {
        struct span domain = span_of(config->domains.items[i].text);
        require(domain.len > 0);
        require_no_control(domain);
        for (size_t k = 0; k < domain.len; k++) {
            require(domain.ptr[k] == ascii_lower(domain.ptr[k]));
        }
    }
}

static void require_listeners(const struct config *config)
{
    require(config->listener_count > 0);
    for (size_t i = 0; i < config->listener_count; i++) {
        const struct config_listener *listener = &config->listeners[i];
        struct span host;
        uint16_t port;
        require(host_port_split(span_of(listener->address.text), &host, &port) && port != 0);
        for (size_t k = 0; k < listener->proxy_protocol.count; k++) {
            require(listener->proxy_networks[k].bits <= 128);
        }
    }
}

/* What a load without errors promises (config/config.h). */
static void require_sound(const struct config *config)
{
    const struct config_timeouts *t = &config->timeouts;
    const struct config_limits *l = &config->limits;
    require(host_name_valid(span_of(config->hostname.text)));
    require(config->state_directory.text[0] == '/' && config->user.text[0] != '\0');
    require(config->routes.count > 0);
    for (size_t i = 0; i < config->routes.count; i++) {
        require(config->routes.items[i].text[0] == '/');
    }
    require(t->command > 0 && t->connect > 0 && t->greeting > 0 && t->recipient > 0);
    require(t->data > 0 && t->end_of_data > 0);
    require(l->message_size > 0 && l->recipients > 0 && l->connections > 0 && l->errors > 0);
    require(config->ledger_max_size > 0 && config->ledger_retry_window > 0);
    require_domains(config);
    require_listeners(config);
}

static void compile_relays(const struct config *config, struct diag_list *diags)
{
    const size_t errors = diag_errors(diags);
    struct relay_set *relays = relay_set_new(config, diags);
    require((relays == NULL) == (diag_errors(diags) != errors));
    if (relays == NULL) {
        return;
    }
    require(relay_find(relays, SPAN("gmail")) != NULL);
    for (size_t i = 0; i < relay_count(relays); i++) {
        const struct relay *relay = relay_at(relays, i);
        require(relay_find(relays, span_of(relay->name)) == relay);
        require(relay->hop_count > 0 && relay->max_connections > 0);
        require(relay->fallback != relay && relay->unknown_recipient != relay);
    }
    relay_set_free(relays);
}

/* What could be read of a configuration with errors is looked at further, for more of them. */
static void survey(const char *path)
{
    struct diag_list *diags = diag_list_new();
    bool faulty = false;
    struct config *config = config_read(path, &faulty, diags);
    require(faulty);
    if (config != NULL) {
        relay_set_free(relay_set_new(config, diags));
    }
    config_unref(config);
    diag_list_free(diags);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct span content = span_make((const char *)data, size);
    struct diag_list *diags = diag_list_new();
    char path[32];
    const int fd = memfd_create("fuzz_config", MFD_CLOEXEC);
    require(diags != NULL && fd >= 0 && write(fd, data, size) == (ssize_t)size);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);

    struct config *config = config_load(path, diags);
    require((config == NULL) == (diag_errors(diags) != 0));
    if (config != NULL) {
        require_sound(config);
        compile_relays(config, diags);
        config_unref(config);
    } else {
        survey(path);
    }
    scratch_require_places(diags, path, content);
    diag_list_free(diags);
    close(fd);
    return 0;
}
