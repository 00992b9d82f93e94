/* Against a real dnsmasq. */
#include "tests/unit/resolver_bench.h"

#include <pwd.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

struct world {
    char dnsmasq_server[32];
    pid_t dnsmasq;
};

/* dnsmasq */

static void dnsmasq_exec(uint16_t port)
{
    static const char *const fixed[] = {
        "dnsmasq",
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--pid-file=",
        "--no-resolv",
        "--no-hosts",
        "--bind-interfaces",
        "--listen-address=127.0.0.1",
        "--local-ttl=60",
        "--edns-packet-max=512",
        "--local=/test/",
        "--local=/arpa/",
        "--host-record=both.test,192.0.2.10,2001:db8::10",
        "--host-record=four.test,192.0.2.4",
        "--host-record=six.test,2001:db8::6",
        "--host-record=m1.test,192.0.2.11,2001:db8::11",
        "--host-record=m2.test,192.0.2.12",
        "--host-record=m3.test,192.0.2.13",
        "--host-record=loop.test,127.0.0.1,::1",
        "--host-record=any.test,0.0.0.0",
        "--host-record=special.test,0.1.2.3,::",
        "--host-record=special.test,127.9.9.9,::ffff:127.0.0.1",
        "--host-record=special.test,169.254.169.254,fe80::1",
        "--host-record=special.test,224.0.0.1,ff02::1",
        "--host-record=special.test,255.255.255.255,::1",
        "--mx-host=special.test,special.test,10",
        "--host-record=self.test," OWN,
        "--host-record=liar-real.test,192.0.2.67",
        "--cname=alias.test,both.test",
        "--mx-host=one.test,m2.test,10",
        "--mx-host=order.test,m3.test,30",
        "--mx-host=order.test,m1.test,10",
        "--mx-host=order.test,m2.test,20",
        "--mx-host=equal.test,m1.test,10",
        "--mx-host=equal.test,m2.test,10",
        "--mx-host=equal.test,m3.test,10",
        "--mx-host=aliased.test,alias.test,10",
        "--dns-rr=null.test,15,000000",
        "--mx-host=tolocal.test,loop.test,10",
        "--mx-host=tolocal.test,any.test,20",
        "--mx-host=mixed.test,loop.test,10",
        "--mx-host=mixed.test,m2.test,20",
        "--mx-host=nowhere.test,absent.test,10",
        "--mx-host=backup.test,m1.test,10",
        "--mx-host=backup.test,self.test,20",
        "--mx-host=backup.test,m2.test,20",
        "--mx-host=backup.test,m3.test,30",
        "--mx-host=best.test,self.test,10",
        "--mx-host=best.test,m3.test,30",
        "--ptr-record=66.2.0.192.in-addr.arpa,liar-real.test",
        "--ptr-record=77.2.0.192.in-addr.arpa,bad_name.test",
        "--host-record=bad_name.test,192.0.2.77",
    };
    enum { FIXED = sizeof(fixed) / sizeof(fixed[0]), MANY = 30 };
    char *args[FIXED + MANY + 3];
    char many[MANY][64], port_arg[32], user_arg[64];
    for (size_t i = 0; i < FIXED; i++) {
        args[i] = (char *)(uintptr_t)fixed[i];
    }
    for (unsigned i = 0; i < MANY; i++) { /* more than fits a datagram of 512 */
        snprintf(many[i], sizeof(many[i]), "--mx-host=many.test,many-hosts-%02u.test,%u", i,
                 100 - i);
        args[FIXED + i] = many[i];
    }
    snprintf(many[29], sizeof(many[29]), "--mx-host=many.test,four.test,1");
    snprintf(port_arg, sizeof(port_arg), "--port=%u", port);
    args[FIXED + MANY] = port_arg;
    /* Started as root it would switch to a user of its own, which may not exist. (Its --no-daemon
     * mode does not switch, but serves no datagram while a TCP connection is open.) */
    const struct passwd *self = getpwuid(getuid());
    snprintf(user_arg, sizeof(user_arg), "--user=%s", self != NULL ? self->pw_name : "");
    args[FIXED + MANY + 1] = user_arg;
    args[FIXED + MANY + 2] = NULL;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    execvp("dnsmasq", args);
    execv("/usr/sbin/dnsmasq", args);
    _exit(127);
}

