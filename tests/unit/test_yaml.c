/* yaml: what is read, and what is refused with its place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "config/text.h"
#include "config/yaml.h"

/* Every test works in a folder of its own, so that places read "file.yaml:line:column". */
static char folder[] = "/tmp/test_yaml.XXXXXX";

static int enter_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) && chdir(folder) == 0 ? 0 : -1;
}

static int leave_folder(void **state)
{
    (void)state;
    unlink("f");
    return chdir("/") == 0 && rmdir(folder) == 0 ? 0 : -1;
}

static void write_file(struct span content)
{
    FILE *file = fopen("f", "w");
    assert_non_null(file);
    assert_int_equal(fwrite(content.ptr, 1, content.len, file), content.len);
    assert_int_equal(fclose(file), 0);
}

/* The events as text: {key 'value' [item]}; "!" for the end by an error. Plain scalars are bare. */
static void read_all(const char *path, struct diag_list *diags, struct text *out)
{
    static const char *const marks[] = {".", "!", "{", "}", "[", "]", NULL};
    struct yaml_reader *reader = yaml_open(path, diags);
    struct yaml_event event;
    assert_non_null(reader);
    do {
        event = yaml_next(reader);
        if (event.kind == YAML_SCALAR_VALUE && event.refused) {
            text_puts(out, "? ");
        } else if (event.kind == YAML_SCALAR_VALUE) {
            text_printf(out, event.plain ? "%.*s " : "'%.*s' ", SPAN_ARGS(event.value));
        } else {
            text_puts(out, marks[event.kind]);
        }
    } while (event.kind != YAML_END && event.kind != YAML_BAD);
    assert_int_equal(yaml_next(reader).kind, event.kind);
    yaml_close(reader);
}

/* Reads content; `events` is what read_all says, `errors` what is told, a line each. */
static void expect(struct span content, const char *events, const char *errors)
{
    char got[4096], told[4096], line[1024];
    struct text got_text = TEXT(got), told_text = TEXT(told);
    struct diag_list *diags = diag_list_new();
    write_file(content);
    read_all("f", diags, &got_text);
    for (size_t i = 0; i < diag_count(diags); i++) {
        diag_format(diag_at(diags, i), line, sizeof(line));
        text_printf(&told_text, "%s%s", i > 0 ? "\n" : "", line);
    }
    diag_list_free(diags);
    assert_string_equal(got, events);
    assert_string_equal(told, errors);
}

static void mappings_lists_and_scalars_are_read(void **state)
{
    (void)state;
    expect(SPAN("a: 1\nb: \"x\"\nc: [1, 'y']\nd:\n  e: ~\n  f:\n"),
           "{a 1 b 'x' c [1 'y' ]d {e ~ f  }}.", "");
    expect(SPAN("# comment\nrelays:\n  local:\n    next-hop: smtp:[127.0.0.1]:10025\n"),
           "{relays {local {next-hop smtp:[127.0.0.1]:10025 }}}.", "");
    expect(SPAN("a: !!str 5\n<<: b\n"), "{a '5' << b }.", "");
    expect(SPAN("\xef\xbb\xbf"
                "a: b\nc: d"),
           "{a b c d }.", "");
}

static void an_empty_file_is_an_empty_mapping(void **state)
{
    (void)state;
    expect(SPAN(""), "{}.", "");
    expect(SPAN("# nothing\n\n"), "{}.", "");
    expect(SPAN("---\n"), "{}.", "");
    expect(SPAN("--- ~\n...\n"), "{}.", "");
    expect(SPAN("{}"), "{}.", "");
}

static void places_count_from_one_in_characters(void **state)
{
    struct diag_list *diags = diag_list_new();
    (void)state;
    write_file(SPAN("\xc3\xa4: x\nb:\n  - \"y\"\n"));
    struct yaml_reader *reader = yaml_open("f", diags);
    const unsigned places[][2] = {{1, 1}, {1, 1}, {1, 4}, {2, 1}, {3, 3}, {3, 5}};
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        struct yaml_event event = yaml_next(reader);
        assert_string_equal(event.place.file, "f");
        assert_int_equal(event.place.line, places[i][0]);
        assert_int_equal(event.place.column, places[i][1]);
    }
    yaml_close(reader);
    diag_list_free(diags);
}

static void only_a_mapping_is_a_root(void **state)
{
    (void)state;
    expect(SPAN("- a\n"), "!", "f:1:1: expected `key: value` lines, found a list");
    expect(SPAN("hello\n"), "!", "f:1:1: expected `key: value` lines, found text without a `key:`");
    expect(SPAN("a: b\n---\nc: d\n"), "{a b }!",
           "f:2:1: a second document begins here; only one is read");
}

