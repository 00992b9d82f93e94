#include "proxy/cli/daemon_view.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>

#include "config/text.h"
#include "proxy/cli/ask.h"

#define PATIENCE 3000 /* milliseconds: the explanation matters more */

struct daemon_view {
    json_t *status; /* NULL: none */
    char why[4096 + 256];
};

static void tell_unreachable(struct daemon_view *view, const char *directory, int error)
{
    struct text why = TEXT(view->why);
    if (ask_is_nobody(error)) {
        text_printf(&why, "no splitmx runs with state directory %s", directory);
    } else if (error == EACCES || error == EPERM) {
        text_printf(&why, "only its user and root may ask the splitmx with state directory %s",
                    directory);
    } else {
        text_printf(&why, "the splitmx with state directory %s does not answer: %s", directory,
                    strerror(error));
    }
}

struct daemon_view *daemon_view_of(struct span status)
{
    struct daemon_view *view = calloc(1, sizeof *view);
    if (view != NULL) {
        view->status = json_loadb(status.ptr, status.len, 0, NULL);
    }
    return view;
}

struct daemon_view *daemon_view_ask(const char *directory, const char *config_path)
{
    char *answer = NULL;
    size_t length = 0;
    int error;
    int told = ask_daemon(directory, "status-json", PATIENCE, &answer, &length, &error);
    struct daemon_view *view =
        daemon_view_of(told == 0 && answer != NULL ? span_make(answer, length) : SPAN(""));
    free(answer);
    if (view == NULL) {
        return NULL;
    }
    struct text why = TEXT(view->why);
    const char *serves = json_string_value(json_object_get(view->status, "configuration"));
    if (told < 0) {
        tell_unreachable(view, directory, error);
    } else if (view->status == NULL) {
        text_printf(&why, "the splitmx with state directory %s does not tell", directory);
    } else if (serves != NULL && !ask_is_same_file(config_path, serves)) {
        text_printf(&why, "the splitmx that runs serves %s", serves);
    }
    return view;
}

void daemon_view_free(struct daemon_view *view)
{
    if (view != NULL) {
        json_decref(view->status);
        free(view);
    }
}

bool daemon_view_runs(const struct daemon_view *view)
{
    return view != NULL && view->status != NULL;
}

const char *daemon_view_why(const struct daemon_view *view)
{
    return view != NULL ? view->why : "";
}

bool daemon_view_health(const struct daemon_view *view, const struct net_address *address,
                        bool proxy, struct daemon_health *out)
{
    char wanted[NET_ADDRESS_TEXT];
    size_t i;
    json_t *endpoint;
    net_address_text_port(address, wanted, sizeof wanted);
    json_array_foreach(json_object_get(view != NULL ? view->status : NULL, "endpoints"), i,
                       endpoint)
    {
        const char *at = json_string_value(json_object_get(endpoint, "address"));
        const char *state = json_string_value(json_object_get(endpoint, "state"));
        if (at == NULL || state == NULL || strcmp(at, wanted) != 0 ||
            json_is_true(json_object_get(endpoint, "proxy")) != proxy) {
            continue;
        }
        *out = (struct daemon_health){
            .state = state,
            .failures = (unsigned)json_integer_value(json_object_get(endpoint, "failures")),
            .seconds = (uint64_t)json_integer_value(json_object_get(endpoint, "seconds"))};
        return true;
    }
    return false;
}

bool daemon_view_slowed(const struct daemon_view *view, const char *relay, unsigned *to)
{
    size_t i;
    json_t *item;
    json_array_foreach(json_object_get(view != NULL ? view->status : NULL, "relays"), i, item)
    {
        const char *name = json_string_value(json_object_get(item, "name"));
        const json_t *slowed = json_object_get(item, "slowed_to");
        if (name != NULL && strcmp(name, relay) == 0 && json_is_integer(slowed)) {
            *to = (unsigned)json_integer_value(slowed);
            return true;
        }
    }
    return false;
}
