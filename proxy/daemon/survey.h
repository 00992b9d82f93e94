/*
 * survey: what else is wrong, once something is, so that all errors are told in one go and not
 * those of the next stage when these are mended (design: section 3).
 *
 * Thread: blocks on files; never on an event loop.
 */
#ifndef SPLITMX_PROXY_DAEMON_SURVEY_H
#define SPLITMX_PROXY_DAEMON_SURVEY_H

#include "config/config.h"
#include "proxy/daemon/privileges.h"
#include "routing/relay.h"

/* As config_load; when the file has errors, those of its relays and routes and what
 * privileges_check finds are told as well, as far as what it says of them could be read. */
struct config *survey_load(const char *path, enum privileges_for purpose, struct diag_list *diags);

/* Tells what is wrong in the route files, and nothing else. relays: what names are held against;
 * NULL: none, their own errors have been told. */
void survey_routes(const struct config *config, const struct relay_set *relays,
                   struct diag_list *diags);

/* Of relays and routes, in a configuration that is not going to be loaded. */
void survey_rest(const struct config *config, struct diag_list *diags);

#endif
