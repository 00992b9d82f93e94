#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>

#include "routing/health.h"

#define THREADS 8
#define SECOND  1000
#define MINUTE  (60 * SECOND)
#define DAY     ((uint64_t)24 * 60 * MINUTE)

static const uint64_t start = 5000000;

static struct health_endpoint at(const char *literal, uint16_t port)
{
    struct health_endpoint endpoint = {.proxy = false};
    assert_true(net_address_parse(span_of(literal), port, &endpoint.address));
    return endpoint;
}

static struct health *make(size_t endpoints, uint64_t seed)
{
    struct health *health = health_new(endpoints, seed);
    assert_non_null(health);
    return health;
}

static void note_failures(struct health *health, const struct health_endpoint *endpoint,
                          unsigned times, uint64_t now)
{
    for (unsigned i = 0; i < times; i++) {
        health_note(health, endpoint, false, now);
    }
}

/* Claims the probe that is due, which has to be this endpoint's. */
static void claim(struct health *health, const struct health_endpoint *endpoint, uint64_t now)
{
    struct health_endpoint claimed;
    assert_true(health_claim_probe(health, now, &claimed));
    assert_true(net_address_equal(&claimed.address, &endpoint->address));
    assert_int_equal(claimed.proxy, endpoint->proxy);
}

static enum health_change probe(struct health *health, const struct health_endpoint *endpoint,
                                bool ok, uint64_t now)
{
    claim(health, endpoint, now);
    return health_probed(health, endpoint, ok, now);
}

/* Open, at `now`. Returns when the next probe is due. */
static uint64_t open_up(struct health *health, const struct health_endpoint *endpoint, uint64_t now)
{
    note_failures(health, endpoint, 3, now);
    assert_int_equal(probe(health, endpoint, false, now), HEALTH_OPENED);
    assert_int_equal(health_ask(health, endpoint, now), HEALTH_SKIP);
    return health_next_probe(health);
}

static bool status_of(const struct health *health, const struct health_endpoint *endpoint,
                      struct health_status *status)
{
    size_t cursor = 0;
    while (health_next(health, &cursor, status)) {
        if (net_address_equal(&status->endpoint.address, &endpoint->address) &&
            status->endpoint.proxy == endpoint->proxy) {
            return true;
        }
    }
    return false;
}

static enum health_state state_of(const struct health *health,
                                  const struct health_endpoint *endpoint)
{
    struct health_status status;
    assert_true(status_of(health, endpoint, &status));
    return status.state;
}

/* Notes one outcome a letter, `step` apart; whether that led to suspicion, and at the last only. */
static bool suspected_at_end(const char *outcomes, uint64_t step)
{
    struct health *health = make(4, 1);
    const struct health_endpoint endpoint = at("192.0.2.1", 25);
    enum health_change change = HEALTH_SAME;

    for (size_t i = 0; outcomes[i] != '\0'; i++) {
        assert_int_equal(change, HEALTH_SAME);
        change = health_note(health, &endpoint, outcomes[i] == '.', start + i * step);
    }
    assert_true(change == HEALTH_SAME || change == HEALTH_SUSPECTED);
    health_free(health);
    return change == HEALTH_SUSPECTED;
}

/* ---- suspicion ---- */

static void an_endpoint_nobody_has_noted_is_tried(void **state)
{
    struct health *health = make(4, 1);
    const struct health_endpoint endpoint = at("192.0.2.1", 25);
    struct health_status status;
    size_t cursor = 0;

    (void)state;
    assert_int_equal(health_ask(health, &endpoint, start), HEALTH_GO);
    assert_true(health_next_probe(health) == UINT64_MAX);
    assert_false(health_next(health, &cursor, &status));
    assert_int_equal(health_probed(health, &endpoint, false, start), HEALTH_SAME);
    health_free(health);
}

static void three_failures_in_a_row_are_suspicious(void **state)
{
    (void)state;
    assert_false(suspected_at_end("xx", 1));
    assert_true(suspected_at_end("xxx", 1));
    assert_true(suspected_at_end("xxx", 60 * MINUTE)); /* however long that takes */
    assert_false(suspected_at_end("xx.xx.xx", 60 * MINUTE));
    assert_true(suspected_at_end("xx.xxx", 60 * MINUTE));
}

