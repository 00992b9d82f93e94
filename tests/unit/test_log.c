/* log: whole lines, none forged, none waited for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "proxy/daemon/log.h"

struct sink {
    int read, write;
    char *text;
    size_t len;
};

static void sink_open(struct sink *sink)
{
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    *sink = (struct sink){.read = ends[0], .write = ends[1]};
}

/* All that was written, once the log has stopped. */
static void sink_read(struct sink *sink)
{
    size_t cap = 0;
    ssize_t n = 1;
    if (sink->write >= 0) {
        close(sink->write);
    }
    while (n > 0) {
        if (cap - sink->len < 65536) {
            cap += 1 << 20;
            sink->text = realloc(sink->text, cap + 1);
            assert_non_null(sink->text);
        }
        n = read(sink->read, sink->text + sink->len, cap - sink->len);
        assert_true(n >= 0);
        sink->len += (size_t)n;
    }
    sink->text[sink->len] = '\0';
    close(sink->read);
}

static void *sink_reader(void *sink)
{
    sink_read(sink);
    return NULL;
}

/* "2026-11-22T17:00:00.123Z" at the front, of this year. */
static void assert_time(const char *line)
{
    const char pattern[] = "dddd-dd-ddTdd:dd:dd.dddZ";
    for (size_t i = 0; i < sizeof(pattern) - 1; i++) {
        if (pattern[i] == 'd') {
            assert_in_range(line[i], '0', '9');
        } else {
            assert_int_equal(line[i], pattern[i]);
        }
    }
    assert_int_equal(strtol(line, NULL, 10), time(NULL) / 31556952 + 1970);
}

static void a_text_line_is_time_level_and_pairs(void **state)
{
    struct sink sink;
    (void)state;
    sink_open(&sink);
    struct log *log = log_start(sink.write, LOG_INFO, LOG_TEXT);
    assert_non_null(log);
    log_event(log, LOG_WARNING, "odd", "helo", "a\nb", "relay", "local", NULL);
    log_write(log_lane_open(log), LOG_INFO, SPAN("session=1 event=x"));
    log_stop(log);
    sink_read(&sink);
    const char *odd = strstr(sink.text, " warning event=odd helo=\"a\\nb\" relay=local\n");
    const char *other = strstr(sink.text, " info session=1 event=x\n");
    assert_non_null(odd);
    assert_non_null(other);
    assert_time(odd - 24);
    assert_time(other - 24);
    assert_int_equal(strlen(sink.text), 2 * 24 + strcspn(odd, "\n") + strcspn(other, "\n") + 2);
    free(sink.text);
}

static void a_json_line_is_one_object(void **state)
{
    struct sink sink;
    (void)state;
    sink_open(&sink);
    struct log *log = log_start(sink.write, LOG_INFO, LOG_JSON);
    log_event(log, LOG_ERROR, "odd", "helo", "a\"b", NULL);
    log_stop(log);
    sink_read(&sink);
    assert_memory_equal(sink.text, "{\"time\":\"", 9);
    assert_time(sink.text + 9);
    assert_string_equal(sink.text + 33,
                        "\",\"level\":\"error\",\"event\":\"odd\",\"helo\":\"a\\\"b\"}\n");
    free(sink.text);
}

static void a_line_is_in_the_format_of_its_record_while_a_reload_changes_it(void **state)
{
    struct sink sink;
    (void)state;
    sink_open(&sink);
    struct log *log = log_start(sink.write, LOG_INFO, LOG_TEXT);
    log_configure(log, LOG_INFO, LOG_JSON);
    log_write(log_lane_open(log), LOG_INFO, SPAN("event=x"));
    log_event(log, LOG_INFO, "y", NULL);
    log_stop(log);
    sink_read(&sink);
    assert_non_null(strstr(sink.text, "Z info event=x\n"));
    assert_non_null(strstr(sink.text, "{\"time\":\""));
    assert_non_null(strstr(sink.text, "\"event\":\"y\"}\n"));
    free(sink.text);
}

/* As systemd says it: of which file standard error is. */
static void say_journal(int fd, int inodes_off)
{
    struct stat found;
    char stream[64];
    assert_int_equal(fstat(fd, &found), 0);
    snprintf(stream, sizeof(stream), "%llu:%llu", (unsigned long long)found.st_dev,
             (unsigned long long)found.st_ino + (unsigned)inodes_off);
    setenv("JOURNAL_STREAM", stream, 1);
}

