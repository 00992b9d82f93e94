#include "proxy/daemon/config_files.h"

#include <stdio.h>
#include <stdlib.h>

struct visiting {
    const struct config *config;
    config_files_visit *visit;
    void *context;
};

static void visit_text(const struct visiting *visiting, const struct config_text *text)
{
    if (text->text) {
        visiting->visit(visiting->context, text->text, config_place(visiting->config, text));
    }
}

/* It is given as it was said to the command, perhaps relative to a folder of that time. */
static bool visit_configuration(const struct visiting *visiting)
{
    const struct config *config = visiting->config;
    const char *slash = strrchr(config->path, '/');
    char *path = NULL;

    if (asprintf(&path, "%s/%s", config->folder, slash ? slash + 1 : config->path) < 0) {
        return false;
    }
    visiting->visit(visiting->context, path, (struct diag_place){.file = config->path});
    free(path);
    return true;
}

bool config_files(const struct config *config, config_files_visit *visit, void *context)
{
    const struct visiting visiting = {config, visit, context};

    if (!visit_configuration(&visiting)) {
        return false;
    }
    for (size_t i = 0; i < config->routes.count; i++) {
        visit_text(&visiting, &config->routes.items[i]);
    }
    for (size_t i = 0; i < config->certificate_count; i++) {
        visit_text(&visiting, &config->certificates[i].certificate);
        visit_text(&visiting, &config->certificates[i].private_key);
    }
    for (size_t i = 0; i < config->relay_count; i++) {
        visit_text(&visiting, &config->relays[i].ca_file);
    }
    return true;
}
