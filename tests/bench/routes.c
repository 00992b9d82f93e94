/* What routes cost: tables to build, libyaml's share of it, decisions a second. `routes` says how
 * it is used. Each command prints one JSON object. */
#include <stdlib.h>
#include <time.h>
#include <yaml.h>

#include "config/random.h"
#include "routing/route.h"
#include "tests/bench/routes_plan.h"

#define BATCH   (1u << 20) /* addresses asked in turn: far more than any cache has lines for */
#define SECONDS 2.0
#define AT_ONCE 4096 /* decisions between two looks at the clock */

struct clocks {
    double wall, cpu;
};

static double seconds_of(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static struct clocks clocks_now(void)
{
    return (struct clocks){seconds_of(CLOCK_MONOTONIC), seconds_of(CLOCK_PROCESS_CPUTIME_ID)};
}

static struct clocks clocks_since(struct clocks then)
{
    struct clocks now = clocks_now();
    return (struct clocks){now.wall - then.wall, now.cpu - then.cpu};
}

static int usage(void)
{
    fputs("routes write yaml|map sorted|shuffled ROUTES DOMAINS FILE   a table, as text\n"
          "routes libyaml FILE                     libyaml's events over a file, and nothing else\n"
          "routes decide CONFIG ROUTES DOMAINS     decisions a second, of the table that CONFIG\n"
          "                                        names and `write` made; builds what is not "
          "built\n",
          stderr);
    return 64;
}

static bool read_plan(char **words, struct routes_plan *plan)
{
    unsigned long long routes, domains;
    bool ok = span_number(span_of(words[0]), PLAN_MOST, &routes) &&
              span_number(span_of(words[1]), PLAN_ZONES, &domains) && domains > 0;
    *plan = (struct routes_plan){ok ? (uint32_t)routes : 0, ok ? (uint32_t)domains : 0};
    return ok;
}

/* ---- write ---- */

static int command_write(char **words)
{
    struct routes_plan plan;
    bool yaml = strcmp(words[0], "yaml") == 0, shuffled = strcmp(words[1], "shuffled") == 0;
    if ((!yaml && strcmp(words[0], "map") != 0) || (!shuffled && strcmp(words[1], "sorted") != 0) ||
        !read_plan(words + 2, &plan)) {
        return usage();
    }
    FILE *out = fopen(words[4], "we");
    bool ok = out && plan_write(&plan, yaml ? PLAN_YAML : PLAN_MAP, shuffled, out);
    long bytes = out ? ftell(out) : 0;
    if ((out && fclose(out) != 0) || !ok) {
        perror(words[4]);
        return 1;
    }
    printf("{\"routes\":%u,\"bytes\":%ld}\n", plan.routes, bytes);
    return 0;
}

/* ---- libyaml ---- */

static int command_libyaml(char **words)
{
    yaml_parser_t parser;
    yaml_event_t event = {0};
    unsigned long events = 0;
    FILE *file = fopen(words[0], "re");
    if (!file || !yaml_parser_initialize(&parser)) {
        perror(words[0]);
        return 1;
    }
    struct clocks begin = clocks_now();
    yaml_parser_set_input_file(&parser, file);
    bool ok = true;
    for (bool more = true; more; events++) {
        ok = yaml_parser_parse(&parser, &event) == 1;
        more = ok && event.type != YAML_STREAM_END_EVENT;
        yaml_event_delete(&event);
    }
    struct clocks took = clocks_since(begin);
    yaml_parser_delete(&parser);
    fclose(file);
    printf("{\"events\":%lu,\"seconds\":%.4f,\"cpu\":%.4f}\n", events, took.wall, took.cpu);
    return ok ? 0 : 1;
}

/* ---- decide ---- */

/* Of each kind a batch of addresses, drawn at random. */
enum kind { KIND_HIT, KIND_MISS, KIND_MIXED, KINDS };

static const char *const kind_names[KINDS] = {"hits", "misses", "mixed"};

struct bench {
    struct config *config;
    struct relay_set *relays;
    struct table *table;
    struct routes_plan plan;
    char (*texts)[PLAN_TEXT];
    struct span *spans;
};

static bool bench_init(struct bench *bench, const char *path, struct diag_list *diags)
{
    bench->texts = malloc(BATCH * sizeof(*bench->texts));
    bench->spans = malloc(BATCH * sizeof(*bench->spans));
    bench->config = config_load(path, diags);
    bench->relays = bench->config ? relay_set_new(bench->config, diags) : NULL;
    if (bench->relays && bench->texts && bench->spans) {
        bench->table =
            table_load(bench->config, bench->relays, bench->config->state_directory.text, 0, diags);
    }
    return bench->table != NULL;
}

static void bench_release(struct bench *bench)
{
    table_unref(bench->table);
    relay_set_free(bench->relays);
    config_unref(bench->config);
    free(bench->texts);
    free(bench->spans);
}

static void draw(struct bench *bench, enum kind kind)
{
    uint64_t state = (uint64_t)kind;
    for (uint32_t i = 0; i < BATCH; i++) {
        uint32_t n = (uint32_t)(random_step(&state) % bench->plan.routes);
        bool hit = kind == KIND_HIT || (kind == KIND_MIXED && i % 2 == 0);
        bench->spans[i] = hit ? plan_hit(&bench->plan, n, bench->texts[i])
                              : plan_miss(&bench->plan, n, bench->texts[i]);
    }
}

/* How many of `count` addresses matched. */
static uint32_t decide(const struct bench *bench, uint32_t from, uint32_t count)
{
    struct address address;
    struct decision decision;
    uint32_t matched = 0;
    for (uint32_t i = from; i < from + count; i++) {
        route_decide(bench->config, bench->relays, bench->table, bench->spans[i % BATCH], &address,
                     &decision);
        matched += decision.matched;
    }
    return matched;
}

static bool measure(struct bench *bench, enum kind kind)
{
    uint32_t count = 0, matched = 0;
    struct clocks took;
    draw(bench, kind);
    decide(bench, 0, BATCH); /* what is mapped is in memory then */
    struct clocks begin = clocks_now();
    do {
        matched += decide(bench, count % BATCH, AT_ONCE);
        count += AT_ONCE;
        took = clocks_since(begin);
    } while (took.wall < SECONDS);
    printf("%s\"%s\":{\"decisions\":%u,\"seconds\":%.3f,\"rate\":%.0f,\"rate_cpu\":%.0f}",
           kind == KIND_HIT ? "" : ",", kind_names[kind], count, took.wall, count / took.wall,
           count / took.cpu);
    uint32_t expected[KINDS] = {count, 0, count / 2};
    return matched == expected[kind];
}

static int command_decide(char **words)
{
    struct bench bench = {0};
    struct diag_list *diags = diag_list_new();
    bool ok = diags && read_plan(words + 1, &bench.plan) && bench.plan.routes > 0;
    if (!ok) {
        diag_list_free(diags);
        return usage();
    }
    ok = bench_init(&bench, words[0], diags);
    diag_print(diags, stderr);
    printf("{\"routes\":%llu,", ok ? (unsigned long long)table_routes(bench.table) : 0);
    for (int kind = 0; ok && kind < KINDS; kind++) {
        if (!measure(&bench, (enum kind)kind)) {
            fprintf(stderr, "routes: the %s are none: another table\n", kind_names[kind]);
            ok = false;
        }
    }
    puts("}");
    bench_release(&bench);
    diag_list_free(diags);
    return ok ? 0 : 1;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int words;
        int (*run)(char **words);
    } commands[] = {{"write", 5, command_write},
                    {"libyaml", 1, command_libyaml},
                    {"decide", 3, command_decide}};
    for (size_t i = 0; argc > 1 && i < sizeof(commands) / sizeof(*commands); i++) {
        if (strcmp(argv[1], commands[i].name) == 0 && argc == commands[i].words + 2) {
            return commands[i].run(argv + 2);
        }
    }
    return usage();
}
