/* One connection to an upstream of a world with queues: it takes one command at a time, says what
 * the plans say, and breaks in every way there is. */
#include <stdlib.h>

#include "tests/sim/queues.h"

#define REPLY_MAX 400

enum service_event { SERVICE_ANSWERS, SERVICE_IDLES };

struct queue_service {
    struct queues *queues;
    struct server *server;
    struct link *link;
    unsigned events; /* of ours that are to come */
    uint64_t broken; /* chances to break so far */
    struct sim_random random;
    bool closed, busy, hung, used, idle_armed;
    uint64_t idle_since;
    bool pipelining;

    bool mail;
    char sender[256];
    unsigned author; /* of its recipients */
    unsigned boxes;  /* accepted: bits */
    bool any_box;
    unsigned domain; /* of the first */
    enum way way;
    bool odd;         /* has spoken out of turn */
    uint64_t babbled; /* the octets it had sent by then, those words among them */
    bool in_data;
    struct buffer body;
    struct attempt *attempt;        /* whose message it is, once anything of that was written */
    bool data_written, end_written; /* by splitmx */
    char last;                      /* octet of the message that it wrote */
    struct commit *commit;          /* whose end was written */
    bool ended;                     /* and has come: the answer under way is about it */
    char reply[REPLY_MAX];
    bool reply_closes;
};

static void service_run(struct sim *sim, void *object, int kind);
static void service_go(struct queue_service *s);

static void service_at(struct queue_service *s, uint64_t delay, enum service_event event)
{
    s->events++;
    sim_at(s->queues->sim, delay, service_run, s, (int)event);
}

static void service_free_when_done(struct queue_service *s)
{
    if (s->closed && s->events == 0) {
        buffer_release(&s->body);
        free(s);
    }
}

/* The transaction is over, whatever became of it. */
static void service_forget(struct queue_service *s)
{
    for (unsigned i = 0; s->attempt != NULL && i < s->attempt->legs; i++) {
        if (s->attempt->services[i] == s) {
            s->attempt->services[i] = NULL;
        }
    }
    s->attempt = NULL;
    s->mail = s->in_data = s->data_written = s->end_written = s->any_box = false;
    s->boxes = 0;
    buffer_release(&s->body);
}

static void service_over(struct queue_service *s)
{
    if (s->commit != NULL) {
        books_unanswered(s->commit);
        s->commit = NULL;
    }
    service_forget(s);
    s->closed = true;
}

static void service_leaves(struct queue_service *s, bool reset)
{
    if (reset) {
        link_reset(s->link);
    } else {
        link_close(s->link);
    }
    service_over(s);
}

/* ---- answers ---- */

static void service_answer_later(struct queue_service *s, struct span reply, uint64_t delay)
{
    struct text text = TEXT(s->reply);
    text_put(&text, reply);
    s->busy = true;
    service_at(s, delay, SERVICE_ANSWERS);
}

static void service_answer(struct queue_service *s, struct span reply)
{
    service_answer_later(s, reply, random_below(&s->random, (uint64_t)s->server->slow + 1));
}

/* As the plan has it; who has spoken out of turn may have been believed, and keeps its word. */
static unsigned planned(const struct queue_service *s, const struct plan *plan)
{
    if (s->odd) {
        return 250;
    }
    return plan_says_later(plan, queues_now(s->queues)) ? 450 : plan->last == LAST_NO ? 550 : 250;
}

static void service_says(struct queue_service *s, const struct plan *plan, const char *what)
{
    char reply[REPLY_MAX];
    struct text text = TEXT(reply);
    unsigned code = planned(s, plan);
    text_printf(&text, "%u %s %s\r\n", code,
                code == 250     ? "2.0.0"
                : code == 450   ? "4.2.1"
                : plan->unknown ? "5.1.1"
                                : "5.7.1",
                what);
    service_answer(s, text_span(&text));
}

static void service_send(struct queue_service *s, struct span bytes)
{
    sim_note_span(s->queues->sim, "server says", s->link->id, bytes);
    link_send(s->link, bytes);
}

/* Whether splitmx comes to know of it. */
static void mark_answer(struct queue_service *s)
{
    if (s->ended) {
        s->ended = false;
        s->link->mark = s->link->sent;
        s->link->shown = books_answered;
        s->link->shown_object = s->commit;
        s->commit = NULL;
    }
}

static void service_idle(struct queue_service *s)
{
    s->idle_since = queues_now(s->queues);
    if (s->used && s->server->idle_timeout != 0 && !s->idle_armed) {
        s->idle_armed = true;
        service_at(s, s->server->idle_timeout, SERVICE_IDLES);
    }
}