static void over_half_of_ten_attempts_in_ten_seconds_are_suspicious(void **state)
{
    (void)state;
    assert_true(suspected_at_end("xx.x.x.xx.", 1)); /* six of ten; the tenth may well be good */
    assert_true(suspected_at_end(".x.x.xx.xx", 800));
    assert_false(suspected_at_end("xx.x.x.x.", 1));            /* nine */
    assert_false(suspected_at_end("x.x.x.x.x.", 1));           /* half */
    assert_true(suspected_at_end("x.x.x.x.x.x", 1));           /* six of eleven */
    assert_false(suspected_at_end("xx.xx.xx.xx.xx.xx", 1200)); /* never ten in ten seconds */
    assert_false(suspected_at_end(".x.xx.xx.", 1));
}

static void what_is_older_than_ten_seconds_does_not_count(void **state)
{
    struct health *health = make(4, 1);
    const struct health_endpoint endpoint = at("192.0.2.1", 25);

    (void)state;
    for (int i = 0; i < 9; i++) {
        assert_int_equal(health_note(health, &endpoint, i % 3 == 2, start), HEALTH_SAME);
    }
    assert_int_equal(health_note(health, &endpoint, false, start + 10 * SECOND), HEALTH_SAME);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(health_note(health, &endpoint, true, start + 30 * SECOND), HEALTH_SAME);
        assert_int_equal(health_note(health, &endpoint, false, start + 30 * SECOND), HEALTH_SAME);
    }
    health_free(health);
}

/* More than a slice of the window counts: those counted stand for the others. */
static void many_attempts_a_second_do_not_spill_over(void **state)
{
    struct health *health = make(4, 1);
    const struct health_endpoint endpoint = at("192.0.2.1", 25);

    (void)state;
    for (int i = 0; i < 40000; i++) {
        assert_int_equal(health_note(health, &endpoint, i % 2 == 0, start + (uint64_t)i),
                         HEALTH_SAME);
    }
    health_free(health);
}

/* Workers read the same clock at other times: a note from just before is one of now. */
static void a_clock_that_lags_does_not_empty_the_window(void **state)
{
    struct health *health = make(4, 1);
    const struct health_endpoint endpoint = at("192.0.2.1", 25);
    const uint64_t edge = start / 2000 * 2000; /* where the window's slices meet */
    enum health_change change = HEALTH_SAME;

    (void)state;
    for (int i = 0; i < 10; i++) {
        assert_int_equal(change, HEALTH_SAME);
        change = health_note(health, &endpoint, i % 3 == 2, edge - (i % 2 == 1));
    }
    assert_int_equal(change, HEALTH_SUSPECTED);
    health_free(health);
}

/* ---- the probe decides ---- */

static void a_suspect_is_tried_until_its_probe_failed(void **state)
{
    struct health *health = make(4, 1);
    const struct health_endpoint endpoint = at("192.0.2.1", 25);

    (void)state;
    note_failures(health, &endpoint, 3, start);
    assert_int_equal(state_of(health, &endpoint), HEALTH_SUSPECT);
    assert_true(health_next_probe(health) == start);
    assert_int_equal(health_ask(health, &endpoint, start), HEALTH_GO);
    note_failures(health, &endpoint, 100, start);
    assert_int_equal(health_ask(health, &endpoint, start), HEALTH_GO);
    claim(health, &endpoint, start);
    assert_int_equal(health_ask(health, &endpoint, start), HEALTH_GO);
    assert_int_equal(health_probed(health, &endpoint, false, start), HEALTH_OPENED);
    assert_int_equal(health_ask(health, &endpoint, start), HEALTH_SKIP);
    assert_int_equal(state_of(health, &endpoint), HEALTH_OPEN);
    health_free(health);
}

static void a_good_probe_clears_a_suspect_and_its_past(void **state)
{
    struct health *health = make(4, 1);
    const struct health_endpoint endpoint = at("192.0.2.1", 25);

    (void)state;
    note_failures(health, &endpoint, 3, start);
    assert_int_equal(probe(health, &endpoint, true, start), HEALTH_CLEARED);
    assert_int_equal(state_of(health, &endpoint), HEALTH_OK);
    assert_true(health_next_probe(health) == UINT64_MAX);
    /* Neither the run nor the window goes on from where it was. */
    for (int i = 0; i < 9; i++) {
        assert_int_equal(health_note(health, &endpoint, i % 3 == 2, start), HEALTH_SAME);
    }
    health_free(health);
}

