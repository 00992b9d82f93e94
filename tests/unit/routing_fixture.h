/*
 * routing_fixture: a folder with route files, a configuration and its relays, for the tests of
 * routing.
 */
#ifndef SPLITMX_TESTS_UNIT_ROUTING_FIXTURE_H
#define SPLITMX_TESTS_UNIT_ROUTING_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "config/text.h"
#include "routing/relay.h"
#include "routing/table.h"

#define FIXTURE_FILES 4
#define FIXTURE_PATH  300

struct fixture {
    char folder[64];
    char paths[FIXTURE_FILES][FIXTURE_PATH];
    struct config_text routes[FIXTURE_FILES];
    struct config_text domains[4];
    struct config_relay relays[3];
    struct config config;
    struct relay_set *set;
    struct diag_list *diags;
    uint64_t held; /* the generation in force, as the daemon says */
};

static inline char *fixture_text(const char *text)
{
    return (char *)(uintptr_t)text; /* the configuration is only read */
}

/* Relays local, other and (built in) gmail; no route files yet, no domains: given. */
static inline struct fixture *fixture_new(void)
{
    static const char *const names[] = {"local", "other"};
    struct fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    snprintf(f->folder, sizeof(f->folder), "/tmp/splitmx-test-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    for (size_t i = 0; i < 2; i++) {
        f->relays[i].name.text = fixture_text(names[i]);
        f->relays[i].next_hop.text = fixture_text("smtp:[192.0.2.25]");
        f->relays[i].max_connections = 100;
    }
    f->config = (struct config){.path = fixture_text("splitmx.yaml"),
                                .hostname = {.text = fixture_text("mx.example.com")},
                                .relays = f->relays,
                                .relay_count = 2,
                                .routes = {f->routes, 0},
                                .domains = {f->domains, 0},
                                .recipient_delimiter = '+'};
    f->diags = diag_list_new();
    f->set = relay_set_new(&f->config, f->diags);
    assert_non_null(f->set);
    return f;
}

static inline void fixture_free(struct fixture *f)
{
    DIR *dir = opendir(f->folder);
    for (struct dirent *entry = readdir(dir); entry; entry = readdir(dir))
        unlinkat(dirfd(dir), entry->d_name, 0);
    closedir(dir);
    assert_int_equal(rmdir(f->folder), 0);
    relay_set_free(f->set);
    diag_list_free(f->diags);
    free(f);
}

static inline void fixture_write(struct fixture *f, const char *name, const char *content)
{
    char path[FIXTURE_PATH];
    snprintf(path, sizeof(path), "%s/%s", f->folder, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(content, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

/* Writes a route file and names it in the configuration. */
static inline void fixture_routes(struct fixture *f, const char *name, const char *content)
{
    size_t at = f->config.routes.count++;
    assert_true(at < FIXTURE_FILES);
    struct text path = TEXT(f->paths[at]);
    text_puts(&path, f->folder);
    text_putc(&path, '/');
    text_puts(&path, name);
    f->routes[at].text = f->paths[at];
    fixture_write(f, name, content);
}

static inline void fixture_domain(struct fixture *f, const char *domain)
{
    f->config.domains_given = true;
    f->domains[f->config.domains.count++].text = fixture_text(domain);
}

/* The number of files in the folder whose name begins so. */
static inline size_t fixture_count(const struct fixture *f, const char *prefix)
{
    size_t count = 0;
    DIR *dir = opendir(f->folder);
    for (struct dirent *entry = readdir(dir); entry; entry = readdir(dir))
        count += strncmp(entry->d_name, prefix, strlen(prefix)) == 0;
    closedir(dir);
    return count;
}

/* What the diagnostics say, one a line, the folder left out; then they are forgotten. */
static inline const char *fixture_said(struct fixture *f)
{
    static char all[65536];
    char line[1024];
    struct text text = TEXT(all);
    for (size_t i = 0; i < diag_count(f->diags); i++) {
        diag_format(diag_at(f->diags, i), line, sizeof(line));
        char *at = strstr(line, f->folder);
        while (at) {
            size_t cut = strlen(f->folder) + 1;
            memmove(at, at + cut, strlen(at + cut) + 1);
            at = strstr(line, f->folder);
        }
        text_printf(&text, "%s\n", line);
    }
    diag_list_free(f->diags);
    f->diags = diag_list_new();
    return all;
}

static inline struct table *fixture_load(struct fixture *f)
{
    return table_load(&f->config, f->set, f->folder, f->held, f->diags);
}

static inline struct table *fixture_must_load(struct fixture *f)
{
    struct table *table = fixture_load(f);
    if (!table)
        fail_msg("%s", fixture_said(f));
    return table;
}

#endif
