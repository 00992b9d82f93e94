/* proxy/admin/exposition and snapshot: what Prometheus reads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

#include "proxy/admin/exposition.h"
#include "proxy/admin/metrics.h"

static void assert_output(struct exposition *out, const char *expected)
{
    assert_false(out->failed);
    assert_string_equal(out->text, expected);
    assert_int_equal(out->size, strlen(expected));
    free(out->text);
}

static void a_family_says_what_it_is(void **state)
{
    struct exposition out = {0};
    (void)state;
    exposition_family(&out, "a_total", "counter", "All of it.");
    exposition_sample(&out, "a_total", (struct labels){0}, UINT64_MAX);
    assert_output(&out, "# HELP a_total All of it.\n# TYPE a_total counter\n"
                        "a_total 18446744073709551615\n");
}

static void no_label_breaks_a_line_or_a_value(void **state)
{
    struct exposition out = {0};
    (void)state;
    exposition_sample(&out, "a", (struct labels){{{"x", "\"} 1\nb \\"}, {"y", "\r\x7f\303\244"}}},
                      7);
    assert_output(&out, "a{x=\"\\\"} 1\\nb \\\\\",y=\"??\303\244\"} 7\n");
}

static void a_histogram_adds_up_from_below_and_is_in_seconds(void **state)
{
    struct latency_sum latency = {.sum = 61005};
    struct exposition out = {0};
    (void)state;
    latency.bucket[2] = 1;              /* up to 5 ms */
    latency.bucket[14] = 2;             /* up to a minute */
    latency.bucket[LATENCY_BOUNDS] = 3; /* beyond the last */
    exposition_histogram(&out, "t_seconds", (struct labels){{{"relay", "r"}}}, &latency);
    assert_output(&out, "t_seconds_bucket{relay=\"r\",le=\"0.001\"} 0\n"
                        "t_seconds_bucket{relay=\"r\",le=\"0.002\"} 0\n"
                        "t_seconds_bucket{relay=\"r\",le=\"0.005\"} 1\n"
                        "t_seconds_bucket{relay=\"r\",le=\"0.01\"} 1\n"
                        "t_seconds_bucket{relay=\"r\",le=\"0.02\"} 1\n"
                        "t_seconds_bucket{relay=\"r\",le=\"0.05\"} 1\n"
                        "t_seconds_bucket{relay=\"r\",le=\"0.1\"} 1\n"
                        "t_seconds_bucket{relay=\"r\",le=\"0.2\"} 1\n"
                        "t_seconds_bucket{relay=\"r\",le=\"0.5\"} 1\n"
                        "t_seconds_bucket{relay=\"r\",le=\"1\"} 1\n"
                        "t_seconds_bucket{relay=\"r\",le=\"2\"} 1\n"
                        "t_seconds_bucket{relay=\"r\",le=\"5\"} 1\n"
                        "t_seconds_bucket{relay=\"r\",le=\"10\"} 1\n"
                        "t_seconds_bucket{relay=\"r\",le=\"30\"} 1\n"
                        "t_seconds_bucket{relay=\"r\",le=\"60\"} 3\n"
                        "t_seconds_bucket{relay=\"r\",le=\"300\"} 3\n"
                        "t_seconds_bucket{relay=\"r\",le=\"+Inf\"} 6\n"
                        "t_seconds_sum{relay=\"r\"} 61.005\n"
                        "t_seconds_count{relay=\"r\"} 6\n");
}

/* ---- snapshots ---- */

static struct stats *stats_new(void)
{
    struct stats *stats = calloc(1, sizeof *stats);
    assert_non_null(stats);
    return stats;
}

static struct snapshot *snapshot_of(const struct stats *one, const struct stats *other)
{
    struct snapshot *snapshot = snapshot_new();
    assert_non_null(snapshot);
    snapshot->version = "0";
    assert_true(snapshot_add(snapshot, one));
    assert_true(snapshot_add(snapshot, other));
    return snapshot;
}