static void mail_neither_opens_nor_closes(void **state)
{
    struct health *health = make(4, 1);
    const struct health_endpoint endpoint = at("192.0.2.1", 25);

    (void)state;
    note_failures(health, &endpoint, 3, start);
    assert_int_equal(health_note(health, &endpoint, true, start), HEALTH_SAME);
    assert_int_equal(state_of(health, &endpoint), HEALTH_SUSPECT);
    assert_int_equal(probe(health, &endpoint, false, start), HEALTH_OPENED);
    for (int i = 0; i < 5; i++) { /* of connections from before */
        assert_int_equal(health_note(health, &endpoint, true, start), HEALTH_SAME);
    }
    assert_int_equal(health_ask(health, &endpoint, start), HEALTH_SKIP);
    health_free(health);
}

/* A server that greets well and fails all mail (its TLS, say) is not probed at the mail's pace. */
static void a_cleared_endpoint_is_left_alone_for_some_seconds(void **state)
{
    struct health *health = make(4, 1);
    const struct health_endpoint endpoint = at("192.0.2.1", 25);
    struct health_endpoint claimed;

    (void)state;
    note_failures(health, &endpoint, 3, start);
    probe(health, &endpoint, true, start);
    note_failures(health, &endpoint, 3, start + 1);
    assert_int_equal(state_of(health, &endpoint), HEALTH_SUSPECT);
    assert_true(health_next_probe(health) == start + 5 * SECOND);
    assert_false(health_claim_probe(health, start + 5 * SECOND - 1, &claimed));
    assert_int_equal(probe(health, &endpoint, true, start + 5 * SECOND), HEALTH_CLEARED);
    health_free(health);
}

/* ---- while it is open ---- */

static void local_endpoints_are_probed_every_five_to_ten_seconds(void **state)
{
    static const char *const local[] = {"127.0.0.1", "10.1.2.3", "192.168.0.1", "::1", "fd00::1"};
    uint64_t least = UINT64_MAX, most = 0;

    (void)state;
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct health *health = make(4, seed);
        const struct health_endpoint endpoint = at(local[seed % 5], 25);
        uint64_t now = start;
        uint64_t due = open_up(health, &endpoint, now);
        for (int i = 0; i < 5; i++) {
            const uint64_t wait = due - now;
            least = wait < least ? wait : least;
            most = wait > most ? wait : most;
            now = due;
            assert_int_equal(probe(health, &endpoint, false, now), HEALTH_SAME);
            due = health_next_probe(health);
        }
        health_free(health);
    }
    assert_in_range(least, 5000, 5100);
    assert_in_range(most, 9900, 10000);
}

static void a_unix_socket_is_local(void **state)
{
    struct health *health = make(4, 1);
    struct health_endpoint endpoint = {.proxy = false};

    (void)state;
    assert_true(net_address_unix(SPAN("/run/smtp"), &endpoint.address));
    assert_in_range(open_up(health, &endpoint, start), start + 5000, start + 10000);
    health_free(health);
}

static void two_endpoints_are_not_probed_in_step(void **state)
{
    struct health *health = make(4, 1);
    const struct health_endpoint a = at("127.0.0.1", 25), b = at("127.0.0.1", 26);

    (void)state;
    const uint64_t due = open_up(health, &a, start);
    assert_int_equal(probe(health, &a, true, due), HEALTH_SAME);
    assert_int_equal(probe(health, &a, true, health_next_probe(health)), HEALTH_CLOSED);
    assert_true(open_up(health, &b, start) != due);
    health_free(health);
}

static void remote_endpoints_are_probed_every_minute(void **state)
{
    struct health *health = make(4, 1);
    const struct health_endpoint endpoint = at("192.0.2.1", 25);
    struct health_endpoint claimed;

    (void)state;
    assert_true(open_up(health, &endpoint, start) == start + MINUTE);
    assert_false(health_claim_probe(health, start + MINUTE - 1, &claimed));
    assert_int_equal(probe(health, &endpoint, false, start + MINUTE), HEALTH_SAME);
    assert_true(health_next_probe(health) == start + 2 * MINUTE);
    health_free(health);
}

