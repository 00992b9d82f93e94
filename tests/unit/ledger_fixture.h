/*
 * A ledger with a small store behind it, and clients that ask and tell it as a transaction does:
 * for the unit tests of the ledger.
 *
 * The leg that a recipient goes to is told by the first letter of its address: a is alpha, b beta,
 * c gamma, d delta, e epsilon. Messages are numbers.
 */
#ifndef SPLITMX_TESTS_UNIT_LEDGER_FIXTURE_H
#define SPLITMX_TESTS_UNIT_LEDGER_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "config/text.h"
#include "proxy/session/ledger.h"
#include "proxy/session/world.h"

#define HOUR   (60 * 60)
#define DAY    (24 * HOUR)
#define WINDOW ((uint64_t)5 * DAY)

#define FIXTURE_SEED 4711

#define KEPT_MAX     100
#define ACCEPTED_MAX 16
#define ENTRIES_MAX  8

struct kept {
    uint64_t set;
    char *bytes;
    size_t length;
};

/* What is in a file. */
struct shelf {
    struct kept kept[KEPT_MAX];
    size_t count;
};

struct fixture {
    struct world world; /* first: the tickets' world is the fixture */
    struct world_ops ops;
    struct ledger *ledger;
    time_t now;
    const char *sender;
    bool in_advance; /* what is recorded may settle yet */
    uint64_t window;
    size_t max_size;
    unsigned woken, changed, soon;
    unsigned puts, deletions; /* of what was taken */
    struct shelf disk;
    char listed[4096];
};

/* ---- the store ---- */

static inline struct kept *shelf_find(struct shelf *shelf, uint64_t set)
{
    for (size_t i = 0; i < shelf->count; i++) {
        if (shelf->kept[i].set == set) {
            return &shelf->kept[i];
        }
    }
    return NULL;
}

static inline void shelf_put(struct shelf *shelf, uint64_t set, struct span record)
{
    struct kept *kept = shelf_find(shelf, set);
    if (kept != NULL) {
        free(kept->bytes);
        *kept = shelf->kept[--shelf->count];
    }
    if (record.len != 0) {
        assert_true(shelf->count < KEPT_MAX);
        kept = &shelf->kept[shelf->count++];
        *kept = (struct kept){set, malloc(record.len), record.len};
        assert_non_null(kept->bytes);
        memcpy(kept->bytes, record.ptr, record.len);
    }
}

static inline void shelf_clear(struct shelf *shelf)
{
    while (shelf->count != 0) {
        free(shelf->kept[--shelf->count].bytes);
    }
}

static inline void fixture_put(void *store, uint64_t set, struct span record)
{
    struct fixture *f = store;
    f->puts += record.len != 0;
    f->deletions += record.len == 0;
    shelf_put(&f->disk, set, record);
}

static inline void fixture_changed(void *store, bool soon)
{
    struct fixture *f = store;
    f->changed++;
    f->soon += soon;
}

static inline void fixture_wake(struct world *world)
{
    ((struct fixture *)(void *)world)->woken++;
}

/* Everything that has changed is in the file now. */
static inline void keep(struct fixture *f)
{
    uint64_t taken = ledger_take(f->ledger, SIZE_MAX, fixture_put, f);
    assert_int_not_equal(taken, 0);
    ledger_written(f->ledger, taken);
}

/* ---- life ---- */

static inline void open_ledger(struct fixture *f)
{
    f->ledger = ledger_new(&(struct ledger_options){.seed = FIXTURE_SEED,
                                                    .retry_window = f->window,
                                                    .max_size = f->max_size,
                                                    .changed = fixture_changed,
                                                    .store = f});
    assert_non_null(f->ledger);
}

static inline int compare_kept(const void *a, const void *b)
{
    const struct kept *one = a, *other = b;
    return one->set < other->set ? -1 : one->set > other->set;
}

/* The program ends at once, and begins again with what is in the file. */
static inline void crash(struct fixture *f)
{
    ledger_free(f->ledger);
    open_ledger(f);
    qsort(f->disk.kept, f->disk.count, sizeof f->disk.kept[0], compare_kept);
    for (size_t i = 0; i < f->disk.count; i++) {
        const struct kept *kept = &f->disk.kept[i];
        assert_true(ledger_restore(f->ledger, kept->set, span_make(kept->bytes, kept->length)));
    }
    ledger_ready(f->ledger);
}