/* Asks until it answers; false when it has ended. */
static bool dnsmasq_answers(pid_t pid, uint16_t port)
{
    static const uint8_t question[] = {0,   7,   1,   0, 0,   1,   0,   0,   0, 0, 0, 0, 4, 'f',
                                       'o', 'u', 'r', 4, 't', 'e', 's', 't', 0, 0, 1, 0, 1};
    uint8_t answer[512];
    int fd = udp_socket(&port);
    bool ended = false, answered = false;
    while (!ended && !answered) {
        struct pollfd ready = {.fd = fd, .events = POLLIN};
        (void)!send(fd, question, sizeof(question), 0);
        if (poll(&ready, 1, 50) == 1) {
            answered = recv(fd, answer, sizeof(answer), 0) > 12;
        }
        ended = waitpid(pid, NULL, WNOHANG) == pid;
    }
    close(fd);
    return answered && !ended;
}

static int start_dnsmasq(void **state)
{
    static struct world world;
    for (int tries = 0; tries < 5; tries++) {
        uint16_t port = 0;
        close(udp_socket(&port));
        pid_t pid = fork();
        if (pid < 0) {
            return -1;
        }
        if (pid == 0) {
            dnsmasq_exec(port);
        }
        if (!dnsmasq_answers(pid, port)) {
            continue;
        }
        world.dnsmasq = pid;
        snprintf(world.dnsmasq_server, sizeof(world.dnsmasq_server), "127.0.0.1:%u", port);
        *state = &world;
        return 0;
    }
    fprintf(stderr, "dnsmasq does not start\n");
    return -1;
}

static int stop_dnsmasq(void **state)
{
    const struct world *world = *state;
    kill(world->dnsmasq, SIGTERM);
    return waitpid(world->dnsmasq, NULL, 0) == world->dnsmasq ? 0 : -1;
}

static void bench_dnsmasq(struct bench *bench, void **state, const char *hosts, uint64_t seed)
{
    const struct world *world = *state;
    const char *const servers[] = {world->dnsmasq_server};
    bench_open(bench, servers, 1, hosts, seed);
}

static void check(void **state, enum nexthop_kind kind, const char *host, const char *wanted)
{
    struct bench bench;
    bench_dnsmasq(&bench, state, NULL, 1);
    struct seen seen = ask(&bench, kind, host);
    assert_addresses(&seen, wanted);
    bench_close(&bench);
}

static void check_status(void **state, enum nexthop_kind kind, const char *host,
                         enum resolver_status status)
{
    struct bench bench;
    bench_dnsmasq(&bench, state, NULL, 1);
    struct seen seen = ask(&bench, kind, host);
    assert_int_equal(seen.status, status);
    bench_close(&bench);
}

/* Next hops */

static void a_host_has_its_addresses_ipv6_and_ipv4_in_turn(void **state)
{
    check(state, NEXTHOP_HOST, "both.test", "[2001:db8::10]:25=both.test 192.0.2.10:25=both.test");
    check(state, NEXTHOP_HOST, "four.test", "192.0.2.4:25=four.test");
    check(state, NEXTHOP_HOST, "six.test", "[2001:db8::6]:25=six.test");
    check(state, NEXTHOP_HOST, "FOUR.test.", "192.0.2.4:25=four.test");
    check(state, NEXTHOP_HOST, "alias.test",
          "[2001:db8::10]:25=alias.test 192.0.2.10:25=alias.test");
}

