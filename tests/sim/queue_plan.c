/* What a world with queues is made of: relays and servers, authors, whom they write to, mail, and
 * what upstreams will say to all that. */
#include <stdio.h>
#include <stdlib.h>

#include "config/config.h"
#include "tests/sim/queues.h"

static uint64_t below(struct sim_random *random, uint64_t n)
{
    return random_below(random, n);
}

static bool chance(struct sim_random *random, unsigned percent)
{
    return random_chance(random, percent);
}

bool plan_says_later(const struct plan *plan, uint64_t now)
{
    return plan->last == LAST_NEVER || now < plan->until;
}

/* ---- relays and servers ---- */

static void build_outage(struct queues *q, struct server *server, struct sim_random *random)
{
    uint64_t length = chance(random, 70) ? 10 * MINUTE : HOUR;
    server->outage = (enum outage)below(random, OUTAGES);
    server->down_from = SIM_START + below(random, q->fault_end - SIM_START);
    server->down_to = server->down_from + below(random, length);
    if (server->down_to > q->fault_end) {
        server->down_to = q->fault_end;
    }
    server->flaky =
        chance(random, 35) &&
        filter_has(q->sim, ATOM_FAULT, UINT64_C(1) << 48 | server->relay << 8 | server->endpoint);
}

static void build_servers(struct queues *q, unsigned relay, struct sim_random *random)
{
    static const char *const addresses[] = {"198.51.100.%u", "127.0.0.%u", "10.0.0.%u"};
    const char *family = addresses[below(random, 3)];
    struct server first = {.sim = q->sim, .relay = relay};
    first.pipelining = chance(random, 70);
    first.size = chance(random, 60);
    first.eight_bit = chance(random, 60);
    first.slow = (unsigned)(chance(random, 10) ? 3000 : 1 + below(random, 60));
    first.idle_timeout = chance(random, 50) ? 1 + below(random, 40000) : 0;
    for (unsigned i = 0; i < SIM_ENDPOINTS; i++) {
        char text[32];
        struct server *server = &q->sim->servers[relay][i];
        *server = first;
        server->endpoint = i;
        snprintf(text, sizeof text, "%.*s%u", (int)strlen(family) - 2, family, 1 + relay + 10 * i);
        server->address = sim_address(text, 25);
        build_outage(q, server, random);
    }
}

static void add_hop(struct sim_relay *own, unsigned priority, const struct server *server,
                    bool named)
{
    struct nexthop *hop = &own->hops[own->relay.hop_count++];
    *hop = (struct nexthop){.kind = named ? NEXTHOP_HOST : NEXTHOP_ADDRESS,
                            .port = 25,
                            .priority = priority,
                            .address = server->address};
    if (named) {
        snprintf(hop->host, sizeof hop->host, "r%u-%u.example", server->relay, server->endpoint);
    }
}

static void build_relay(struct queues *q, unsigned number)
{
    struct sim_random random = queues_random(q, 1, number);
    struct sim_relay *own = &q->sim->relays[number];
    own->endpoints = chance(&random, 20) ? SIM_ENDPOINTS : 1;
    snprintf(own->name, sizeof own->name, "r%u", number);
    own->relay = (struct relay){
        .name = own->name,
        .hops = own->hops,
        .identity = IDENTITY_NONE,
        .tls = RELAY_TLS_NONE,
        .max_connections = q->crowded ? 1 + (unsigned)below(&random, 2) : 1000,
        .recipients_max = chance(&random, 8) ? 1 + (unsigned)below(&random, 3) : 0,
        .one_domain = chance(&random, 15),
    };
    build_servers(q, number, &random);
    for (unsigned i = 0; i < own->endpoints; i++) {
        add_hop(own, 1 + i, &q->sim->servers[number][i], chance(&random, 20));
    }
}

