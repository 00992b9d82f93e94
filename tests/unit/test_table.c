/* The table: look-up order, domains, generations and when they are built again, errors. */
#include "tests/unit/routing_fixture.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "routing/generation.h"
#include "routing/route.h"
#include "routing/seal.h"
#include "routing/table_build.h"

static const char *find(const struct table *table, const char *text)
{
    static struct table_hit hit;
    struct address address;
    assert_int_equal(address_parse(span_of(text), false, false, &address), ADDRESS_OK);
    switch (table_lookup(table, &address, '+', &hit)) {
    case TABLE_HIT:
        return hit.key;
    case TABLE_MISS:
        return "miss";
    case TABLE_BROKEN:
        break;
    }
    return "broken";
}

static void note_key(void *context, struct span key, enum table_found found)
{
    text_put(context, key);
    text_puts(context, found == TABLE_HIT ? "! " : " ");
}

static void test_a_look_up_can_be_followed_key_by_key(void **state)
{
    static const char *const asked[] = {"User+ext@A.b.example", "u@other.example", "u@[192.0.2.1]"};
    static const char *const keys[] = {
        "user+ext@a.b.example user@a.b.example a.b.example .b.example! ",
        "u@other.example other.example .example *! ", "u@[192.0.2.1] [192.0.2.1] "};
    struct fixture *f = fixture_new();
    struct table_hit hit;
    struct address address;
    (void)state;
    fixture_routes(f, "r.yaml", ".b.example: local\n\"*\": local\n");
    struct table *table = fixture_must_load(f);
    for (size_t i = 0; i < 3; i++) {
        char seen[400];
        struct text text = TEXT(seen);
        assert_int_equal(address_parse(span_of(asked[i]), false, false, &address), ADDRESS_OK);
        enum table_found found = table_trace(table, &address, '+', &hit, note_key, &text);
        assert_string_equal(seen, keys[i]);
        assert_int_equal(found, i < 2 ? TABLE_HIT : TABLE_MISS);
    }
    table_unref(table);
    fixture_free(f);
}

/* Each key in the order of transport(5): with the first n of them gone, the next one is found. */
static void test_keys_are_tried_in_the_order_of_transport5(void **state)
{
    static const char *const keys[] = {"user+ext@a.b.example", "user@a.b.example", "a.b.example",
                                       ".b.example",           ".example",         "*"};
    static const char *const files[] = {"r.yaml", "transport"};
    (void)state;
    for (size_t dialect = 0; dialect < 2; dialect++) {
        for (size_t gone = 0; gone <= 6; gone++) {
            char content[512];
            struct text text = TEXT(content);
            struct fixture *f = fixture_new();
            text_puts(&text, dialect == 0 ? "other.example: local\n" : "other.example local\n");
            for (size_t i = gone; i < 6; i++) {
                text_printf(&text,
                            dialect == 0 ? "\"%s\": smtp:[h.example]\n" : "%s smtp:[h.example]\n",
                            keys[i]);
            }
            fixture_routes(f, files[dialect], content);
            struct table *table = fixture_must_load(f);
            assert_string_equal(find(table, "User+Ext@A.b.EXAMPLE"),
                                gone < 6 ? keys[gone] : "miss");
            assert_int_equal(table_routes(table), 7 - gone);
            table_unref(table);
            fixture_free(f);
        }
    }
}

static void test_keys_that_are_near_do_not_match(void **state)
{
    struct fixture *f = fixture_new();
    (void)state;
    fixture_routes(
        f, "r.yaml",
        ".example.com: local\nuser@[192.0.2.1]: local\n\"*\": other\n"
        "\"[192.0.2.2]\": local\nUSER@Example.NET: local\n\"\\\"a b\\\"@example.net\": local\n");
    struct table *table = fixture_must_load(f);
    assert_string_equal(find(table, "u@example.com"), "*");
    assert_string_equal(find(table, "u@xexample.com"), "*");
    assert_string_equal(find(table, "u@x.y.example.com"), ".example.com");
    assert_string_equal(find(table, "user@[192.0.2.1]"), "user@[192.0.2.1]");
    assert_string_equal(find(table, "User+x@[192.0.2.1]"), "user@[192.0.2.1]");
    assert_string_equal(find(table, "u@[192.0.2.1]"), "miss");
    assert_string_equal(find(table, "u@[192.0.2.2]"), "[192.0.2.2]");
    assert_string_equal(find(table, "uSer@eXample.net"), "user@example.net");
    assert_string_equal(find(table, "\"A b\"@example.net"), "\"a b\"@example.net");
    table_unref(table);
    fixture_free(f);
}

