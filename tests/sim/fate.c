/* What upstreams say, and what of it the client hears (design: law 3, section 5). */
#include "config/text.h"
#include "tests/sim/message.h"

struct says {
    unsigned code;
    const char *enhanced; /* "" where there is none */
    bool lines;
};

static const char *const stage_names[] = {"mail", "rcpt", "data", "end"};

bool fate_is_yes(enum fate fate)
{
    return fate <= FATE_YES_LINES;
}

static struct says says_of(enum stage stage, enum fate fate)
{
    static const char *const good[] = {"2.1.0", "2.1.5", "", "2.0.0"};
    unsigned code = stage == STAGE_DATA ? 354 : 250;
    switch (fate) {
    case FATE_YES:
        return (struct says){code, good[stage], false};
    case FATE_YES_PLAIN:
        return (struct says){code, "", false};
    case FATE_YES_LINES:
        return (struct says){code, good[stage], true};
    case FATE_LATER:
        return (struct says){450, "4.2.1", false};
    case FATE_LATER_PLAIN:
        return (struct says){451, "", false};
    case FATE_NO:
        return (struct says){550, "5.1.1", false};
    case FATE_NO_PLAIN:
        return (struct says){554, "", false};
    case FATE_NO_LINES:
        return (struct says){550, "5.7.1", true};
    case FATE_BLAME:
        return (struct says){503, "5.5.1", false};
    case FATE_FULL:
        return (struct says){552, "5.2.2", false};
    case FATE_CLOSING:
        return (struct says){421, "4.7.0", false};
    case FATE_SLOWER:
        return (struct says){421, "4.7.28", false};
    case FATES:
        break;
    }
    return (struct says){0};
}

/* As the design has it, not as the code under test does. */
static struct says says_passed(enum stage stage, enum way way, enum fate fate)
{
    struct says says = says_of(stage, fate);
    if (way == WAY_FALLBACK && says.code / 100 == 5) {
        says.code = 451;
        says.enhanced = "4.4.1";
    } else if (fate == FATE_BLAME) {
        says.code = 451;
        says.enhanced = "4.3.5";
    } else if (fate == FATE_CLOSING || fate == FATE_SLOWER) {
        says.code = 451;
    } else if (fate == FATE_FULL && stage == STAGE_MAIL) {
        says.code = 554;
        says.enhanced = "5.3.4";
    }
    return says;
}

static void put_words(struct text *text, const struct message *message, enum stage stage,
                      unsigned number)
{
    text_printf(text, "m%u %s %u so", message->id, stage_names[stage], number);
}

static void put_line(struct text *text, struct says says, char separator)
{
    text_printf(text, "%u%c%s%s", says.code, separator, says.enhanced,
                says.enhanced[0] != '\0' ? " " : "");
}

static struct span render(const struct message *message, enum stage stage, unsigned number,
                          struct says says, char *out)
{
    struct text text = text_over(out, REPLY_LINE);
    if (says.lines) {
        put_line(&text, says, '-');
        put_words(&text, message, stage, number);
        text_puts(&text, "\r\n");
        put_line(&text, says, ' ');
        text_puts(&text, "and that is all\r\n");
    } else {
        put_line(&text, says, ' ');
        put_words(&text, message, stage, number);
        text_puts(&text, "\r\n");
    }
    return text_span(&text);
}

struct span message_says(const struct message *message, enum stage stage, unsigned number,
                         enum fate fate, char *out)
{
    return render(message, stage, number, says_of(stage, fate), out);
}

struct span message_passes(const struct message *message, enum stage stage, enum way way,
                           unsigned number, enum fate fate, char *out)
{
    static const char *const plain[] = {"", "", "2.0.0", "", "4.0.0", "5.0.0"};
    struct says says = says_passed(stage, way, fate);
    if (says.enhanced[0] == '\0') {
        says.enhanced = plain[says.code / 100];
    }
    return render(message, stage, number, says, out);
}

struct span line_passes(enum way way, const char *line, char *out)
{
    struct text text = text_over(out, REPLY_LINE);
    struct span rest = span_of(line);
    if (way == WAY_FALLBACK && line[0] == '5') {
        text_puts(&text, "451 4.4.1");
        rest = span_skip(rest, 9);
    } else if (span_starts_fold(rest, SPAN("421 "))) {
        text_puts(&text, "451");
        rest = span_skip(rest, 3);
    }
    text_put(&text, rest);
    text_puts(&text, "\r\n");
    return text_span(&text);
}

struct span message_passes_joint(const struct message *message, enum stage stage, unsigned leg,
                                 enum fate fate, char *out)
{
    struct text text = text_over(out, REPLY_LINE);
    struct says says = says_passed(stage, leg_way(leg), fate);
    says.lines = false;
    text_printf(&text, "451 4.3.0 %s: ", message->sim->relays[leg_relay_number(leg)].name);
    put_line(&text, says, ' ');
    put_words(&text, message, stage, leg);
    text_puts(&text, "\r\n");
    return text_span(&text);
}

struct span message_accepts_joint(const struct message *message, const unsigned *turn,
                                  unsigned count, char *out)
{
    struct text text = text_over(out, REPLY_LINE);
    text_puts(&text, "250 2.0.0 ");
    for (unsigned i = 0; i < count; i++) {
        text_printf(&text, "%s%s: ", i != 0 ? "; " : "",
                    message->sim->relays[leg_relay_number(turn[i])].name);
        put_words(&text, message, STAGE_END, turn[i]);
    }
    text_puts(&text, "\r\n");
    return text_span(&text);
}