static inline int fixture_setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    f->ops.wake = fixture_wake;
    f->world.ops = &f->ops;
    f->now = 1800000000;
    f->sender = "s@example.org";
    f->window = WINDOW;
    f->max_size = 1 << 20;
    open_ledger(f);
    ledger_ready(f->ledger);
    *state = f;
    return 0;
}

/* When all is cleared and taken, nothing is left that counts. */
static inline int fixture_teardown(void **state)
{
    struct fixture *f = *state;
    struct ledger_state left;
    ledger_clear(f->ledger, 0);
    keep(f);
    ledger_tell(f->ledger, &left);
    assert_int_equal(left.sets, 0);
    assert_int_equal(left.recipients, 0);
    assert_int_equal(left.records, 0);
    assert_int_equal(left.size, 0);
    assert_int_equal(f->disk.count, 0);
    ledger_free(f->ledger);
    shelf_clear(&f->disk);
    free(f);
    return 0;
}

/* ---- what transactions do ---- */

static inline const unsigned char *message(unsigned char number)
{
    static unsigned char identities[256][MESSAGE_IDENTITY_SIZE];
    identities[number][0] = number;
    identities[number][MESSAGE_IDENTITY_SIZE - 1] = 0xa5;
    return identities[number];
}

static inline const char *route(const char *recipient)
{
    static const char *const legs[] = {"alpha", "beta", "gamma", "delta", "epsilon"};
    char letter = ascii_lower(recipient[0]);
    assert_true(letter >= 'a' && letter <= 'e');
    return legs[letter - 'a'];
}

/* A transaction up to DATA. */
struct mail {
    struct ledger_turn turn;
    const char *recipients[ACCEPTED_MAX]; /* accepted, */
    const char *legs[ACCEPTED_MAX];       /* by these */
    size_t count;
};

static inline enum ledger_company company(const struct mail *mail, const char *leg)
{
    enum ledger_company company = LEDGER_ALONE;
    for (size_t i = 0; i < mail->count; i++) {
        if (strcmp(mail->legs[i], leg) != 0) {
            return LEDGER_OTHERS;
        }
        company = LEDGER_SAME;
    }
    return company;
}

static inline void join(struct fixture *f, const struct mail *mail, const char *recipient,
                        const char *leg)
{
    ledger_join(f->ledger, &mail->turn, span_of(f->sender), span_of(recipient), span_of(leg),
                f->now);
}

/* RCPT, as unsettled_lets does: the verdict, and what follows from it. */
static inline enum ledger_verdict rcpt_by(struct fixture *f, struct mail *mail,
                                          const char *recipient, const char *leg)
{
    struct ledger_question question = {.sender = span_of(f->sender),
                                       .recipient = span_of(recipient),
                                       .label = span_of(leg),
                                       .company = company(mail, leg)};
    bool was_bound = mail->turn.bound;
    enum ledger_verdict verdict = ledger_turn(f->ledger, &mail->turn, &question, f->now);
    for (size_t i = 0; mail->turn.bound && !was_bound && i < mail->count; i++) {
        join(f, mail, mail->recipients[i], mail->legs[i]);
    }
    if (verdict == LEDGER_WAIT) {
        join(f, mail, recipient, leg);
    } else {
        assert_true(mail->count < ACCEPTED_MAX);
        mail->recipients[mail->count] = recipient;
        mail->legs[mail->count++] = leg;
    }
    return verdict;
}

static inline enum ledger_verdict rcpt(struct fixture *f, struct mail *mail, const char *recipient)
{
    return rcpt_by(f, mail, recipient, route(recipient));
}

/* A new transaction that this is the first recipient of. */
static inline enum ledger_verdict first_rcpt(struct fixture *f, struct mail *mail,
                                             const char *recipient)
{
    *mail = (struct mail){0};
    return rcpt(f, mail, recipient);
}

struct split {
    const char *recipient;
    bool accepted;
};