static void two_good_probes_close_it(void **state)
{
    struct health *health = make(4, 1);
    const struct health_endpoint endpoint = at("127.0.0.1", 25);

    (void)state;
    uint64_t now = open_up(health, &endpoint, start);
    assert_int_equal(probe(health, &endpoint, true, now), HEALTH_SAME);
    assert_int_equal(health_ask(health, &endpoint, now), HEALTH_SKIP);
    assert_in_range(health_next_probe(health), now + 5000, now + 10000);
    now = health_next_probe(health);
    assert_int_equal(probe(health, &endpoint, true, now), HEALTH_CLOSED);
    assert_int_equal(health_ask(health, &endpoint, now), HEALTH_GO);
    assert_true(health_next_probe(health) == UINT64_MAX);
    note_failures(health, &endpoint, 2, now); /* its past is forgotten */
    assert_int_equal(state_of(health, &endpoint), HEALTH_OK);
    health_free(health);
}

static void a_good_probe_and_a_bad_one_do_not_close_it(void **state)
{
    struct health *health = make(4, 1);
    const struct health_endpoint endpoint = at("127.0.0.1", 25);

    (void)state;
    open_up(health, &endpoint, start);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(probe(health, &endpoint, true, health_next_probe(health)), HEALTH_SAME);
        assert_int_equal(probe(health, &endpoint, false, health_next_probe(health)), HEALTH_SAME);
    }
    assert_int_equal(probe(health, &endpoint, true, health_next_probe(health)), HEALTH_SAME);
    assert_int_equal(probe(health, &endpoint, true, health_next_probe(health)), HEALTH_CLOSED);
    health_free(health);
}

/* ---- mail as the probe ---- */

static void the_next_mail_to_a_remote_endpoint_is_the_probe_once_it_is_due(void **state)
{
    struct health *health = make(4, 1);
    const struct health_endpoint endpoint = at("192.0.2.1", 25);
    const uint64_t due = start + MINUTE;
    struct health_endpoint claimed;

    (void)state;
    open_up(health, &endpoint, start);
    assert_int_equal(health_ask(health, &endpoint, due - 1), HEALTH_SKIP);
    assert_int_equal(health_ask(health, &endpoint, due), HEALTH_TRY);
    assert_int_equal(health_ask(health, &endpoint, due), HEALTH_SKIP); /* one at a time */
    assert_false(health_claim_probe(health, due, &claimed));
    assert_int_equal(health_probed(health, &endpoint, false, due), HEALTH_SAME);
    assert_int_equal(health_ask(health, &endpoint, due), HEALTH_SKIP);
    assert_true(health_next_probe(health) == due + MINUTE);
    health_free(health);
}

static void after_a_good_probe_the_next_mail_is_the_second(void **state)
{
    struct health *health = make(4, 1);
    const struct health_endpoint endpoint = at("192.0.2.1", 25);
    const uint64_t due = start + MINUTE;

    (void)state;
    open_up(health, &endpoint, start);
    assert_int_equal(probe(health, &endpoint, true, due), HEALTH_SAME);
    assert_int_equal(health_ask(health, &endpoint, due + 1), HEALTH_TRY);
    assert_int_equal(health_ask(health, &endpoint, due + 1), HEALTH_SKIP);
    assert_int_equal(health_probed(health, &endpoint, true, due + 1), HEALTH_CLOSED);
    assert_int_equal(health_ask(health, &endpoint, due + 1), HEALTH_GO);
    health_free(health);
}

static void mail_never_probes_a_local_endpoint(void **state)
{
    struct health *health = make(4, 1);
    const struct health_endpoint endpoint = at("127.0.0.1", 25);

    (void)state;
    const uint64_t due = open_up(health, &endpoint, start);
    assert_int_equal(health_ask(health, &endpoint, due + MINUTE), HEALTH_SKIP);
    probe(health, &endpoint, true, due);
    assert_int_equal(health_ask(health, &endpoint, due), HEALTH_SKIP);
    health_free(health);
}

static void a_claim_without_outcome_runs_out(void **state)
{
    struct health *health = make(4, 1);
    const struct health_endpoint endpoint = at("192.0.2.1", 25);
    struct health_endpoint claimed;

    (void)state;
    note_failures(health, &endpoint, 3, start);
    claim(health, &endpoint, start);
    assert_true(health_next_probe(health) == start + HEALTH_LEASE);
    assert_false(health_claim_probe(health, start + HEALTH_LEASE - 1, &claimed));
    claim(health, &endpoint, start + HEALTH_LEASE);
    assert_int_equal(health_probed(health, &endpoint, false, start + HEALTH_LEASE), HEALTH_OPENED);
    const uint64_t due = health_next_probe(health);
    assert_int_equal(health_ask(health, &endpoint, due), HEALTH_TRY);
    assert_int_equal(health_ask(health, &endpoint, due + HEALTH_LEASE - 1), HEALTH_SKIP);
    assert_int_equal(health_ask(health, &endpoint, due + HEALTH_LEASE), HEALTH_TRY);
    health_free(health);
}

