#include "tests/unit/ledger_fixture.h"

#include "config/random.h"

/*
 * The ledger against a model of its rules that has neither lists nor tables: one row for each
 * recipient. Random operations, and crashes, from seeds that are printed; LEDGER_SEED tries another
 * one alone.
 */

#define SEEDS   100
#define STEPS   1200
#define ROWS    64
#define SETS    64
#define MAILS   4
#define TICKETS 3
#define WORD    16

/* ---- the model: a row is a recipient; a leg is the rows of a set that agree in `leg` ---- */

struct row {
    unsigned set;  /* 0: there is none */
    unsigned leg;  /* of the set */
    unsigned turn; /* of the leg: the lowest is the next */
    int sender, recipient, label;
    uint32_t records; /* a bit for each message */
    int64_t at[32];
};

struct model {
    struct row rows[ROWS];
    int64_t touched[SETS * 1000];
    unsigned unused[SETS * 1000]; /* turns since a lot was drawn; not kept */
    bool awaited[SETS * 1000];
    uint64_t lot;
    unsigned sets, legs, turns; /* made so far */
};

struct trial {
    struct fixture *f;
    uint64_t random;
    struct model now, kept;
    struct model_mail {
        int sender;
        struct ledger_turn turn;
        unsigned set, leg; /* as the model has them */
        bool bound, recorded;
    } mails[MAILS];
    struct ledger_ticket tickets[TICKETS];
    bool waits[TICKETS];
    unsigned called[TICKETS];
    bool usable;
};

static const char *const senders[] = {"", "s@example.org"};
static const char *const recipients[] = {"a@example.com", "b@example.com", "c@example.com",
                                         "d@example.com", "e@example.com", "f@example.com",
                                         "g@example.com"};
static const char *const labels[] = {"alpha", "beta", "gamma"};
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static uint64_t below(struct trial *t, uint64_t bound)
{
    t->random ^= t->random << 13;
    t->random ^= t->random >> 7;
    t->random ^= t->random << 17;
    return (t->random >> 8) % bound;
}

static struct row *find_row(struct model *model, int sender, int recipient)
{
    for (int i = 0; i < ROWS; i++) {
        struct row *row = &model->rows[i];
        if (row->set != 0 && row->sender == sender && row->recipient == recipient) {
            return row;
        }
    }
    return NULL;
}

static void forget_set(struct model *model, unsigned set)
{
    for (int i = 0; i < ROWS; i++) {
        if (model->rows[i].set == set) {
            model->rows[i].set = 0;
        }
    }
}

static bool expired(const struct model *model, unsigned set, time_t now)
{
    return now - model->touched[set] > DAY;
}

/* As at this time: who is in a set that has expired is in none. */
static struct row *find_live(struct model *model, int sender, int recipient, time_t now)
{
    struct row *row = find_row(model, sender, recipient);
    if (row != NULL && expired(model, row->set, now)) {
        forget_set(model, row->set);
        return NULL;
    }
    return row;
}

/* It is of a leg that agrees with it, or of a new one at the tail. */
static void place(struct model *model, struct row *row)
{
    for (int i = 0; i < ROWS; i++) {
        struct row *other = &model->rows[i];
        if (other != row && other->set == row->set && other->label == row->label &&
            other->records == row->records) {
            row->leg = other->leg;
            row->turn = other->turn;
            memcpy(row->at, other->at, sizeof row->at);
            return;
        }
    }
    row->leg = ++model->legs;
    row->turn = ++model->turns;
}

static void move(struct model *model, struct row *row, int label, uint32_t records)
{
    if (row->label != label || row->records != records) {
        row->label = label;
        row->records = records;
        place(model, row);
    }
}

static struct row *add_row(struct model *model, unsigned set, int sender, int recipient, int label)
{
    for (int i = 0; i < ROWS; i++) {
        struct row *row = &model->rows[i];
        if (row->set == 0) {
            *row =
                (struct row){.set = set, .sender = sender, .recipient = recipient, .label = label};
            place(model, row);
            return row;
        }
    }
    fail_msg("the model is too small");
    return NULL;
}