/* From now on what it says may be taken for the answer to something else. */
static void service_is_odd(struct queue_service *s)
{
    s->odd = true;
    if (s->attempt != NULL) {
        s->attempt->odd = true;
    }
}

/* A fault of the answer: more than one, without its end, or never. False: nothing more is said. */
static bool service_answers_oddly(struct queue_service *s)
{
    static const char *const more[] = {"250 2.0.0 and again\r\n", "450 4.0.0 and yet\r\n",
                                       "550 5.0.0 and yet\r\n", "250-2.0.0 and\r\n"};
    struct span reply = span_of(s->reply);
    if (!queues_fault(s->queues, s->link->id, s->broken++, 150)) {
        return true;
    }
    service_is_odd(s);
    if (s->ended && s->commit->copy != NULL) {
        s->commit->copy->odd = true;
    }
    switch (random_below(&s->random, 3)) {
    case 0:
        s->hung = true;
        return false;
    case 1:
        service_send(s, span_first(reply, reply.len - 2));
        s->hung = true;
        if (random_chance(&s->random, 50)) {
            service_leaves(s, random_chance(&s->random, 50));
        }
        return false;
    default: { /* in one piece: what splitmx makes of it does not depend on the network */
        char both[REPLY_MAX + 40];
        struct text text = TEXT(both);
        text_put(&text, reply);
        text_puts(&text, more[random_below(&s->random, 4)]);
        service_send(s, text_span(&text));
        mark_answer(s);
        return true;
    }
    }
}

static void service_answers(struct queue_service *s)
{
    if (s->closed || s->hung) {
        return;
    }
    bool odd = s->odd;
    s->busy = false;
    if (!service_answers_oddly(s)) {
        return;
    }
    if (odd == s->odd) {
        service_send(s, span_of(s->reply));
        mark_answer(s);
    }
    if (s->reply_closes) {
        service_leaves(s, false);
        return;
    }
    service_idle(s);
    service_go(s);
}

/* Idle between transactions for too long: 421 and close, as servers do. */
static void service_idles(struct queue_service *s)
{
    uint64_t waited = queues_now(s->queues) - s->idle_since;
    s->idle_armed = false;
    if (s->closed || s->hung) {
        return;
    }
    if (s->busy || s->mail || s->in_data || waited < s->server->idle_timeout) {
        s->idle_armed = true;
        service_at(s, waited < s->server->idle_timeout ? s->server->idle_timeout - waited : 1000,
                   SERVICE_IDLES);
        return;
    }
    service_send(s, SPAN("421 4.4.2 idle for too long\r\n"));
    service_leaves(s, false);
}

static void service_run(struct sim *sim, void *object, int kind)
{
    struct queue_service *s = object;
    (void)sim;
    s->events--;
    switch ((enum service_event)kind) {
    case SERVICE_ANSWERS:
        service_answers(s);
        break;
    case SERVICE_IDLES:
        service_idles(s);
        break;
    }
    service_free_when_done(s);
}

/* ---- commands ---- */

static void service_ehlo(struct queue_service *s)
{
    char line[200];
    struct text text = TEXT(line);
    s->pipelining = s->server->pipelining;
    text_printf(&text, "250-up%u.example\r\n", s->server->relay);
    text_puts(&text, s->pipelining ? "250-PIPELINING\r\n" : "");
    text_puts(&text, s->server->size ? "250-SIZE 99999999\r\n" : "");
    text_puts(&text, s->server->eight_bit ? "250-8BITMIME\r\n" : "");
    text_puts(&text, "250 ENHANCEDSTATUSCODES\r\n");
    service_answer(s, text_span(&text));
}

static struct span path_of(struct span line, size_t verb)
{
    struct span path = span_skip(line, verb);
    return span_first(path, span_find(path, '>'));
}

static const struct author *author_of_path(const struct queues *q, struct span path)
{
    char own[256];
    for (unsigned i = 0; i < q->author_count; i++) {
        if (span_equal(path, author_path(&q->authors[i], own))) {
            return &q->authors[i];
        }
    }
    return NULL;
}

