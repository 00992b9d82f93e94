/* Route files: YAML and transport maps as a stream of routes, errors in place, conversion. */
#include "tests/unit/routing_fixture.h"

#include "routing/import.h"

struct seen {
    char bytes[8192];
    struct text text;
};

/* "line:column key > line:column destination" */
static bool see(void *context, const struct import_route *route)
{
    struct seen *seen = context;
    text_printf(&seen->text, "%u:%u %.*s > %u:%u %.*s", route->place.line, route->place.column,
                SPAN_ARGS(route->key), route->to_place.line, route->to_place.column,
                SPAN_ARGS(route->to));
    if (route->fallback.len > 0) {
        text_printf(&seen->text, " fallback %.*s", SPAN_ARGS(route->fallback));
    }
    if (route->unknown_recipient.len > 0) {
        text_printf(&seen->text, " unknown %.*s", SPAN_ARGS(route->unknown_recipient));
    }
    text_puts(&seen->text, "\n");
    return true;
}

static void expect(const char *name, const char *content, const char *routes, const char *said)
{
    struct fixture *f = fixture_new();
    struct seen *seen = calloc(1, sizeof(*seen));
    assert_non_null(seen);
    seen->text = TEXT(seen->bytes);
    fixture_routes(f, name, content);
    import_read(f->paths[0], see, seen, f->diags);
    assert_string_equal(seen->bytes, routes);
    const char *told = fixture_said(f);
    if (said[0] == '\0' ? told[0] != '\0' : !strstr(told, said)) {
        fail_msg("expected %s\nseen %s", said, told);
    }
    free(seen);
    fixture_free(f);
}

static void test_maps_are_read_as_texthash(void **state)
{
    (void)state;
    expect("map",
           "# a comment\n\n  \t\n  # another\nUser@Example.COM\tlocal\n"
           "a.example   \n   smtp:[h.example],\n# inside\n\t[i.example]:26  \n"
           "b.example relay:[h.example]\r\n* error:5.7.1 not here",
           "5:1 user@example.com > 5:18 local\n"
           "6:1 a.example > 7:4 smtp:[h.example], [i.example]:26\n"
           "10:1 b.example > 10:11 relay:[h.example]\n"
           "11:1 * > 11:3 error:5.7.1 not here\n",
           "");
    expect("map", "\"a b\"@example.com discard:\n", "1:1 \"a b\"@example.com > 1:19 discard:\n",
           "");
    expect("map",
           "\xef\xbb\xbf"
           "a.example local\n",
           "1:1 a.example > 1:11 local\n", "");
    expect("map", "\xef\xbb\xbf# c\na.example local\n", "2:1 a.example > 2:11 local\n", "");
}

static void test_errors_in_maps_are_placed_and_reading_goes_on(void **state)
{
    (void)state;
    expect("map", "  local\na.example local\n", "2:1 a.example > 2:11 local\n",
           "map:1:1: the line begins with a blank");
    expect("map", "# c\n\n  local\n", "", "map:3:1: the line begins with a blank");
    expect("map", "b.example\na.example local\n", "2:1 a.example > 2:11 local\n",
           "map:1:1: no destination for `b.example`: expected a blank");
    expect("map", "b.example lmtp:x\na.example local\n", "2:1 a.example > 2:11 local\n",
           "map:1:11: transport `lmtp:` is not known here");
    expect("map", "b.example smtp:[x\nc.example\n smtp:[a.example]:x\n", "",
           "map:3:19: `x` is no port");
    expect("map", "b.example :\n", "", "map:1:11: no transport in front of the colon");
    expect("map", "* smtp:\n", "", "map:1:3: `smtp:` needs a next hop under `*`");
    expect("map", "/^x/ local\n", "", "map:1:1: regular expressions are not read here");
    expect("map", "@a.example local\n", "", "map:1:1: a whole domain is written without `@`: `a.");
    expect("map", "u@*.example local\n", "", "map:1:1: `u@*.example` is no address");
    expect("map", "a..example local\n", "", "map:1:1: `a..example` is no pattern");
    expect("map", ".[192.0.2.1] local\n", "", "is no pattern");
    expect("map", "u%x@a.example local\n", "1:1 u%x@a.example > 1:15 local\n",
           "warning: `u%x@a.example` is never used");
}