/* RFC 5321 4.1.2: quotes are spelling. What is spelt with and without them is one mailbox. */
static void test_quotes_around_a_local_part_do_not_matter(void **state)
{
    struct fixture *f = fixture_new();
    (void)state;
    fixture_routes(f, "r.yaml",
                   "kingmail@example.com: local\n'"
                   "\"o\\ther\"@example.com': local\n'\"a\\ b\"@example.com': local\n"
                   "example.com: other\n");
    struct table *table = fixture_must_load(f);
    assert_string_equal(find(table, "\"KingMail\"@example.com"), "kingmail@example.com");
    assert_string_equal(find(table, "\"k\\ingmail\"@example.com"), "kingmail@example.com");
    assert_string_equal(find(table, "\"kingmail+x\"@example.com"), "kingmail@example.com");
    assert_string_equal(find(table, "other@example.com"), "other@example.com");
    assert_string_equal(find(table, "\"A b\"@example.com"), "\"a b\"@example.com");
    assert_string_equal(find(table, "\"a b+x\"@example.com"), "example.com");
    table_unref(table);
    fixture_write(f, "r.yaml", "kingmail@example.com: local\n'\"kingmail\"@example.com': local\n");
    assert_null(fixture_load(f));
    assert_non_null(
        strstr(fixture_said(f), "r.yaml:2:1: duplicate pattern `kingmail@example.com`"));
    fixture_free(f);
}

static bool accepts(const struct table *table, const char *domain)
{
    enum table_found found = table_accepts_domain(table, span_of(domain));
    assert_int_not_equal(found, TABLE_BROKEN);
    return found == TABLE_HIT;
}

static void test_domains_default_to_those_spelled_in_yaml(void **state)
{
    struct fixture *f = fixture_new();
    (void)state;
    fixture_routes(f, "r.yaml",
                   "u@one.example: local\nTwo.example: local\n.three.example: local\n"
                   "u@[192.0.2.1]: local\n\"*\": local\n");
    fixture_routes(f, "transport", "u@four.example local\nfive.example local\n");
    struct table *table = fixture_must_load(f);
    assert_true(accepts(table, "one.example"));
    assert_true(accepts(table, "two.example"));
    assert_true(accepts(table, "x.three.example"));
    assert_true(accepts(table, "x.y.three.example"));
    assert_true(accepts(table, "[192.0.2.1]"));
    assert_false(accepts(table, "three.example"));
    assert_false(accepts(table, "x.one.example"));
    assert_false(accepts(table, "four.example"));
    assert_false(accepts(table, "five.example"));
    assert_false(accepts(table, "*"));
    assert_false(accepts(table, "[192.0.2.2]"));
    assert_false(accepts(table, ""));
    table_unref(table);
    fixture_free(f);
}

static void test_given_domains_replace_the_default(void **state)
{
    struct fixture *f = fixture_new();
    (void)state;
    fixture_domain(f, "given.example");
    fixture_domain(f, ".given.example");
    fixture_routes(f, "r.yaml", "u@one.example: local\n");
    struct table *table = fixture_must_load(f);
    assert_true(accepts(table, "given.example"));
    assert_true(accepts(table, "a.b.given.example"));
    assert_false(accepts(table, "one.example"));
    table_unref(table);
    fixture_free(f);
}

static void test_hits_tell_their_place_and_destination(void **state)
{
    struct fixture *f = fixture_new();
    struct table_hit hit;
    struct address address;
    (void)state;
    fixture_routes(f, "r.yaml",
                   "# comment\na.example: local\nb.example: smtp:[h.example]:26\n"
                   "c.example: error:5.7.1 not here\nd.example: \"discard:\"\n");
    struct table *table = fixture_must_load(f);
    address_parse(SPAN("u@a.example"), false, false, &address);
    assert_int_equal(table_lookup(table, &address, 0, &hit), TABLE_HIT);
    assert_string_equal(hit.file, f->paths[0]);
    assert_int_equal(hit.line, 2);
    assert_ptr_equal(hit.destination->relay, relay_find(f->set, SPAN("local")));
    address_parse(SPAN("u@b.example"), false, false, &address);
    assert_int_equal(table_lookup(table, &address, 0, &hit), TABLE_HIT);
    assert_true(hit.destination->relay->direct);
    assert_string_equal(hit.destination->relay->name, "smtp:[h.example]:26");
    assert_int_equal(hit.destination->relay->hops[0].port, 26);
    address_parse(SPAN("u@c.example"), false, false, &address);
    assert_int_equal(table_lookup(table, &address, 0, &hit), TABLE_HIT);
    assert_int_equal(hit.destination->kind, TRANSPORT_ERROR);
    assert_string_equal(hit.destination->text, "not here");
    address_parse(SPAN("u@d.example"), false, false, &address);
    assert_int_equal(table_lookup(table, &address, 0, &hit), TABLE_HIT);
    assert_int_equal(hit.destination->kind, TRANSPORT_DISCARD);
    table_unref(table);
    fixture_free(f);
}