static void duplicate_keys_are_told_and_passed_over(void **state)
{
    (void)state;
    expect(SPAN("a: 1\nb: 2\n\"a\": {c: [1]}\nd: 3\n"), "{a 1 b 2 d 3 }.",
           "f:3:1: duplicate key `a`; it is already on line 1");
    expect(SPAN("a: {x: 1, x: 2, x: 3}\nb: {x: 1}\n"), "{a {x 1 }b {x 1 }}.",
           "f:1:11: duplicate key `x`; it is already on line 1\n"
           "f:1:17: duplicate key `x`; it is already on line 1");
    expect(SPAN("a: 1\na:\n  b: 1\n  b: 2\n"), "{a 1 }.",
           "f:2:1: duplicate key `a`; it is already on line 1\n"
           "f:4:3: duplicate key `b`; it is already on line 3");
    expect(SPAN("a: 1\nA: 2\n"), "{a 1 A 2 }.", "");
    expect(SPAN("a: 1\na: [\n"), "{a 1 !",
           "f:2:1: duplicate key `a`; it is already on line 1\nf:3:1: expected a value");
}

static void long_mappings_are_not_checked_for_duplicates(void **state)
{
    static char content[64 * 1024];
    struct text text = TEXT(content);
    struct diag_list *diags = diag_list_new();
    (void)state;
    for (int i = 0; i < YAML_KEYS_CHECKED + 10; i++) {
        text_printf(&text, "key%d: x\n", i);
    }
    text_puts(&text, "key260: x\nkey3: x\n");
    write_file(text_span(&text));
    static char events[64 * 1024];
    struct text got = TEXT(events);
    read_all("f", diags, &got);
    assert_int_equal(diag_count(diags), 0);
    diag_list_free(diags);
}

static void anchors_aliases_and_tags_are_refused_and_reading_goes_on(void **state)
{
    (void)state;
    expect(SPAN("a: &x 1\nb: *x\n*x : 2\nc: !t 3\nd: [*x]\n"), "{a 1 b ? c ? d [? ]}.",
           "f:1:4: anchors (`&x`) are not accepted; write the value out, or put text that begins "
           "with `&` in quotes\n"
           "f:2:4: aliases (`*x`) are not accepted; write the value out, or put text that begins "
           "with `*` in quotes\n"
           "f:3:1: aliases (`*x`) are not accepted; write the value out, or put text that begins "
           "with `*` in quotes\n"
           "f:4:4: tags (`!t`) are not accepted; write the value out, or put text that begins with "
           "`!` in quotes\n"
           "f:5:5: aliases (`*x`) are not accepted; write the value out, or put text that begins "
           "with `*` in quotes");
    expect(SPAN("a: !!map {b: 1}\n"), "{a {b 1 }}.",
           "f:1:4: tags (`tag:yaml.org,2002:map`) are not accepted; write the value out, or put "
           "text that begins with `!` in quotes");
}

static void keys_that_are_no_text_are_passed_over(void **state)
{
    (void)state;
    expect(SPAN("? [a, b]\n: {c: d}\ne: f\n"), "{e f }.",
           "f:1:3: a key must be text, not a list; put text that begins with `[` or `{` in "
           "quotes");
    expect(SPAN("{a: b}: c\nd: e\n"), "{d e }.",
           "f:1:1: a key must be text, not a mapping; put text that begins with `[` or `{` in "
           "quotes");
}

static void depth_and_length_are_bounded(void **state)
{
    char content[YAML_SCALAR + 100];
    struct text text = TEXT(content);
    (void)state;
    expect(SPAN("a: [[[[[[[x]]]]]]]\n"), "{a [[[[[[[x ]]]]]]]}.", "");
    expect(SPAN("a: [[[[[[[[x]]]]]]]]\n"), "{a [[[[[[[!", "f:1:11: nested deeper than 8 levels");
    text_puts(&text, "a: ");
    for (size_t i = 0; i < YAML_SCALAR + 1; i++) {
        text_putc(&text, 'x');
    }
    text_puts(&text, "\nb: c");
    expect(text_span(&text), "{a ? b c }.", "f:1:4: text of 4097 bytes; at most 4096 are accepted");
}

static void wrong_bytes_are_placed(void **state)
{
    (void)state;
    expect(SPAN("a: b\r\nc: \xff\n"), "!",
           "f:2:4: not valid UTF-8 (byte 0xff); save the file as UTF-8");
    /* Latin-1: told where the wrong byte stands, not behind it. */
    expect(SPAN("a: b\na.example: m\xe4x\n"), "!",
           "f:2:13: not valid UTF-8 (byte 0xe4); save the file as UTF-8");
    expect(SPAN("a: \xe4\x80x\n"), "!",
           "f:1:4: not valid UTF-8 (byte 0xe4); save the file as UTF-8");
    expect(SPAN("a: m\xe4"), "!", "f:1:5: not valid UTF-8 (byte 0xe4); save the file as UTF-8");
    expect(SPAN("a: \xc0\xaf\n"), "!",
           "f:1:4: not valid UTF-8 (byte 0xc0); save the file as UTF-8");
    expect(SPAN("a: \xc3\xa4\xed\xa0\x80\n"), "!",
           "f:1:5: not valid UTF-8 (character U+D800); save the file as UTF-8");
    expect(SPAN("a: x\x01\n"), "!",
           "f:1:5: control character 0x01; only printable text is allowed");
    expect(SPAN("a: b\0c\n"), "!", "f:1:5: control character 0x00; only printable text is allowed");
    expect(SPAN("a: \"b\\0c\"\nd: e\n"), "{a ? d e }.",
           "f:1:4: text with a NUL (`\\0`) in it is not accepted");
}