/* Of a set, the row that has the lowest turn of at least `from`; NULL: none. */
static struct row *next_leg(struct model *model, unsigned set, unsigned from)
{
    struct row *next = NULL;
    for (int i = 0; i < ROWS; i++) {
        struct row *row = &model->rows[i];
        if (row->set == set && row->turn >= from && (next == NULL || row->turn < next->turn)) {
            next = row;
        }
    }
    return next;
}

static bool is_over(struct model *model, unsigned set)
{
    const struct row *first = next_leg(model, set, 0);
    return first == NULL || (first->records == 0 && next_leg(model, set, first->turn + 1) == NULL);
}

static void look(struct model *model, unsigned set)
{
    if (is_over(model, set)) {
        forget_set(model, set);
    }
}

/* All of `from` goes behind `into`, leg by leg. */
static void merge(struct model *model, unsigned into, unsigned from)
{
    struct row *leg = NULL;
    while ((leg = next_leg(model, from, 0)) != NULL) {
        unsigned number = leg->leg;
        for (int i = 0; i < ROWS; i++) {
            struct row *row = &model->rows[i];
            if (row->set == from && row->leg == number) {
                row->set = into;
                row->leg = 0;
                row->turn = 0;
                place(model, row);
            }
        }
    }
}

/* Records that are too old go; legs that agree then are one, at the first one's place. */
static void prune(struct model *model, unsigned set, int64_t oldest)
{
    for (int i = 0; i < ROWS; i++) {
        struct row *row = &model->rows[i];
        for (int m = 0; m < 32 && row->set == set; m++) {
            if ((row->records >> m & 1) != 0 && row->at[m] < oldest) {
                row->records &= ~(1U << m);
            }
        }
    }
    for (struct row *leg = next_leg(model, set, 0); leg != NULL;
         leg = next_leg(model, set, leg->turn + 1)) {
        for (int i = 0; i < ROWS; i++) {
            struct row *row = &model->rows[i];
            if (row->set == set && row->label == leg->label && row->records == leg->records) {
                row->leg = leg->leg;
                row->turn = leg->turn;
                memcpy(row->at, leg->at, sizeof row->at);
            }
        }
    }
}

/* The next in turn, or, behind one that went unused and was not the first, the leg of who asks, or
 * any. */
static struct row *turn_of(struct model *model, const struct row *asks)
{
    unsigned legs = 0, set = asks->set;
    uint64_t lot = random_step(&model->lot);
    struct row *leg = next_leg(model, set, 0);
    bool again = model->awaited[set];
    for (const struct row *at = leg; at != NULL; at = next_leg(model, set, at->turn + 1)) {
        legs++;
    }
    model->unused[set] += again;
    if (!again || model->unused[set] == 1) {
        return leg;
    }
    if (lot % 2 != 0) {
        return next_leg(model, set, asks->turn);
    }
    for (lot = lot / 2 % legs; lot > 0; lot--) {
        leg = next_leg(model, set, leg->turn + 1);
    }
    return leg;
}

static void turn_is_used(struct model *model, unsigned set)
{
    model->awaited[set] = false;
}

static enum ledger_verdict model_bind(struct trial *t, struct model_mail *mail,
                                      const struct row *member, enum ledger_company company)
{
    struct model *model = &t->now;
    unsigned set = member->set;
    prune(model, set, (int64_t)t->f->now - (int64_t)t->f->window);
    if (is_over(model, set)) {
        forget_set(model, set);
        return LEDGER_FREE;
    }
    struct row *head = turn_of(model, member);
    unsigned leg = head->leg, turn = ++model->turns;
    uint32_t records = head->records;
    for (int i = 0; i < ROWS; i++) {
        if (model->rows[i].set == set && model->rows[i].leg == leg) {
            model->rows[i].turn = turn;
        }
    }
    model->touched[set] = t->f->now;
    mail->bound = true;
    mail->set = set;
    bool fits =
        company == LEDGER_ALONE || (company == LEDGER_SAME && member->leg == leg && records == 0);
    mail->leg = fits ? leg : 0;
    mail->recorded = fits && records != 0;
    model->awaited[set] = true;
    if (!fits || member->leg != leg) {
        return LEDGER_WAIT;
    }
    turn_is_used(model, set);
    return LEDGER_GO;
}