static void link_relays(struct queues *q)
{
    struct sim_random random = queues_random(q, 2, 0);
    struct sim *sim = q->sim;
    for (unsigned i = 0; i < sim->relay_count; i++) {
        struct relay *relay = &sim->relays[i].relay;
        unsigned first =
            (i + 1 + (unsigned)below(&random, sim->relay_count - 1)) % sim->relay_count;
        unsigned second =
            (i + 1 + (unsigned)below(&random, sim->relay_count - 1)) % sim->relay_count;
        relay->fallback = chance(&random, 40) ? &sim->relays[first].relay : NULL;
        relay->unknown_recipient =
            chance(&random, 40) && (relay->fallback == NULL || second != first)
                ? &sim->relays[second].relay
                : NULL;
    }
}

/* ---- authors and whom they write to ---- */

static struct plan any_plan(struct queues *q, struct sim_random *random, unsigned later,
                            unsigned no, unsigned never)
{
    uint64_t span = q->fault_end - SIM_START;
    struct plan plan = {.last = LAST_YES};
    uint64_t until = SIM_START + below(random, chance(random, 15) ? span : span / 8 + 1);
    unsigned last = (unsigned)below(random, 100);
    if (chance(random, later)) {
        plan.until = until;
    }
    plan.unknown = chance(random, 60);
    plan.last = last < no ? LAST_NO : last < no + never ? LAST_NEVER : LAST_YES;
    return plan;
}

static void build_box(struct queues *q, struct author *author, struct sim_random *random)
{
    struct mailbox *box = &author->boxes[author->box_count];
    unsigned kind = (unsigned)below(random, 100);
    box->author = author->number;
    box->number = author->box_count++;
    box->relay = (unsigned)below(random, q->sim->relay_count);
    box->domain = (unsigned)below(random, SIM_DOMAINS);
    box->kind = kind < 2   ? RCPT_ERROR
                : kind < 4 ? RCPT_RETRY
                : kind < 7 ? RCPT_DISCARD
                           : RCPT_RELAY;
    box->rcpt[WAY_HOME] = any_plan(q, random, 10, 10, 4);
    box->rcpt[WAY_FALLBACK] = any_plan(q, random, 10, 10, 5);
    box->rcpt[WAY_UNKNOWN] = any_plan(q, random, 10, 20, 5);
}

static void build_author(struct queues *q, unsigned number)
{
    struct sim_random random = queues_random(q, 3, number);
    struct author *author = &q->authors[number];
    author->number = number;
    author->null = chance(&random, 15);
    uint64_t boxes = 2 + below(&random, QUEUE_BOXES - 1);
    while (author->box_count < boxes) {
        build_box(q, author, &random);
    }
    for (unsigned i = 0; i < SIM_RELAYS; i++) {
        author->mail[i] = author->null ? (struct plan){0} : any_plan(q, &random, 4, 1, 1);
        author->data[i] = author->null ? (struct plan){0} : any_plan(q, &random, 6, 2, 2);
    }
}

struct span mailbox_path(const struct queues *q, const struct mailbox *box, char *out)
{
    static const char *const kinds[] = {"", "error", "retry", "discard"};
    struct text text = text_over(out, 256);
    (void)q;
    text_printf(&text, "b%u.a%u@", box->number, box->author);
    if (box->kind == RCPT_RELAY) {
        text_printf(&text, "D%u.r%u.example", box->domain, box->relay);
    } else {
        text_printf(&text, "%s.example", kinds[box->kind]);
    }
    return text_span(&text);
}

struct span author_path(const struct author *author, char *out)
{
    struct text text = text_over(out, 256);
    if (!author->null) {
        text_printf(&text, "author%u@client.example", author->number);
    }
    return text_span(&text);
}

struct mailbox *mailbox_of_path(struct queues *q, struct span path)
{
    char own[256];
    for (unsigned a = 0; a < q->author_count; a++) {
        for (unsigned b = 0; b < q->authors[a].box_count; b++) {
            if (span_equal(path, mailbox_path(q, &q->authors[a].boxes[b], own))) {
                return &q->authors[a].boxes[b];
            }
        }
    }
    return NULL;
}