static void mx_hosts_come_in_order_of_preference(void **state)
{
    check(state, NEXTHOP_MX, "one.test", "192.0.2.12:25=m2.test");
    check(state, NEXTHOP_MX, "order.test",
          "[2001:db8::11]:25=m1.test 192.0.2.11:25=m1.test 192.0.2.12:25=m2.test "
          "192.0.2.13:25=m3.test");
    check(state, NEXTHOP_MX, "aliased.test",
          "[2001:db8::10]:25=alias.test 192.0.2.10:25=alias.test");
}

static void equal_mx_hosts_are_shuffled_by_the_seed(void **state)
{
    unsigned first[3] = {0}; /* m1, m2, m3 */
    for (uint64_t seed = 0; seed < 60; seed++) {
        struct bench bench;
        bench_dnsmasq(&bench, state, NULL, seed);
        struct seen seen = ask(&bench, NEXTHOP_MX, "equal.test");
        assert_int_equal(seen.count, 4);
        first[seen.addresses[0].host[1] - '1']++;
        bench_close(&bench);
    }
    for (size_t i = 0; i < 3; i++) {
        assert_in_range(first[i], 8, 35);
    }
}

static void without_mx_the_domain_itself_is_asked_for(void **state)
{
    check(state, NEXTHOP_MX, "both.test", "[2001:db8::10]:25=both.test 192.0.2.10:25=both.test");
}

static void null_mx_is_told(void **state)
{
    check_status(state, NEXTHOP_MX, "null.test", RESOLVER_NULL_MX);
}

static void what_does_not_exist_is_none(void **state)
{
    check_status(state, NEXTHOP_MX, "absent.test", RESOLVER_NONE);
    check_status(state, NEXTHOP_HOST, "absent.test", RESOLVER_NONE);
    check_status(state, NEXTHOP_MX, "nowhere.test", RESOLVER_NONE);
    check_status(state, NEXTHOP_HOST, "not a name", RESOLVER_NONE);
    check_status(state, NEXTHOP_MX, "", RESOLVER_NONE);
}

static void loopback_is_refused_from_mx_and_fine_in_brackets(void **state)
{
    check_status(state, NEXTHOP_MX, "tolocal.test", RESOLVER_NONE);
    check_status(state, NEXTHOP_MX, "loop.test", RESOLVER_NONE);
    check_status(state, NEXTHOP_MX, "special.test", RESOLVER_NONE);
    check(state, NEXTHOP_MX, "mixed.test", "192.0.2.12:25=m2.test");
    check(state, NEXTHOP_HOST, "loop.test", "[::1]:25=loop.test 127.0.0.1:25=loop.test");
}

static void mx_hosts_from_our_own_preference_on_are_left_out(void **state)
{
    check(state, NEXTHOP_MX, "backup.test", "[2001:db8::11]:25=m1.test 192.0.2.11:25=m1.test");
    check_status(state, NEXTHOP_MX, "best.test", RESOLVER_LOOP);
    check(state, NEXTHOP_HOST, "self.test", OWN ":25=self.test");
}

static void our_address_at_another_port_is_not_our_own(void **state)
{
    struct bench bench;
    struct seen seen = {0};
    struct nexthop hop = hop_of(NEXTHOP_MX, "self.test");
    hop.port = 2525;
    bench_dnsmasq(&bench, state, NULL, 1);
    resolver_nexthop(bench.resolver, &hop, SPAN(""), on_answer, &seen);
    await(&bench, &seen);
    assert_addresses(&seen, OWN ":2525=self.test");
    bench_close(&bench);
}

static void a_long_answer_comes_by_tcp(void **state)
{
    check(state, NEXTHOP_MX, "many.test", "192.0.2.4:25=four.test");
}

static void the_recipients_domain_stands_in(void **state)
{
    static const struct {
        const char *domain, *wanted;
    } cases[] = {
        {"One.Test", "192.0.2.12:25=m2.test"},
        {"[192.0.2.99]", "192.0.2.99:25=192.0.2.99"},
        {"[IPv6:2001:db8::99]", "[2001:db8::99]:25=2001:db8::99"},
    };
    struct bench bench;
    bench_dnsmasq(&bench, state, NULL, 1);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct seen seen = {0};
        const struct nexthop hop = hop_of(NEXTHOP_DOMAIN, "");
        resolver_nexthop(bench.resolver, &hop, span_of(cases[i].domain), on_answer, &seen);
        await(&bench, &seen);
        assert_addresses(&seen, cases[i].wanted);
    }
    bench_close(&bench);
}