static void assert_metric(const struct snapshot *snapshot, const char *line, bool there)
{
    size_t size = 0;
    char *text = metrics_text(snapshot, &size);
    assert_non_null(text);
    assert_int_equal(strlen(text), size);
    const bool found = strstr(text, line) != NULL;
    free(text);
    if (found != there) {
        fail_msg("%s: %s", there ? "missing" : "not expected", line);
    }
}

static void what_workers_count_of_a_relay_is_added_up_by_its_name(void **state)
{
    struct stats *one = stats_new(), *other = stats_new();
    (void)state;
    stats_add(one, STAT_SESSIONS, 2);
    stats_add(other, STAT_SESSIONS, 3);
    relay_stats_add(relay_stats_of(&one->relays, SPAN("a")), RELAY_MESSAGES_ACCEPTED, 1);
    relay_stats_add(relay_stats_of(&one->relays, SPAN("b")), RELAY_MESSAGES_ACCEPTED, 10);
    relay_stats_add(relay_stats_of(&other->relays, SPAN("b")), RELAY_MESSAGES_ACCEPTED, 20);
    relay_stats_add(relay_stats_of(&other->relays, SPAN("a")), RELAY_MESSAGES_ACCEPTED, 2);
    relay_stats_add(relay_stats_none(&other->relays), RELAY_RECIPIENTS_REJECTED, 5);
    struct snapshot *snapshot = snapshot_of(one, other);
    assert_metric(snapshot, "\nsplitmx_sessions_total 5\n", true);
    assert_metric(snapshot, "messages_total{relay=\"a\",outcome=\"accepted\"} 3\n", true);
    assert_metric(snapshot, "messages_total{relay=\"b\",outcome=\"accepted\"} 30\n", true);
    assert_metric(snapshot, "recipients_total{relay=\"\",outcome=\"rejected\"} 5\n", true);
    assert_metric(snapshot, "messages_total{relay=\"\"", false);
    snapshot_free(snapshot);
    free(one);
    free(other);
}

static void the_others_are_there_once_there_are_any(void **state)
{
    struct stats *one = stats_new(), *other = stats_new();
    (void)state;
    struct snapshot *snapshot = snapshot_of(one, other);
    assert_metric(snapshot, "(others)", false);
    snapshot_free(snapshot);
    relay_stats_add(relay_stats_of(&one->relays, SPAN("")), RELAY_BYTES, 1);
    snapshot = snapshot_of(one, other);
    assert_metric(snapshot, "bytes_total{relay=\"(others)\"} 1\n", true);
    snapshot_free(snapshot);
    free(one);
    free(other);
}

static void a_relay_has_a_row_before_it_has_counted(void **state)
{
    struct stats *one = stats_new(), *other = stats_new();
    struct snapshot *snapshot = snapshot_of(one, other);
    (void)state;
    for (unsigned i = 0; i < 100; i++) {
        assert_true(snapshot_name(snapshot, "new"));
        assert_true(snapshot_add_endpoint(snapshot, &(struct snapshot_endpoint){.failures = i}));
    }
    assert_metric(snapshot, "messages_total{relay=\"new\",outcome=\"accepted\"} 0\n", true);
    assert_int_equal(snapshot->relay_count, 2);
    assert_int_equal(snapshot->endpoint_count, 100);
    assert_int_equal(snapshot->endpoints[63].failures, 63);
    snapshot_free(snapshot);
    free(one);
    free(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_family_says_what_it_is),
        cmocka_unit_test(no_label_breaks_a_line_or_a_value),
        cmocka_unit_test(a_histogram_adds_up_from_below_and_is_in_seconds),
        cmocka_unit_test(what_workers_count_of_a_relay_is_added_up_by_its_name),
        cmocka_unit_test(the_others_are_there_once_there_are_any),
        cmocka_unit_test(a_relay_has_a_row_before_it_has_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