static void test_unchanged_sources_are_not_built_again(void **state)
{
    struct fixture *f = fixture_new();
    (void)state;
    fixture_routes(f, "r.yaml", "a.example: local\n");
    struct table *first = fixture_must_load(f);
    assert_int_equal(table_generation(first), 1);
    struct table *again = fixture_must_load(f);
    assert_int_equal(table_generation(again), 1);
    fixture_write(f, "r.yaml.new", "a.example: local\n"); /* the same words in another file */
    char other[FIXTURE_PATH + 8];
    snprintf(other, sizeof(other), "%s.new", f->paths[0]);
    assert_int_equal(rename(other, f->paths[0]), 0);
    struct table *moved = fixture_must_load(f);
    assert_int_equal(table_generation(moved), 1);
    table_supersede(first); /* the file is in force again and has to stay */
    table_unref(first);
    assert_int_equal(fixture_count(f, "routes-1.lmdb"), 1);
    table_unref(again);
    table_unref(moved);
    fixture_free(f);
}

/* In place, of the same length, at once: time stamps may be the same. */
static void test_changed_sources_make_the_next_generation(void **state)
{
    struct fixture *f = fixture_new();
    struct table *table = NULL;
    (void)state;
    fixture_routes(f, "r.yaml", "0.example: local\n");
    for (unsigned i = 0; i < 20; i++) {
        char content[64], address[64];
        snprintf(content, sizeof(content), "%u.example: local\n", i % 10);
        fixture_write(f, "r.yaml", content);
        f->held = i;
        struct table *next = fixture_must_load(f);
        assert_int_equal(table_generation(next), i + 1);
        snprintf(address, sizeof(address), "u@%u.example", i % 10);
        assert_string_equal(find(next, address), address + 2);
        if (table) {
            table_supersede(table);
        }
        table_unref(table);
        table = next;
        assert_int_equal(fixture_count(f, "routes-"), 1);
    }
    fixture_domain(f, "0.example"); /* the content depends on it */
    struct table *last = fixture_must_load(f);
    assert_int_equal(table_generation(last), 21);
    table_unref(table);
    table_unref(last);
    fixture_free(f);
}

static void test_an_old_generation_serves_until_it_is_let_go(void **state)
{
    struct fixture *f = fixture_new();
    (void)state;
    fixture_routes(f, "r.yaml", "a.example: local\n");
    struct table *old = fixture_must_load(f);
    fixture_write(f, "r.yaml", "b.example: local\n");
    f->held = table_generation(old);
    struct table *new = fixture_must_load(f);
    table_supersede(old);
    assert_int_equal(fixture_count(f, "routes-1.lmdb"), 1);
    assert_string_equal(find(old, "u@a.example"), "a.example");
    assert_string_equal(find(new, "u@a.example"), "miss");
    table_ref(old);
    table_unref(old);
    assert_int_equal(fixture_count(f, "routes-1.lmdb"), 1);
    table_unref(old);
    assert_int_equal(fixture_count(f, "routes-1.lmdb"), 0);
    assert_int_equal(fixture_count(f, "routes-2.lmdb"), 1);
    table_unref(new);
    fixture_free(f);
}

static void test_what_crashed_builds_left_is_removed(void **state)
{
    struct fixture *f = fixture_new();
    struct stat st;
    char path[FIXTURE_PATH];
    (void)state;
    fixture_routes(f, "r.yaml", "a.example: local\n");
    fixture_write(f, "routes-7.lmdb", "no LMDB at all");
    fixture_write(f, "routes-8.lmdb.tmp", "");
    fixture_write(f, "routes-3.lmdb", "");
    fixture_write(f, "ledger.lmdb", "not ours");
    struct table *table = fixture_must_load(f);
    assert_int_equal(table_generation(table), 8);
    assert_int_equal(fixture_count(f, "routes-8.lmdb"), 1);
    assert_int_equal(fixture_count(f, "routes-3"), 0);
    assert_int_equal(fixture_count(f, "ledger.lmdb"), 1);
    snprintf(path, sizeof(path), "%s/routes-8.lmdb", f->folder);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    table_unref(table);
    assert_int_equal(truncate(path, st.st_size / 2 & ~4095), 0); /* half a file is none */
    table = fixture_must_load(f);
    assert_int_equal(table_generation(table), 9);
    table_unref(table);
    fixture_free(f);
}

