/*
 * Routes in YAML: what is wrong is told with its place; what is let through is folded, can be
 * compiled, and is found again in the table that is built of it.
 */
#include "routing/import.h"
#include "routing/route.h"
#include "tests/fuzz/require.h"
#include "tests/fuzz/scratch.h"

#define KEYS 64 /* of a file, whose routes are looked up */

struct keys {
    char bytes[KEYS][ADDRESS_MAX + 1];
    size_t len[KEYS];
    size_t count;
};

static void require_destination(const struct import_route *route)
{
    struct transport transport;
    char why[512];
    size_t where;
    require(transport_parse(route->to, route->dialect, &transport, why, sizeof why, &where));
    transport_release(&transport);
}

static bool on_route(void *context, const struct import_route *route)
{
    struct keys *keys = context;
    char folded[ADDRESS_MAX + 2];
    require(route->key.len > 0 && route->key.len <= ADDRESS_MAX + 1);
    require_no_control(route->key);
    require(span_equal(address_fold(route->key, folded), route->key));
    require(route->place.line > 0 && route->to_place.line > 0);
    require(route->fallback.len == 0 || route->fallback_place.line > 0);
    require_destination(route);
    if (keys->count < KEYS && route->key.len <= ADDRESS_MAX) {
        memcpy(keys->bytes[keys->count], route->key.ptr, route->key.len);
        keys->len[keys->count++] = route->key.len;
    }
    return true;
}

/* The table may also say what of the configuration does not go with its routes. */
static void require_told(const struct diag_list *diags)
{
    for (size_t i = 0; i < diag_count(diags); i++) {
        require(diag_at(diags, i)->file != NULL && diag_at(diags, i)->text[0] != '\0');
    }
}

/* For whom there is a route of his own, he is not outside, and it is the one that is taken. */
static void require_found(const struct config *config, const struct relay_set *relays,
                          const struct table *table, struct span key)
{
    struct address address;
    struct decision decision;
    route_decide(config, relays, table, key, &address, &decision);
    require(!decision.broken);
    if (decision.kind == DECISION_REPLY) {
        require(decision.code >= 400 && decision.code < 600 && decision.text != NULL);
        require_no_control(span_of(decision.text));
    } else {
        require(decision.kind == DECISION_DISCARD || decision.relay != NULL);
    }
    if (address_parse(key, false, false, &address) == ADDRESS_OK) {
        require(decision.matched && !decision.outside);
        require(span_equal(span_of(decision.hit.key), key));
    }
}

static void build(const char *path, const struct keys *keys)
{
    struct diag_list *diags = diag_list_new();
    struct config *config = config_defaults("mx.example.com");
    struct relay_set *relays = config != NULL ? relay_set_new(config, diags) : NULL;
    require(relays != NULL);
    free(config->routes.items[0].text);
    config->routes.items[0].text = span_dup(span_of(path));
    struct table *table = table_load(config, relays, NULL, 0, diags);
    require((table == NULL) == (diag_errors(diags) != 0));
    if (table != NULL) {
        require(table_intact(table) && table_routes(table) >= keys->count);
        for (size_t i = 0; i < keys->count; i++) {
            require_found(config, relays, table, span_make(keys->bytes[i], keys->len[i]));
        }
        table_unref(table);
    }
    require_told(diags);
    relay_set_free(relays);
    config_unref(config);
    diag_list_free(diags);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct keys keys;
    const struct span content = span_make((const char *)data, size);
    const char *path = scratch_write(".yaml", content);
    struct diag_list *diags = diag_list_new();
    require(diags != NULL);
    keys.count = 0;
    import_read(path, on_route, &keys, diags);
    scratch_require_places(diags, path, content);
    if (diag_errors(diags) == 0) {
        build(path, &keys);
    }
    diag_list_free(diags);
    return 0;
}
