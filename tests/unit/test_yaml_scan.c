/* yaml_scan: whatever stands between plain lines, its events are libyaml's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sys/mman.h>

#include "config/random.h"
#include "config/text.h"
#include "tests/unit/yaml_compare.h"

#define PLAIN  20 /* lines after which lines are cut, if they can be */
#define ROUNDS 4000
#define PARTS  12

static int file_of(struct span content)
{
    int fd = memfd_create("test_yaml_scan", MFD_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, content.ptr, content.len), content.len);
    return fd;
}

static void put_plain(struct text *text, unsigned lines)
{
    for (unsigned i = 0; i < lines; i++) {
        const char *quote = i % 5 ? "" : i % 2 ? "'" : "\"";
        text_printf(text, "%suser%u@d%u.example.com%s: %ssmtp:[mx%u.example.org]:25\n", quote, i,
                    i * 7, quote, i % 3 ? "" : " ", i);
    }
}

static void expect_same(struct span content)
{
    int fd = file_of(content);
    bool same = yaml_compare_file(fd);
    if (!same) {
        print_error("%.*s", SPAN_ARGS(content));
    }
    close(fd);
    assert_true(same);
}

/* What may stand behind plain lines, and what of it goes on from them. */
static const char *const oddities[] = {
    "",
    "\n",
    " \n",
    "\t\n",
    "#\n",
    "# comment\n",
    "  # comment\n",
    "a: b # comment\n",
    "a: b#c\n",
    "a:b\n",
    "a:  b\n",
    "a: b \n",
    "a: b\r\n",
    "a: b\r",
    "a : b\n",
    "a:\n",
    "a: \n",
    "a:\tb\n",
    "a: \tb\n",
    "\"q\": b\n",
    "'q': \"b\"\n",
    "a: 'b\n",
    "a: \"b\n\n c\"\n",
    "a: [b, c]\n",
    "a: {b: c}\n",
    "a: [\n",
    "a: ]\n",
    "a: b: c\n",
    "a: b:\n",
    "a: -\n",
    "- a\n",
    "-a: b\n",
    "? a\n",
    "? a\n: b\n",
    ": b\n",
    "a: |\n  b\n   c\n",
    "a: >-\n  b\n",
    "a:\n  b: c\n",
    "a:\n- b\n",
    "  a: b\n",
    "  b\n",
    "\tb\n",
    " b: c\n",
    "b\n",
    "---\n",
    "...\n",
    "--- a\n",
    "---a: b\n",
    "...a: b\n",
    "%YAML 1.1\n",
    "%TAG ! !x\n",
    "%a: b\n",
    "@a: b\n",
    "`a: b\n",
    "a: @b\n",
    "a: `b\n",
    "a: %b\n",
    "*a : b\n",
    "a: *b\n",
    "&a b: c\n",
    "a: &b c\n",
    "!a b: c\n",
    "a: !b c\n",
    "a: !!str b\n",
    "!!map\n",
    ".a: .b\n",
    "_a: _b\n",
    "+a: b\n",
    "a: +b\n",
    "a: =\n",
    "=: a\n",
    "<<: a\n",
    "~: ~\n",
    "null: null\n",
    "*: a\n",
    "\"*\": a\n",
    "a: b,\n",
    "a,b: c\n",
    "a: b]\n",
    "a: b[c\n",
    "[a]: b\n",
    "{a}: b\n",
    "a: b/c\n",
    "a/b: c\n",
    "\xc3\xa4: b\n",
    "a: \xc3\xa4\n",
    "# \xc3\xa4\n",
    "a: b\xc2\x85",
    "# \xe2\x80\xa8 x: y\n",
    "a: \xe2\x80\xa9",
    "\xef\xbb\xbf",
    "\xef\xbb\xbf"
    "a: b\n",
    "a: \x01\n",
    "\xff\n",
    "a: b\0c\n",
    "a: \"\\0\"\n",
    "a: b",
    "a: b\n...",
    "a: b\n---\nc: d\n",
    "a: b  c\n",
    "a: b: c\n",
    "a: b :c\n",
    "a: b #c\n",
    "a: b  #\n",
    "a: b c \n",
    "a b: c\n",
    "\"a\": \"b\"\n",
    "'a': 'b'\n",
    "'a b: # c': \"d - { e\"\n",
    "\"\": ''\n",
    "\"a\" : b\n",
    "\"a\":b\n",
    "\"a\"b: c\n",
    "a: \"b\" \n",
    "a: \"b\"c\n",
    "a: \"b\"\n  c\n",
    "a: \"b\" # c\n",
    "'it''s': b\n",
    "a: 'it''s'\n",
    "a: 'b''\n",
    "a: '''b'\n",
    "a: \"b\\n\"\n",
    "\"a\\\"\": b\n",
    "a: \"\tb\"\n",
    "a: \"\xc3\xa4\"\n",
    "a: 'b\nc'\n",
    "\"a\": |\n b\n",
    "a:  ' b '\n",
    "'a: b\n",
    "\"a: b\n",
    "# \xc3\xa4\xdf\xbf\n\n\n# b\n\n",
    "#\xc3\n",
    "#\xc3(\n",
    "#\xc2\x80\n",
    "#\xc2\xa0\n",
    "#\xe0\xa0\x80\n",
    "#\t\n",
    "#\r\n",
    "\n\n\n",
    "\n#\n \n",
    "\n#\n b: c\n",
    "#\x7f\n",
    "#\xc3\xa4",
    "a: error:5.1.1 not here\n",
    "boss@example.com: {to: a, fallback: b}\n",
    "user@example.com: discard:\n",
    "a: b\n\n  c\n",
    "a: b\n# c\n  d\n",
    "a: b\n#c\nd: e\n",
};