static void a_verdict_that_comes_too_late_changes_nothing(void **state)
{
    struct health *health = make(4, 1);
    const struct health_endpoint endpoint = at("192.0.2.1", 25);

    (void)state;
    note_failures(health, &endpoint, 3, start);
    claim(health, &endpoint, start);
    claim(health, &endpoint, start + HEALTH_LEASE);
    assert_int_equal(health_probed(health, &endpoint, true, start + HEALTH_LEASE), HEALTH_CLEARED);
    assert_int_equal(health_probed(health, &endpoint, false, start + HEALTH_LEASE), HEALTH_SAME);
    assert_int_equal(health_ask(health, &endpoint, start + HEALTH_LEASE), HEALTH_GO);
    health_free(health);
}

/* ---- the table ---- */

static void an_endpoint_is_address_port_and_proxy(void **state)
{
    struct health *health = make(16, 1);
    struct health_endpoint down = at("127.0.0.1", 25);
    const struct health_endpoint port = at("127.0.0.1", 26), address = at("127.0.0.2", 25);
    struct health_endpoint plain = down;

    (void)state;
    down.proxy = true;
    open_up(health, &down, start);
    assert_int_equal(health_ask(health, &port, start), HEALTH_GO);
    assert_int_equal(health_ask(health, &address, start), HEALTH_GO);
    assert_int_equal(health_ask(health, &plain, start), HEALTH_GO);
    health_free(health);
}

static struct health_endpoint numbered(unsigned n)
{
    struct health_endpoint endpoint = at("2001:db8::", (uint16_t)(1 + n % 60000));
    endpoint.address.in6.sin6_addr.s6_addr[14] = (unsigned char)(n >> 8);
    endpoint.address.in6.sin6_addr.s6_addr[15] = (unsigned char)n;
    endpoint.proxy = n % 2 == 1;
    return endpoint;
}

static unsigned entries(const struct health *health)
{
    struct health_status status;
    size_t cursor = 0;
    unsigned count = 0;

    while (health_next(health, &cursor, &status)) {
        count++;
    }
    return count;
}

static void as_many_endpoints_fit_as_were_asked_for(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct health *health = make(512, seed);
        for (unsigned n = 0; n < 512; n++) {
            const struct health_endpoint endpoint = numbered(n);
            health_note(health, &endpoint, true, start);
        }
        assert_int_equal(entries(health), 512);
        health_free(health);
    }
}

/* The smallest table has 16 cells, all of them in everybody's window. */
static void an_endpoint_without_a_place_is_always_tried(void **state)
{
    struct health *health = make(1, 1);

    (void)state;
    for (unsigned n = 0; n < 16; n++) {
        const struct health_endpoint endpoint = numbered(n);
        open_up(health, &endpoint, start);
    }
    const struct health_endpoint late = numbered(16);
    note_failures(health, &late, 100, start);
    assert_int_equal(entries(health), 16);
    assert_int_equal(health_ask(health, &late, start), HEALTH_GO);
    health_free(health);
    assert_null(health_new(SIZE_MAX, 1));
}

static void a_sound_entry_gives_way_when_it_was_idle_for_long(void **state)
{
    struct health *health = make(1, 1);
    const struct health_endpoint late = numbered(16), asked = numbered(3), noted = numbered(4);
    struct health_status status;

    (void)state;
    for (unsigned n = 0; n < 16; n++) {
        const struct health_endpoint endpoint = numbered(n);
        note_failures(health, &endpoint, 2, start);
    }
    const uint64_t now = start + HEALTH_IDLE + 1;
    note_failures(health, &late, 3, now - 1);
    assert_false(status_of(health, &late, &status));
    health_ask(health, &asked, now - 1);
    health_note(health, &noted, true, now - 1);
    for (unsigned n = 16; n < 100; n++) {
        const struct health_endpoint endpoint = numbered(n);
        health_note(health, &endpoint, false, now); /* the run of the owner before is not its own */
    }
    assert_int_equal(entries(health), 16);
    assert_true(status_of(health, &late, &status));
    assert_int_equal(status.state, HEALTH_OK);
    assert_int_equal(status.failures, 1);
    assert_true(status_of(health, &asked, &status));
    assert_int_equal(status.failures, 2);
    assert_true(status_of(health, &noted, &status));
    assert_int_equal(status.failures, 0);
    assert_true(status.since == start);
    health_free(health);
}

