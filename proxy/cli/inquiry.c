#include "proxy/cli/inquiry.h"

#include <stdlib.h>

struct inquiry *inquiry_new(const struct config *config, const struct relay_set *relays,
                            const struct table *table, struct span asked)
{
    struct inquiry *inquiry = calloc(1, sizeof *inquiry);
    if (inquiry == NULL) {
        return NULL;
    }
    if (!question_ask(&inquiry->question, config, relays, table, asked)) {
        free(inquiry);
        return NULL;
    }
    inquiry->recipient = span_dup(
        inquiry->question.parsed.whole.len > 0 ? inquiry->question.parsed.whole : SPAN(""));
    inquiry->recipients[0] = inquiry->recipient;
    if (inquiry->recipient == NULL) {
        inquiry_free(inquiry);
        return NULL;
    }
    return inquiry;
}

void inquiry_free(struct inquiry *inquiry)
{
    for (size_t i = 0; i < ROLES; i++) {
        hops_release(&inquiry->hops[i]);
    }
    for (size_t i = 0; i < inquiry->attempt_count; i++) {
        free(inquiry->attempts[i]);
    }
    question_release(&inquiry->question);
    free(inquiry->attempts);
    free(inquiry->recipient);
    free(inquiry);
}

bool inquiry_is_open(const struct inquiry *inquiry)
{
    return inquiry->question.decision.kind == DECISION_RELAY;
}

const struct relay *inquiry_relay(const struct inquiry *inquiry, enum role role)
{
    const struct decision *decision = &inquiry->question.decision;
    switch (role) {
    case ROLE_RELAY:
        return decision->relay;
    case ROLE_FALLBACK:
        return decision->fallback;
    case ROLE_UNKNOWN:
        return decision->unknown_recipient;
    case ROLES:
        break;
    }
    return NULL;
}

/* ---- what a client would be told ---- */

static void conclude(struct inquiry *inquiry, unsigned code, const char *enhanced,
                     const char *words)
{
    struct verdict *verdict = &inquiry->verdict;
    struct text detail = TEXT(verdict->enhanced), text = TEXT(verdict->words);
    verdict->code = code;
    verdict->accepted = code / 100 == 2;
    text_puts(&detail, enhanced);
    text_puts(&text, words);
}

void inquiry_settle(struct inquiry *inquiry)
{
    const struct decision *decision = &inquiry->question.decision;
    if (decision->kind == DECISION_REPLY) {
        conclude(inquiry, decision->code, decision->enhanced, decision->text);
    } else if (decision->kind == DECISION_DISCARD) {
        conclude(inquiry, 250, "2.1.5", "accepted and dropped: nobody is asked");
    }
}

/* Words behind the codes of an answer. */
static const char *words_of(const struct call_answer *answer)
{
    const char *words = answer->words;
    size_t codes = 4 + (answer->enhanced[0] != '\0' ? strlen(answer->enhanced) + 1 : 0);
    return strlen(words) > codes ? words + codes : "";
}

/* False: somebody else is to be asked. */
static bool judge_answer(struct inquiry *inquiry, const struct attempt *attempt)
{
    const struct call *call = &attempt->call;
    const struct call_answer *answer = &call->answers[0];
    struct reply reply = {.code = answer->code};
    memcpy(reply.enhanced, answer->enhanced, sizeof reply.enhanced);
    if (call->answered == 0) {
        bool lacks = call->wish.smtputf8 && !call->offer.smtputf8;
        conclude(inquiry, lacks ? 550 : 451, lacks ? "5.6.7" : "4.4.2", call->why);
        return true;
    }
    if (attempt->role == ROLE_RELAY && !call->mail_refused && reply_is_unknown_recipient(&reply) &&
        inquiry->question.decision.unknown_recipient != NULL) {
        inquiry->role = ROLE_UNKNOWN;
        return false;
    }
    reply_translate(&reply, attempt->role == ROLE_FALLBACK, call->mail_refused);
    const char *enhanced = reply.enhanced;
    if (enhanced[0] == '\0') {
        enhanced = reply_is(&reply, 2) ? "2.0.0" : reply_is(&reply, 4) ? "4.0.0" : "5.0.0";
    }
    conclude(inquiry, reply.code, enhanced, words_of(answer));
    return true;
}

