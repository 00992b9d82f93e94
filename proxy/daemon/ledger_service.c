#include "proxy/daemon/ledger_service.h"

#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

#include "proxy/daemon/ledger_print.h"

#define PART 65536 /* octets of a list that are told at once */

static void on_event(void *context, const struct ledger_event *event)
{
    if (event->kept_as != NULL) {
        log_event(context, event->level, event->name, "file", event->file, "kept-as",
                  event->kept_as, "why", event->why, NULL);
    } else if (event->why != NULL) {
        log_event(context, event->level, event->name, "file", event->file, "why", event->why, NULL);
    } else {
        log_event(context, event->level, event->name, "file", event->file, NULL);
    }
}

struct ledger_store *ledger_service_start(const struct config *config, struct log *log)
{
    uint64_t seed = 0;
    if (getrandom(&seed, sizeof seed, 0) != (ssize_t)sizeof seed) {
        return NULL;
    }
    struct ledger_store *store =
        ledger_store_new(&(struct ledger_store_options){.directory = config->state_directory.text,
                                                        .seed = seed,
                                                        .retry_window = config->ledger_retry_window,
                                                        .max_size = config->ledger_max_size,
                                                        .on_event = on_event,
                                                        .context = log});
    if (store == NULL) {
        return NULL;
    }
    ledger_store_load(store);
    if (!ledger_store_start(store)) {
        ledger_store_free(store);
        return NULL;
    }
    return store;
}

/* ---- requests ---- */

static void answer_text(struct control_request *request, char *text, size_t size, bool good)
{
    if (good) {
        control_answer(request, 0, span_make(text, size));
    } else {
        control_answer(request, 1, SPAN("out of memory\n"));
    }
    free(text);
}

static void answer_list(struct ledger_store *store, struct control_request *request, uint64_t from,
                        bool json)
{
    struct ledger_store_state state;
    char *part = NULL, *text = NULL;
    size_t part_size = 0, size = 0;
    uint64_t next = 0;
    FILE *out = open_memstream(&part, &part_size);
    bool good = out != NULL;
    if (good) {
        next = ledger_print(ledger_store_ledger(store), from, json, time(NULL), PART, out);
        good = fclose(out) == 0;
    }
    out = good ? open_memstream(&text, &size) : NULL;
    good = out != NULL;
    if (good) {
        ledger_store_tell(store, &state);
        fprintf(out, "%llu\n%s\n", (unsigned long long)next, state.why);
        fwrite(part, 1, part_size, out);
        good = fclose(out) == 0;
    }
    free(part);
    answer_text(request, text, size, good);
}

static void answer_clear(struct ledger_store *store, struct control_request *request, uint64_t set)
{
    char line[64];
    struct text text = TEXT(line);
    const unsigned long long cleared = ledger_clear(ledger_store_ledger(store), set);
    if (cleared == 0 && set != 0) {
        text_printf(&text, "there is no set %llu\n", (unsigned long long)set);
        control_answer(request, 1, text_span(&text));
        return;
    }
    text_printf(&text, "forgotten: %llu set%s\n", cleared, cleared == 1 ? "" : "s");
    control_answer(request, 0, text_span(&text));
}

static bool is_verb(struct span verb, const char *word, unsigned long long *number)
{
    const struct span begin = span_of(word);
    return span_starts(verb, begin) && span_number(span_skip(verb, begin.len), UINT64_MAX, number);
}

bool ledger_service_answer(struct ledger_store *store, struct control_request *request,
                           struct span verb)
{
    unsigned long long number;
    if (is_verb(verb, LEDGER_LIST, &number)) {
        answer_list(store, request, number, false);
    } else if (is_verb(verb, LEDGER_LIST_JSON, &number)) {
        answer_list(store, request, number, true);
    } else if (is_verb(verb, LEDGER_CLEAR, &number)) {
        answer_clear(store, request, number);
    } else {
        return false;
    }
    return true;
}