static void syntax_errors_are_in_plain_english(void **state)
{
    static const struct {
        const char *content, *error;
    } table[] = {
        {"a: b: c\n", "f:1:5: a `:` is not expected here; a value that ends with `:` or holds one "
                      "before a blank goes in quotes, else check the indentation"},
        {"a: b\nc\n", "f:2:1: expected `key: value`, found text without a `:` behind it"},
        {"a: \"b\nc: d\n", "f:1:4: this quote is never closed"},
        {"a: @b\n", "f:1:4: a value cannot begin with this character; put the value in quotes, and "
                    "indent with spaces, not with tabs"},
        {"a:\n\tb: c\n",
         "f:2:1: a value cannot begin with this character; put the value in quotes, "
         "and indent with spaces, not with tabs"},
        {"a: [1\nb: 2\n", "f:2:2: expected `,` or `]`; in a list in brackets, text with `[`, `]`, "
                          "`{`, `}` or `,` needs quotes"},
        {"a: {x: smtp:[127.0.0.1]:25}\n", "f:1:12: a `:` is not expected here; inside braces, text "
                                          "with `:`, `[` or `]` needs quotes"},
        {"a: [127.0.0.1]:25\n",
         "f:1:15: expected a key; check the indentation and the quotes (text that begins with `[`, "
         "`{` or a quote needs quotes around the whole of it)"},
        {"a: \"\\q\"\n", "f:1:5: unknown escape after `\\`; write `\\\\` for a backslash, or use "
                         "single quotes"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        char line[1024], events[1024];
        struct text text = TEXT(events);
        struct diag_list *diags = diag_list_new();
        write_file(span_of(table[i].content));
        read_all("f", diags, &text);
        assert_int_equal(diag_count(diags), 1);
        diag_format(diag_at(diags, 0), line, sizeof(line));
        assert_string_equal(line, table[i].error);
        assert_int_equal(events[text.len - 1], '!');
        diag_list_free(diags);
    }
}

static void a_value_can_be_skipped_whole(void **state)
{
    struct diag_list *diags = diag_list_new();
    (void)state;
    write_file(SPAN("a: {b: [1, {c: d}], e: f}\ng: h\n"));
    struct yaml_reader *reader = yaml_open("f", diags);
    yaml_next(reader); /* { */
    yaml_next(reader); /* a */
    yaml_skip(reader, yaml_next(reader));
    assert_string_equal(yaml_next(reader).value.ptr, "g");
    yaml_skip(reader, yaml_next(reader));
    assert_int_equal(yaml_next(reader).kind, YAML_MAP_END);
    assert_int_equal(yaml_next(reader).kind, YAML_END);
    yaml_close(reader);
    diag_list_free(diags);
}

static void a_file_that_cannot_be_read_is_told(void **state)
{
    char line[256], events[16];
    struct text text = TEXT(events);
    struct diag_list *diags = diag_list_new();
    (void)state;
    read_all("absent.yaml", diags, &text);
    read_all("/", diags, &text);
    assert_string_equal(events, "!!");
    diag_format(diag_at(diags, 0), line, sizeof(line));
    assert_string_equal(line, "absent.yaml: cannot be opened: No such file or directory");
    diag_format(diag_at(diags, 1), line, sizeof(line));
    assert_string_equal(line, "/: cannot be opened: Is a directory");
    diag_list_free(diags);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mappings_lists_and_scalars_are_read),
        cmocka_unit_test(an_empty_file_is_an_empty_mapping),
        cmocka_unit_test(places_count_from_one_in_characters),
        cmocka_unit_test(only_a_mapping_is_a_root),
        cmocka_unit_test(duplicate_keys_are_told_and_passed_over),
        cmocka_unit_test(long_mappings_are_not_checked_for_duplicates),
        cmocka_unit_test(anchors_aliases_and_tags_are_refused_and_reading_goes_on),
        cmocka_unit_test(keys_that_are_no_text_are_passed_over),
        cmocka_unit_test(depth_and_length_are_bounded),
        cmocka_unit_test(wrong_bytes_are_placed),
        cmocka_unit_test(syntax_errors_are_in_plain_english),
        cmocka_unit_test(a_value_can_be_skipped_whole),
        cmocka_unit_test(a_file_that_cannot_be_read_is_told),
    };
    return cmocka_run_group_tests(tests, enter_folder, leave_folder);
}
