#include "proxy/session/unsettled.h"

#include <inttypes.h>
#include <stdlib.h>

#include "config/hash.h"
#include "proxy/session/shared.h"

#define NAME_LONGEST  200
#define LABEL_LONGEST 600 /* with a domain and the kind */

static struct ledger *ledger_of(const struct transaction *tx)
{
    return tx->world->shared->ledger;
}

static time_t wall(const struct transaction *tx)
{
    return tx->world->ops->wall(tx->world);
}

/* NULL: it has none, or is not whole. Computed when it is asked for first. */
static const unsigned char *identity_of(const struct transaction *tx)
{
    struct transaction_message *message = tx->message;
    if (message == NULL || !message->is_whole || message->identity == NULL) {
        return NULL;
    }
    if (!message->is_identified) {
        message->is_identified = true;
        message->has_identity = message_identity_end(message->identity, message->digest);
    }
    return message->has_identity ? message->digest : NULL;
}

/* A relay that is a transport has that for its name, which may be long. */
static void put_name(struct text *text, struct span name)
{
    static const struct hash_key key = {{0, 0}};
    bool cut = name.len > NAME_LONGEST;
    text_put(text, span_first(name, NAME_LONGEST));
    if (cut) {
        text_printf(text, "... %016" PRIx64, hash_bytes(&key, name.ptr, name.len));
    }
}

/* What a leg is known by over transactions, and shown as: "gmail example.org (fallback)". */
static struct span label(struct text *text, const struct relay *relay, enum leg_kind kind,
                         struct span domain)
{
    static const char *const kinds[] = {"", " (fallback)", " (unknown-recipient)"};
    put_name(text, span_of(relay->name));
    text_puts(text, domain.len != 0 ? " " : "");
    for (size_t i = 0; i < domain.len; i++) {
        text_putc(text, ascii_lower(domain.ptr[i]));
    }
    text_puts(text, kinds[kind]);
    return text_span(text);
}

static struct span label_of(struct text *text, const struct leg *leg)
{
    return label(text, leg_relay(leg), leg_kind(leg), leg_domain(leg));
}

/* ---- what is recorded ---- */

struct entries {
    struct ledger_entry *entry;
    size_t count;
    char *labels; /* LABEL_LONGEST each */
};

static void add_leg(struct entries *entries, const struct transaction *tx, unsigned number,
                    enum leg_fate fate)
{
    const struct leg *leg = tx->legs[number];
    if (leg_fate(leg) != fate || leg_recipient_count(leg) == 0) {
        return;
    }
    struct text text = text_over(entries->labels + (size_t)number * LABEL_LONGEST, LABEL_LONGEST);
    struct span its_label = label_of(&text, leg);
    for (const struct recipient *r = tx->first; r != NULL; r = r->next) {
        if (r->leg == leg) {
            entries->entry[entries->count++] = (struct ledger_entry){
                .recipient = r->path, .label = its_label, .accepted = fate == LEG_FATE_ACCEPTED};
        }
    }
}

static size_t count_away(const struct transaction *tx)
{
    size_t count = 0;
    for (const struct unsettled_away *away = tx->away; away != NULL; away = away->next) {
        count++;
    }
    return count;
}

/* The set of those that the transaction has, and had sent away. Whose turn it is first: who has
 * accepted, then who was not asked, then who was. */
static bool record(const struct transaction *tx, bool in_advance, struct ledger_ticket *ticket)
{
    static const enum leg_fate fates[] = {LEG_FATE_ACCEPTED, LEG_FATE_NONE, LEG_FATE_REFUSED,
                                          LEG_FATE_UNKNOWN};
    struct entries entries = {
        .entry = calloc(tx->recipient_count + count_away(tx), sizeof *entries.entry),
        .labels = calloc(tx->leg_count, LABEL_LONGEST)};
    bool recorded = false;
    if (entries.entry != NULL && entries.labels != NULL) {
        for (const struct unsettled_away *away = tx->away; away != NULL; away = away->next) {
            entries.entry[entries.count++] =
                (struct ledger_entry){.recipient = away->path, .label = away->label};
        }
        for (unsigned i = 0; i < 4 * tx->leg_count; i++) {
            add_leg(&entries, tx, i % tx->leg_count, fates[i / tx->leg_count]);
        }
        struct ledger_split split = {.sender = tx->context.envelope.sender,
                                     .entries = entries.entry,
                                     .count = entries.count,
                                     .identity = identity_of(tx),
                                     .in_advance = in_advance};
        recorded = ledger_record(ledger_of(tx), &split, wall(tx), ticket);
    }
    free(entries.entry);
    free(entries.labels);
    return recorded;
}

/* ---- RCPT ---- */

enum ledger_company unsettled_company(const struct transaction *tx, const struct leg *leg)
{
    enum ledger_company company = LEDGER_ALONE;
    for (unsigned i = 0; i < tx->leg_count; i++) {
        if (leg_recipient_count(tx->legs[i]) != 0) {
            if (tx->legs[i] != leg) {
                return LEDGER_OTHERS;
            }
            company = LEDGER_SAME;
        }
    }
    return company;
}

static void join(struct transaction *tx, struct span path, struct span its_label)
{
    ledger_join(ledger_of(tx), &tx->set, tx->context.envelope.sender, path, its_label, wall(tx));
}