static void an_address_needs_no_lookup(void **state)
{
    struct bench bench;
    struct seen seen = {0};
    struct nexthop hop = hop_of(NEXTHOP_ADDRESS, "127.0.0.1");
    hop.address = ip("127.0.0.1", 10025);
    bench_dnsmasq(&bench, state, NULL, 1);
    resolver_nexthop(bench.resolver, &hop, SPAN(""), on_answer, &seen);
    assert_int_equal(seen.calls, 0);
    await(&bench, &seen);
    assert_addresses(&seen, "127.0.0.1:10025=127.0.0.1");
    bench_close(&bench);
}

static void the_hosts_file_comes_first(void **state)
{
    struct bench bench;
    bench_dnsmasq(&bench, state,
                  "127.0.0.7 four.test local-only\n2001:db8::7 local-only\n"
                  "192.0.2.71 m2.test\n192.0.2.72 named.example alias.example\n",
                  1);
    struct seen seen = ask(&bench, NEXTHOP_HOST, "four.test");
    assert_addresses(&seen, "127.0.0.7:25=four.test");
    seen = ask(&bench, NEXTHOP_HOST, "local-only");
    assert_addresses(&seen, "[2001:db8::7]:25=local-only 127.0.0.7:25=local-only");
    seen = ask(&bench, NEXTHOP_MX, "one.test");
    assert_addresses(&seen, "192.0.2.71:25=m2.test");
    seen = ask_name(&bench, "192.0.2.72");
    assert_string_equal(seen.name, "named.example");
    assert_string_equal(seen.reverse, "named.example");
    bench_close(&bench);
}

static void localhost_needs_neither_file_nor_server(void **state)
{
    check(state, NEXTHOP_HOST, "localhost", "[::1]:25=localhost 127.0.0.1:25=localhost");
}

/* PTR */