/* Numbers tell generations apart in logs and in `status`. */
static void test_numbers_rise_whatever_has_gone_from_the_folder(void **state)
{
    struct fixture *f = fixture_new();
    char path[FIXTURE_PATH];
    (void)state;
    fixture_routes(f, "r.yaml", "a.example: local\n");
    struct table *first = fixture_must_load(f);
    snprintf(path, sizeof(path), "%s/routes-1.lmdb", f->folder);
    assert_int_equal(unlink(path), 0);
    f->held = 5; /* no other file tells of it */
    struct table *table = fixture_must_load(f);
    assert_int_equal(table_generation(table), 6);
    table_unref(first);
    table_unref(table);
    f->held = 9; /* and what is there is of the same sources, but older */
    table = fixture_must_load(f);
    assert_int_equal(table_generation(table), 10);
    assert_int_equal(fixture_count(f, "routes-"), 1);
    table_unref(table);
    fixture_free(f);
}

static void test_a_table_without_routes_is_a_warning(void **state)
{
    struct fixture *f = fixture_new();
    (void)state;
    fixture_routes(f, "r.yaml", "{}\n");
    fixture_domain(f, "a.example");
    table_unref(fixture_must_load(f));
    assert_non_null(strstr(fixture_said(f), "splitmx.yaml: warning: there is no route: every "
                                            "recipient is refused"));
    fixture_free(f);
}

/* At the start nobody holds what an earlier process had in force. */
static void test_a_superseded_generation_of_an_earlier_process_is_removed(void **state)
{
    struct fixture *f = fixture_new();
    (void)state;
    fixture_routes(f, "r.yaml", "a.example: local\n");
    table_unref(fixture_must_load(f));
    fixture_write(f, "r.yaml", "b.example: local\n");
    struct table *table = fixture_must_load(f);
    assert_int_equal(table_generation(table), 2);
    assert_int_equal(fixture_count(f, "routes-"), 1);
    table_unref(table);
    fixture_free(f);
}

static void overwrite(const char *path, off_t at, const char *bytes, size_t len)
{
    int fd = open(path, O_WRONLY);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, bytes, len, at), len);
    assert_int_equal(close(fd), 0);
}

/* Each page of a small table in turn, as zeroes and as noise; a byte more or less; no seal. */
static void test_a_damaged_table_is_built_again(void **state)
{
    struct fixture *f = fixture_new();
    char path[GENERATION_PATH], zeroes[4096] = {0}, noise[4096];
    struct stat st;
    uint64_t number = 1;
    (void)state;
    memset(noise, 0xa5, sizeof(noise));
    fixture_routes(f, "r.yaml", "a.example: local\nu@b.example: other\n");
    table_unref(fixture_must_load(f));
    assert_true(generation_path(path, f->folder, 1));
    assert_int_equal(stat(path, &st), 0);
    off_t pages = st.st_size / 4096;
    assert_true(pages > 5);
    for (off_t i = 0; i < 2 * pages + 4; i++) {
        assert_true(generation_path(path, f->folder, number));
        if (i < 2 * pages) {
            overwrite(path, i / 2 * 4096, i % 2 ? zeroes : noise, 4096);
        } else if (i < 2 * pages + 2) {
            assert_int_equal(truncate(path, i % 2 ? 0 : st.st_size - 1), 0);
        } else {
            overwrite(path, st.st_size - (i % 2), "x", 1); /* behind the end; the last byte */
        }
        enum table_state now;
        assert_null(table_open_current(&f->config, f->set, f->folder, &now, f->diags));
        assert_int_equal(now, TABLE_DAMAGED);
        f->held = number;
        struct table *table = fixture_must_load(f);
        assert_non_null(strstr(fixture_said(f), ".lmdb: warning: the file is damaged"));
        assert_int_equal(table_generation(table), ++number);
        assert_string_equal(find(table, "u@b.example"), "u@b.example");
        table_unref(table);
        table_unref(fixture_must_load(f)); /* and that one is whole */
        assert_string_equal(fixture_said(f), "");
    }
    fixture_free(f);
}

/* The same words under another time: copied, or touched. */
static void test_a_table_of_another_time_is_read_and_kept(void **state)
{
    struct fixture *f = fixture_new();
    char path[GENERATION_PATH];
    (void)state;
    fixture_routes(f, "r.yaml", "a.example: local\n");
    table_unref(fixture_must_load(f));
    assert_true(generation_path(path, f->folder, 1));
    assert_int_equal(utimensat(AT_FDCWD, path, NULL, 0), 0);
    struct table *table = fixture_must_load(f);
    assert_int_equal(table_generation(table), 1);
    assert_true(table_intact(table));
    table_unref(table);
    fixture_free(f);
}

static void test_a_short_table_serves_whatever_happens_to_its_file(void **state)
{
    struct fixture *f = fixture_new();
    char path[GENERATION_PATH];
    (void)state;
    fixture_routes(f, "r.yaml", "a.example: local\n");
    struct table *table = fixture_must_load(f);
    assert_true(generation_path(path, f->folder, 1));
    assert_int_equal(truncate(path, 0), 0);
    assert_true(table_intact(table));
    assert_string_equal(find(table, "u@a.example"), "a.example");
    table_unref(table);
    fixture_free(f);
}

