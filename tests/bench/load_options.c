#include "tests/bench/load_options.h"

#include <getopt.h>
#include <stdio.h>

#define MOST UINT64_C(1000000000)

static const char usage[] =
    "usage: load --connect ADDRESS:PORT (--messages N | --seconds S | --idle N) [--sessions N]\n"
    "            [--keep K] [--size BYTES] [--sender A] [--recipient A]... [--rate R]\n"
    "            [--pipelining] [--starttls [--resume]]\n"
    "  --messages N    so many in all\n"
    "  --seconds S     for so long\n"
    "  --sessions N    connections at once (1)\n"
    "  --keep K        messages over one connection (1); 0: no end\n"
    "  --size BYTES    of a message (4096)\n"
    "  --recipient A   each message is for all that are given\n"
    "  --rate R        messages begin R times a second whether or not earlier ones have ended,\n"
    "                  and are timed from when they were due\n"
    "  --pipelining    MAIL, RCPT and DATA at once, where that is offered\n"
    "  --starttls      every connection encrypts, with a full handshake; --resume: or a short one\n"
    "  --idle N        opens N sessions, prints {\"idle\":N} and holds them until SIGTERM\n";

static bool take_number(const char *text, uint64_t least, uint64_t *out)
{
    unsigned long long number = 0;
    const bool good = span_number(span_of(text), MOST, &number) && number >= least;
    *out = number;
    return good;
}

static bool take_address(const char *text, struct net_address *out)
{
    struct span host;
    uint16_t port;
    return host_port_split(span_of(text), &host, &port) && net_address_parse(host, port, out);
}

static bool take_recipient(struct load_options *options, const char *recipient)
{
    if (options->recipient_count == LOAD_RECIPIENTS) {
        return false;
    }
    options->recipients[options->recipient_count++] = recipient;
    return true;
}

static const struct option known[] = {
    {"connect", required_argument, NULL, 'c'}, {"messages", required_argument, NULL, 'm'},
    {"seconds", required_argument, NULL, 't'}, {"sessions", required_argument, NULL, 'n'},
    {"keep", required_argument, NULL, 'k'},    {"size", required_argument, NULL, 's'},
    {"sender", required_argument, NULL, 'f'},  {"recipient", required_argument, NULL, 'r'},
    {"rate", required_argument, NULL, 'R'},    {"pipelining", no_argument, NULL, 'p'},
    {"starttls", no_argument, NULL, 'T'},      {"resume", no_argument, NULL, 'S'},
    {"idle", required_argument, NULL, 'i'},    {0},
};

static bool take(struct load_options *options, int option, const char *value)
{
    switch (option) {
    case 'c':
        return take_address(value, &options->address);
    case 'm':
        return take_number(value, 1, &options->messages);
    case 't':
        return take_number(value, 1, &options->seconds);
    case 'n':
        return take_number(value, 1, &options->sessions);
    case 'k':
        return take_number(value, 0, &options->keep);
    case 's':
        return take_number(value, 1, &options->size);
    case 'f':
        options->sender = value;
        return true;
    case 'r':
        return take_recipient(options, value);
    case 'R':
        return take_number(value, 1, &options->rate);
    case 'p':
        return options->pipelining = true;
    case 'T':
        return options->starttls = true;
    case 'S':
        return options->resume = true;
    case 'i':
        return take_number(value, 1, &options->idle);
    default:
        return false;
    }
}

/* Exactly one of them, but that messages may have an end in time too. */
static bool has_an_end(const struct load_options *options)
{
    return (options->idle > 0) != (options->messages > 0 || options->seconds > 0);
}

bool load_options_take(struct load_options *options, int argc, char **argv)
{
    bool good = true;

    *options = (struct load_options){
        .sessions = 1, .keep = 1, .size = 4096, .sender = "sender@example.net"};
    for (int c; good && (c = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        good = take(options, c, optarg);
    }
    if (options->recipient_count == 0) {
        options->recipients[options->recipient_count++] = "user@example.com";
    }
    good = good && optind == argc && net_address_length(&options->address) > 0 &&
           net_address_port(&options->address) > 0 && has_an_end(options) &&
           (options->starttls || !options->resume);
    if (!good) {
        fputs(usage, stderr);
    }
    return good;
}