static void an_open_entry_is_forgotten_after_a_day_without_mail(void **state)
{
    struct health *health = make(1, 1);
    const struct health_endpoint endpoint = at("127.0.0.1", 25);
    struct health_endpoint claimed;

    (void)state;
    open_up(health, &endpoint, start);
    for (uint64_t now = start; now <= start + DAY; now += MINUTE) {
        assert_int_equal(probe(health, &endpoint, false, now + 10 * SECOND), HEALTH_SAME);
        if (now == start + 60 * MINUTE) {
            assert_int_equal(health_ask(health, &endpoint, now), HEALTH_SKIP);
        }
    }
    const uint64_t last = start + 60 * MINUTE + DAY;
    claim(health, &endpoint, last);
    assert_false(health_claim_probe(health, last + HEALTH_LEASE, &claimed));
    assert_true(health_next_probe(health) == UINT64_MAX);
    assert_int_equal(entries(health), 0);
    assert_int_equal(health_ask(health, &endpoint, last + HEALTH_LEASE), HEALTH_GO);
    health_free(health);
}

static void status_tells_state_failures_and_since_when(void **state)
{
    struct health *health = make(4, 1);
    struct health_endpoint endpoint = at("127.0.0.1", 25);
    struct health_status status;

    (void)state;
    endpoint.proxy = true;
    health_note(health, &endpoint, true, start);
    assert_true(status_of(health, &endpoint, &status));
    assert_int_equal(status.state, HEALTH_OK);
    assert_int_equal(status.failures, 0);
    assert_true(status.since == start);
    note_failures(health, &endpoint, 3, start + 10);
    assert_true(status_of(health, &endpoint, &status));
    assert_int_equal(status.state, HEALTH_SUSPECT);
    assert_int_equal(status.failures, 3);
    assert_true(status.since == start + 10);
    probe(health, &endpoint, false, start + 20);
    for (int i = 0; i < 300; i++) {
        probe(health, &endpoint, false, health_next_probe(health));
    }
    assert_true(status_of(health, &endpoint, &status));
    assert_int_equal(status.state, HEALTH_OPEN);
    assert_int_equal(status.failures, 255);
    assert_true(status.since == start + 20);
    health_free(health);
}

/* ---- threads ---- */

struct crowd {
    struct health *health;
    struct health_endpoint endpoint;
    pthread_barrier_t barrier;
    atomic_uint_fast64_t turn;
    atomic_int suspected, claimed, opened, tried, closed, wrong;
};

static void run_crowd(struct crowd *crowd, void *(*body)(void *))
{
    pthread_t threads[THREADS];

    assert_int_equal(pthread_barrier_init(&crowd->barrier, NULL, THREADS), 0);
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, body, crowd), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    pthread_barrier_destroy(&crowd->barrier);
}

#define ROUNDS 2000

/* Round after round, all at once: fail, claim, mail as the probe, twice good. */
static void *go_round(void *context)
{
    struct crowd *crowd = context;
    struct health *health = crowd->health;
    const struct health_endpoint *endpoint = &crowd->endpoint;
    struct health_endpoint claimed;

    for (uint64_t round = 1; round <= ROUNDS; round++) {
        const uint64_t now = start + round * 10 * MINUTE;
        pthread_barrier_wait(&crowd->barrier);
        for (int i = 0; i < 3; i++) {
            crowd->suspected += health_note(health, endpoint, false, now) == HEALTH_SUSPECTED;
        }
        pthread_barrier_wait(&crowd->barrier);
        const bool mine = health_claim_probe(health, now, &claimed);
        crowd->claimed += mine;
        pthread_barrier_wait(&crowd->barrier);
        if (mine) {
            crowd->opened += health_probed(health, &claimed, false, now) == HEALTH_OPENED;
        }
        for (unsigned probe = 1; probe <= 2; probe++) {
            pthread_barrier_wait(&crowd->barrier);
            const bool try = health_ask(health, endpoint, now + probe * MINUTE) == HEALTH_TRY;
            crowd->tried += try;
            pthread_barrier_wait(&crowd->barrier);
            crowd->closed +=
                try && health_probed(health, endpoint, true, now + probe * MINUTE) == HEALTH_CLOSED;
        }
    }
    return NULL;
}