static void every_line_for_the_journal_begins_with_its_priority(void **state)
{
    const enum config_log_format formats[] = {LOG_TEXT, LOG_JSON};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct sink sink;
        sink_open(&sink);
        say_journal(sink.write, 0);
        struct log *log = log_start(sink.write, LOG_DEBUG, formats[i]);
        log_event(log, LOG_ERROR, "a", NULL);
        log_event(log, LOG_WARNING, "b", NULL);
        log_event(log, LOG_INFO, "c", NULL);
        log_event(log, LOG_DEBUG, "d", NULL);
        log_stop(log);
        sink_read(&sink);
        const char *line = sink.text;
        for (const char *priority = "3467"; *priority != '\0'; priority++) {
            const char prefix[] = {'<', *priority, '>'};
            assert_memory_equal(line, prefix, sizeof(prefix));
            assert_time(line + sizeof(prefix) + (formats[i] == LOG_JSON ? 9 : 0));
            line = strchr(line, '\n') + 1;
        }
        assert_int_equal(*line, '\0');
        free(sink.text);
    }
    unsetenv("JOURNAL_STREAM");
}

static void a_priority_is_nowhere_but_in_the_journal(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        struct sink sink;
        sink_open(&sink);
        switch (i) {
        case 0: /* the journal is somebody else's: standard error was sent elsewhere */
            say_journal(sink.write, 1);
            break;
        case 1:
            setenv("JOURNAL_STREAM", "", 1);
            break;
        case 2:
            setenv("JOURNAL_STREAM", "9:", 1);
            break;
        default:
            setenv("JOURNAL_STREAM", "nonsense", 1);
            break;
        }
        struct log *log = log_start(sink.write, LOG_INFO, LOG_TEXT);
        log_event(log, LOG_ERROR, "a", NULL);
        log_stop(log);
        sink_read(&sink);
        assert_time(sink.text);
        free(sink.text);
    }
    unsetenv("JOURNAL_STREAM");
}

static void what_is_above_the_level_is_left_out(void **state)
{
    struct sink sink;
    (void)state;
    sink_open(&sink);
    struct log *log = log_start(sink.write, LOG_WARNING, LOG_TEXT);
    log_event(log, LOG_INFO, "quiet", NULL);
    log_event(log, LOG_ERROR, "loud", NULL);
    log_configure(log, LOG_DEBUG, LOG_TEXT);
    log_event(log, LOG_DEBUG, "all", NULL);
    log_stop(log);
    sink_read(&sink);
    assert_null(strstr(sink.text, "quiet"));
    assert_non_null(strstr(sink.text, " error event=loud\n"));
    assert_non_null(strstr(sink.text, " debug event=all\n"));
    free(sink.text);
}

static void a_line_is_out_before_the_log_stops(void **state)
{
    struct sink sink;
    char line[128];
    (void)state;
    sink_open(&sink);
    struct log *log = log_start(sink.write, LOG_INFO, LOG_TEXT);
    log_event(log, LOG_INFO, "now", NULL);
    assert_true(read(sink.read, line, sizeof(line)) > 0); /* else this waits for ever */
    log_stop(log);
    close(sink.write);
    close(sink.read);
}

#define FLOOD 20000

static void a_full_buffer_drops_whole_lines_and_counts_them(void **state)
{
    struct sink sink;
    pthread_t reader;
    char value[201];
    unsigned long kept = 0, dropped = 0;
    (void)state;
    memset(value, 'v', sizeof(value) - 1);
    value[sizeof(value) - 1] = '\0';
    sink_open(&sink);
    struct log *log = log_start(sink.write, LOG_INFO, LOG_TEXT);
    /* Nobody reads: this returns all the same. */
    for (int i = 0; i < FLOOD; i++) {
        log_event(log, LOG_INFO, "flood", "value", value, NULL);
    }
    const int write_end = sink.write;
    sink.write = -1; /* the reader's business no more: it is still written to */
    assert_int_equal(pthread_create(&reader, NULL, sink_reader, &sink), 0);
    log_stop(log);
    close(write_end);
    pthread_join(reader, NULL);
    for (char *line = sink.text; *line != '\0'; line = strchr(line, '\n') + 1) {
        const char *lines = strstr(line, "event=log-lines-dropped lines=");
        assert_time(line);
        if (lines && lines < strchr(line, '\n')) {
            dropped += strtoul(lines + 30, NULL, 10);
        } else {
            assert_memory_equal(line + 24, " info event=flood value=v", 25);
            kept++;
        }
    }
    assert_true(dropped > 0);
    assert_int_equal(kept + dropped, FLOOD);
    free(sink.text);
}

struct writer {
    pthread_t thread;
    struct log_lane *lane;
    char name;
};