static const struct relay *relay_by(const struct queues *q, const struct mailbox *box, enum way way)
{
    const struct relay *home = &q->sim->relays[box->relay].relay;
    switch (way) {
    case WAY_HOME:
        return home;
    case WAY_FALLBACK:
        return home->fallback;
    case WAY_UNKNOWN:
        return home->unknown_recipient;
    case WAYS:
        break;
    }
    return NULL;
}

enum way mailbox_way(const struct queues *q, const struct mailbox *box, unsigned relay)
{
    for (int way = 0; way < WAYS && box->kind == RCPT_RELAY; way++) {
        if (relay_by(q, box, (enum way)way) == &q->sim->relays[relay].relay) {
            return (enum way)way;
        }
    }
    return WAYS;
}

/* ---- mail ---- */

/* What of a message may differ from another that is else the same, and count. */
enum differs { DIFFERS_ALL, DIFFERS_SUBJECT, DIFFERS_BODY, DIFFERS_TO, DIFFERS_ID, DIFFERS };

static void put_header(struct mail *mail, unsigned base, enum differs differs, uint64_t lacks)
{
    char line[120];
    bool dated = mail->identity;
    bool named = mail->identity;
    if (!mail->identity) {  /* without one of them, or with two */
        dated = lacks == 1; /* then it has two dates */
        named = lacks == 2;
    }
    const struct {
        bool there;
        const char *front, *behind;
        unsigned number;
    } fields[] = {
        {true, "From: Author ", " <author@client.example>\r\n", mail->author},
        {true, "To: all\r\n\t", "@sim.example\r\n", differs == DIFFERS_TO ? mail->id : base},
        {dated || named, "Date: Thu, ", " Jan 1970 00:00:00 +0000\r\n", 1 + base % 9},
        {dated && !named, "date: Thu, ", " Jan 1970 00:00:00 +0000\r\n", 1 + base % 9},
        {named, "Message-ID: <", "@client.example>\r\n", differs == DIFFERS_ID ? mail->id : base},
        {true, "Subject: number\r\n ", "\r\n", differs == DIFFERS_SUBJECT ? mail->id : base},
        {true, "X-Mail: ", "\r\n\r\n", mail->id},
    };
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        struct text text = TEXT(line);
        text_printf(&text, "%s%u%s", fields[i].front, fields[i].number, fields[i].behind);
        buffer_put(&mail->body, fields[i].there ? text_span(&text) : SPAN(""));
    }
}

static void put_body(struct mail *mail, unsigned number, size_t wanted)
{
    static const char *const lines[] = {"..\r\n", "\r\n", "..x\r\n",
                                        "It was a bright cold day in April, and so on.\r\n"};
    char line[40];
    struct text text = TEXT(line);
    struct sim_random random = queues_random(mail->sim->queues, 5, number);
    text_printf(&text, "body %u\r\n", number);
    buffer_put(&mail->body, text_span(&text));
    while (wanted > 0) {
        struct span next = span_of(lines[chance(&random, 10) ? below(&random, 3) : 3]);
        buffer_put(&mail->body, next);
        wanted -= wanted < next.len ? wanted : next.len;
    }
}

static size_t any_size(struct sim_random *random)
{
    unsigned kind = (unsigned)below(random, 100);
    return (size_t)below(random, kind < 75 ? 600 : kind < 95 ? 9000 : 70000);
}

/* Some are like the one before but for one thing. */
static void make_message(struct mail *mail, struct sim_random *random)
{
    bool twin = chance(random, 45) && mail->id != 0;
    enum differs differs = twin ? (enum differs)(1 + below(random, DIFFERS - 1)) : DIFFERS_ALL;
    unsigned base = twin ? mail->id - 1 : mail->id;
    struct sim_random own = queues_random(mail->sim->queues, 6, base);
    mail->identity = chance(&own, 85);
    mail->varies = chance(random, 15);
    put_header(mail, base, differs, below(&own, 3));
    put_body(mail, differs == DIFFERS_BODY ? mail->id : base, any_size(&own));
}

