/*
 * sink_server: an SMTP server that takes everything and keeps nothing. As cheap as can be, for it
 * shares the processors with what is measured; all that it says are constants.
 *
 * Thread: the loop's.
 */
#ifndef SPLITMX_TESTS_BENCH_SINK_SERVER_H
#define SPLITMX_TESTS_BENCH_SINK_SERVER_H

#include <stdint.h>
#include <sys/queue.h>

#include "tests/bench/bench_peer.h"

struct sink_options {
    struct net_address address;
    uint64_t rate;  /* bytes a second that are read from each connection at most; 0: all */
    uint64_t delay; /* milliseconds before the answer to the end of data */
    const char *certificate, *key; /* paths; NULL: STARTTLS is not offered */
    bool pipelining;
};

struct sink_session;
TAILQ_HEAD(sink_list, sink_session);

/* The first six are the caller's to set; the rest is zero at first. */
struct sink {
    struct peer_loop *loop;
    const struct sink_options *options;
    const struct tls_context *tls; /* NULL: STARTTLS is not offered */
    uint64_t connections, handshakes, messages, recipients, bytes;
    uv_tcp_t listener;
    uv_timer_t ticking;       /* with a rate: all may read a little more */
    uv_timer_t answering;     /* with a delay: the first of those that wait */
    struct sink_list all;     /* sessions */
    struct sink_list waiting; /* those whose answers are put off, the longest first */
};

/* Listens, and serves while the loop runs. 0, or an error of libuv's; then sink_end is due. */
int sink_begin(struct sink *sink);
void sink_end(struct sink *sink); /* closes all, so that the loop ends */

#endif