static void service_mail(struct queue_service *s, struct span line)
{
    struct span path = path_of(line, sizeof "MAIL FROM:<" - 1);
    const struct author *author = author_of_path(s->queues, path);
    struct text sender = TEXT(s->sender);
    if (s->odd && s->mail) { /* what it said out of turn was taken for the answer to the first */
        service_answer(s, SPAN("503 5.5.1 nested MAIL\r\n"));
        return;
    }
    if (author == NULL || s->mail) {
        sim_fail(s->queues->sim, "link %u: MAIL of nobody, or inside a transaction", s->link->id);
    }
    text_put(&sender, path);
    const struct plan *plan = &author->mail[s->server->relay];
    s->used = true;
    s->mail = planned(s, plan) == 250;
    service_says(s, plan, "mail");
}

/* A detour may be taken only where there is reason for it. */
static void check_way(struct queue_service *s, const struct mailbox *box, enum way way)
{
    const struct queues *q = s->queues;
    bool reason =
        way == WAY_HOME || (way == WAY_FALLBACK && queues_now(q) < q->fault_end + 30 * MINUTE) ||
        (way == WAY_UNKNOWN && box->rcpt[WAY_HOME].last == LAST_NO && box->rcpt[WAY_HOME].unknown);
    if (way == WAYS || !reason) {
        sim_fail(q->sim, "link %u: recipient %u of author %u reached the wrong upstream",
                 s->link->id, box->number, box->author);
    }
}

static void check_company(struct queue_service *s, const struct mailbox *box, enum way way)
{
    const struct relay *relay = &s->queues->sim->relays[s->server->relay].relay;
    if (!s->any_box) {
        s->any_box = true;
        s->author = box->author;
        s->domain = box->relay * SIM_DOMAINS + box->domain;
        s->way = way;
    }
    if (way != s->way ||
        (relay->one_domain && s->domain != box->relay * SIM_DOMAINS + box->domain)) {
        sim_fail(s->queues->sim, "link %u: recipients in one leg that need two", s->link->id);
    }
}

static void service_rcpt(struct queue_service *s, struct span line)
{
    char own[256];
    struct queues *q = s->queues;
    struct mailbox *box = mailbox_of_path(q, path_of(line, sizeof "RCPT TO:<" - 1));
    if (box == NULL || box->kind != RCPT_RELAY) {
        sim_fail(q->sim, "link %u: an unknown recipient: %.*s", s->link->id, SPAN_ARGS(line));
    }
    bool same = span_equal(author_path(&q->authors[box->author], own), span_of(s->sender));
    if (!s->mail || (!same && s->odd)) {
        service_answer(s, SPAN("503 5.5.1 need MAIL\r\n"));
        return;
    }
    enum way way = mailbox_way(q, box, s->server->relay);
    check_way(s, box, way);
    if (!same) {
        sim_fail(q->sim, "link %u: a recipient of another sender's", s->link->id);
    }
    const struct plan *plan = &box->rcpt[way];
    if (planned(s, plan) == 250) {
        check_company(s, box, way);
        if (s->author == box->author) {
            s->boxes |= 1u << box->number;
        } else { /* two authors without a name have met: not known here, as hosts do not mix mail */
            sim_fail(q->sim, "link %u: recipients of two messages", s->link->id);
        }
    }
    service_says(s, plan, "rcpt");
}

static void service_data(struct queue_service *s)
{
    const struct plan *plan = &s->queues->authors[s->author].data[s->server->relay];
    if (s->boxes == 0) {
        service_answer(s, SPAN("554 5.5.1 no recipients\r\n"));
        return;
    }
    if (planned(s, plan) != 250) {
        service_says(s, plan, "data");
        return;
    }
    s->in_data = true;
    service_answer(s, SPAN("354 go ahead\r\n"));
}

static void service_command(struct queue_service *s, struct span line)
{
    sim_note_span(s->queues->sim, "proxy says", s->link->id, line);
    if (span_starts_fold(line, SPAN("EHLO "))) {
        service_ehlo(s);
    } else if (span_starts_fold(line, SPAN("MAIL FROM:<"))) {
        service_mail(s, line);
    } else if (span_starts_fold(line, SPAN("RCPT TO:<"))) {
        service_rcpt(s, line);
    } else if (span_equal(line, SPAN("DATA"))) {
        service_data(s);
    } else if (span_equal(line, SPAN("RSET"))) {
        service_forget(s);
        service_answer(s, SPAN("250 2.0.0 forgotten\r\n"));
    } else if (span_equal(line, SPAN("QUIT"))) {
        s->reply_closes = true;
        service_answer(s, SPAN("221 2.0.0 bye\r\n"));
    } else if (s->odd) {
        service_answer(s, SPAN("500 5.5.2 what?\r\n"));
    } else {
        sim_fail(s->queues->sim, "link %u: unknown command `%.*s`", s->link->id, SPAN_ARGS(line));
    }
}