static void build_mail(struct queues *q, unsigned id)
{
    struct sim_random random = queues_random(q, 4, id);
    struct mail *mail = sim_alloc(1, sizeof *mail);
    mail->sim = q->sim;
    mail->id = id;
    mail->author = id != 0 && chance(&random, 60) ? q->mails[id - 1]->author
                                                  : (unsigned)below(&random, q->author_count);
    mail->host = chance(&random, 75) ? mail->author % q->host_count
                                     : (unsigned)below(&random, q->host_count);
    q->mails[id] = mail;
    make_message(mail, &random);
    const struct author *author = &q->authors[mail->author];
    unsigned percent = 30 + (unsigned)below(&random, 70);
    bool exists = filter_has(q->sim, ATOM_MAIL, id);
    for (unsigned i = 0; i < author->box_count; i++) {
        bool wanted = chance(&random, percent);
        if (wanted && exists && filter_has(q->sim, ATOM_RCPT, id << 8 | i)) {
            mail->rcpts[i].state = RCPT_QUEUED;
        }
    }
    for (unsigned way = 0; way < WAYS; way++) {
        for (unsigned relay = 0; relay < SIM_RELAYS; relay++) {
            mail->end[way][relay] = any_plan(q, &random, 40, 10, 10);
        }
    }
}

/* ---- how it will end ---- */

static bool leg_settles(const struct queues *q, const struct mail *mail, unsigned relay,
                        enum way way)
{
    const struct author *author = &q->authors[mail->author];
    return author->data[relay].last != LAST_NEVER && mail->end[way][relay].last != LAST_NEVER;
}

bool mail_rcpt_must_settle(const struct queues *q, const struct mail *mail, unsigned number)
{
    const struct author *author = &q->authors[mail->author];
    const struct mailbox *box = &author->boxes[number];
    if (box->kind != RCPT_RELAY) { /* who is dropped is so with the others' acceptance */
        return box->kind == RCPT_ERROR;
    }
    const struct plan *home = &box->rcpt[WAY_HOME];
    const struct relay *other = relay_by(q, box, WAY_UNKNOWN);
    if (author->mail[box->relay].last != LAST_YES || home->last == LAST_NEVER) {
        return author->mail[box->relay].last == LAST_NO;
    }
    if (home->last == LAST_YES) {
        return leg_settles(q, mail, box->relay, WAY_HOME);
    }
    if (q->sim->relays[box->relay].relay.recipients_max != 0) {
        return false; /* those before it, if they are deferred, keep it from being asked */
    }
    if (!home->unknown || other == NULL) {
        return true;
    }
    unsigned relay = sim_relay_number(q->sim, other);
    const struct plan *there = &box->rcpt[WAY_UNKNOWN];
    if (author->mail[relay].last != LAST_YES || there->last != LAST_YES) {
        return author->mail[relay].last == LAST_NO ||
               (author->mail[relay].last == LAST_YES && there->last == LAST_NO);
    }
    return leg_settles(q, mail, relay, WAY_UNKNOWN);
}

/* ---- all of it ---- */

static void build_crashes(struct queues *q, struct sim_random *random)
{
    bool any = chance(random, 70);
    for (unsigned i = 0; i < QUEUE_CRASHES; i++) {
        struct crash_plan *crash = &q->crashes[i];
        crash->trigger = (enum trigger)below(random, TRIGGERS);
        crash->count = crash->trigger == TRIGGER_TIME
                           ? SIM_START + below(random, q->fault_end - SIM_START)
                           : below(random, 20);
        crash->steps = 1 + (unsigned)below(random, chance(random, 50) ? 4 : 60);
        crash->pause = below(random, chance(random, 70) ? 3000 : 20 * MINUTE);
        crash->machine = chance(random, 30);
        crash->armed =
            chance(random, 60) && any && filter_has(q->sim, ATOM_FAULT, UINT64_C(2) << 48 | i);
    }
}

