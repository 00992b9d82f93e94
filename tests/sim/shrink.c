#include "tests/sim/shrink.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/sim/queues.h"

/* ---- parts ---- */

static atom atom_of(enum atom_kind kind, uint64_t number)
{
    return (uint64_t)kind << 56 | (number & UINT64_C(0xffffffffffffff));
}

static enum atom_kind atom_kind(atom a)
{
    return (enum atom_kind)(a >> 56);
}

static void put(atom **atoms, size_t *count, size_t *cap, atom a)
{
    if (*count == *cap) {
        *cap = *cap == 0 ? 64 : *cap * 2;
        *atoms = realloc(*atoms, *cap * sizeof **atoms);
        if (*atoms == NULL) {
            abort();
        }
    }
    (*atoms)[(*count)++] = a;
}

static bool has(const atom *atoms, size_t count, atom a)
{
    for (size_t i = 0; i < count; i++) {
        if (atoms[i] == a) {
            return true;
        }
    }
    return false;
}

bool filter_has(struct sim *sim, enum atom_kind kind, uint64_t number)
{
    struct sim_filter *filter = sim->config.filter;
    atom a = atom_of(kind, number);
    if (filter == NULL) {
        return true;
    }
    if (filter->chosen && !has(filter->atoms, filter->count, a)) {
        return false;
    }
    if (!has(filter->met, filter->met_count, a)) {
        put(&filter->met, &filter->met_count, &filter->met_cap, a);
    }
    return true;
}

/* ---- a try, in a process of its own ---- */

static void tell(int to, const void *bytes, size_t count)
{
    if (write(to, bytes, count) != (ssize_t)count) {
        _Exit(2);
    }
}

/* What a failure is told apart by: its words before they are filled in. */
static uint64_t kind_of(const char *format)
{
    uint64_t hash = 14695981039346656037u;
    for (; *format != '\0'; format++) {
        hash = (hash ^ (unsigned char)*format) * 1099511628211u;
    }
    return hash;
}

void filter_report(struct sim *sim, const char *format)
{
    const struct sim_filter *filter = sim->config.filter;
    uint64_t kind = kind_of(format);
    if (filter == NULL || filter->report < 0) {
        return;
    }
    tell(filter->report, &kind, sizeof kind);
    for (size_t i = 0; i < filter->met_count; i++) {
        tell(filter->report, &filter->met[i], sizeof filter->met[i]);
    }
    _Exit(1);
}

struct atoms {
    atom *all;
    size_t count, cap;
};

static void run_child(const struct sim_config *config, struct sim_filter *filter)
{
    struct sim_config own = *config;
    struct queue_totals queues = {0};
    struct sim_totals totals = {.queues = &queues};
    own.filter = filter;
    sim_run(&own, &totals);
    _Exit(0);
}

/* Runs the world with nothing but these parts (NULL: all). Its failure's kind, 0 where there was
 * none; *met: the parts that it had by then. A death by signal is a failure too, of kind 1. */
static uint64_t try(const struct sim_config *config, const struct atoms *parts, struct atoms *met)
{
    struct sim_filter filter = {.chosen = parts != NULL};
    uint64_t kind = 0;
    int ends[2];
    fflush(stdout);
    if (parts != NULL) {
        filter.atoms = parts->all;
        filter.count = parts->count;
    }
    if (pipe(ends) != 0) {
        abort();
    }
    pid_t child = fork();
    if (child == 0) {
        close(ends[0]);
        filter.report = ends[1];
        run_child(config, &filter);
    }
    close(ends[1]);
    met->count = 0;
    bool failed = child > 0 && read(ends[0], &kind, sizeof kind) == sizeof kind;
    for (atom a; failed && read(ends[0], &a, sizeof a) == sizeof a;) {
        put(&met->all, &met->count, &met->cap, a);
    }
    close(ends[0]);
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child) {
        abort();
    }
    return failed ? kind : WIFSIGNALED(status) ? 1 : 0;
}

/* ---- leaving out ---- */

struct search {
    struct sim_config config;
    uint64_t kind;     /* of the failure */
    struct atoms left; /* it still has these */
    struct atoms met, fewer;
    unsigned tries;
};

/* Without those of the kind whose place among them is in [from, to): true when it fails all the
 * same, and then they are gone. */
static bool leave_out(struct search *search, enum atom_kind kind, size_t from, size_t to)
{
    size_t place = 0;
    search->fewer.count = 0;
    for (size_t i = 0; i < search->left.count; i++) {
        atom a = search->left.all[i];
        if (atom_kind(a) != kind || place < from || place >= to) {
            put(&search->fewer.all, &search->fewer.count, &search->fewer.cap, a);
        }
        place += atom_kind(a) == kind;
    }
    search->tries++;
    if (try(&search->config, &search->fewer, &search->met) != search->kind) {
        return false;
    }
    /* What was not met before the failure is not needed for it. */
    struct atoms old = search->left;
    search->left = search->kind == 1 ? search->fewer : search->met;
    *(search->kind == 1 ? &search->fewer : &search->met) = old;
    return true;
}

static size_t count_of(const struct search *search, enum atom_kind kind)
{
    size_t count = 0;
    for (size_t i = 0; i < search->left.count; i++) {
        count += atom_kind(search->left.all[i]) == kind;
    }
    return count;
}

/* Larger pieces first, then smaller ones, down to each alone. True when anything went. */
static bool thin_out(struct search *search, enum atom_kind kind)
{
    bool any = false;
    for (size_t piece = (count_of(search, kind) + 1) / 2; piece != 0; piece /= 2) {
        for (size_t from = 0; from < count_of(search, kind);) {
            if (leave_out(search, kind, from, from + piece)) {
                any = true;
            } else {
                from += piece;
            }
        }
    }
    return any;
}

static void tell_left(const struct search *search)
{
    printf("shrunk in %u runs to %zu messages, %zu recipients, %zu faults:\n", search->tries,
           count_of(search, ATOM_MAIL), count_of(search, ATOM_RCPT), count_of(search, ATOM_FAULT));
}

int shrink(const struct sim_config *config)
{
    struct search search = {.config = *config};
    bool again = true;
    search.config.trace = search.config.brief = false;
    search.kind = try(&search.config, NULL, &search.left);
    if (search.kind == 0) {
        printf("nothing to shrink: the world does not fail\n");
        return 0;
    }
    if (search.kind == 1) {
        printf("not shrunk: it dies by a signal\n");
        return 1;
    }
    while (again) {
        again = thin_out(&search, ATOM_MAIL);
        again = thin_out(&search, ATOM_FAULT) || again;
        again = thin_out(&search, ATOM_RCPT) || again;
    }
    tell_left(&search);
    struct sim_filter filter = {
        .chosen = true, .atoms = search.left.all, .count = search.left.count, .report = -1};
    struct queue_totals queues = {0};
    struct sim_totals totals = {.queues = &queues};
    search.config.trace = search.config.brief = true;
    search.config.filter = &filter;
    sim_run(&search.config, &totals); /* does not return */
    return 1;
}