/* Those who were there when the transaction met a set: next time they wait for their turn too. */
static void join_accepted(struct transaction *tx)
{
    for (const struct recipient *r = tx->first; r != NULL; r = r->next) {
        if (r->leg != NULL) {
            char buffer[LABEL_LONGEST];
            struct text text = TEXT(buffer);
            join(tx, r->path, label_of(&text, r->leg));
        }
    }
}

bool unsettled_lets(struct transaction *tx, const struct leg *leg, const struct relay *relay,
                    struct span domain)
{
    char buffer[LABEL_LONGEST];
    struct text text = TEXT(buffer);
    if (!tx->set.bound && ledger_is_empty(ledger_of(tx))) {
        return true;
    }
    bool was_bound = tx->set.bound;
    struct ledger_question question = {.sender = tx->context.envelope.sender,
                                       .recipient = tx->asked->path,
                                       .label = label(&text, relay, LEG_IS_PLAIN, domain),
                                       .company = unsettled_company(tx, leg)};
    enum ledger_verdict verdict = ledger_turn(ledger_of(tx), &tx->set, &question, wall(tx));
    if (tx->set.bound && !was_bound) {
        join_accepted(tx);
    }
    if (verdict == LEDGER_WAIT) {
        join(tx, tx->asked->path, question.label);
    }
    return verdict != LEDGER_WAIT;
}

/* Kept until the outcome; without memory it is as if he had not come. */
static void keep_away(struct transaction *tx, struct span path, struct span its_label)
{
    struct unsettled_away *away = malloc(sizeof *away + path.len + its_label.len);
    if (away != NULL) {
        char *bytes = (char *)(away + 1);
        memcpy(bytes, path.ptr, path.len);
        memcpy(bytes + path.len, its_label.ptr, its_label.len);
        *away = (struct unsettled_away){.path = span_make(bytes, path.len),
                                        .label = span_make(bytes + path.len, its_label.len),
                                        .next = tx->away};
        tx->away = away;
    }
}

void unsettled_sent_away(struct transaction *tx, const struct relay *relay, enum leg_kind kind,
                         struct span domain)
{
    char buffer[LABEL_LONGEST];
    struct text text = TEXT(buffer);
    struct span its_label = label(&text, relay, kind, domain);
    if (tx->set.bound) {
        join(tx, tx->asked->path, its_label);
    } else {
        keep_away(tx, tx->asked->path, its_label);
    }
}

bool unsettled_takes_one_leg(const struct transaction *tx)
{
    return tx->policy->config->split == SPLIT_DEFER || tx->set.bound ||
           !ledger_usable(ledger_of(tx));
}

void unsettled_came_along(struct transaction *tx, const struct recipient *recipient)
{
    char buffer[LABEL_LONGEST];
    struct text text = TEXT(buffer);
    if (tx->set.bound && recipient->leg != NULL && leg_kind(recipient->leg) != LEG_IS_PLAIN) {
        join(tx, recipient->path, label_of(&text, recipient->leg));
    }
}

void unsettled_refused(struct transaction *tx)
{
    if (!ledger_is_empty(ledger_of(tx))) {
        ledger_settle(ledger_of(tx), tx->context.envelope.sender, tx->asked->path, NULL);
    }
}

/* ---- the message ---- */

bool unsettled_concerns(const struct transaction *tx)
{
    return tx->turns > 1 || tx->set.bound;
}

void unsettled_watch(struct transaction *tx)
{
    if (unsettled_concerns(tx)) {
        tx->message->identity = message_identity_new(&tx->world->spares);
    }
}

bool unsettled_is_known(const struct transaction *tx)
{
    if (!tx->set.bound || tx->turns == 0) {
        return false;
    }
    const unsigned char *identity = identity_of(tx);
    if (identity == NULL) {
        return false;
    }
    for (const struct recipient *r = tx->first; r != NULL; r = r->next) {
        if (r->leg != NULL && !ledger_accepted(ledger_of(tx), tx->context.envelope.sender, r->path,
                                               identity, wall(tx))) {
            return false;
        }
    }
    return true;
}

bool unsettled_is_overtaken(const struct transaction *tx)
{
    if (!tx->set.bound || identity_of(tx) == NULL) {
        return false;
    }
    for (const struct recipient *r = tx->first; r != NULL; r = r->next) {
        if (r->leg != NULL && ledger_overtaken(ledger_of(tx), &tx->set, tx->context.envelope.sender,
                                               r->path, wall(tx))) {
            return true;
        }
    }
    return false;
}

/* ---- the outcome ---- */

void unsettled_accepted(struct transaction *tx)
{
    tx->advanced = record(tx, true, NULL) || tx->advanced;
}

bool unsettled_record(struct transaction *tx, struct ledger_ticket *ticket)
{
    return record(tx, false, ticket);
}

void unsettled_settle(struct transaction *tx)
{
    if (!tx->advanced && ledger_is_empty(ledger_of(tx))) {
        return;
    }
    for (const struct recipient *r = tx->first; r != NULL; r = r->next) {
        ledger_settle(ledger_of(tx), tx->context.envelope.sender, r->path, identity_of(tx));
    }
}

void unsettled_took_turns(struct transaction *tx)
{
    if (tx->away != NULL) {
        record(tx, false, NULL);
    }
}

void unsettled_release(struct transaction *tx)
{
    while (tx->away != NULL) {
        struct unsettled_away *next = tx->away->next;
        free(tx->away);
        tx->away = next;
    }
}
