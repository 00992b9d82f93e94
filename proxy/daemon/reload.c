#include "proxy/daemon/reload.h"

#include <stdio.h>
#include <stdlib.h>

#include "proxy/daemon/survey.h"

static void refuse_change(const struct config *config, const struct config_text *now,
                          const struct config_text *before, const char *key,
                          struct diag_list *diags)
{
    if (strcmp(now->text, before->text) != 0) {
        diag_error(diags, config_place(config, now),
                   "`%s` was `%s` when splitmx started; a change needs a restart", key,
                   before->text);
    }
}

/* What cannot be switched while running (section 8): says so, instead of half of a reload. */
static void refuse_restarts(const struct reload *reload, const struct config *config)
{
    const struct config *before = reload->in_force->config;
    refuse_change(config, &config->user, &before->user, "user", reload->diags);
    refuse_change(config, &config->state_directory, &before->state_directory, "state-directory",
                  reload->diags);
    if (config->workers != before->workers) {
        diag_error(reload->diags, config_at(config, config->workers_place),
                   "`workers` has changed; that needs a restart");
    }
    if (config->limits.connections > reload->connections_max) {
        diag_error(reload->diags, config_at(config, config->limits.connections_place),
                   "`limits: connections` is more than at the start (%u); that needs a restart",
                   reload->connections_max);
    }
}

void reload_let_go(struct reload *reload)
{
    if (reload->prepared != NULL) {
        policy_unref(&reload->prepared->policy);
    }
    sockets_free(reload->bound);
    sockets_free(reload->admin_bound);
    reload->prepared = NULL;
    reload->bound = reload->admin_bound = NULL;
}

void reload_prepare(struct reload *reload)
{
    if (reload->refused ||
        !confine_reaches(reload->confinement, reload->path, DIAG_NOWHERE, reload->diags)) {
        return;
    }
    struct config *config = survey_load(reload->path, PRIVILEGES_TO_RUN, reload->diags);
    if (config == NULL) {
        return;
    }
    refuse_restarts(reload, config);
    confine_check(reload->confinement, config, reload->diags);
    if (diag_errors(reload->diags) == 0) {
        reload->prepared =
            prepare_config(config, PREPARE_TO_SERVE, reload->in_force, reload->diags);
    } else {
        survey_rest(config, reload->diags);
    }
    config_unref(config);
    if (reload->prepared == NULL) {
        return;
    }
    reload->bound =
        sockets_bind(reload->prepared->config, reload->sockets, reload->workers, reload->diags);
    reload->admin_bound =
        sockets_bind_admin(reload->prepared->config, reload->admin_sockets, reload->diags);
    if (reload->bound == NULL || reload->admin_bound == NULL) {
        reload_let_go(reload);
    }
}

void reload_drop(struct reload *reload)
{
    reload_let_go(reload);
    diag_list_free(reload->diags);
    *reload = (struct reload){0};
}

char *reload_text(const struct reload *reload)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (out == NULL) {
        return NULL;
    }
    if (reload->diags == NULL) {
        fputs("out of memory\n", out);
    }
    diag_print(reload->diags, out);
    if (reload->prepared != NULL) {
        fprintf(out, "%llu routes, generation %llu\n",
                (unsigned long long)table_routes(reload->prepared->table),
                (unsigned long long)table_generation(reload->prepared->table));
    }
    if (fclose(out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}
