#include "proxy/daemon/survey.h"

#include <errno.h>
#include <sys/stat.h>

#include "routing/import.h"
#include "routing/intern.h"
#include "routing/table_build.h"

struct survey {
    const struct relay_set *relays;
    struct intern *told; /* names that no relay has: each is an error once */
    struct diag_list *diags;
};

static void look_at_name(struct survey *survey, const char *name, struct diag_place place)
{
    uint32_t number;
    if (relay_find(survey->relays, span_of(name)) == NULL &&
        intern_add(survey->told, span_of(name), &number) == INTERN_NEW) {
        relay_report_unknown(survey->relays, name, place, survey->diags);
    }
}

static bool on_route(void *context, const struct import_route *route)
{
    struct survey *survey = context;
    struct transport transport;
    char why[256];
    size_t where;
    if (survey->told == NULL ||
        !transport_parse(route->to, route->dialect, &transport, why, sizeof why, &where)) {
        return true;
    }
    if (transport.kind == TRANSPORT_RELAY) {
        look_at_name(survey, transport.text, route->to_place);
    }
    transport_release(&transport);
    return true;
}

void survey_routes(const struct config *config, const struct relay_set *relays,
                   struct diag_list *diags)
{
    struct survey survey = {
        .relays = relays, .told = relays != NULL ? intern_new() : NULL, .diags = diags};
    for (size_t i = 0; i < config->routes.count; i++) {
        const struct config_text *file = &config->routes.items[i];
        /* The default stands for a key that may be there, misspelt. */
        struct stat status;
        const bool found = stat(file->text, &status) == 0;
        const int error = errno;
        if (found && S_ISREG(status.st_mode)) {
            import_read(file->text, on_route, &survey, diags);
        } else if (found || file->line > 0) { /* a pipe would hold us until somebody writes */
            table_tell_unreadable(config, file, found ? EINVAL : error, diags);
        }
    }
    intern_free(survey.told);
}

void survey_rest(const struct config *config, struct diag_list *diags)
{
    struct relay_set *relays = relay_set_new(config, diags);
    /* Without any relay the key may be missing or wrong as a whole: no name is held against it. */
    survey_routes(config, config->relay_count > 0 ? relays : NULL, diags);
    relay_set_free(relays);
}

struct config *survey_load(const char *path, enum privileges_for purpose, struct diag_list *diags)
{
    bool faulty;
    struct config *config = config_read(path, &faulty, diags);
    if (config == NULL || !faulty) {
        return config;
    }
    survey_rest(config, diags);
    /* A default may stand for what is written, and could not be read. */
    if (config->user.line > 0 && config->state_directory.line > 0) {
        privileges_check(config, purpose, diags);
    }
    config_unref(config);
    return NULL;
}
