/*
 * import_mailboxes: docker-mailserver's accounts and aliases as routes: whom the local server
 * knows.
 *
 * Private to the import files. What no route can say is left out, counted, and told as a warning.
 */
#ifndef SPLITMX_ROUTING_IMPORT_MAILBOXES_H
#define SPLITMX_ROUTING_IMPORT_MAILBOXES_H

#include "routing/import.h"

struct mailboxes;

/* All routes go `to` there, which outlives it. NULL when memory is short; all others take NULL. */
struct mailboxes *mailboxes_new(const char *to);
void mailboxes_free(struct mailboxes *mailboxes);

/* Gives the file's routes to the sink: of accounts (user@domain|password) or aliases. */
void mailboxes_read(struct mailboxes *mailboxes, const char *path, bool accounts, import_sink *sink,
                    void *context, struct diag_list *diags);

size_t mailboxes_left_out(const struct mailboxes *mailboxes);

/* When all has been read: tells which aliases lead to other domains than those, and returns how
 * many times. */
size_t mailboxes_tell_elsewhere(const struct mailboxes *mailboxes, struct diag_list *diags);

/* Something was not kept. */
bool mailboxes_no_memory(const struct mailboxes *mailboxes);

#endif