static void test_binary_and_overlong_lines_are_refused(void **state)
{
    char content[IMPORT_VALUE_MAX + 100];
    struct fixture *f = fixture_new();
    struct seen seen = {.bytes = ""};
    (void)state;
    memset(content, 'a', sizeof(content));
    memcpy(content + sizeof(content) - 18, "\na.example local\n", 18);
    expect("map", content, "2:1 a.example > 2:11 local\n", "map:1: the line is too long");
    fixture_routes(f, "map", "");
    FILE *file = fopen(f->paths[0], "w");
    assert_int_equal(fwrite("b.example local\na.example\0local\n", 1, 32, file), 32);
    assert_int_equal(fclose(file), 0);
    seen.text = TEXT(seen.bytes);
    import_read(f->paths[0], see, &seen, f->diags);
    assert_non_null(strstr(fixture_said(f), "map:2:10: a NUL: this is no text"));
    import_read("/", see, &seen, f->diags);
    import_read("/nonexistent/map", see, &seen, f->diags);
    assert_int_equal(diag_errors(f->diags), 2);
    assert_string_equal(seen.bytes, "");
    fixture_free(f);
}

static void test_yaml_routes_are_read(void **state)
{
    (void)state;
    expect("r.yaml",
           "User@Example.COM: local\n\"*\": \"error:5.7.1 not here\"\n"
           "boss@example.com:\n  to: local\n  fallback: other\n  unknown-recipient: gmail\n",
           "1:1 user@example.com > 1:19 local\n2:1 * > 2:7 error:5.7.1 not here\n"
           "3:1 boss@example.com > 4:7 local fallback other unknown gmail\n",
           "");
    expect("r.json", "{\"a.example\": \"smtp:[h.example]\"}\n",
           "1:2 a.example > 1:16 smtp:[h.example]\n", "");
    expect("r.yml", "{}\n", "", "");
}

/* A script that rewrites a file in place is met halfway some day. */
static void test_a_file_that_says_nothing_is_an_error(void **state)
{
    (void)state;
    expect("map", "", "", "map: no route is in this file");
    expect("map", "# all of them\n\n  # away\n", "", "map: no route is in this file");
    expect("map", "\xef\xbb\xbf", "", "map: no route is in this file");
    expect("r.yaml", "", "", "r.yaml: no route is in this file");
    expect("r.yaml", "# all of them away\n", "", "r.yaml: no route is in this file");
    expect("r.yaml", "---\n", "", "r.yaml: no route is in this file");
    expect("r.json", "null\n", "", "where none is meant, write `{}`");
}

static void test_a_star_is_no_mailbox(void **state)
{
    (void)state;
    expect("r.yaml", "\"*@a.example\": local\n", "1:1 *@a.example > 1:16 local\n",
           "r.yaml:1:1: warning: `*@a.example` is a mailbox called `*`");
    expect("map", "*@a.example local\n", "1:1 *@a.example > 1:13 local\n",
           "written as the domain alone: `a.example`");
}