/* Of the attempt that is over. False: the next one is to be made. */
static bool judge(struct inquiry *inquiry, const struct attempt *attempt)
{
    const struct call *call = &attempt->call;
    switch (call->end) {
    case CALL_DONE:
        return judge_answer(inquiry, attempt);
    case CALL_NOT_BEGUN:
    case CALL_UNAVAILABLE:
        return false;
    case CALL_REFUSED:
        conclude(inquiry, 451, "4.3.0", call->why);
        return true;
    case CALL_TURNED_AWAY:
        conclude(inquiry, call->code, call->code / 100 == 5 ? "5.0.0" : "4.0.0", call->why);
        return true;
    case CALL_NO_IDENTITY:
        conclude(inquiry, 451, "4.3.5", call->why);
        return true;
    case CALL_OUT_OF_TIME:
        conclude(inquiry, 451, "4.4.1", call->why);
        return true;
    }
    return true;
}

/* ---- whom to ask ---- */

/* The relay's next hops by priority; the daemon shuffles equal ones. */
static void order_hops(struct inquiry *inquiry)
{
    const struct hops *hops = &inquiry->hops[inquiry->role];
    unsigned char *order = inquiry->order;
    for (size_t i = 0; i < hops->count; i++) {
        size_t at = i;
        for (; at > 0 && hops->items[order[at - 1]].hop->priority > hops->items[i].hop->priority;
             at--) {
            order[at] = order[at - 1];
        }
        order[at] = (unsigned char)i;
    }
    inquiry->hop_next = inquiry->address_next = 0;
}

static struct attempt *attempt_add(struct inquiry *inquiry, const struct relay *relay,
                                   const struct hop *hop, const struct resolver_address *at)
{
    struct attempt *attempt = calloc(1, sizeof *attempt);
    if (attempt == NULL) {
        check_fail(&inquiry->check);
        return NULL;
    }
    struct attempt **attempts =
        realloc(inquiry->attempts, (inquiry->attempt_count + 1) * sizeof *attempts);
    if (attempts == NULL) {
        check_fail(&inquiry->check);
        free(attempt);
        return NULL;
    }
    inquiry->attempts = attempts;
    attempt->role = inquiry->role;
    attempt->relay = relay;
    attempt->hop = hop;
    attempt->at = at;
    attempts[inquiry->attempt_count++] = attempt;
    return attempt;
}

/* The next address of this role's relay, or a next hop that has none; NULL: there is no more, or
 * memory is short. */
static struct attempt *attempt_next(struct inquiry *inquiry)
{
    const struct relay *relay = inquiry_relay(inquiry, inquiry->role);
    const struct hops *hops = &inquiry->hops[inquiry->role];
    if (relay == NULL || inquiry->hop_next == hops->count) {
        return NULL;
    }
    const struct hop *hop = &hops->items[inquiry->order[inquiry->hop_next]];
    if (inquiry->address_next < hop->count) {
        const struct resolver_address *at = &hop->addresses[inquiry->address_next++];
        if (inquiry->address_next == hop->count) {
            inquiry->hop_next++;
            inquiry->address_next = 0;
        }
        return attempt_add(inquiry, relay, hop, at);
    }
    inquiry->hop_next++;
    return attempt_add(inquiry, relay, hop, NULL);
}

/* False: it is a listener of ours. */
static bool attempt_begin(struct inquiry *inquiry, struct attempt *attempt)
{
    const struct relay *relay = attempt->relay;
    const struct policy *policy = &inquiry->check.doctor->prepared->policy;
    attempt->own = policy_is_own(policy, &attempt->at->address);
    if (attempt->own) {
        return false;
    }
    const struct call_wish wish = {
        .address = attempt->at->address,
        .tls = relay->tls,
        .ca_file = relay->ca_file,
        .tls_name = relay->tls_name != NULL ? relay->tls_name : attempt->at->host,
        .identity = relay->identity,
        .recipients = inquiry->recipients,
        .recipient_count = 1,
        .smtputf8 = !span_is_ascii(span_of(inquiry->recipient)),
    };
    call_begin(&attempt->call, &inquiry->check, &wish);
    return true;
}