static void build_jumps(struct queues *q, struct sim_random *random)
{
    static const int64_t sizes[] = {3600, 86400 - 60, 86400 + 60, 2 * 86400, 6 * 86400};
    bool any = chance(random, 30);
    for (unsigned i = 0; i < QUEUE_JUMPS; i++) {
        struct jump *jump = &q->jumps[i];
        jump->at = SIM_START + below(random, q->fault_end - SIM_START);
        jump->seconds =
            chance(random, 30) ? (int64_t)below(random, 100000) : sizes[below(random, 5)];
        jump->seconds = chance(random, 50) ? -jump->seconds : jump->seconds;
        jump->armed =
            any && chance(random, 50) && filter_has(q->sim, ATOM_FAULT, UINT64_C(3) << 48 | i);
    }
}

static void build_store(struct queues *q, struct sim_random *random)
{
    bool any = chance(random, 25);
    q->store.queues = q;
    q->store.random = queues_random(q, 7, 0);
    q->store.retry_window = chance(random, 80) ? 5 * 86400 : 2 * 86400;
    q->store.slow = chance(random, 80) ? 20 : 3000;
    for (unsigned i = 0; i < STORE_FAILURES; i++) {
        uint64_t from = SIM_START + below(random, q->fault_end - SIM_START);
        q->store.failures[i].from = from;
        q->store.failures[i].to = from + below(random, 30 * MINUTE);
        if (q->store.failures[i].to > q->fault_end) {
            q->store.failures[i].to = q->fault_end;
        }
        q->store.failures[i].armed = any && filter_has(q->sim, ATOM_FAULT, UINT64_C(4) << 48 | i);
    }
}

static void build_settings(struct queues *q, struct sim_random *random)
{
    struct config *config = config_defaults(SIM_HOST);
    if (config == NULL) {
        abort();
    }
    config->log_level = chance(random, 10) || q->sim->config.trace ? LOG_INFO : LOG_ERROR;
    config->split = chance(random, 6) ? SPLIT_DEFER : SPLIT_TOGETHER;
    config->limits.errors = 1000;
    q->sim->settings = config;
}

void queues_build(struct queues *q)
{
    static const uint64_t spans[] = {20 * MINUTE, HOUR, 3 * HOUR, 30 * HOUR};
    static const unsigned rates[] = {0, 300, 1000, 4000};
    struct sim *sim = q->sim;
    struct sim_random random = queues_random(q, 0, 0);
    q->fault_end = SIM_START + spans[below(&random, 4)];
    q->per_event = rates[below(&random, 4)];
    q->crowded = chance(&random, 5);
    q->tight = chance(&random, 4);
    q->poisoned = chance(&random, 12);
    sim->nowhere = sim_address("192.0.2.99", 25);
    sim->own = sim_address("192.0.2.25", 25);
    sim->delay = (unsigned)(chance(&random, 20) ? 200 : below(&random, 20));
    sim->relay_count = 2 + (unsigned)below(&random, SIM_RELAYS - 1);
    q->host_count = 1 + (unsigned)below(&random, QUEUE_HOSTS);
    q->author_count = 1 + (unsigned)below(&random, QUEUE_AUTHORS);
    build_settings(q, &random);
    build_crashes(q, &random);
    build_jumps(q, &random);
    build_store(q, &random);
    for (unsigned i = 0; i < sim->relay_count; i++) {
        build_relay(q, i);
    }
    link_relays(q);
    for (unsigned i = 0; i < q->author_count; i++) {
        build_author(q, i);
    }
    for (uint64_t mails = 1 + below(&random, QUEUE_MAILS); mails > 0; mails--) {
        build_mail(q, q->mail_count++);
    }
}

void queues_release(struct queues *q)
{
    for (unsigned i = 0; i < q->mail_count; i++) {
        buffer_release(&q->mails[i]->body);
        free(q->mails[i]);
    }
}