#define LANES 4
#define LINES 5000 /* all of them fit, so that none is dropped */

static void *write_lines(void *argument)
{
    const struct writer *writer = argument;
    for (int i = 0; i < LINES; i++) {
        char line[32];
        struct text text = TEXT(line);
        text_printf(&text, "event=%c%d", writer->name, i);
        log_write(writer->lane, LOG_INFO, text_span(&text));
    }
    return NULL;
}

static void the_lines_of_every_lane_are_all_there_and_in_order(void **state)
{
    struct sink sink;
    pthread_t reader;
    struct writer writers[LANES];
    int seen[LANES] = {0};
    (void)state;
    sink_open(&sink);
    struct log *log = log_start(sink.write, LOG_INFO, LOG_TEXT);
    const int write_end = sink.write;
    sink.write = -1;
    assert_int_equal(pthread_create(&reader, NULL, sink_reader, &sink), 0);
    for (int i = 0; i < LANES; i++) {
        writers[i] = (struct writer){.lane = log_lane_open(log), .name = (char)('a' + i)};
        assert_int_equal(pthread_create(&writers[i].thread, NULL, write_lines, &writers[i]), 0);
    }
    for (int i = 0; i < LANES; i++) {
        pthread_join(writers[i].thread, NULL);
    }
    log_stop(log);
    close(write_end);
    pthread_join(reader, NULL);
    for (char *line = sink.text; *line != '\0'; line = strchr(line, '\n') + 1) {
        assert_time(line);
        assert_memory_equal(line + 24, " info event=", 12);
        const int lane = line[36] - 'a';
        assert_in_range(lane, 0, LANES - 1);
        assert_int_equal(strtol(line + 37, NULL, 10), seen[lane]++);
    }
    for (int i = 0; i < LANES; i++) {
        assert_int_equal(seen[i], LINES);
    }
    free(sink.text);
}

static void a_reader_that_is_stuck_does_not_keep_the_log_from_stopping(void **state)
{
    struct sink sink;
    (void)state;
    sink_open(&sink);
    struct log *log = log_start(sink.write, LOG_INFO, LOG_TEXT);
    for (int i = 0; i < FLOOD; i++) {
        log_event(log, LOG_INFO, "flood", NULL);
    }
    log_stop(log); /* else this waits for ever */
    close(sink.write);
    close(sink.read);
}

static void a_reader_that_went_away_ends_nothing(void **state)
{
    struct sink sink;
    (void)state;
    sink_open(&sink);
    close(sink.read);
    struct log *log = log_start(sink.write, LOG_INFO, LOG_TEXT);
    log_event(log, LOG_INFO, "unheard", NULL);
    log_stop(log);
    close(sink.write);
}

static void diagnostics_are_told_with_their_place_in_one_piece(void **state)
{
    struct sink sink;
    struct diag_list *diags = diag_list_new();
    (void)state;
    diag_error(diags, (struct diag_place){"/etc/r.yaml", 3, 7}, "no relay `x`");
    diag_warning(diags, (struct diag_place){NULL, 0, 0}, "old kernel");
    sink_open(&sink);
    struct log *log = log_start(sink.write, LOG_INFO, LOG_TEXT);
    log_diags(log, diags);
    log_stop(log);
    sink_read(&sink);
    assert_non_null(strstr(
        sink.text, " error event=configuration place=/etc/r.yaml:3:7 message=\"no relay `x`\"\n"));
    assert_non_null(strstr(sink.text, " warning event=configuration message=\"old kernel\"\n"));
    free(sink.text);
    diag_list_free(diags);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_text_line_is_time_level_and_pairs),
        cmocka_unit_test(a_json_line_is_one_object),
        cmocka_unit_test(a_line_is_in_the_format_of_its_record_while_a_reload_changes_it),
        cmocka_unit_test(every_line_for_the_journal_begins_with_its_priority),
        cmocka_unit_test(a_priority_is_nowhere_but_in_the_journal),
        cmocka_unit_test(what_is_above_the_level_is_left_out),
        cmocka_unit_test(a_line_is_out_before_the_log_stops),
        cmocka_unit_test(a_full_buffer_drops_whole_lines_and_counts_them),
        cmocka_unit_test(the_lines_of_every_lane_are_all_there_and_in_order),
        cmocka_unit_test(a_reader_that_is_stuck_does_not_keep_the_log_from_stopping),
        cmocka_unit_test(a_reader_that_went_away_ends_nothing),
        cmocka_unit_test(diagnostics_are_told_with_their_place_in_one_piece),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