/* Whether the set that it is bound to is there still. */
static bool bound_set_lives(struct trial *t, const struct model_mail *mail)
{
    if (expired(&t->now, mail->set, t->f->now)) {
        forget_set(&t->now, mail->set);
    }
    return next_leg(&t->now, mail->set, 0) != NULL;
}

static enum ledger_verdict model_turn(struct trial *t, struct model_mail *mail, int recipient,
                                      int label, enum ledger_company company)
{
    struct model *model = &t->now;
    struct row *member = find_live(model, mail->sender, recipient, t->f->now);
    if (!mail->bound) {
        return member != NULL ? model_bind(t, mail, member, company) : LEDGER_FREE;
    }
    bool lives = bound_set_lives(t, mail);
    const struct row *bound = NULL;
    for (int i = 0; i < ROWS; i++) {
        if (model->rows[i].set == mail->set && model->rows[i].leg == mail->leg) {
            bound = &model->rows[i];
        }
    }
    if (member == NULL) {
        bool same = company == LEDGER_SAME ||
                    (company == LEDGER_ALONE && bound != NULL && bound->label == label);
        return same && !mail->recorded ? LEDGER_GO : LEDGER_WAIT;
    }
    if (bound != NULL && member->set == mail->set && member->leg == mail->leg &&
        company != LEDGER_OTHERS) {
        turn_is_used(model, member->set);
        return LEDGER_GO;
    }
    if (member->set != mail->set && lives) {
        merge(model, mail->set, member->set);
        model->touched[mail->set] = t->f->now;
    }
    return LEDGER_WAIT;
}

static void model_join(struct trial *t, const struct model_mail *mail, int recipient, int label)
{
    struct row *member = find_live(&t->now, mail->sender, recipient, t->f->now);
    if (!mail->bound || !bound_set_lives(t, mail)) {
        return;
    }
    if (member == NULL) {
        add_row(&t->now, mail->set, mail->sender, recipient, label);
    } else if (member->set == mail->set && member->leg == mail->leg) {
        move(&t->now, member, label, member->records);
    }
}

static void add_record(struct model *model, struct row *row, int label, int message, time_t now)
{
    uint32_t records = row->records;
    if ((records >> message & 1) != 0) {
        move(model, row, label, records);
        return;
    }
    int count = 0, oldest = -1;
    for (int m = 0; m < 32; m++) {
        if ((records >> m & 1) != 0) {
            count++;
            oldest = oldest < 0 || row->at[m] < row->at[oldest] ? m : oldest;
        }
    }
    records &= count == 16 ? ~(1U << oldest) : ~0U;
    row->at[message] = now;
    move(model, row, label, records | 1U << message);
}

struct model_entry {
    int recipient, label;
    bool accepted;
};

/* Returns whether there is a set that is not over. */
static bool model_record(struct trial *t, int sender, const struct model_entry *entries,
                         size_t count, int message)
{
    struct model *model = &t->now;
    unsigned set = 0;
    for (size_t i = 0; i < count; i++) {
        struct row *row = find_live(model, sender, entries[i].recipient, t->f->now);
        if (set == 0) {
            set = row != NULL ? row->set : ++model->sets;
            model->touched[set] = t->f->now;
        }
        if (row != NULL && row->set != set) {
            merge(model, set, row->set);
        }
        if (row == NULL) {
            row = add_row(model, set, sender, entries[i].recipient, entries[i].label);
        }
        if (entries[i].accepted && message >= 0) {
            add_record(model, row, entries[i].label, message, t->f->now);
        }
    }
    look(model, set);
    return next_leg(model, set, 0) != NULL;
}

static bool model_accepted(struct trial *t, int sender, int recipient, int message)
{
    const struct row *row = find_live(&t->now, sender, recipient, t->f->now);
    return row != NULL && (row->records >> message & 1) != 0 &&
           row->at[message] >= (int64_t)t->f->now - (int64_t)t->f->window;
}

