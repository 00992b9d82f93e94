#include "proxy/cli/doctor_call.h"

#include "proxy/cli/doctor_state.h"

void call_queue_init(struct call_queue *queue)
{
    *queue = (struct call_queue){.last = &queue->first};
}

/* ---- the end ---- */

static void queue_run(struct doctor *doctor);

static void call_over(struct call *call, enum call_end end, const char *why)
{
    struct doctor *doctor = call->doctor;
    struct text text = TEXT(call->why);
    if (call->end != CALL_DONE) { /* what comes later is an end, too, but it had been there */
        call->end = end;
    }
    text_puts(&text, why);
    timer_stop(&doctor->net.world.timers, &call->timer);
    call->upstream = NULL;
    *call->link = call->next;
    if (call->next != NULL) {
        call->next->link = call->link;
    }
    call->next = NULL;
    doctor->calls.count--;
    check_release(call->check);
    queue_run(doctor);
}

static void on_call_due(void *owner)
{
    struct call *call = owner;
    upstream_reset(call->upstream);
    call_over(call, CALL_UNAVAILABLE, "it took too long");
}

/* ---- the conversation ---- */

static void call_connect(struct call *call);

/* Asks about the next recipient, or ends the transaction. */
static void call_go_on(struct call *call)
{
    if (call->answered == call->wish.recipient_count || call->mail_refused) {
        if (upstream_is_ready(call->upstream)) {
            upstream_quit(call->upstream);
            call_over(call, CALL_DONE, "");
        } else {
            upstream_rset(call->upstream); /* then READY, and we are back here */
        }
        return;
    }
    struct span recipient = span_of(call->wish.recipients[call->answered]);
    if (call->answered == 0) {
        const struct envelope envelope = {.sender = SPAN(""), .smtputf8 = call->wish.smtputf8};
        if (!upstream_takes(call->upstream, &envelope)) {
            upstream_quit(call->upstream);
            call_over(call, CALL_DONE, "it does not offer SMTPUTF8, which this address needs");
            return;
        }
        upstream_mail(call->upstream, &envelope, recipient);
    } else {
        upstream_rcpt(call->upstream, recipient);
    }
}

static void call_ready(struct call *call, const struct reply *reply)
{
    if (call->end != CALL_DONE) {
        struct span line = reply_first_line(reply);
        struct text name = TEXT(call->name);
        struct text tls = TEXT(call->tls);
        call->end = CALL_DONE;
        text_put(&name, span_first(line, span_find(line, ' ')));
        upstream_tell_tls(call->upstream, &tls);
        call->offer = *upstream_offer(call->upstream);
    }
    call_go_on(call);
}

static void call_note_answer(struct call *call, const struct upstream_event *event)
{
    const struct reply *reply = event->reply;
    struct call_answer *answer = &call->answers[call->answered++];
    struct text words = TEXT(answer->words);
    answer->code = reply->code;
    memcpy(answer->enhanced, reply->enhanced, sizeof answer->enhanced);
    text_printf(&words, "%u %s%s%s", reply->code, reply->enhanced,
                reply->enhanced[0] != '\0' ? " " : "", reply->text);
    for (char *end = strchr(answer->words, '\n'); end != NULL; end = strchr(end, '\n')) {
        *end = ' '; /* lines become one */
    }
    call->mail_refused = event->command == UPSTREAM_MAIL;
}

static void call_unavailable(struct call *call, const struct upstream_event *event)
{
    if (event->tls && call->wish.tls == RELAY_TLS_MAY && !call->in_clear) {
        struct text why = TEXT(call->tls_why);
        text_puts(&why, event->why);
        call->in_clear = true;
        call_connect(call);
        return;
    }
    call->tls_at_fault = event->tls;
    call_over(call, CALL_UNAVAILABLE, event->why);
}