/* ---- the message ---- */

/* Our Received field, in front, up to the first line that does not continue it. */
static size_t field_length(struct span body)
{
    for (size_t at = 0;;) {
        size_t end = at + span_find(span_skip(body, at), '\n');
        if (end + 1 >= body.len) {
            return body.len;
        }
        at = end + 1;
        if (body.ptr[at] != ' ' && body.ptr[at] != '\t') {
            return at;
        }
    }
}

static bool field_is_good(const struct queue_service *s, struct span field)
{
    char text[1024];
    struct text copy = TEXT(text);
    text_put(&copy, field);
    return strstr(text, "by " SIM_HOST) != NULL &&
           (strstr(text, "(splitmx fallback)") != NULL) == (s->way != WAY_HOME);
}

static void check_body(const struct queue_service *s, struct span body)
{
    const struct attempt *attempt = s->attempt;
    size_t length = field_length(body);
    struct span rest = span_skip(body, length);
    struct span prefix = span_of(attempt->prefix);
    struct span message = buffer_span(&attempt->mail->body);
    if (!field_is_good(s, span_first(body, length))) {
        sim_fail(s->queues->sim, "link %u: a bad Received field: %.*s", s->link->id,
                 SPAN_ARGS(span_first(body, length)));
    }
    if (!span_equal(span_first(rest, prefix.len), prefix) ||
        !span_equal(span_skip(rest, prefix.len), message)) {
        sim_fail(s->queues->sim, "mail %u: it was altered", attempt->mail->id);
    }
}

static void service_ended(struct queue_service *s, struct span body)
{
    struct queues *q = s->queues;
    const struct plan *plan = &s->attempt->mail->end[s->way][s->server->relay];
    uint64_t delay = random_below(&s->random, (uint64_t)s->server->slow + 1);
    char reply[REPLY_MAX];
    struct text text = TEXT(reply);
    check_body(s, body);
    unsigned code = planned(s, plan);
    if (queues_fault(q, s->link->id, s->broken++, 300)) { /* late, perhaps too late */
        delay = random_below(&s->random, 12 * MINUTE);
    }
    if (code == 250) {
        s->commit->copy = books_copy(s->attempt, s->boxes, s->odd);
    }
    text_printf(&text, "%u %u.0.0 end of mail %u\r\n", code, code / 100, s->attempt->mail->id);
    if (code == 450 && plan->last == LAST_NEVER) {
        queues_poison(q, s->attempt);
    }
    s->ended = true;
    service_forget(s);
    service_answer_later(s, text_span(&text), delay);
}

static void service_take_body(struct queue_service *s)
{
    struct buffer *inbox = &s->link->inbox;
    size_t from = s->body.len < 4 ? 0 : s->body.len - 4;
    buffer_move(&s->body, inbox, inbox->len);
    struct span all = buffer_span(&s->body);
    struct span tail = span_skip(all, from);
    const char *end = memmem(tail.ptr, tail.len, "\r\n.\r\n", 5);
    if (end == NULL) {
        return;
    }
    size_t length = (size_t)(end - all.ptr) + 2;
    struct span behind = span_skip(all, length + 3);
    if (!s->end_written) {
        sim_fail(s->queues->sim, "link %u: an end in the middle of a message", s->link->id);
    }
    buffer_put(inbox, behind);
    service_ended(s, span_first(all, length));
}

/* Takes what there is to take, until an answer is due. */
static void service_go(struct queue_service *s)
{
    if (s->closed || s->busy || s->hung) {
        return;
    }
    if (s->in_data) {
        service_take_body(s);
        return;
    }
    struct span input = buffer_span(&s->link->inbox);
    size_t end = span_find(input, '\n');
    if (end == input.len) {
        return;
    }
    char line[600];
    struct text text = TEXT(line);
    text_put(&text, span_first(input, end > 0 ? end - 1 : 0));
    buffer_drop(&s->link->inbox, end + 1);
    service_command(s, text_span(&text));
}

/* ---- the link's events ---- */

/* Words out of turn, which splitmx must not take for an answer, or which it cannot tell from one.
 */
static void service_babbles(struct queue_service *s)
{
    static const char *const words[] = {"250 2.0.0 Ok\r\n", "250 2.0.0 Ok", "450 4.0.0 No\r\n",
                                        "550 5.0.0 No\r\n", "354 go\r\n",   "\r\n",
                                        "250-2.0.0 and\r\n"};
    uint64_t which = random_below(&s->random, 7);
    service_is_odd(s);
    service_send(s, span_of(words[which]));
    if (which == 0 || which == 2 || which == 3) { /* the others may become a part of an answer */
        s->babbled = s->link->sent;
    }
}

