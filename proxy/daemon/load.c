#include "proxy/daemon/load.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <uv.h>

#include "proxy/daemon/descriptors.h"
#include "proxy/daemon/log.h"
#include "proxy/daemon/privileges.h"
#include "proxy/daemon/state_lock.h"
#include "proxy/daemon/survey.h"
#include "proxy/daemon/thread_check.h"

#define EXIT_CONFIG 78

char *load_where(const char *path)
{
    char *folder = path[0] != '/' ? getcwd(NULL, 0) : NULL, *joined = NULL;
    if (folder == NULL) {
        return span_dup(span_of(path));
    }
    if (asprintf(&joined, "%s/%s", strcmp(folder, "/") == 0 ? "" : folder, path) < 0) {
        joined = NULL;
    }
    free(folder);
    return joined;
}

/* Half of the cores: a loop takes thousands of messages a second, and what is beside it on the host
 * needs the others. Two loops on two busy cores cost a message a quarter more than one. */
static unsigned count_workers(const struct config *config)
{
    unsigned count = config->workers != 0 ? config->workers : (uv_available_parallelism() + 1) / 2;
    return count < SOCKETS_WORKERS_MAX ? count : SOCKETS_WORKERS_MAX;
}

/* From here on no other splitmx touches what is in the state directory. */
static bool take_state_directory(struct in_force *out, const struct config *config,
                                 struct diag_list *diags)
{
    out->lock = state_lock(config->state_directory.text);
    if (out->lock < 0) {
        diag_error(diags, config_place(config, &config->state_directory), "%s: %s",
                   config->state_directory.text,
                   errno == EWOULDBLOCK
                       ? "another splitmx runs with this state directory, or has yet to end there "
                         "(after SIGTERM mail under way is brought to its end first)"
                       : strerror(errno));
    }
    return out->lock >= 0;
}

static int load(const char *path, struct in_force *out, struct diag_list *diags)
{
    int status = EXIT_CONFIG;
    struct config *config = survey_load(path, PRIVILEGES_TO_RUN, diags);
    if (config == NULL) {
        return status;
    }
    privileges_check(config, PRIVILEGES_TO_RUN, diags);
    if (diag_errors(diags) != 0) {
        survey_rest(config, diags);
        goto done;
    }
    privileges_state_directory(config, diags);
    out->workers = count_workers(config); /* the kernel is asked for cores while it may be */
    if (diag_errors(diags) != 0 || !privileges_drop(config, diags)) {
        goto done;
    }
    /* What is wrong from here on need not be what is written. */
    if (!confine(config, &out->confinement, diags) || !thread_check(out->workers, diags) ||
        !take_state_directory(out, config, diags)) {
        status = EXIT_FAILURE;
        goto done;
    }
    out->prepared = prepare_config(config, PREPARE_TO_SERVE, NULL, diags);
    if (out->prepared == NULL) {
        status = diag_only_machine(diags) ? EXIT_FAILURE : EXIT_CONFIG;
        goto done;
    }
    out->descriptors = descriptors_raise();
    descriptors_check(config, out->workers, out->descriptors, diags);
    out->sockets = sockets_bind(config, NULL, out->workers, diags);
    out->admin_sockets = sockets_bind_admin(config, NULL, diags);
    status = out->sockets != NULL && out->admin_sockets != NULL ? EXIT_SUCCESS : EXIT_FAILURE;
    if (status == EXIT_SUCCESS) {
        sockets_drop_unused(out->sockets, out->admin_sockets, diags);
    }
done:
    config_unref(config);
    return status;
}

int load_all(const char *path, struct in_force *out, struct diag_list *diags)
{
    *out = (struct in_force){.lock = -1};
    const int status = load(path, out, diags);
    if (status == EXIT_SUCCESS) {
        return status;
    }
    log_early_diags(diags);
    sockets_free(out->sockets);
    sockets_free(out->admin_sockets);
    if (out->prepared != NULL) {
        policy_unref(&out->prepared->policy);
    }
    if (out->lock >= 0) {
        close(out->lock);
    }
    confine_release(&out->confinement);
    *out = (struct in_force){.lock = -1};
    return status;
}