#define LONG 130000 /* routes, for a file that is too long to be copied */

static void test_a_long_table_changed_while_it_serves_is_not_read(void **state)
{
    struct fixture *f = fixture_new();
    char path[GENERATION_PATH];
    struct stat st;
    (void)state;
    fixture_routes(f, "map", "");
    FILE *file = fopen(f->paths[0], "w");
    fixture_domain(f, "a.example");
    for (unsigned i = 0; i < LONG; i++) {
        fprintf(file, "%0120u@a.example local\n", i);
    }
    assert_int_equal(fclose(file), 0);
    for (uint64_t i = 1; i <= 2; i++) {
        struct table *table = fixture_must_load(f);
        struct address address;
        struct decision decision;
        assert_int_equal(table_generation(table), i);
        assert_true(generation_path(path, f->folder, i));
        assert_int_equal(stat(path, &st), 0);
        assert_true((uint64_t)st.st_size > SEAL_READ_ALWAYS);
        assert_int_equal(chmod(path, 0400), 0); /* no harm */
        assert_true(table_intact(table));
        if (i == 1) {
            assert_int_equal(truncate(path, 0), 0);
        } else {
            assert_int_equal(chmod(path, 0600), 0);
            overwrite(path, 0, "x", 1);
        }
        assert_false(table_intact(table));
        route_decide(&f->config, f->set, table, SPAN("u@a.example"), &address, &decision);
        assert_true(decision.broken);
        assert_int_equal(decision.code, 451);
        assert_string_equal(decision.enhanced, "4.3.0");
        table_unref(table);
        fixture_said(f);
    }
    fixture_free(f);
}

static void test_open_current_never_builds(void **state)
{
    struct fixture *f = fixture_new();
    enum table_state state_now = TABLE_CURRENT;
    (void)state;
    fixture_routes(f, "r.yaml", "a.example: local\n");
    assert_null(table_open_current(&f->config, f->set, f->folder, &state_now, f->diags));
    assert_int_equal(state_now, TABLE_NONE);
    table_unref(fixture_must_load(f));
    struct table *table = table_open_current(&f->config, f->set, f->folder, &state_now, f->diags);
    assert_non_null(table);
    table_unref(table);
    fixture_write(f, "r.yaml", "b.example: local\n");
    assert_null(table_open_current(&f->config, f->set, f->folder, &state_now, f->diags));
    assert_int_equal(state_now, TABLE_STALE);
    assert_int_equal(fixture_count(f, "routes-"), 1);
    fixture_free(f);
}

static void test_a_private_table_leaves_no_file(void **state)
{
    struct fixture *f = fixture_new();
    (void)state;
    fixture_routes(f, "r.yaml", "a.example: local\n");
    assert_int_equal(setenv("TMPDIR", f->folder, 1), 0);
    struct table *table = table_load(&f->config, f->set, NULL, 0, f->diags);
    assert_non_null(table);
    assert_string_equal(find(table, "u@a.example"), "a.example");
    assert_int_equal(fixture_count(f, "splitmx-"), 0);
    assert_int_equal(fixture_count(f, "routes-"), 0);
    table_unref(table);
    assert_int_equal(unsetenv("TMPDIR"), 0);
    fixture_free(f);
}

static void expect_said(const char *name, const char *content, const char *said)
{
    struct fixture *f = fixture_new();
    fixture_routes(f, name, content);
    struct table *table = fixture_load(f);
    const char *seen = fixture_said(f);
    if (!strstr(seen, said)) {
        fail_msg("expected %s\nseen %s", said, seen);
    }
    assert_int_equal(table == NULL, strstr(said, "warning: ") == NULL);
    if (!table) {
        assert_int_equal(fixture_count(f, "routes-"), 0);
    }
    table_unref(table);
    fixture_free(f);
}