static void each_change_and_each_claim_is_one_threads(void **state)
{
    struct crowd crowd = {.health = make(4, 1), .endpoint = at("192.0.2.1", 25)};

    (void)state;
    health_note(crowd.health, &crowd.endpoint, true, start);
    run_crowd(&crowd, go_round);
    assert_int_equal(crowd.suspected, ROUNDS);
    assert_int_equal(crowd.claimed, ROUNDS);
    assert_int_equal(crowd.opened, ROUNDS);
    assert_int_equal(crowd.tried, 2 * ROUNDS);
    assert_int_equal(crowd.closed, ROUNDS);
    health_free(crowd.health);
}

/* All want the one probe that is due at each turn, some as a worker and some with mail. */
static void *race(void *context)
{
    struct crowd *crowd = context;
    const bool mail = atomic_fetch_add(&crowd->tried, 1) % 2 == 0;
    struct health_endpoint claimed;
    uint64_t turn;

    pthread_barrier_wait(&crowd->barrier);
    while ((turn = crowd->turn) < 100000) {
        const uint64_t now = start + MINUTE + turn * HEALTH_LEASE;
        const bool mine = mail ? health_ask(crowd->health, &crowd->endpoint, now) == HEALTH_TRY
                               : health_claim_probe(crowd->health, now, &claimed);
        if (mine) {
            health_ask(crowd->health, &crowd->endpoint, now); /* lest it be forgotten */
            crowd->wrong += !atomic_compare_exchange_strong(&crowd->turn, &turn, turn + 1);
        }
    }
    return NULL;
}

static void a_probe_that_is_due_is_claimed_once(void **state)
{
    struct crowd crowd = {.health = make(4, 1), .endpoint = at("192.0.2.1", 25)};

    (void)state;
    open_up(crowd.health, &crowd.endpoint, start);
    run_crowd(&crowd, race);
    assert_int_equal(crowd.wrong, 0);
    health_free(crowd.health);
}

/* More endpoints than cells, and a clock that runs so fast that entries change hands all the time:
 * what comes out is an endpoint that was put in, never a mixture of two. */
static void *churn(void *context)
{
    struct crowd *crowd = context;
    unsigned seed = (unsigned)(uintptr_t)&seed;
    uint64_t now = start;

    for (int i = 0; i < 40000; i++) {
        const struct health_endpoint endpoint = numbered((unsigned)rand_r(&seed) % 1000);
        struct health_endpoint claimed;
        struct health_status status;
        size_t cursor = 0;
        now += 2 * MINUTE;
        health_ask(crowd->health, &endpoint, now);
        health_note(crowd->health, &endpoint, rand_r(&seed) % 2 == 0, now);
        note_failures(crowd->health, &endpoint, 3, now);
        if (health_claim_probe(crowd->health, now, &claimed)) {
            const struct health_endpoint real = numbered(net_address_port(&claimed.address) - 1U);
            crowd->wrong +=
                !net_address_equal(&real.address, &claimed.address) || real.proxy != claimed.proxy;
            crowd->claimed += 1;
            health_probed(crowd->health, &claimed, rand_r(&seed) % 4 != 0, now);
        }
        while (health_next(crowd->health, &cursor, &status)) {
            const struct health_endpoint real =
                numbered(net_address_port(&status.endpoint.address) - 1U);
            crowd->wrong += !net_address_equal(&real.address, &status.endpoint.address) ||
                            real.proxy != status.endpoint.proxy;
        }
    }
    return NULL;
}

static void entries_that_change_hands_are_never_mixed_up(void **state)
{
    struct crowd crowd = {.health = make(1, 1)};

    (void)state;
    run_crowd(&crowd, churn);
    assert_int_equal(crowd.wrong, 0);
    assert_in_range(crowd.claimed, 1000, INT32_MAX);
    assert_in_range(entries(crowd.health), 1, 16);
    health_free(crowd.health);
}

/* ---- claims that come to nothing ---- */

