#include "tests/sim/identity.h"

#include <stdio.h>

static const char *const names[ATTRIBUTES] = {
    "LOGIN", "DESTADDR", "DESTPORT", "REVERSE_NAME", "PORT", "PROTO", "HELO", "NAME", "ADDR"};

void identity_make(struct sim *sim, unsigned number, struct identity *identity)
{
    bool six = sim_chance(sim, 25);
    *identity = (struct identity){.number = number, .six = six, .local_port = 25};
    snprintf(identity->ip, sizeof identity->ip, six ? "2001:db8:%x::25" : "203.0.113.%u",
             number + 1);
    snprintf(identity->local_ip, sizeof identity->local_ip, "%s",
             six ? "2001:db8:ffff::25" : "192.0.2.25");
    identity->port = 40000 + number;
    identity->guesses = sim_chance(sim, 1);
    snprintf(identity->name, sizeof identity->name, "host%u.%s", number,
             sim_chance(sim, 20)
                 ? "a-network-that-takes-great-pride-in-the-names-of-its-machines."
                   "and-has-many-departments-with-subdomains-of-their-own."
                   "one-of-which-is-about-names.and-nothing-else.as-far-as-anybody-knows.example"
                 : "client.example");
}

struct identity *identity_of_ip(struct sim *sim, struct span ip)
{
    for (unsigned i = 0; i < sim->client_count; i++) {
        if (span_equal(ip, span_of(sim->identities[i].ip))) {
            return &sim->identities[i];
        }
    }
    return NULL;
}

void identity_offer(unsigned attributes, struct text *out)
{
    text_puts(out, "XCLIENT");
    for (unsigned i = 0; i < ATTRIBUTES; i++) {
        if ((attributes >> i & 1) != 0) {
            text_printf(out, " %s", names[i]);
        }
    }
}

static bool take_attribute(struct told *told, unsigned offered, struct span word)
{
    size_t equals = span_find(word, '=');
    struct span value = span_skip(word, equals + 1);
    for (unsigned i = 0; i < ATTRIBUTES; i++) {
        if (span_equal(span_first(word, equals), span_of(names[i]))) {
            bool good = (offered >> i & 1) != 0 && (told->set >> i & 1) == 0 && value.len != 0 &&
                        value.len <= 255;
            told->set |= 1u << i;
            snprintf(told->values[i], sizeof told->values[i], "%.*s", SPAN_ARGS(value));
            return good;
        }
    }
    return false;
}

bool identity_take_line(struct told *told, unsigned offered, struct span line)
{
    struct span rest = span_skip(line, sizeof "XCLIENT" - 1);
    bool good = line.len + 2 <= 512 && rest.len > 1 && (told->set & ATTRIBUTE_ADDR) == 0;
    while (good && rest.len != 0) {
        rest = span_skip(rest, 1);
        struct span word = span_first(rest, span_find(rest, ' '));
        good = take_attribute(told, offered, word);
        rest = span_skip(rest, word.len);
    }
    return good;
}

static void expected_value(unsigned attribute, const struct identity *identity,
                           const struct hello *hello, struct text *out)
{
    static const char *const unavailable = "[UNAVAILABLE]";
    const char *address = identity->six ? "IPV6:" : "";
    switch (attribute) {
    case 1:
        text_printf(out, "%s%s", address, identity->local_ip);
        break;
    case 2:
        text_printf(out, "%u", identity->local_port);
        break;
    case 4:
        text_printf(out, "%u", identity->port);
        break;
    case 5:
        text_puts(out, hello->extended ? "ESMTP" : "SMTP");
        break;
    case 6:
        text_puts(out, hello->name);
        break;
    case 3: /* names lead back here, where there are any */
    case 7:
        /* A name that was not found in time may exist: a server that wants one must say 4xx. */
        text_puts(out, identity->name_state == NAME_KNOWN      ? identity->name
                       : identity->name_state == NAME_TOO_LATE ? "[TEMPUNAVAIL]"
                                                               : unavailable);
        break;
    case 8:
        text_printf(out, "%s%s", address, identity->ip);
        break;
    default:
        text_puts(out, unavailable);
        break;
    }
}

bool identity_is_told(const struct told *told, unsigned offered, const struct identity *identity,
                      const struct hello *hello)
{
    for (unsigned i = 0; i < ATTRIBUTES; i++) {
        char expected[300];
        struct text text = TEXT(expected);
        expected_value(i, identity, hello, &text);
        bool good = span_equal(span_of(told->values[i]), text_span(&text));
        if ((offered >> i & 1) != 0 && !good) {
            return false;
        }
    }
    return told->set == offered;
}

struct span identity_proxy_line(const struct identity *identity, char *out, size_t size)
{
    snprintf(out, size, "PROXY %s %s %s %u %u", identity->six ? "TCP6" : "TCP4", identity->ip,
             identity->local_ip, identity->port, identity->local_port);
    return span_of(out);
}