static void model_settle(struct trial *t, int sender, int recipient, int message)
{
    struct row *row = find_row(&t->now, sender, recipient);
    if (row == NULL) {
        return;
    }
    unsigned set = row->set;
    uint32_t records = message >= 0 ? row->records & ~(1U << message) : row->records;
    if (records == 0) {
        row->set = 0;
    } else {
        move(&t->now, row, row->label, records);
    }
    look(&t->now, set);
}

static void model_refused(struct trial *t, int sender, int recipient)
{
    struct row *row = find_row(&t->now, sender, recipient);
    if (row != NULL && row->records == 0) {
        unsigned set = row->set;
        row->set = 0;
        look(&t->now, set);
    }
}

/* ---- both are the same ---- */

struct comparison {
    struct trial *t;
    unsigned set, turn, leg; /* of the row before */
    const struct row *row;
    uint64_t seen[SETS * 1000 / 64]; /* sets */
    unsigned rows;
};

static int index_of(const char *const *words, size_t count, struct span word)
{
    for (size_t i = 0; i < count; i++) {
        if (span_equal(span_of(words[i]), word)) {
            return (int)i;
        }
    }
    fail_msg("nobody is called %.*s", SPAN_ARGS(word));
    return -1;
}

static void compare_row(void *context, const struct ledger_listed *listed)
{
    struct comparison *c = context;
    int sender = index_of(senders, COUNT(senders), listed->sender);
    int recipient = index_of(recipients, COUNT(recipients), listed->recipient);
    const struct row *row = find_row(&c->t->now, sender, recipient);
    assert_non_null(row);
    assert_int_equal(listed->set, row->set);
    assert_int_equal(listed->touched, c->t->now.touched[row->set]);
    assert_string_equal(labels[row->label], labels[index_of(labels, COUNT(labels), listed->label)]);
    assert_int_equal(listed->records, __builtin_popcount(row->records));
    if (row->set != c->set) {
        assert_int_equal(listed->leg, 1);
        assert_int_equal(row->turn, next_leg(&c->t->now, row->set, 0)->turn);
    } else if (listed->leg == c->leg) {
        assert_int_equal(row->turn, c->turn);
    } else {
        assert_int_equal(listed->leg, c->leg + 1);
        assert_int_equal(row->turn, next_leg(&c->t->now, row->set, c->turn + 1)->turn);
    }
    c->set = row->set;
    c->turn = row->turn;
    c->leg = listed->leg;
    c->seen[row->set / 64] |= (uint64_t)1 << row->set % 64;
    c->rows++;
}

/* What has expired may be there still, and may be gone: who is asked for is told the same. */
static void compare(struct trial *t)
{
    struct comparison c = {.t = t};
    struct ledger_state told;
    uint64_t next = 0;
    while (ledger_list(t->f->ledger, next, compare_row, &c, &next)) {
    }
    unsigned rows = 0, records = 0;
    for (int i = 0; i < ROWS; i++) {
        struct row *row = &t->now.rows[i];
        if (row->set != 0 && (c.seen[row->set / 64] >> row->set % 64 & 1) == 0) {
            assert_true(expired(&t->now, row->set, t->f->now));
            row->set = 0;
        }
        rows += row->set != 0;
    }
    for (int i = 0; i < ROWS; i++) {
        bool first = t->now.rows[i].set != 0;
        for (int j = 0; j < i; j++) {
            first = first && (t->now.rows[j].set != t->now.rows[i].set ||
                              t->now.rows[j].leg != t->now.rows[i].leg);
        }
        records += first ? (unsigned)__builtin_popcount(t->now.rows[i].records) : 0;
    }
    assert_int_equal(c.rows, rows);
    ledger_tell(t->f->ledger, &told);
    assert_int_equal(told.recipients, rows);
    assert_int_equal(told.records, records);
    assert_int_equal(told.usable, t->usable);
}

/* ---- what happens ---- */

static struct span name_of(const char *const *names, int index)
{
    return span_of(names[index]);
}

