#include "tests/sim/message.h"

#include <stdlib.h>

#include "config/text.h"

/* ---- making one ---- */

static enum fate any_fate(struct sim *sim, unsigned percent_yes)
{
    if (sim_chance(sim, percent_yes)) {
        return (enum fate)sim_below(sim, FATE_YES_LINES + 1);
    }
    return (enum fate)(FATE_LATER + sim_below(sim, FATES - FATE_LATER));
}

/* To RCPT more than elsewhere "no such user" is said. */
static enum fate any_rcpt_fate(struct sim *sim, bool nobody)
{
    return nobody || sim_chance(sim, 4) ? FATE_NO : any_fate(sim, 90);
}

static size_t any_size(struct sim *sim)
{
    unsigned kind = (unsigned)sim_below(sim, 100);
    if (kind < 3) {
        return 0;
    }
    return (size_t)sim_below(sim, kind < 85 ? 1500 : kind < 98 ? 16000 : 200000);
}

/* Received fields: our own mark of a detour, what looks like it, and many. */
static void make_fields(struct message *message)
{
    static const char *const harmless[] = {
        "Received: from a by other.example (splitmx fallback)\r\n\tid 1; Thu, 1 Jan 1970\r\n",
        "Received: from a by " SIM_HOST " (splitmx)\r\n\tid 1; Thu, 1 Jan 1970\r\n",
        "X-Received: from a by " SIM_HOST " (splitmx fallback)\r\n",
        "Received: from (by " SIM_HOST " (splitmx fallback)) by b.example id 1\r\n",
    };
    struct sim *sim = message->sim;
    struct buffer *body = &message->body;
    uint64_t count = sim_chance(sim, 3) ? 1 + sim_below(sim, 10) : 0;
    unsigned fields = 0;
    while (count-- > 0) {
        uint64_t which = sim_below(sim, 4);
        fields += which != 2;
        buffer_put(body, span_of(harmless[which]));
    }
    if (sim_chance(sim, 3)) {
        message->marked = true;
        fields++;
        buffer_put(body, SPAN("Received: from a (b [192.0.2.1])\r\n by " SIM_HOST
                              " (splitmx fallback) with SMTP id 2;\r\n Thu, 1 Jan 1970\r\n"));
    }
    message->circles = fields > sim->settings->limits.received_hops;
}

/* Lines of any length, dots at their front stuffed, what looks like an end among them. */
static void make_body(struct message *message, size_t wanted)
{
    static const char *const odd[] = {"..\r\n", "\r\n", "...\r\n", "..\r\n..\r\n", "x.\r\n"};
    static const char filler[] =
        "The quick brown fox jumps over the lazy dog. 0123456789 .\xc3\xa9 "
        "It was a bright cold day in April, and the clocks were striking";
    struct sim *sim = message->sim;
    struct buffer *body = &message->body;
    if (wanted != 0) {
        make_fields(message);
        buffer_put(body, SPAN("Subject: a test\r\n\r\n"));
    }
    while (body->len < wanted) {
        uint64_t chance = sim_below(sim, 100);
        if (chance < 20) {
            buffer_put(body, span_of(odd[chance % 5]));
            continue;
        }
        size_t at = (size_t)sim_below(sim, sizeof filler - 1);
        struct span line = span_skip(span_make(filler, sizeof filler - 1), at);
        buffer_put(body, line.ptr[0] == '.' ? SPAN(".") : SPAN(""));
        buffer_put(body, line);
        for (uint64_t more = chance < 90 ? chance % 4 : 0; more > 0; more--) {
            buffer_put(body, span_make(filler, sizeof filler - 1));
        }
        buffer_put(body, SPAN("\r\n"));
    }
    struct span all = buffer_span(body);
    message->size = all.len;
    for (size_t i = 0; i < all.len; i++) {
        message->size -= all.ptr[i] == '.' && (i == 0 || all.ptr[i - 1] == '\n');
    }
    if (sim_chance(sim, 1) && body->len != 0) {
        message->dirty = true;
        buffer_put(body, SPAN("a bare\nline feed\r\n"));
    }
}

static void make_rcpt(struct message *message, bool nobody)
{
    struct sim *sim = message->sim;
    struct rcpt *rcpt = &message->rcpts[message->rcpt_count++];
    unsigned chance = (unsigned)sim_below(sim, 100);
    rcpt->kind = chance < 2   ? RCPT_ERROR
                 : chance < 4 ? RCPT_RETRY
                 : chance < 6 ? RCPT_DISCARD
                              : RCPT_RELAY;
    rcpt->relay = (unsigned)sim_below(sim, sim->relay_count);
    rcpt->domain = (unsigned)sim_below(sim, SIM_DOMAINS);
    for (int way = 0; way < WAYS; way++) {
        rcpt->fate[way] = any_rcpt_fate(sim, nobody && way == WAY_HOME);
    }
}

/* Those that the recipient may come to. */
static void make_legs(struct message *message, const struct rcpt *rcpt)
{
    struct sim *sim = message->sim;
    for (int way = 0; way < WAYS; way++) {
        if (message_relay_of(message, rcpt, (enum way)way) < SIM_RELAYS) {
            unsigned leg = message_leg_of(message, rcpt, (enum way)way);
            message->legs[leg].data = any_fate(sim, 97);
            message->legs[leg].end = any_fate(sim, 92);
        }
    }
}

