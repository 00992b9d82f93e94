#include "tests/bench/load_report.h"

#include <jansson.h>
#include <stdio.h>

#include "config/text.h"

#define SECOND 1e9

void load_report_fail(struct load_report *report, const char *why)
{
    struct load_failure *failure = report->failures;

    report->failed++;
    while (failure < report->failures + LOAD_FAILURES && failure->count > 0 &&
           strcmp(failure->text, why) != 0) {
        failure++;
    }
    if (failure->count++ == 0) {
        struct text text = TEXT(failure->text);
        text_puts(&text, failure == report->failures + LOAD_FAILURES ? "others" : why);
        fprintf(stderr, "load: %s\n", why);
    }
}

static json_t *failures_of(const struct load_report *report)
{
    json_t *all = json_object();
    for (size_t i = 0; i <= LOAD_FAILURES && report->failures[i].count > 0; i++) {
        const struct load_failure *failure = &report->failures[i];
        json_object_set_new(all, failure->text, json_integer((json_int_t)failure->count));
    }
    return all;
}

/* Microseconds, to a tenth. */
static double micro(double nano)
{
    return (double)(uint64_t)(nano / 100 + 0.5) / 10;
}

static json_t *latency_of(const struct histogram *times)
{
    static const struct {
        const char *name;
        double part;
    } quantiles[] = {{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p999", 0.999}, {"max", 1}};
    json_t *all = json_object();
    for (size_t i = 0; i < sizeof(quantiles) / sizeof(quantiles[0]); i++) {
        const double value = (double)histogram_quantile(times, quantiles[i].part);
        json_object_set_new(all, quantiles[i].name, json_real(micro(value)));
    }
    json_object_set_new(all, "mean", json_real(micro(histogram_mean(times))));
    return all;
}

bool load_report_print(const struct load_report *report, const struct load_world *world)
{
    const double seconds = (double)(report->ended - report->begun) / SECOND;
    const json_int_t accepted = (json_int_t)report->accepted;
    json_t *all = json_pack("{sI sI sf sf sI sI sI sI so so}", "messages", accepted, "failed",
                            (json_int_t)report->failed, "seconds", seconds, "rate",
                            seconds > 0 ? (double)report->accepted / seconds : 0.0, "bytes",
                            accepted * (json_int_t)world->text->size, "connections",
                            (json_int_t)world->connections, "handshakes",
                            (json_int_t)world->handshakes, "resumed", (json_int_t)world->resumed,
                            "latency", latency_of(&report->times), "failures", failures_of(report));
    const bool good = all &&
                      json_dumpf(all, stdout, JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(9)) == 0 &&
                      puts("") >= 0 && fflush(stdout) == 0;
    json_decref(all);
    return good;
}