static void ask(struct trial *t)
{
    struct model_mail *mail = &t->mails[below(t, MAILS)];
    int recipient = (int)below(t, COUNT(recipients)), label = (int)below(t, COUNT(labels));
    enum ledger_company company = (enum ledger_company)below(t, 3);
    struct ledger_question question = {.sender = name_of(senders, mail->sender),
                                       .recipient = name_of(recipients, recipient),
                                       .label = name_of(labels, label),
                                       .company = company};
    enum ledger_verdict verdict = ledger_turn(t->f->ledger, &mail->turn, &question, t->f->now);
    assert_int_equal(verdict, model_turn(t, mail, recipient, label, company));
    assert_int_equal(mail->turn.bound, mail->bound);
    assert_int_equal(mail->turn.records != 0, mail->recorded);
}

static void join_one(struct trial *t)
{
    struct model_mail *mail = &t->mails[below(t, MAILS)];
    int recipient = (int)below(t, COUNT(recipients)), label = (int)below(t, COUNT(labels));
    if (mail->bound) {
        ledger_join(t->f->ledger, &mail->turn, name_of(senders, mail->sender),
                    name_of(recipients, recipient), name_of(labels, label), t->f->now);
        model_join(t, mail, recipient, label);
    }
}

static void record_some(struct trial *t)
{
    struct ledger_entry entries[5];
    struct model_entry model[5];
    size_t count = 1 + below(t, 5);
    int sender = (int)below(t, COUNT(senders)), number = (int)below(t, 24) - 2;
    unsigned ticket = (unsigned)below(t, 2 * TICKETS);
    for (size_t i = 0; i < count; i++) {
        model[i] = (struct model_entry){(int)below(t, COUNT(recipients)),
                                        (int)below(t, COUNT(labels)), below(t, 2) == 0};
        entries[i] = (struct ledger_entry){.recipient = name_of(recipients, model[i].recipient),
                                           .label = name_of(labels, model[i].label),
                                           .accepted = model[i].accepted};
    }
    if (ticket < TICKETS && t->waits[ticket]) {
        ticket = TICKETS;
    }
    struct ledger_split split = {
        .sender = name_of(senders, sender),
        .entries = entries,
        .count = count,
        .identity = number >= 0 ? message((unsigned char)number) : NULL,
    };
    bool good = ledger_record(t->f->ledger, &split, t->f->now,
                              ticket < TICKETS ? &t->tickets[ticket] : NULL);
    assert_int_equal(good, model_record(t, sender, model, count, number) && t->usable);
    if (ticket < TICKETS) {
        t->waits[ticket] = good;
    }
}

static void ask_whether_accepted(struct trial *t)
{
    int sender = (int)below(t, COUNT(senders)), recipient = (int)below(t, COUNT(recipients));
    for (unsigned char number = 0; number < 22; number++) {
        assert_int_equal(ledger_accepted(t->f->ledger, name_of(senders, sender),
                                         name_of(recipients, recipient), message(number),
                                         t->f->now),
                         model_accepted(t, sender, recipient, number));
    }
}

static void answer_one(struct trial *t)
{
    int sender = (int)below(t, COUNT(senders)), recipient = (int)below(t, COUNT(recipients));
    int number = (int)below(t, 24) - 2;
    if (below(t, 4) == 0) {
        ledger_settle(t->f->ledger, name_of(senders, sender), name_of(recipients, recipient), NULL);
        model_refused(t, sender, recipient);
    } else {
        ledger_settle(t->f->ledger, name_of(senders, sender), name_of(recipients, recipient),
                      number >= 0 ? message((unsigned char)number) : NULL);
        model_settle(t, sender, recipient, number < 0 ? -1 : number);
    }
}

static void clear_one(struct trial *t)
{
    unsigned set = (unsigned)below(t, 8) == 0 ? 0 : t->now.sets - (unsigned)below(t, 3);
    ledger_clear(t->f->ledger, set);
    for (unsigned i = 1; i <= t->now.sets; i++) {
        if (set == 0 || i == set) {
            forget_set(&t->now, i);
        }
    }
}