static void a_name_counts_when_it_leads_back(void **state)
{
    struct bench bench;
    bench_dnsmasq(&bench, state, NULL, 1);
    static const struct {
        const char *address, *name, *reverse;
    } cases[] = {
        {"192.0.2.10", "both.test", "both.test"},
        {"2001:db8::10", "both.test", "both.test"},
        {"192.0.2.66", "-", "liar-real.test"},
        {"192.0.2.77", "-", "-"},
        {"192.0.2.250", "-", "-"},
        {"2001:db8::250", "-", "-"},
        {"192.0.2.67", "liar-real.test", "liar-real.test"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct seen seen = ask_name(&bench, cases[i].address);
        assert_string_equal(seen.name, cases[i].name);
        assert_string_equal(seen.reverse, cases[i].reverse);
        assert_false(seen.later);
    }
    bench_close(&bench);
}

static void a_unix_peer_has_no_name(void **state)
{
    struct bench bench;
    struct seen seen = {0};
    struct net_address path;
    assert_true(net_address_unix(SPAN("/run/peer"), &path));
    bench_dnsmasq(&bench, state, NULL, 1);
    resolver_ptr(bench.resolver, &path, on_name, &seen);
    await(&bench, &seen);
    assert_string_equal(seen.name, "-");
    assert_string_equal(seen.reverse, "-");
    assert_false(seen.later);
    bench_close(&bench);
}

/* Cancelling and closing */

static void cancelling_at_any_turn_is_safe(void **state)
{
    struct bench bench;
    for (int turns = 0; turns < 12; turns++) {
        struct seen seen = {0}, name = {0};
        const struct nexthop hop = hop_of(NEXTHOP_MX, "order.test");
        const struct net_address client = ip("192.0.2.10", 1);
        bench_dnsmasq(&bench, state, NULL, 1);
        struct resolver_query *query =
            resolver_nexthop(bench.resolver, &hop, SPAN(""), on_answer, &seen);
        struct resolver_query *ptr = resolver_ptr(bench.resolver, &client, on_name, &name);
        for (int i = 0; i < turns && (seen.calls == 0 || name.calls == 0); i++) {
            turn(&bench);
        }
        if (seen.calls == 0) {
            resolver_cancel(query);
        }
        if (name.calls == 0) {
            resolver_cancel(ptr);
        }
        unsigned before = seen.calls + name.calls;
        bench_close(&bench);
        assert_int_equal(seen.calls + name.calls, before);
    }
}

static void on_answer_close(void *context, const struct resolver_answer *answer)
{
    struct bench *bench = context;
    (void)answer;
    assert_non_null(bench->resolver);
    resolver_close(bench->resolver);
    bench->resolver = NULL;
}

static void the_resolver_may_be_closed_from_a_callback(void **state)
{
    struct bench bench;
    const struct nexthop hop = hop_of(NEXTHOP_HOST, "localhost");
    bench_dnsmasq(&bench, state, NULL, 1);
    for (int i = 0; i < 3; i++) { /* the first closes, so that the others never come */
        resolver_nexthop(bench.resolver, &hop, SPAN(""), on_answer_close, &bench);
    }
    uv_run(&bench.loop, UV_RUN_DEFAULT);
    assert_null(bench.resolver);
    bench_close(&bench);
}

struct pair {
    struct resolver_query *queries[2];
    unsigned calls;
};

static void on_answer_cancel(void *context, const struct resolver_answer *answer)
{
    struct pair *pair = context;
    (void)answer;
    pair->calls++;
    resolver_cancel(pair->queries[0]); /* its own: over already, no harm */
    resolver_cancel(pair->queries[1]);
}

static void a_callback_may_cancel_another_that_is_ready(void **state)
{
    struct bench bench;
    struct pair pair = {.calls = 0};
    const struct nexthop hop = hop_of(NEXTHOP_HOST, "localhost");
    bench_dnsmasq(&bench, state, NULL, 1);
    for (size_t i = 0; i < 2; i++) {
        pair.queries[i] = resolver_nexthop(bench.resolver, &hop, SPAN(""), on_answer_cancel, &pair);
    }
    uv_run(&bench.loop, UV_RUN_DEFAULT);
    assert_int_equal(pair.calls, 1);
    bench_close(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_host_has_its_addresses_ipv6_and_ipv4_in_turn),
        cmocka_unit_test(mx_hosts_come_in_order_of_preference),
        cmocka_unit_test(equal_mx_hosts_are_shuffled_by_the_seed),
        cmocka_unit_test(without_mx_the_domain_itself_is_asked_for),
        cmocka_unit_test(null_mx_is_told),
        cmocka_unit_test(what_does_not_exist_is_none),
        cmocka_unit_test(loopback_is_refused_from_mx_and_fine_in_brackets),
        cmocka_unit_test(mx_hosts_from_our_own_preference_on_are_left_out),
        cmocka_unit_test(our_address_at_another_port_is_not_our_own),
        cmocka_unit_test(a_long_answer_comes_by_tcp),
        cmocka_unit_test(the_recipients_domain_stands_in),
        cmocka_unit_test(an_address_needs_no_lookup),
        cmocka_unit_test(the_hosts_file_comes_first),
        cmocka_unit_test(localhost_needs_neither_file_nor_server),
        cmocka_unit_test(a_name_counts_when_it_leads_back),
        cmocka_unit_test(a_unix_peer_has_no_name),
        cmocka_unit_test(cancelling_at_any_turn_is_safe),
        cmocka_unit_test(the_resolver_may_be_closed_from_a_callback),
        cmocka_unit_test(a_callback_may_cancel_another_that_is_ready),
    };
    return cmocka_run_group_tests(tests, start_dnsmasq, stop_dnsmasq);
}
