/*
 * diag: what is wrong with what the operator wrote, each with its place; a list of them.
 *
 * Libraries add to a list and never print. One list belongs to one thread at a time. A list holds
 * at most DIAG_MAX entries; later ones are only counted.
 */
#ifndef SPLITMX_CONFIG_DIAG_H
#define SPLITMX_CONFIG_DIAG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#define DIAG_MAX 1000

enum diag_level { DIAG_ERROR, DIAG_WARNING };

/* Lines and columns count from 1; 0 stands for "the whole file" (column: "the whole line"). */
struct diag_place {
    const char *file; /* NULL when there is none (the message is about the machine) */
    unsigned line;
    unsigned column;
};

/* No place: what is told is about the machine. */
#define DIAG_NOWHERE ((struct diag_place){NULL, 0, 0})

struct diag {
    enum diag_level level;
    bool machine; /* see diag_machine */
    char *file;   /* owned; may be NULL */
    unsigned line;
    unsigned column;
    char *text; /* owned; one line, control characters escaped */
};

struct diag_list;

/* NULL when memory is short; every other function accepts a NULL list and then does nothing. */
struct diag_list *diag_list_new(void);
void diag_list_free(struct diag_list *list);

void diag_error(struct diag_list *list, struct diag_place place, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void diag_warning(struct diag_list *list, struct diag_place place, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* An error without a place that is the machine's (a full disk, short memory): nothing that is
 * written is wrong, and to try again may help. */
void diag_machine(struct diag_list *list, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

size_t diag_errors(const struct diag_list *list);

/* Whether there are errors and all of them are the machine's. */
bool diag_only_machine(const struct diag_list *list);
size_t diag_count(const struct diag_list *list); /* entries held, errors and warnings */
const struct diag *diag_at(const struct diag_list *list, size_t index);

/*
 * One entry as the user sees it, without a newline, cut to cap: "file:line:column: text",
 * "file:line:column: warning: text"; parts of the place that are absent are left out.
 */
size_t diag_format(const struct diag *diag, char *out, size_t cap);

/* All of them, a line each, in order; then "… and N more" when some were only counted. */
void diag_print(const struct diag_list *list, FILE *out);

/* The same with a mark in front of each line, one for errors and one for warnings. */
void diag_print_marked(const struct diag_list *list, FILE *out, const char *error,
                       const char *warning);

/* Reading of did-you-mean: the candidate nearest to word (at most two edits, and a third of its
 * letters), else the only one that begins with it, or NULL. candidates ends with NULL. */
const char *diag_nearest(const char *word, const char *const *candidates);

#endif