static void on_upstream(void *owner, const struct upstream_event *event)
{
    struct call *call = owner;
    switch (event->kind) {
    case UPSTREAM_READY:
        call_ready(call, event->reply);
        break;
    case UPSTREAM_ANSWER:
        call_note_answer(call, event);
        if (event->last) {
            call_over(call, CALL_DONE, "it ended the conversation");
        } else {
            call_go_on(call);
        }
        break;
    case UPSTREAM_UNAVAILABLE:
        call_unavailable(call, event);
        break;
    case UPSTREAM_REFUSED:
        call_over(call, CALL_REFUSED, event->why);
        break;
    case UPSTREAM_TURNED_AWAY:
        call->code = event->reply->code;
        call_over(call, CALL_TURNED_AWAY, event->why);
        break;
    case UPSTREAM_NO_IDENTITY:
        call_over(call, CALL_NO_IDENTITY, event->why);
        break;
    case UPSTREAM_NO_MEANS:
    case UPSTREAM_LOST:
        call_over(call, CALL_UNAVAILABLE, event->why);
        break;
    case UPSTREAM_ROOM:
        break;
    }
}

static struct upstream_key call_key(const struct call *call)
{
    const struct call_wish *wish = &call->wish;
    struct upstream_key key = {.address = wish->address,
                               .tls = call->in_clear ? RELAY_TLS_NONE : wish->tls,
                               .identity = wish->identity};
    struct text host = TEXT(key.host);
    struct text client = TEXT(key.client);
    if (key.tls != RELAY_TLS_NONE) {
        key.context = tls_client_context(call->doctor->prepared->tls, key.tls, wish->ca_file);
        text_puts(&host, wish->tls_name);
    }
    text_puts(&client, "doctor");
    return key;
}

static void call_connect(struct call *call)
{
    struct world *world = &call->doctor->net.world;
    struct upstream_key key = call_key(call);
    bool in_name = call->wish.identity == IDENTITY_XCLIENT || call->wish.identity == IDENTITY_PROXY;
    quota_cell cell = shared_count(world->shared->endpoints, &key.address, UINT32_MAX);
    call->upstream = upstream_open(world, &key, cell, &call->doctor->prepared->policy,
                                   in_name ? &call->stranger : NULL, on_upstream, call);
    if (call->upstream == NULL) {
        call_over(call, CALL_UNAVAILABLE, "no connection can be opened now");
    }
}

/* ---- the queue ---- */

static void call_enter(struct call *call, struct call **list)
{
    call->next = *list;
    call->link = list;
    if (*list != NULL) {
        (*list)->link = &call->next;
    }
    *list = call;
}

static void call_start(struct call *call)
{
    struct doctor *doctor = call->doctor;
    struct world *world = &doctor->net.world;
    call_enter(call, &doctor->calls.running);
    doctor->calls.count++;
    net_enter(&doctor->net);
    call->timer = (struct timer){.on_due = on_call_due, .owner = call};
    if (doctor->calls.closed) {
        call_over(call, CALL_OUT_OF_TIME, "there was no time left to try");
        return;
    }
    uint64_t patience = doctor_config(doctor)->timeouts.recipient;
    timer_set(&world->timers, &call->timer,
              world->now + (patience < CALL_TIME ? patience : CALL_TIME));
    call_connect(call);
}

static void queue_run(struct doctor *doctor)
{
    struct call_queue *queue = &doctor->calls;
    while (queue->first != NULL && queue->count < CALLS_AT_ONCE) {
        struct call *call = queue->first;
        queue->first = call->next;
        if (queue->first == NULL) {
            queue->last = &queue->first;
        }
        call_start(call);
    }
}

void call_begin(struct call *call, struct check *check, const struct call_wish *wish)
{
    struct doctor *doctor = check->doctor;
    *call = (struct call){.check = check, .doctor = doctor, .wish = *wish};
    call->stranger = (struct client_view){
        .helo = SPAN("[" CALL_STRANGER "]"), .protocol = "ESMTP", .session_id = "doctor"};
    (void)net_address_parse(SPAN(CALL_STRANGER), 2525, &call->stranger.address);
    (void)net_address_parse(SPAN("198.51.100.1"), 25, &call->stranger.local);
    net_address_text(&call->stranger.address, call->stranger.ip, sizeof call->stranger.ip);
    check_hold(check);
    *doctor->calls.last = call;
    doctor->calls.last = &call->next;
    queue_run(doctor);
}

void call_queue_close(struct call_queue *queue)
{
    queue->closed = true;
    while (queue->running != NULL) {
        struct call *call = queue->running;
        upstream_reset(call->upstream);
        call_over(call, CALL_OUT_OF_TIME, "there was no time left");
    }
}