static void test_errors_carry_their_place(void **state)
{
    (void)state;
    expect_said("r.yaml", "a.example: local\nA.Example: other\n",
                "r.yaml:2:1: duplicate pattern `a.example`; it is already at r.yaml:1:1");
    expect_said("map", "a.example local:\n", "map:1:11: transport `local:` is not known here");
    expect_said("map", "a.example local\nA.example other\n",
                "map:2:1: warning: duplicate pattern `a.example` is not used");
    expect_said("r.yaml", "a.example: lokal\n",
                "r.yaml:1:12: no relay is named `lokal`; did you mean `local`?");
    expect_said("map", "a.example virtual\n", "map:1:11: no relay is named `virtual`");
    expect_said("r.yaml", "a.example:\n  to: local\n  fallback: local\n",
                "r.yaml:3:13: `local` leads back to itself");
    expect_said("r.yaml", "a.example: {to: local, unknown-recipient: oter}\n",
                "no relay is named `oter`; did you mean `other`?");
    expect_said("r.yaml", "a.example: lokal\nb.example: smtp:[\nB.example: x\nb.Example: y\n",
                "r.yaml:1:12: no relay");
    expect_said("r.yaml", "a.example: lokal\nB.example: local\nb.Example: local\n",
                "r.yaml:3:1: duplicate");
    expect_said("r.yaml", "a.example: lokal\nb.example: smtp:[\nc.example: oter\nc.example: x\n",
                "r.yaml:1:12: no relay is named `lokal`; did you mean `local`?\n"
                "r.yaml:2:17: `[` without `]`: expected `[host]` or `[host]:port`\n"
                "r.yaml:3:12: no relay is named `oter`; did you mean `other`?\n"
                "r.yaml:4:1: duplicate");
}

static void test_the_same_key_in_two_files(void **state)
{
    struct fixture *f = fixture_new();
    (void)state;
    fixture_routes(f, "one", "a.example local\n");
    fixture_routes(f, "two", "a.example other\n");
    struct table *table = fixture_must_load(f);
    struct table_hit hit;
    struct address address;
    address_parse(SPAN("u@a.example"), false, false, &address);
    assert_int_equal(table_lookup(table, &address, 0, &hit), TABLE_HIT);
    assert_string_equal(hit.destination->relay->name, "local");
    assert_non_null(strstr(fixture_said(f), "two:1:1: warning: duplicate"));
    table_unref(table);
    fixture_routes(f, "three.yaml", "a.example: local\n");
    assert_null(fixture_load(f));
    assert_non_null(strstr(fixture_said(f), "three.yaml:1:1: duplicate pattern `a.example`; it is "
                                            "already at one:1:1"));
    fixture_free(f);
}

static void test_a_map_behind_yaml_with_its_key_is_an_error(void **state)
{
    struct fixture *f = fixture_new();
    (void)state;
    fixture_routes(f, "one.yaml", "a.example: local\n");
    fixture_routes(f, "two", "a.example local\n");
    assert_null(fixture_load(f));
    assert_non_null(strstr(fixture_said(f), "two:1:1: duplicate pattern"));
    fixture_free(f);
}

static void test_relay_names_are_checked_at_every_load(void **state)
{
    struct fixture *f = fixture_new();
    (void)state;
    fixture_routes(f, "r.yaml", "a.example: local\nb.example: other\n");
    table_unref(fixture_must_load(f));
    relay_set_free(f->set);
    f->config.relay_count = 1;
    f->set = relay_set_new(&f->config, f->diags);
    assert_null(fixture_load(f));
    assert_non_null(strstr(fixture_said(f), "r.yaml:2:12: no relay is named `other`"));
    fixture_free(f);
}

static void test_a_direct_hop_to_our_own_listener_is_an_error(void **state)
{
    struct fixture *f = fixture_new();
    struct config_listener listener = {.address = {.text = fixture_text("[::]:2525")}};
    (void)state;
    f->config.listeners = &listener;
    f->config.listener_count = 1;
    fixture_routes(f, "map", "a.example smtp:[127.0.0.1]:2525\n");
    assert_null(fixture_load(f));
    assert_non_null(
        strstr(fixture_said(f), "map:1:11: next hop [127.0.0.1]:2525 is one of our own"));
    fixture_free(f);
}

static void test_a_missing_file_is_an_error(void **state)
{
    struct fixture *f = fixture_new();
    (void)state;
    fixture_routes(f, "gone.yaml", "");
    fixture_routes(f, "bad", "a.example\n");
    unlink(f->paths[0]);
    f->routes[0].line = 7;
    f->routes[0].column = 9;
    assert_null(fixture_load(f));
    const char *said = fixture_said(f);
    assert_non_null(
        strstr(said, "splitmx.yaml:7:9: routes gone.yaml cannot be read: No such file"));
    assert_non_null(strstr(said, "bad:1:1: no destination"));
    fixture_free(f);
}

