/*
 * sink: an upstream that takes everything. Prints "ready" when it listens and, when SIGTERM ends
 * it, one JSON object: what it has taken.
 */
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>

#include "tests/bench/bench_tls.h"
#include "tests/bench/sink_server.h"

#define MOST UINT64_C(1000000000000)

static const char usage[] =
    "usage: sink --listen ADDRESS:PORT [--pipelining] [--tls CERTIFICATE KEY] [--rate BYTES]\n"
    "            [--delay MS]\n"
    "  --tls CERTIFICATE KEY  offers STARTTLS with these (PEM files)\n"
    "  --rate BYTES           reads at most so many a second over each connection\n"
    "  --delay MS             waits so long before it answers to the end of data\n";

static bool take_number(const char *text, uint64_t *out)
{
    unsigned long long number = 0;
    const bool good = span_number(span_of(text), MOST, &number);
    *out = number;
    return good;
}

static bool take_address(const char *text, struct net_address *out)
{
    struct span host;
    uint16_t port;
    return host_port_split(span_of(text), &host, &port) && net_address_parse(host, port, out);
}

static bool take_options(struct sink_options *options, int argc, char **argv)
{
    static const struct option known[] = {
        {"listen", required_argument, NULL, 'l'}, {"pipelining", no_argument, NULL, 'p'},
        {"tls", required_argument, NULL, 't'},    {"rate", required_argument, NULL, 'r'},
        {"delay", required_argument, NULL, 'd'},  {0},
    };
    bool good = true;
    for (int c; good && (c = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        switch (c) {
        case 'l':
            good = take_address(optarg, &options->address);
            break;
        case 'p':
            options->pipelining = true;
            break;
        case 't': /* the one option that has two values */
            options->certificate = optarg;
            options->key = optind < argc ? argv[optind++] : NULL;
            good = options->key != NULL;
            break;
        case 'r':
            good = take_number(optarg, &options->rate);
            break;
        case 'd':
            good = take_number(optarg, &options->delay);
            break;
        default:
            good = false;
            break;
        }
    }
    return good && optind == argc && net_address_port(&options->address) > 0;
}

static void on_signal(uv_signal_t *signal, int number)
{
    (void)number;
    sink_end(signal->data);
    uv_close((uv_handle_t *)signal, NULL);
}

static bool run(struct sink *sink)
{
    uv_signal_t signal;
    int error;

    uv_signal_init(&sink->loop->uv, &signal);
    signal.data = sink;
    uv_signal_start(&signal, on_signal, SIGTERM);
    error = sink_begin(sink);
    if (error == 0) {
        puts("ready");
        fflush(stdout);
    } else {
        fprintf(stderr, "sink: %s\n", uv_strerror(error));
        on_signal(&signal, SIGTERM);
    }
    uv_run(&sink->loop->uv, UV_RUN_DEFAULT);
    return error == 0;
}

int main(int argc, char **argv)
{
    struct sink_options options = {0};
    struct sink sink = {.options = &options};
    struct tls_contexts *contexts = NULL;
    bool good = false;

    if (!take_options(&options, argc, argv)) {
        fputs(usage, stderr);
        return 64;
    }
    signal(SIGPIPE, SIG_IGN);
    peer_raise_descriptors();
    if (options.certificate) {
        contexts = bench_tls_new(options.certificate, options.key);
        sink.tls = contexts ? tls_server_context(contexts) : NULL;
    }
    sink.loop = peer_loop_new();
    if (sink.loop && (sink.tls || !options.certificate)) {
        good = run(&sink);
        printf("{\"connections\": %" PRIu64 ", \"handshakes\": %" PRIu64 ", \"messages\": %" PRIu64
               ", \"recipients\": %" PRIu64 ", \"bytes\": %" PRIu64 "}\n",
               sink.connections, sink.handshakes, sink.messages, sink.recipients, sink.bytes);
    }
    peer_loop_free(sink.loop);
    tls_contexts_unref(contexts);
    return good ? 0 : 1;
}
