/*
 * import: reads route files, YAML or Postfix transport maps, as a stream of routes (design: section
 * 4).
 *
 * Thread: blocks on files; never on an event loop.
 */
#ifndef SPLITMX_ROUTING_IMPORT_H
#define SPLITMX_ROUTING_IMPORT_H

#include <stdio.h>

#include "config/diag.h"
#include "routing/nexthop.h"

#define IMPORT_VALUE_MAX 8192 /* no destination is longer */
#define IMPORT_STDIN     "-"

/* One route as written; spans are valid during the call. */
struct import_route {
    struct span key;               /* folded pattern, checked */
    struct span to;                /* destination text, checked by transport_parse */
    struct span fallback;          /* empty: none */
    struct span unknown_recipient; /* empty: none */
    enum transport_dialect dialect;
    struct diag_place place; /* of the key */
    struct diag_place to_place;
    struct diag_place fallback_place;
    struct diag_place unknown_place;
};

/* Returns false to stop reading. */
typedef bool import_sink(void *context, const struct import_route *route);

/* Whether the file's name says YAML: *.yaml, *.yml, *.json. */
bool import_is_yaml(const char *path);

/* Whether it is named as Postfix names its tables, "hash:/etc/postfix/transport", perhaps behind a
 * folder. */
bool import_is_typed(const char *path);

/* *.yaml, *.yml, *.json: YAML; anything else a Postfix transport map (texthash); IMPORT_STDIN: a
 * map from standard input. Errors go to diags; reading goes on after an error where that is
 * possible, so that all are told. A file in which nothing is said is an error: it is a half-written
 * one far more often than it is meant, and would refuse everybody. YAML can say that it is meant
 * (`{}`). */
void import_read(const char *path, import_sink *sink, void *context, struct diag_list *diags);

/* What a file that is to be converted holds. */
enum import_kind {
    IMPORT_NAMED,    /* by its name: postfix-accounts.cf; postfix-virtual.cf, postfix-regexp.cf;
                        else a map */
    IMPORT_MAP,      /* a Postfix transport map */
    IMPORT_ACCOUNTS, /* user@domain|password, as docker-mailserver has it */
    IMPORT_VIRTUAL,  /* alias target[,target], as virtual(5) and docker-mailserver have it */
};

struct import_job {
    const char *const *paths;
    size_t count;
    enum import_kind kind; /* of all of them */
    const char *to;        /* where accounts and aliases go: a destination that is fine */
};

struct import_outcome {
    size_t routes;    /* written */
    size_t left_out;  /* lines of accounts and aliases that no route says; each is told */
    size_t elsewhere; /* targets of aliases that are in none of the domains; each is told */
    bool mailboxes;   /* accounts or aliases have been read */
};

/* `splitmx import`: writes the files as one of routes in YAML that says the same. `name` is what
 * messages call the output. False when diags has errors: then nothing is written. Of accounts'
 * lines only the address is ever repeated, here or in diags. */
bool import_to_yaml(const struct import_job *job, FILE *out, const char *name,
                    struct import_outcome *outcome, struct diag_list *diags);

#endif
