/*
 * control: control.sock in the state directory: how status, reload and healthcheck talk to the
 * daemon (design: section 8).
 *
 * One request a connection: a line with the verb; the answer is a beat now and then while there is
 * none, "STATUS\n" (0 fine, 1 failed) and then text until end of file. Server: main loop's thread;
 * SIGPIPE is ignored in the process. Client: blocking, for the commands.
 */
#ifndef SPLITMX_PROXY_DAEMON_CONTROL_H
#define SPLITMX_PROXY_DAEMON_CONTROL_H

#include <stdio.h>
#include <uv.h>

#include "config/span.h"

#define CONTROL_SOCKET "control.sock" /* its name in the state directory */

struct control;
struct control_request;

/* Called for each request; answered at once or later, exactly once, by control_answer. */
typedef void control_handler(void *context, struct control_request *request, struct span verb);

/* The verb that is answered with the path of the configuration, for the commands. */
#define CONTROL_CONFIGURATION "configuration"

#define CONTROL_BEAT '.'

/* Binds DIRECTORY/control.sock (0600; a stale one is replaced; one that a living daemon answers on
 * is an error: -EADDRINUSE). The caller holds the directory (state_lock.h). NULL with *error set to
 * a negative errno. */
struct control *control_listen(uv_loop_t *loop, const char *directory, control_handler *handler,
                               void *context, int *error);
/* Binds it anew where somebody has removed it. 0, or a negative errno; what there was stays then.
 */
int control_restore(struct control *control);

/*
 * Unlinks the socket and cuts what is pending. Memory goes as the loop runs on, and, where the
 * handler holds a request that it has not answered, when it does (control_answer then sends
 * nothing; it may come after the loop has ended).
 */
void control_close(struct control *control);

void control_answer(struct control_request *request, int status, struct span text);

/*
 * Asks the daemon of this state directory: writes the answer's text to out. Returns its status, or
 * -1 when there is no daemon (errno says why). timeout: milliseconds without a sign of life.
 */
int control_ask(const char *directory, const char *verb, FILE *out, unsigned timeout);

#endif