/* A fault: true when nothing more comes of what has arrived. */
static bool service_breaks(struct queue_service *s)
{
    if (s->hung) {
        return true;
    }
    if (!queues_fault(s->queues, s->link->id, s->broken++, 100)) {
        return false;
    }
    queues_tell(s->queues, "server breaks at link %u", s->link->id);
    switch (random_below(&s->random, 7)) {
    case 0:
        s->hung = true;
        return true;
    case 1:
    case 2:
        service_leaves(s, true);
        return true;
    case 3:
        service_leaves(s, false);
        return true;
    case 4:
        service_send(s, SPAN("421 4.3.0 going\r\n"));
        service_leaves(s, random_chance(&s->random, 20));
        return true;
    default:
        service_babbles(s);
        return false;
    }
}

static void on_bytes(void *self)
{
    struct queue_service *s = self;
    if (!service_breaks(s)) {
        service_go(s);
    }
    service_free_when_done(s);
}

static void on_end(void *self)
{
    struct queue_service *s = self;
    if (s->in_data && !s->link->severed && !s->hung) {
        sim_fail(s->queues->sim, "link %u: closed in order in mid-message", s->link->id);
    }
    link_close(s->link);
    service_over(s);
    service_free_when_done(s);
}

static void on_reset(void *self)
{
    struct queue_service *s = self;
    sim_note(s->queues->sim, "server is reset", s->link->id, s->in_data);
    service_over(s);
    service_free_when_done(s);
}

/* Our Received field is written first, in one piece; it names the connection of the client. */
static struct attempt *attempt_of_field(struct queues *q, struct span field)
{
    unsigned long long number = 0;
    struct span name = span_skip(field, sizeof "Received: from c" - 1);
    if (!span_starts_fold(field, SPAN("Received: from c")) ||
        !span_number(span_first(name, span_find(name, '.')), q->client_count - 1, &number)) {
        return NULL;
    }
    return queue_client_attempt(q->clients[number]);
}

/* The moment when splitmx commits: nothing but its end-of-data is ".CRLF" at the front of a line,
 * as dots are stuffed. */
static void on_written(void *self, struct span bytes)
{
    struct queue_service *s = self;
    if (!s->data_written) {
        s->data_written = span_equal(bytes, SPAN("DATA\r\n"));
        return;
    }
    if (s->attempt == NULL) {
        s->attempt = attempt_of_field(s->queues, bytes);
        if (s->attempt == NULL && (s->odd || !s->in_data)) {
            s->data_written = false; /* refused, it seems */
            return;
        }
        if (s->attempt == NULL) {
            sim_fail(s->queues->sim, "link %u: whose message is it? %.*s", s->link->id,
                     SPAN_ARGS(bytes));
        }
        s->attempt->odd = s->attempt->odd || s->odd;
        books_leg(s->attempt, s);
    } else if (s->last == '\n' && span_equal(bytes, SPAN(".\r\n"))) {
        s->end_written = true;
        if (s->babbled != 0 && s->link->told >= s->babbled) {
            sim_fail(s->queues->sim, "attempt %u: a commit to who has spoken out of turn",
                     s->attempt->id);
        }
        s->commit = books_end_written(s->attempt, s);
    }
    s->last = bytes.ptr[bytes.len - 1];
}

static const struct link_actor actor = {
    .on_bytes = on_bytes,
    .on_end = on_end,
    .on_reset = on_reset,
    .on_written = on_written,
};

void queue_service_accept(struct link *link, struct server *server)
{
    struct queue_service *s = sim_alloc(1, sizeof *s);
    s->queues = link->sim->queues;
    s->server = server;
    s->link = link;
    s->random = queues_random(s->queues, 30, link->id);
    link->actor = &actor;
    link->self = s;
    s->hung = server_is_down(server) && server->outage == OUTAGE_SILENT;
    s->reply_closes = server_is_down(server) && server->outage == OUTAGE_BUSY;
    if (!s->hung) {
        service_answer(s, s->reply_closes ? SPAN(SAYS_BUSY "\r\n") : SPAN("220 up ESMTP\r\n"));
    }
}

struct queue_service_view queue_service_look(const struct queue_service *s)
{
    return (struct queue_service_view){
        .link = s->link, .end_written = s->end_written, .odd = s->odd};
}