static void test_patterns_that_never_match_are_warned_of(void **state)
{
    struct fixture *f = fixture_new();
    (void)state;
    fixture_domain(f, "a.example");
    fixture_domain(f, ".b.example");
    fixture_domain(f, "[192.0.2.1]");
    fixture_routes(f, "map",
                   "u@a.example local\nb.example local\nx.b.example local\n.example local\n"
                   ".a.example local\nu@c.example local\n* local\n[192.0.2.1] local\n"
                   "postmaster@MX.example.com local\nuser local\nm\xc3\xbc@a.example local\n");
    table_unref(fixture_must_load(f));
    assert_string_equal(
        fixture_said(f),
        "map:2:1: warning: `b.example` is never used: its domain is not in `domains:`\n"
        "map:5:1: warning: `.a.example` is never used: its domain is not in `domains:`\n"
        "map:6:1: warning: `u@c.example` is never used: its domain is not in `domains:`\n"
        "map:10:1: warning: `user` is read as a domain; a mailbox is written user@domain\n"
        "map:11:1: warning: `m\xc3\xbc@a.example` is never used: addresses beyond ASCII need "
        "`smtputf8: true`\n");
    f->config.smtputf8 = true;
    fixture_write(f, "map", "m\xc3\xbc@a.example local\nlocalhost local\n");
    table_unref(fixture_must_load(f));
    assert_string_equal(
        fixture_said(f),
        "map:2:1: warning: `localhost` is never used: its domain is not in `domains:`\n");
    fixture_write(f, "map", "");
    FILE *file = fopen(f->paths[0], "w");
    for (unsigned i = 0; i < 5000; i++) {
        fprintf(file, "d%u.example local\n", i);
    }
    fputs("a.example nosuch\n", file);
    assert_int_equal(fclose(file), 0);
    assert_null(fixture_load(f));
    assert_true(diag_count(f->diags) < 100); /* errors are not crowded out */
    assert_non_null(strstr(fixture_said(f), "map:5001:11: no relay is named `nosuch`"));
    fixture_free(f);
}

static void test_a_pipe_is_no_route_file(void **state)
{
    struct fixture *f = fixture_new();
    (void)state;
    fixture_routes(f, "r.yaml", "");
    assert_int_equal(unlink(f->paths[0]), 0);
    assert_int_equal(mkfifo(f->paths[0], 0600), 0);
    assert_null(fixture_load(f)); /* and nobody waits for a writer */
    assert_non_null(strstr(fixture_said(f), "routes r.yaml cannot be read: it is no regular file"));
    fixture_free(f);
}

static void test_a_table_that_accepts_no_domain_is_a_warning(void **state)
{
    static const char *const samples[][2] = {{"map", "a.example local\n"},
                                             {"r.yaml", "\"*\": local\n"}};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct fixture *f = fixture_new();
        fixture_routes(f, samples[i][0], samples[i][1]);
        table_unref(fixture_must_load(f));
        assert_non_null(strstr(fixture_said(f),
                               "splitmx.yaml: warning: mail is accepted for no domain: list "
                               "them as `domains:`"));
        fixture_domain(f, "a.example");
        table_unref(fixture_must_load(f));
        assert_string_equal(fixture_said(f), "");
        fixture_free(f);
    }
}

/* A file size limit stands for a full disk: LMDB's write is cut in the same way. */
static void test_a_full_disk_is_told_as_the_machines_trouble(void **state)
{
    struct fixture *f = fixture_new();
    struct rlimit before, small;
    (void)state;
    fixture_routes(f, "r.yaml", "a.example: local\n");
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    assert_ptr_not_equal(signal(SIGXFSZ, SIG_IGN), SIG_ERR);
    for (rlim_t room = 0; room <= 24576; room += 2048) {
        small = (struct rlimit){room, before.rlim_max};
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
        struct table *table = fixture_load(f);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
        assert_null(table);
        assert_true(diag_only_machine(f->diags));
        const char *said = fixture_said(f);
        if (!strstr(said,
                    "routes-1.lmdb.tmp: the routing table cannot be written: File too large")) {
            fail_msg("with %u bytes: %s", (unsigned)room, said);
        }
        assert_int_equal(fixture_count(f, "routes-"), 0);
    }
    fixture_free(f);
}

static void test_postmaster_without_a_destination_is_a_warning(void **state)
{
    struct fixture *f = fixture_new();
    (void)state;
    f->relays[0].name.text = fixture_text("main");
    relay_set_free(f->set);
    f->set = relay_set_new(&f->config, f->diags);
    fixture_routes(f, "r.yaml", "a.example: main\n\"*\": main\n");
    table_unref(fixture_must_load(f));
    assert_non_null(
        strstr(fixture_said(f), "splitmx.yaml: warning: no destination for postmaster"));
    fixture_write(f, "r.yaml", "postmaster@mx.example.com: main\n");
    table_unref(fixture_must_load(f));
    assert_string_equal(fixture_said(f), "");
    fixture_free(f);
}

#define MANY 20000