static void a_probe_that_could_not_be_made_is_due_again_soon_and_says_nothing(void **state)
{
    struct health *health = make(4, 1);
    const struct health_endpoint endpoint = at("192.0.2.1", 25);
    struct health_status status;

    (void)state;
    note_failures(health, &endpoint, 3, start);
    claim(health, &endpoint, start);
    health_not_probed(health, &endpoint, start + 10);
    assert_int_equal(state_of(health, &endpoint), HEALTH_SUSPECT);
    assert_true(status_of(health, &endpoint, &status));
    assert_int_equal(status.failures, 3);
    assert_true(health_next_probe(health) == start + 10 + HEALTH_AGAIN);
    assert_int_equal(probe(health, &endpoint, true, start + 10 + HEALTH_AGAIN), HEALTH_CLEARED);
    health_free(health);
}

static void mail_that_could_not_try_leaves_the_next_its_turn(void **state)
{
    struct health *health = make(4, 1);
    const struct health_endpoint endpoint = at("192.0.2.1", 25);

    (void)state;
    uint64_t now = open_up(health, &endpoint, start);
    assert_int_equal(health_ask(health, &endpoint, now), HEALTH_TRY);
    assert_int_equal(health_ask(health, &endpoint, now), HEALTH_SKIP);
    health_not_probed(health, &endpoint, now);
    assert_int_equal(state_of(health, &endpoint), HEALTH_OPEN);
    assert_int_equal(health_ask(health, &endpoint, now + HEALTH_AGAIN), HEALTH_TRY);
    health_free(health);
}

static void nothing_is_given_back_that_nobody_has_claimed(void **state)
{
    struct health *health = make(4, 1);
    const struct health_endpoint endpoint = at("192.0.2.1", 25);

    (void)state;
    health_not_probed(health, &endpoint, start);
    uint64_t due = open_up(health, &endpoint, start);
    health_not_probed(health, &endpoint, start);
    assert_true(health_next_probe(health) == due);
    health_free(health);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_endpoint_nobody_has_noted_is_tried),
        cmocka_unit_test(three_failures_in_a_row_are_suspicious),
        cmocka_unit_test(over_half_of_ten_attempts_in_ten_seconds_are_suspicious),
        cmocka_unit_test(what_is_older_than_ten_seconds_does_not_count),
        cmocka_unit_test(many_attempts_a_second_do_not_spill_over),
        cmocka_unit_test(a_clock_that_lags_does_not_empty_the_window),
        cmocka_unit_test(a_suspect_is_tried_until_its_probe_failed),
        cmocka_unit_test(a_good_probe_clears_a_suspect_and_its_past),
        cmocka_unit_test(mail_neither_opens_nor_closes),
        cmocka_unit_test(a_cleared_endpoint_is_left_alone_for_some_seconds),
        cmocka_unit_test(local_endpoints_are_probed_every_five_to_ten_seconds),
        cmocka_unit_test(a_unix_socket_is_local),
        cmocka_unit_test(two_endpoints_are_not_probed_in_step),
        cmocka_unit_test(remote_endpoints_are_probed_every_minute),
        cmocka_unit_test(two_good_probes_close_it),
        cmocka_unit_test(a_good_probe_and_a_bad_one_do_not_close_it),
        cmocka_unit_test(the_next_mail_to_a_remote_endpoint_is_the_probe_once_it_is_due),
        cmocka_unit_test(after_a_good_probe_the_next_mail_is_the_second),
        cmocka_unit_test(mail_never_probes_a_local_endpoint),
        cmocka_unit_test(a_claim_without_outcome_runs_out),
        cmocka_unit_test(a_verdict_that_comes_too_late_changes_nothing),
        cmocka_unit_test(an_endpoint_is_address_port_and_proxy),
        cmocka_unit_test(as_many_endpoints_fit_as_were_asked_for),
        cmocka_unit_test(an_endpoint_without_a_place_is_always_tried),
        cmocka_unit_test(a_sound_entry_gives_way_when_it_was_idle_for_long),
        cmocka_unit_test(an_open_entry_is_forgotten_after_a_day_without_mail),
        cmocka_unit_test(status_tells_state_failures_and_since_when),
        cmocka_unit_test(each_change_and_each_claim_is_one_threads),
        cmocka_unit_test(a_probe_that_is_due_is_claimed_once),
        cmocka_unit_test(entries_that_change_hands_are_never_mixed_up),
        cmocka_unit_test(a_probe_that_could_not_be_made_is_due_again_soon_and_says_nothing),
        cmocka_unit_test(mail_that_could_not_try_leaves_the_next_its_turn),
        cmocka_unit_test(nothing_is_given_back_that_nobody_has_claimed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