static enum ending any_ending(struct sim *sim)
{
    unsigned chance = (unsigned)sim_below(sim, 100);
    return chance < 93   ? ENDING_DATA
           : chance < 95 ? ENDING_RSET
           : chance < 97 ? ENDING_BODY_RESET
           : chance < 98 ? ENDING_BODY_CLOSE
           : chance < 99 ? ENDING_END_RESET
                         : ENDING_END_FIN_RESET;
}

struct message *message_new(struct sim *sim, unsigned id, struct identity *identity,
                            const bool *client_closed)
{
    struct message *message = sim_alloc(1, sizeof *message);
    message->sim = sim;
    message->id = id;
    message->identity = identity;
    message->client_closed = client_closed;
    message->null_sender = sim_chance(sim, 10);
    make_body(message, any_size(sim));
    message->says_size = sim_chance(sim, 50) && message->size != 0;
    message->says_8bit = sim_chance(sim, 50);
    message->ending = any_ending(sim);
    uint64_t count = 1 + sim_below(sim, sim_chance(sim, 20) ? MESSAGE_RCPTS : 6);
    bool guesses = identity->guesses;
    while (message->rcpt_count < (guesses ? MESSAGE_RCPTS : count)) {
        make_rcpt(message, guesses);
    }
    for (unsigned i = 0; i < SIM_RELAYS; i++) {
        /* Of a null sender's MAIL an upstream cannot tell here which message it is. */
        message->mail[i] = message->null_sender ? FATE_YES : any_fate(sim, 97);
    }
    for (unsigned i = 0; i < message->rcpt_count; i++) {
        make_legs(message, &message->rcpts[i]);
    }
    return message;
}

void message_free(struct message *message)
{
    buffer_release(&message->body);
    free(message);
}

unsigned message_relay_of(const struct message *message, const struct rcpt *rcpt, enum way way)
{
    const struct relay *home = &message->sim->relays[rcpt->relay].relay;
    const struct relay *to = way == WAY_HOME       ? home
                             : way == WAY_FALLBACK ? home->fallback
                                                   : home->unknown_recipient;
    return to != NULL ? sim_relay_number(message->sim, to) : SIM_RELAYS;
}

unsigned message_leg_of(const struct message *message, const struct rcpt *rcpt, enum way way)
{
    unsigned relay = message_relay_of(message, rcpt, way);
    bool apart = message->sim->relays[relay].relay.one_domain;
    return (way * SIM_RELAYS + relay) * LEG_DOMAINS +
           (apart ? rcpt->relay * SIM_DOMAINS + rcpt->domain : 0);
}

bool message_is_split(const struct message *message)
{
    unsigned legs = 0;
    for (unsigned i = 0; i < message->leg_count; i++) {
        legs += message->legs[message->order[i]].accepted != 0;
    }
    return legs > 1;
}

/* ---- names ---- */

struct span message_mail_line(const struct message *message, bool size, bool eight_bit, char *out)
{
    struct text text = text_over(out, 256);
    text_puts(&text, "MAIL FROM:<");
    if (!message->null_sender) {
        text_printf(&text, "s%u@client.example", message->id);
    }
    text_puts(&text, ">");
    if (size && message->says_size) {
        text_printf(&text, " SIZE=%zu", message->size);
    }
    if (eight_bit && message->says_8bit) {
        text_puts(&text, " BODY=8BITMIME");
    }
    return text_span(&text);
}

struct span message_rcpt_path(const struct message *message, unsigned number, char *out)
{
    static const char *const kinds[] = {"", "error", "retry", "discard"};
    struct text text = text_over(out, 256);
    const struct rcpt *rcpt = &message->rcpts[number];
    text_printf(&text, "m%ur%u@", message->id, number);
    if (rcpt->kind == RCPT_RELAY) {
        text_printf(&text, "D%u.r%u.example", rcpt->domain, rcpt->relay);
    } else {
        text_printf(&text, "%s.example", kinds[rcpt->kind]);
    }
    return text_span(&text);
}

/* A number behind one letter, up to `end`; false where there is none. */
static bool take_number(struct span *text, char letter, char end, unsigned *out)
{
    unsigned long long number = 0;
    size_t length = span_find(*text, end);
    if (text->len < 2 || text->ptr[0] != letter || length == text->len ||
        !span_number(span_first(span_skip(*text, 1), length - 1), UINT32_MAX, &number)) {
        return false;
    }
    *out = (unsigned)number;
    *text = span_skip(*text, length);
    return true;
}

struct message *message_of_sender(struct sim *sim, struct span path)
{
    unsigned id = 0;
    if (!take_number(&path, 's', '@', &id) || id >= sim->message_count) {
        return NULL;
    }
    return sim->messages[id];
}

struct message *message_of_rcpt(struct sim *sim, struct span path, unsigned *number)
{
    char expected[256];
    struct span rest = path;
    unsigned id = 0;
    if (!take_number(&rest, 'm', 'r', &id) || id >= sim->message_count ||
        !take_number(&rest, 'r', '@', number) || *number >= sim->messages[id]->rcpt_count ||
        !span_equal(path, message_rcpt_path(sim->messages[id], *number, expected))) {
        return NULL;
    }
    return sim->messages[id];
}