/* Small runs, so that many are merged; every key is found, and the domains with them. */
static void test_many_routes_go_through_many_runs(void **state)
{
    struct fixture *f = fixture_new();
    char path[GENERATION_PATH], key[64];
    (void)state;
    fixture_routes(f, "r.yaml", "");
    FILE *file = fopen(f->paths[0], "w");
    for (unsigned i = 0; i < MANY; i++) {
        fprintf(file, "u%u@d%u.example: %s\n", i * 7919 % MANY, i % 1000,
                i % 2 ? "local" : "other");
    }
    assert_int_equal(fclose(file), 0);
    assert_true(generation_path(path, f->folder, 5));
    struct table_build build = {&f->config, f->set, f->folder, path, 5, 16384, NULL};
    assert_true(table_build(&build, f->diags));
    struct table *table = fixture_must_load(f);
    assert_int_equal(table_generation(table), 5);
    assert_int_equal(table_routes(table), MANY);
    for (unsigned i = 0; i < MANY; i++) {
        snprintf(key, sizeof(key), "u%u@d%u.example", i * 7919 % MANY, i % 1000);
        assert_string_equal(find(table, key), key);
        assert_true(accepts(table, strchr(key, '@') + 1));
    }
    table_unref(table);
    fixture_free(f);
}

static void *look_up_often(void *context)
{
    const struct table *table = context;
    for (unsigned i = 0; i < 20000; i++) {
        struct address address;
        struct table_hit hit;
        char text[64];
        snprintf(text, sizeof(text), "u@%c.example", 'a' + i % 3);
        address_parse(span_of(text), false, false, &address);
        enum table_found found = table_lookup(table, &address, '+', &hit);
        if (found != (i % 3 == 2 ? TABLE_MISS : TABLE_HIT) ||
            (found == TABLE_HIT && strcmp(hit.key, text + 2) != 0)) {
            return fixture_text("wrong");
        }
    }
    return NULL;
}

static void test_threads_look_up_at_once(void **state)
{
    struct fixture *f = fixture_new();
    pthread_t threads[8];
    (void)state;
    fixture_routes(f, "r.yaml", "a.example: local\nb.example: local\n");
    struct table *table = fixture_must_load(f);
    for (size_t i = 0; i < 8; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, look_up_often, table), 0);
    }
    for (size_t i = 0; i < 8; i++) {
        void *result;
        assert_int_equal(pthread_join(threads[i], &result), 0);
        assert_null(result);
    }
    table_unref(table);
    fixture_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys_are_tried_in_the_order_of_transport5),
        cmocka_unit_test(test_keys_that_are_near_do_not_match),
        cmocka_unit_test(test_quotes_around_a_local_part_do_not_matter),
        cmocka_unit_test(test_domains_default_to_those_spelled_in_yaml),
        cmocka_unit_test(test_given_domains_replace_the_default),
        cmocka_unit_test(test_hits_tell_their_place_and_destination),
        cmocka_unit_test(test_unchanged_sources_are_not_built_again),
        cmocka_unit_test(test_changed_sources_make_the_next_generation),
        cmocka_unit_test(test_an_old_generation_serves_until_it_is_let_go),
        cmocka_unit_test(test_what_crashed_builds_left_is_removed),
        cmocka_unit_test(test_numbers_rise_whatever_has_gone_from_the_folder),
        cmocka_unit_test(test_a_table_without_routes_is_a_warning),
        cmocka_unit_test(test_a_superseded_generation_of_an_earlier_process_is_removed),
        cmocka_unit_test(test_a_damaged_table_is_built_again),
        cmocka_unit_test(test_a_table_of_another_time_is_read_and_kept),
        cmocka_unit_test(test_a_short_table_serves_whatever_happens_to_its_file),
        cmocka_unit_test(test_a_long_table_changed_while_it_serves_is_not_read),
        cmocka_unit_test(test_open_current_never_builds),
        cmocka_unit_test(test_a_private_table_leaves_no_file),
        cmocka_unit_test(test_errors_carry_their_place),
        cmocka_unit_test(test_the_same_key_in_two_files),
        cmocka_unit_test(test_a_map_behind_yaml_with_its_key_is_an_error),
        cmocka_unit_test(test_relay_names_are_checked_at_every_load),
        cmocka_unit_test(test_a_direct_hop_to_our_own_listener_is_an_error),
        cmocka_unit_test(test_a_missing_file_is_an_error),
        cmocka_unit_test(test_patterns_that_never_match_are_warned_of),
        cmocka_unit_test(test_a_pipe_is_no_route_file),
        cmocka_unit_test(test_a_table_that_accepts_no_domain_is_a_warning),
        cmocka_unit_test(test_a_full_disk_is_told_as_the_machines_trouble),
        cmocka_unit_test(test_postmaster_without_a_destination_is_a_warning),
        cmocka_unit_test(test_many_routes_go_through_many_runs),
        cmocka_unit_test(test_a_look_up_can_be_followed_key_by_key),
        cmocka_unit_test(test_threads_look_up_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
