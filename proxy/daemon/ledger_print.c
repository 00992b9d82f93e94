#include "proxy/daemon/ledger_print.h"

#include "proxy/daemon/quote.h"

struct printing {
    FILE *out;
    time_t now;
    bool json;
    unsigned leg;     /* of the row before; 0: there was none */
    unsigned records; /* of its leg */
    size_t octets;
};

static unsigned long long age(const struct printing *printing, time_t touched)
{
    return printing->now > touched ? (unsigned long long)(printing->now - touched) : 0;
}

/* ---- JSON ---- */

static void json_leg(const struct printing *printing, const struct ledger_listed *row)
{
    fputs(printing->leg == 0 ? "{\"relay\":" : "]},{\"relay\":", printing->out);
    json_put_string(printing->out, row->label);
    fprintf(printing->out, ",\"accepted\":%u,\"recipients\":[", row->records);
}

static void json_row(const struct printing *printing, const struct ledger_listed *row)
{
    if (printing->leg == 0) {
        fprintf(printing->out,
                "{\"set\":%llu,\"age_seconds\":%llu,\"sender\":", (unsigned long long)row->set,
                age(printing, row->touched));
        json_put_string(printing->out, row->sender);
        fputs(",\"legs\":[", printing->out);
    }
    if (row->leg != printing->leg) {
        json_leg(printing, row);
    } else {
        fputc(',', printing->out);
    }
    json_put_string(printing->out, row->recipient);
}

/* ---- text ---- */

static void put_age(FILE *out, unsigned long long seconds)
{
    if (seconds < 120) {
        fprintf(out, "%llu s", seconds);
    } else if (seconds < 7200) {
        fprintf(out, "%llu min", seconds / 60);
    } else {
        fprintf(out, "%llu h", seconds / 3600);
    }
}

static void text_leg_end(const struct printing *printing)
{
    if (printing->leg != 0 && printing->records != 0) {
        fprintf(printing->out, "; %u message%s accepted already", printing->records,
                printing->records == 1 ? "" : "s");
    }
    fputc('\n', printing->out);
}

static void text_row(const struct printing *printing, const struct ledger_listed *row)
{
    FILE *out = printing->out;
    if (printing->leg == 0) {
        fprintf(out, "set %llu  from <", (unsigned long long)row->set);
        print_plain(out, row->sender);
        fputs(">, last seen ", out);
        put_age(out, age(printing, row->touched));
        fputs(" ago", out);
    }
    if (row->leg != printing->leg) {
        text_leg_end(printing);
        fputs(row->leg == 1 ? "  next  " : "  then  ", out);
        print_plain(out, row->label);
        fputs(": ", out);
    } else {
        fputs(", ", out);
    }
    print_plain(out, row->recipient);
}

/* ---- both ---- */

static void on_row(void *context, const struct ledger_listed *row)
{
    struct printing *printing = context;
    if (printing->json) {
        json_row(printing, row);
    } else {
        text_row(printing, row);
    }
    printing->leg = row->leg;
    printing->records = row->records;
    printing->octets += row->recipient.len + 8;
}

static void end_set(struct printing *printing)
{
    if (printing->json) {
        fputs("]}]}\n", printing->out);
    } else {
        text_leg_end(printing);
    }
    printing->leg = 0;
    printing->octets += 64;
}

uint64_t ledger_print(struct ledger *ledger, uint64_t from, bool json, time_t now, size_t most,
                      FILE *out)
{
    struct printing printing = {.out = out, .now = now, .json = json};
    while (ledger_list(ledger, from, on_row, &printing, &from)) {
        end_set(&printing);
        if (printing.octets >= most) {
            return from;
        }
    }
    return 0;
}