/* Some of these have accepted message `number` (0: one without identity), the others have not. */
static inline bool record(struct fixture *f, const struct split *splits, size_t count,
                          unsigned char number, struct ledger_ticket *ticket)
{
    struct ledger_entry entries[ENTRIES_MAX];
    assert_true(count <= ENTRIES_MAX);
    for (size_t i = 0; i < count; i++) {
        entries[i] = (struct ledger_entry){.recipient = span_of(splits[i].recipient),
                                           .label = span_of(route(splits[i].recipient)),
                                           .accepted = splits[i].accepted};
    }
    struct ledger_split split = {
        .sender = span_of(f->sender),
        .entries = entries,
        .count = count,
        .identity = number != 0 ? message(number) : NULL,
        .in_advance = f->in_advance,
    };
    return ledger_record(f->ledger, &split, f->now, ticket);
}

/* RECORD(f, 1, {"a1", true}, {"b1", false}) */
#define RECORD(f, number, ...)                                                                     \
    record(f, (const struct split[]){__VA_ARGS__},                                                 \
           sizeof((const struct split[]){__VA_ARGS__}) / sizeof(struct split), number, NULL)

static inline bool is_accepted(struct fixture *f, const char *recipient, unsigned char number)
{
    return ledger_accepted(f->ledger, span_of(f->sender), span_of(recipient), message(number),
                           f->now);
}

static inline bool is_overtaken(struct fixture *f, const struct mail *mail, const char *recipient)
{
    return ledger_overtaken(f->ledger, &mail->turn, span_of(f->sender), span_of(recipient), f->now);
}

static inline void settle(struct fixture *f, const char *recipient, unsigned char number)
{
    ledger_settle(f->ledger, span_of(f->sender), span_of(recipient),
                  number != 0 ? message(number) : NULL);
}

static inline void refused(struct fixture *f, const char *recipient)
{
    ledger_settle(f->ledger, span_of(f->sender), span_of(recipient), NULL);
}

/* ---- what is in it ---- */

struct rows {
    struct text text;
    struct ledger_listed last;
    const char *paths[ACCEPTED_MAX * 4]; /* of the leg */
    char names[ACCEPTED_MAX * 4][80];
    size_t count;
};

static inline int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static inline void end_leg(struct rows *rows)
{
    if (rows->count == 0) {
        return;
    }
    text_printf(&rows->text, "%s%.*s", rows->last.leg > 1 ? " | " : "",
                SPAN_ARGS(rows->last.label));
    for (unsigned i = 0; i < rows->last.records; i++) {
        text_putc(&rows->text, '*');
    }
    qsort(rows->paths, rows->count, sizeof rows->paths[0], compare_names);
    for (size_t i = 0; i < rows->count; i++) {
        text_printf(&rows->text, " %s", rows->paths[i]);
    }
    rows->count = 0;
}

static inline void on_row(void *context, const struct ledger_listed *row)
{
    struct rows *rows = context;
    if (row->leg != rows->last.leg) {
        end_leg(rows);
    }
    rows->last = *row;
    assert_true(rows->count < ACCEPTED_MAX * 4);
    struct text name = TEXT(rows->names[rows->count]);
    text_printf(&name, "%.*s", SPAN_ARGS(row->recipient));
    rows->paths[rows->count] = rows->names[rows->count];
    rows->count++;
}

/* "alpha** a1 a2 | beta b1 // gamma c1 | ...": legs in order of turn, a * for each record, sets by
 * number. */
static inline const char *listed(struct fixture *f)
{
    uint64_t next = 0;
    struct text text = TEXT(f->listed);
    f->listed[0] = '\0';
    for (bool more = true; more;) {
        struct rows rows = {.text = text};
        text_puts(&rows.text, text.len != 0 ? " // " : "");
        more = ledger_list(f->ledger, next, on_row, &rows, &next);
        end_leg(&rows);
        text = more ? rows.text : text;
    }
    f->listed[text.len] = '\0';
    return f->listed;
}

static inline void expect_listed(struct fixture *f, const char *expected)
{
    assert_string_equal(listed(f), expected);
}

#endif
