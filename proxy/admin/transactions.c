#include "proxy/admin/transactions.h"

#include <pthread.h>
#include <stdlib.h>

#include "proxy/wire/record.h"

#define LINE_MAX (RECORD_MAX + 128) /* with time and level in front */

struct kept {
    char *line[TRANSACTIONS_MAX]; /* each with its line feed; NULL: none yet */
    size_t next;
};

struct transactions {
    /* Of the log's thread: the line that is coming. */
    char line[LINE_MAX];
    size_t len;
    bool too_long;
    /* Under the lock: */
    pthread_mutex_t lock;
    struct kept kept[TRANSACTIONS_KINDS];
};

struct transactions *transactions_new(void)
{
    struct transactions *transactions = calloc(1, sizeof *transactions);
    if (transactions != NULL) {
        pthread_mutex_init(&transactions->lock, NULL);
    }
    return transactions;
}

void transactions_free(struct transactions *transactions)
{
    if (transactions != NULL) {
        for (size_t i = 0; i < (size_t)TRANSACTIONS_KINDS * TRANSACTIONS_MAX; i++) {
            free(transactions->kept[i / TRANSACTIONS_MAX].line[i % TRANSACTIONS_MAX]);
        }
        pthread_mutex_destroy(&transactions->lock);
        free(transactions);
    }
}

/* In front of its event a line has a time, a level and a session, all ours: so the first `event` is
 * none that a client has sent. */
static enum transactions_kind kind_of(struct span line)
{
    static const struct {
        const char *text, *json;
    } events[TRANSACTIONS_KINDS] = {
        [TRANSACTIONS_ALL] = {"event=transaction ", "event\":\"transaction\""},
        [TRANSACTIONS_REFUSALS] = {"event=recipient ", "event\":\"recipient\""},
    };
    const char *event = memmem(line.ptr, line.len, "event", 5);
    const struct span rest = event != NULL ? span_skip(line, (size_t)(event - line.ptr)) : SPAN("");
    enum transactions_kind kind = TRANSACTIONS_ALL;
    while (kind < TRANSACTIONS_KINDS && !span_starts(rest, span_of(events[kind].text)) &&
           !span_starts(rest, span_of(events[kind].json))) {
        kind++;
    }
    return kind;
}

/* "2026-11-23T11:31:29.123": what stands first in both formats can be compared as text. */
static bool is_later(const char *line, const char *other)
{
    const size_t time = 23, mark = strlen("{\"time\":\"");
    return strncmp(line + (line[0] == '{' ? mark : 0), other + (other[0] == '{' ? mark : 0), time) >
           0;
}

/* Lanes are written one after the other, so a line may come some milliseconds behind one that is
 * younger: it goes to its place. */
static void put_in_order(struct kept *list, char *line)
{
    char **const kept = list->line;
    size_t at = list->next;
    free(kept[at]);
    kept[at] = line;
    for (size_t i = 1; i < TRANSACTIONS_MAX; i++) {
        const size_t before = (at + TRANSACTIONS_MAX - 1) % TRANSACTIONS_MAX;
        if (kept[before] == NULL || !is_later(kept[before], line)) {
            break;
        }
        kept[at] = kept[before];
        kept[before] = line;
        at = before;
    }
    list->next = (list->next + 1) % TRANSACTIONS_MAX;
}

/* In the journal a priority stands in front: "<6>". */
static struct span without_priority(struct span line)
{
    return line.len > 3 && line.ptr[0] == '<' ? span_skip(line, 3) : line;
}

static void keep(struct transactions *transactions, enum transactions_kind kind, struct span line)
{
    char *copy = span_dup(without_priority(line));
    if (copy == NULL) {
        return;
    }
    pthread_mutex_lock(&transactions->lock);
    put_in_order(&transactions->kept[kind], copy);
    pthread_mutex_unlock(&transactions->lock);
}

void transactions_see(struct transactions *transactions, struct span bytes)
{
    while (bytes.len > 0) {
        const size_t feed = span_find(bytes, '\n');
        const struct span piece = span_first(bytes, feed + 1);
        bytes = span_skip(bytes, piece.len);
        if (transactions->len + piece.len > sizeof transactions->line) {
            transactions->too_long = true;
        } else {
            memcpy(transactions->line + transactions->len, piece.ptr, piece.len);
            transactions->len += piece.len;
        }
        if (piece.ptr[piece.len - 1] != '\n') {
            return; /* the rest comes with the next */
        }
        const struct span line = span_make(transactions->line, transactions->len);
        const enum transactions_kind kind = kind_of(line);
        if (!transactions->too_long && kind < TRANSACTIONS_KINDS) {
            keep(transactions, kind, line);
        }
        transactions->len = 0;
        transactions->too_long = false;
    }
}

char *transactions_text(struct transactions *transactions, enum transactions_kind kind)
{
    const struct kept *list = &transactions->kept[kind];
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (out == NULL) {
        return NULL;
    }
    pthread_mutex_lock(&transactions->lock);
    for (size_t i = 1; i <= TRANSACTIONS_MAX; i++) {
        const char *line = list->line[(list->next + TRANSACTIONS_MAX - i) % TRANSACTIONS_MAX];
        fputs(line != NULL ? line : "", out);
    }
    pthread_mutex_unlock(&transactions->lock);
    if (fclose(out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}
