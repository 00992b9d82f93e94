#include "tests/bench/routes_plan.h"

#include <stdlib.h>

#include "config/random.h"

static struct span address(const struct routes_plan *plan, char kind, uint32_t n, char *out)
{
    uint64_t state = n;
    unsigned domain = (unsigned)(random_step(&state) % plan->domains);
    int len = snprintf(out, PLAN_TEXT, "%c%08u@d%04u.example.net", kind, n, domain);
    return span_make(out, (size_t)len);
}

struct span plan_hit(const struct routes_plan *plan, uint32_t n, char *out)
{
    return address(plan, 'u', n, out);
}

/* Shares its first byte with many keys, so that it ends among them and not at the table's end. */
struct span plan_miss(const struct routes_plan *plan, uint32_t n, char *out)
{
    struct span text = address(plan, 'u', n, out);
    out[1] = 'x';
    out[2] = out[8];
    return text;
}

static uint32_t *make_order(uint32_t count, bool shuffled)
{
    uint64_t state = count;
    uint32_t *order = malloc(((size_t)count + 1) * sizeof(*order));
    for (uint32_t i = 0; order && i < count; i++) {
        order[i] = i;
    }
    for (uint32_t left = count; order && shuffled && left > 1; left--) {
        uint32_t at = (uint32_t)(random_step(&state) % left);
        uint32_t moved = order[left - 1];
        order[left - 1] = order[at];
        order[at] = moved;
    }
    return order;
}

bool plan_write(const struct routes_plan *plan, enum plan_form form, bool shuffled, FILE *out)
{
    char key[PLAN_TEXT];
    uint32_t *order = make_order(plan->routes, shuffled);
    if (!order) {
        return false;
    }
    for (uint32_t i = 0; i < plan->routes; i++) {
        struct span text = plan_hit(plan, order[i], key);
        fprintf(out, "%.*s%s smtp:[mx%u.example.org]\n", SPAN_ARGS(text),
                form == PLAN_YAML ? ":" : "", order[i] % PLAN_HOPS);
    }
    free(order);
    return fflush(out) == 0 && !ferror(out);
}