/* Of this relay there is nobody more to ask. */
static void give_up(struct inquiry *inquiry)
{
    const struct attempt *last =
        inquiry->attempt_count > 0 ? inquiry->attempts[inquiry->attempt_count - 1] : NULL;
    bool lookup = last != NULL && last->at == NULL;
    if (lookup && last->hop->status == RESOLVER_LOOP) {
        conclude(inquiry, 451, "4.4.6", last->hop->why);
    } else if (lookup && last->hop->status == RESOLVER_NULL_MX &&
               last->hop->hop->kind == NEXTHOP_DOMAIN) {
        conclude(inquiry, 556, "5.1.10", "the recipient's domain does not take mail (null MX)");
    } else if (inquiry->role == ROLE_RELAY && inquiry->question.decision.fallback != NULL) {
        inquiry->role = ROLE_FALLBACK;
        order_hops(inquiry);
    } else if (inquiry->role != ROLE_RELAY || last == NULL) {
        conclude(inquiry, 451, "4.4.1",
                 last == NULL ? "nobody can be asked"
                 : lookup     ? last->hop->why
                              : last->call.why);
    } else if (lookup) {
        conclude(inquiry, 451, last->hop->status == RESOLVER_NULL_MX ? "4.4.4" : "4.4.3",
                 last->hop->why);
    } else {
        conclude(inquiry, 451, last->call.tls_at_fault ? "4.7.5" : "4.4.1", last->call.why);
    }
}

/* Begins the next conversation; false: there is none, and the verdict is there. */
static bool ask_next(struct inquiry *inquiry)
{
    while (inquiry->verdict.code == 0 && !inquiry->check.doctor->broken) {
        struct attempt *attempt = attempt_next(inquiry);
        if (attempt == NULL) {
            give_up(inquiry);
        } else if (attempt->at != NULL && attempt_begin(inquiry, attempt)) {
            return true;
        } else if (attempt->own) {
            conclude(inquiry, 451, "4.4.6", "the next hop is this server itself");
        }
    }
    if (inquiry->verdict.code == 0) {
        conclude(inquiry, 452, "4.3.1", "memory is short here: nobody could be asked");
    }
    return false;
}

/* ---- the stages ---- */

static void look_up(struct inquiry *inquiry)
{
    inquiry->looked_up = true;
    for (enum role role = ROLE_RELAY; role < ROLES; role++) {
        const struct relay *relay = inquiry_relay(inquiry, role);
        if (relay != NULL && (role == ROLE_RELAY || inquiry->probing)) {
            hops_begin(&inquiry->hops[role], &inquiry->check, relay,
                       inquiry->question.parsed.domain);
        }
    }
}

static bool inquiry_step(struct check *check)
{
    struct inquiry *inquiry = (struct inquiry *)(void *)check;
    if (check->stage == 0) {
        look_up(inquiry);
        return true;
    }
    if (!inquiry->probing) {
        return false;
    }
    if (check->stage == 1) {
        order_hops(inquiry);
    } else {
        enum role before = inquiry->role;
        if (judge(inquiry, inquiry->attempts[inquiry->attempt_count - 1])) {
            return false;
        }
        if (inquiry->role != before) {
            order_hops(inquiry);
        }
    }
    return ask_next(inquiry);
}

void inquiry_add(struct inquiry *inquiry, struct doctor *doctor, bool probing)
{
    inquiry->probing = probing;
    inquiry->check.step = inquiry_step;
    check_add(doctor, &inquiry->check, "%s", "address");
}

void inquiry_cut(struct inquiry *inquiry)
{
    for (enum role role = ROLE_RELAY; role < ROLES; role++) {
        hops_cut(&inquiry->hops[role]);
    }
}
