/* diag: diagnostics as the user reads them, bounded and harmless to a terminal. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "config/diag.h"

static const char *formatted(const struct diag_list *list, size_t index)
{
    static char line[4096];
    diag_format(diag_at(list, index), line, sizeof(line));
    return line;
}

static void a_place_is_written_as_far_as_it_is_known(void **state)
{
    struct diag_list *list = diag_list_new();
    (void)state;
    diag_error(list, (struct diag_place){"a.yaml", 3, 7}, "bad %s", "key");
    diag_warning(list, (struct diag_place){"a.yaml", 3, 0}, "odd");
    diag_error(list, (struct diag_place){"a.yaml", 0, 0}, "gone");
    diag_warning(list, (struct diag_place){NULL, 0, 0}, "old kernel");
    assert_string_equal(formatted(list, 0), "a.yaml:3:7: bad key");
    assert_string_equal(formatted(list, 1), "a.yaml:3: warning: odd");
    assert_string_equal(formatted(list, 2), "a.yaml: gone");
    assert_string_equal(formatted(list, 3), "warning: old kernel");
    assert_int_equal(diag_errors(list), 2);
    assert_int_equal(diag_count(list), 4);
    assert_null(diag_at(list, 4));
    diag_list_free(list);
}

static void control_characters_are_escaped_and_utf8_is_kept(void **state)
{
    struct diag_list *list = diag_list_new();
    (void)state;
    diag_error(list, (struct diag_place){"a\n.yaml", 1, 1},
               "x\r\ny\x1b[2J\x7f \xc3\xa4 \xe2\x80\xa6 \xc2\x9b \xff \xed\xa0\x80");
    assert_string_equal(formatted(list, 0),
                        "a\\x0a.yaml:1:1: x\\x0d\\x0ay\\x1b[2J\\x7f \xc3\xa4 \xe2\x80\xa6 "
                        "\\xc2\\x9b \\xff \\xed\\xa0\\x80");
    diag_list_free(list);
}

static void a_long_message_is_cut(void **state)
{
    char word[5000];
    struct diag_list *list = diag_list_new();
    (void)state;
    memset(word, 'x', sizeof(word));
    word[sizeof(word) - 1] = '\0';
    diag_error(list, (struct diag_place){"a", 1, 1}, "%s", word);
    assert_true(strlen(diag_at(list, 0)->text) < 2000);
    char small[10];
    assert_int_equal(diag_format(diag_at(list, 0), small, sizeof(small)), 9);
    assert_string_equal(small, "a:1:1: xx");
    diag_list_free(list);
}

static void entries_beyond_the_bound_are_counted(void **state)
{
    struct diag_list *list = diag_list_new();
    char *printed = NULL;
    size_t size = 0;
    (void)state;
    for (int i = 0; i < DIAG_MAX + 5; i++) {
        diag_error(list, (struct diag_place){"a", 1, 1}, "bad");
    }
    assert_int_equal(diag_count(list), DIAG_MAX);
    assert_int_equal(diag_errors(list), DIAG_MAX + 5);
    FILE *out = open_memstream(&printed, &size);
    diag_print(list, out);
    fclose(out);
    assert_int_equal(strncmp(printed, "a:1:1: bad\na:1:1: bad\n", 22), 0);
    assert_string_equal(printed + (size_t)DIAG_MAX * 11, "… and 5 more\n");
    free(printed);
    diag_list_free(list);
}

static void no_list_is_accepted_everywhere(void **state)
{
    (void)state;
    diag_error(NULL, (struct diag_place){"a", 1, 1}, "bad");
    diag_warning(NULL, (struct diag_place){"a", 1, 1}, "odd");
    assert_int_equal(diag_errors(NULL), 0);
    assert_int_equal(diag_count(NULL), 0);
    assert_null(diag_at(NULL, 0));
    diag_print(NULL, stderr);
    diag_list_free(NULL);
}

static void the_machines_trouble_is_told_apart(void **state)
{
    struct diag_list *list = diag_list_new();
    char line[64];
    (void)state;
    assert_false(diag_only_machine(NULL));
    assert_false(diag_only_machine(list));
    diag_warning(list, (struct diag_place){.file = "f"}, "odd");
    diag_machine(list, "%s: no space", "folder");
    assert_int_equal(diag_errors(list), 1);
    assert_true(diag_only_machine(list));
    diag_format(diag_at(list, 1), line, sizeof(line));
    assert_string_equal(line, "folder: no space");
    diag_error(list, (struct diag_place){0}, "wrong");
    assert_false(diag_only_machine(list));
    diag_list_free(list);
}

static void the_nearest_word_is_at_most_two_edits_away(void **state)
{
    static const char *const words[] = {"listen", "relays", "routes", "log", "user", NULL};
    (void)state;
    assert_string_equal(diag_nearest("lisetn", words), "listen"); /* a swap is one edit */
    assert_string_equal(diag_nearest("listener", words), "listen");
    assert_string_equal(diag_nearest("RELAY", words), "relays");
    assert_string_equal(diag_nearest("route", words), "routes");
    assert_string_equal(diag_nearest("logs", words), "log");
    assert_null(diag_nearest("lissteners", words));
    assert_null(diag_nearest("xg", words)); /* two edits of two letters are no likeness */
    assert_string_equal(diag_nearest("lis", words), "listen"); /* cut short */
    assert_null(diag_nearest("li", words));
    assert_null(diag_nearest("", words));
    char endless[1000];
    memset(endless, 'l', sizeof(endless));
    endless[sizeof(endless) - 1] = '\0';
    assert_null(diag_nearest(endless, words));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_place_is_written_as_far_as_it_is_known),
        cmocka_unit_test(control_characters_are_escaped_and_utf8_is_kept),
        cmocka_unit_test(a_long_message_is_cut),
        cmocka_unit_test(entries_beyond_the_bound_are_counted),
        cmocka_unit_test(no_list_is_accepted_everywhere),
        cmocka_unit_test(the_machines_trouble_is_told_apart),
        cmocka_unit_test(the_nearest_word_is_at_most_two_edits_away),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