static void test_errors_in_yaml_are_placed_and_reading_goes_on(void **state)
{
    static const char *const good = "a.example: local\n";
    static const struct {
        const char *content, *said;
    } samples[] = {
        {"b.example:\n", "r.yaml:1:"},
        {"b.example: ~\n", "r.yaml:1:12: nothing is here"},
        {"b.example: \"\"\n", "r.yaml:1:12: nothing is here"},
        {"b.example: [local]\n", "r.yaml:1:12: expected a destination"},
        {"b.example: {fallback: other}\n", "r.yaml:1:12: no `to:` here"},
        {"b.example: {to: local, falback: other}\n",
         "unknown key `falback`; did you mean `fallback`"},
        {"b.example: {to: [x]}\n", "expected a destination"},
        {"b.example: {to: local, fallback: ~}\n", "expected the name of a relay"},
        {"b.example: smtp:[x\n", "r.yaml:1:17: `[` without `]`"},
        {"b.example: \"relay:[x.example]\"\n", "r.yaml:1:13: transport `relay:` is not known"},
        {"\"*\": \"smtp:\"\n", "`smtp:` needs a next hop under `*`"},
        {"\"\": local\n", "an empty pattern"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(samples) / sizeof(*samples); i++) {
        char content[256];
        snprintf(content, sizeof(content), "%s%s", samples[i].content, good);
        expect("r.yaml", content, "2:1 a.example > 2:12 local\n", samples[i].said);
    }
}

static void test_a_second_document_is_an_error(void **state)
{
    (void)state;
    expect("r.yaml", "a.example: local\n---\nb.example: local\n", "1:1 a.example > 1:12 local\n",
           "r.yaml:2:1: a second document begins here; only one is read");
    expect("r.yaml", "{a.example: local}\n- x\n", "1:2 a.example > 1:13 local\n", "r.yaml:2:1: ");
}

/* A colon that YAML takes for its own: told so that the next try is right. */
static void test_a_destination_that_needs_quotes_is_told_so(void **state)
{
    static const char *const samples[][2] = {
        {"x: discard:\n", "1:4: `discard` is written with a colon, and in quotes: \"discard:…\""},
        {"x: smtp:\n", "1:4: `smtp` is written with a colon, and in quotes: \"smtp:…\""},
        {"x: error: text\n",
         "1:9: a `:` is not expected here; a value that ends with `:` or holds"},
        {"x:\n  discard:\n", "2:3: a destination that begins with `discard:` goes in quotes"},
        {"x: {error: text}\n", "1:5: a destination that begins with `error:` goes in quotes"},
        {"x: discard\n", "1:4: `discard` is written with a colon, and in quotes: \"discard:…\""},
        {"x: smtp:[a]:1,smtp:[b]:2\n",
         "1:15: `smtp:` is written once, in front of the whole list: `smtp:[a],[b]`"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(samples) / sizeof(*samples); i++) {
        expect("r.yaml", samples[i][0], "", samples[i][1]);
    }
}

static void test_a_reply_code_in_front_of_the_words_is_warned_of(void **state)
{
    (void)state;
    expect("map", "a.example error:550 5.1.1 gone\n", "1:1 a.example > 1:11 error:550 5.1.1 gone\n",
           "map:1:11: warning: `550` is sent as words behind 550 5.0.0: a status is written x.y.z");
    expect("r.yaml", "a.example: error:5.1.1 550 was here\n",
           "1:1 a.example > 1:12 error:5.1.1 550 was here\n", "`550` is sent as words");
    expect("r.yaml", "a.example: error:5.1 x\n", "1:1 a.example > 1:12 error:5.1 x\n",
           "`5.1` is sent as words behind 550 5.0.0");
    expect("map", "a.example error:5.1.1no\n", "1:1 a.example > 1:11 error:5.1.1no\n",
           "`5.1.1no` is sent as words");
    expect("map", "a.example retry:4.1234.1 x\n", "1:1 a.example > 1:11 retry:4.1234.1 x\n",
           "`4.1234.1` is sent as words behind 450 4.0.0");
    expect("map", "a.example error:5.1.1 5.2 is out\n",
           "1:1 a.example > 1:11 error:5.1.1 5.2 is out\n", "");
    expect("r.yaml", "a.example: error:1000 years\n", "1:1 a.example > 1:12 error:1000 years\n",
           "");
}

static void test_words_behind_discard_are_warned_of(void **state)
{
    (void)state;
    expect("map", "a.example discard:foo\n", "1:1 a.example > 1:11 discard:foo\n",
           "map:1:11: warning: `foo` is not used");
    expect("r.yaml", "a.example: 'discard:'\n", "1:1 a.example > 1:13 discard:\n", "");
}

static bool stop_at_once(void *context, const struct import_route *route)
{
    (void)route;
    ++*(unsigned *)context;
    return false;
}

static void test_a_sink_can_stop_the_reading(void **state)
{
    static const char *const names[] = {"r.yaml", "map"};
    static const char *const contents[] = {"a.example: local\nb.example: local\n",
                                           "a.example local\nb.example local\n"};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct fixture *f = fixture_new();
        unsigned calls = 0;
        fixture_routes(f, names[i], contents[i]);
        import_read(f->paths[0], stop_at_once, &calls, f->diags);
        assert_int_equal(calls, 1);
        fixture_free(f);
    }
}

static const char map[] = "user@example.com local\nkingmail@example.com smtp:[kingmailer.org]\n"
                          "example.com relay:[127.0.0.1]:26,[::1]\n.example.com smtp:\n"
                          "\"a \\\"b\\\\c\"@example.com error:5.7.1 \"no\": # \\ 'x'\n"
                          "USER@example.com other\n123 discard:\nnull.example retry:\n"
                          "m\xc3\xbcller@example.com discard: - x\n* error:no\n"
                          "a\xe2\x80\xa8"
                          "b@z.example local\nc\xef\xbb\xbf@z.example other\n"
                          "\xef\xbf\xbf@\xe2\x80\xa9.example local\n";

/* What a table says for an address, in words. */
static void explain(const struct table *table, const char *text, char *out, size_t cap)
{
    struct address address;
    struct table_hit hit;
    struct text words = text_over(out, cap);
    assert_int_equal(address_parse(span_of(text), false, true, &address), ADDRESS_OK);
    if (table_lookup(table, &address, '+', &hit) != TABLE_HIT) {
        text_puts(&words, "miss");
        return;
    }
    const struct destination *d = hit.destination;
    text_printf(&words, "%s %d %u %s", hit.key, d->kind, d->code, d->text ? d->text : "");
    for (size_t i = 0; d->relay && i < d->relay->hop_count; i++) {
        char hop[NEXTHOP_TEXT] = "";
        nexthop_text(&d->relay->hops[i], hop, sizeof(hop));
        text_printf(&words, " %s", hop);
    }
}

static bool convert(struct fixture *f, FILE *out)
{
    const char *path = f->paths[0];
    const struct import_job job = {&path, 1, IMPORT_NAMED, "local"};
    struct import_outcome outcome;
    return import_to_yaml(&job, out, "out", &outcome, f->diags);
}

static void test_a_converted_map_decides_as_the_map(void **state)
{
    static const char *const addresses[] = {
        "user@example.com", "kingmail@example.com", "x@example.com", "x@y.example.com",
        "\"a \\\"b\\\\c\"@example.com", "x@123", "x@null.example", "m\xc3\xbcller@example.com",
        "x@elsewhere.example",
        /* which YAML takes for line ends, or for nothing that text has */
        "a\xe2\x80\xa8"
        "b@z.example",
        "c\xef\xbb\xbf@z.example", "\xef\xbf\xbf@\xe2\x80\xa9.example"};
    struct fixture *f = fixture_new();
    char yaml_path[FIXTURE_PATH], before[512], after[512];
    (void)state;
    f->config.smtputf8 = true;
    fixture_routes(f, "map", map);
    struct table *from_map = fixture_must_load(f);
    fixture_said(f);
    snprintf(yaml_path, sizeof(yaml_path), "%s/out.yaml", f->folder);
    FILE *out = fopen(yaml_path, "w+");
    assert_non_null(out);
    assert_true(convert(f, out));
    rewind(out);
    assert_non_null(fgets(before, sizeof(before), out));
    assert_int_equal(strncmp(before, "# Made by `splitmx import` from /", 33), 0);
    assert_int_equal(fclose(out), 0);
    assert_non_null(
        strstr(fixture_said(f), "map:6:1: warning: `user@example.com` is there already"));
    f->routes[0].text = yaml_path;
    struct table *from_yaml = fixture_must_load(f);
    assert_string_equal(
        fixture_said(f),
        "out.yaml:7:1: warning: `123` is read as a domain; a mailbox is written 123@domain\n"
        "out.yaml:9:24: warning: `- x` is not used: what `discard:` takes is dropped, and goes "
        "nowhere\n");
    for (size_t i = 0; i < sizeof(addresses) / sizeof(*addresses); i++) {
        explain(from_map, addresses[i], before, sizeof(before));
        explain(from_yaml, addresses[i], after, sizeof(after));
        assert_string_equal(before, after);
        assert_string_not_equal(before, "miss");
    }
    table_unref(from_map);
    table_unref(from_yaml);
    fixture_free(f);
}

static void test_nothing_is_written_of_a_bad_map(void **state)
{
    struct fixture *f = fixture_new();
    char *written = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&written, &size);
    (void)state;
    assert_non_null(out);
    fixture_routes(f, "map", "a.example local\nb.example lmtp:x\n");
    assert_false(convert(f, out));
    assert_int_equal(fclose(out), 0);
    assert_int_equal(size, 0);
    free(written);
    fixture_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_maps_are_read_as_texthash),
        cmocka_unit_test(test_errors_in_maps_are_placed_and_reading_goes_on),
        cmocka_unit_test(test_binary_and_overlong_lines_are_refused),
        cmocka_unit_test(test_yaml_routes_are_read),
        cmocka_unit_test(test_errors_in_yaml_are_placed_and_reading_goes_on),
        cmocka_unit_test(test_a_file_that_says_nothing_is_an_error),
        cmocka_unit_test(test_a_star_is_no_mailbox),
        cmocka_unit_test(test_a_second_document_is_an_error),
        cmocka_unit_test(test_a_destination_that_needs_quotes_is_told_so),
        cmocka_unit_test(test_a_reply_code_in_front_of_the_words_is_warned_of),
        cmocka_unit_test(test_words_behind_discard_are_warned_of),
        cmocka_unit_test(test_a_sink_can_stop_the_reading),
        cmocka_unit_test(test_a_converted_map_decides_as_the_map),
        cmocka_unit_test(test_nothing_is_written_of_a_bad_map),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