#define ODDITIES (sizeof(oddities) / sizeof(*oddities))

static void each_oddity_behind_plain_lines_and_between_them(void **state)
{
    static char content[8192];
    (void)state;
    for (size_t i = 0; i < ODDITIES; i++) {
        for (unsigned lines = 0; lines <= PLAIN; lines += PLAIN / 2) {
            struct text text = TEXT(content);
            put_plain(&text, lines);
            text_puts(&text, oddities[i]);
            expect_same(text_span(&text));
            put_plain(&text, 2 * PLAIN);
            expect_same(text_span(&text));
        }
    }
}

static void documents_of_many_oddities(void **state)
{
    static char content[65536];
    uint64_t random = 1;
    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        struct text text = TEXT(content);
        for (int part = 0; part < PARTS; part++) {
            put_plain(&text, random_step(&random) % 4 ? PLAIN + random_step(&random) % 4 : 1);
            text_puts(&text, oddities[random_step(&random) % ODDITIES]);
        }
        assert_false(text.full);
        expect_same(text_span(&text));
    }
}

static void lines_of_any_length_wherever_blocks_end(void **state)
{
    static char content[1 << 19];
    (void)state;
    for (unsigned odd = 0; odd < 3; odd++) {
        struct text text = TEXT(content);
        for (unsigned i = 0; i < 200; i++) {
            put_plain(&text, PLAIN);
            text_printf(&text,
                        odd == 2 ? "# %*d\n"
                        : odd    ? "k%0*d: v\n"
                                 : "k: v%0*d\n",
                        (int)(900 + i), 1);
        }
        assert_false(text.full);
        expect_same(text_span(&text));
    }
}

static void a_file_that_is_emptied_meanwhile_ends_early(void **state)
{
    static char content[200000];
    struct text text = TEXT(content);
    (void)state;
    put_plain(&text, 3000);
    int fd = file_of(text_span(&text));
    struct yaml_scan *scan = yaml_scan_new(fd);
    unsigned keys = 0;
    while (yaml_scan_next(scan) && yaml_scan_event(scan)->type != YAML_STREAM_END_EVENT) {
        keys += yaml_scan_event(scan)->type == YAML_SCALAR_EVENT;
        if (keys == 100) {
            assert_int_equal(ftruncate(fd, 0), 0);
        }
    }
    assert_in_range(keys, 100, 5999);
    assert_int_equal(yaml_scan_event(scan)->type, YAML_STREAM_END_EVENT);
    yaml_scan_free(scan);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_oddity_behind_plain_lines_and_between_them),
        cmocka_unit_test(documents_of_many_oddities),
        cmocka_unit_test(lines_of_any_length_wherever_blocks_end),
        cmocka_unit_test(a_file_that_is_emptied_meanwhile_ends_early),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