static void end_mail(struct trial *t)
{
    t->mails[below(t, MAILS)] = (struct model_mail){.sender = (int)below(t, COUNT(senders))};
}

static void pass_time(struct trial *t)
{
    static const int steps[] = {1, 1, 1, HOUR, 6 * HOUR, 6 * HOUR, -HOUR, -6 * HOUR, 2 * DAY};
    t->f->now += steps[below(t, COUNT(steps))];
}

static void on_done(void *owner, bool durable)
{
    struct trial *t = owner;
    t->called[durable]++;
}

/* All that wait hear of it, and as often as they wait. */
static void collect(struct trial *t, bool durable)
{
    unsigned waiting = 0, before = t->called[durable];
    for (int i = 0; i < TICKETS; i++) {
        waiting += t->waits[i];
        t->waits[i] = false;
    }
    ledger_collect(t->f->ledger, &t->f->world);
    assert_int_equal(t->called[durable] - before, waiting);
}

static void keep_all(struct trial *t)
{
    keep(t->f);
    t->kept = t->now;
    t->usable = true;
    collect(t, true);
}

static void fail_to_keep(struct trial *t)
{
    ledger_failed(t->f->ledger);
    shelf_clear(&t->f->disk);
    for (int i = 0; i < ROWS; i++) {
        t->kept.rows[i].set = 0;
    }
    t->usable = false;
    collect(t, false);
}

/* What was kept last is what there is; transactions and who waited have gone with the rest. */
static void crash_now(struct trial *t)
{
    unsigned sets = 0;
    for (int i = 0; i < TICKETS; i++) {
        ledger_forget(t->f->ledger, &t->tickets[i]);
        t->waits[i] = false;
    }
    t->now = t->kept;
    t->usable = true;
    for (int i = 0; i < ROWS; i++) {
        const struct row *row = &t->now.rows[i];
        sets = row->set > sets ? row->set : sets;
    }
    t->now.sets = sets;
    t->now.lot = FIXTURE_SEED;
    memset(t->now.unused, 0, sizeof t->now.unused);
    memset(t->now.awaited, 0, sizeof t->now.awaited);
    for (int i = 0; i < MAILS; i++) {
        t->mails[i] = (struct model_mail){.sender = (int)below(t, COUNT(senders))};
    }
    crash(t->f);
}

static void step(struct trial *t)
{
    uint64_t what = below(t, 1000);
    if (what < 400) {
        ask(t);
    } else if (what < 500) {
        join_one(t);
    } else if (what < 600) {
        record_some(t);
    } else if (what < 650) {
        ask_whether_accepted(t);
    } else if (what < 750) {
        answer_one(t);
    } else if (what < 850) {
        end_mail(t);
    } else if (what < 900) {
        pass_time(t);
    } else if (what < 970) {
        keep_all(t);
    } else if (what < 985) {
        crash_now(t);
    } else if (what < 990) {
        fail_to_keep(t);
    } else {
        clear_one(t);
    }
}

static void run(struct fixture *f, uint64_t seed)
{
    struct trial *t = calloc(1, sizeof *t);
    assert_non_null(t);
    *t = (struct trial){.f = f, .random = seed * 0x9e3779b97f4a7c15 + 1, .usable = true};
    t->now.lot = FIXTURE_SEED;
    for (int i = 0; i < TICKETS; i++) {
        t->tickets[i] = (struct ledger_ticket){.world = &f->world, .on_done = on_done, .owner = t};
    }
    print_message("seed %llu\n", (unsigned long long)seed);
    for (int i = 0; i < STEPS; i++) {
        step(t);
        compare(t);
    }
    for (int i = 0; i < TICKETS; i++) {
        ledger_forget(f->ledger, &t->tickets[i]);
    }
    free(t);
}

static void it_does_what_the_model_does(void **state)
{
    const char *chosen = getenv("LEDGER_SEED");
    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        void *fixture = NULL;
        fixture_setup(&fixture);
        run(fixture, chosen != NULL ? strtoull(chosen, NULL, 10) : seed);
        fixture_teardown(&fixture);
        if (chosen != NULL) {
            return;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(it_does_what_the_model_does)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
