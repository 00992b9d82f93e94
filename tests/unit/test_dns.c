/* Against a scripted server on the same loop, for what a real one does not do. */
#include "tests/unit/resolver_bench.h"

/* A scripted server: what it does is in the first label of the name. */

struct script {
    uv_udp_t udp;
    unsigned questions;
    uint8_t octet; /* the last of every address it gives */
    bool mute;
    uint8_t buffer[2048];
    char server[32];
};

static void on_room(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    (void)suggested;
    struct script *script = handle->data;
    *buffer = uv_buf_init((char *)script->buffer, sizeof(script->buffer));
}

/* The PTR records of 192.0.2.251 and following. */
static const struct {
    const char *label, *name; /* NULL: SERVFAIL */
} pointers[] = {
    {"251", "\4half\4test"},
    {"252", "\010servfail\4test"},
    {"253", NULL},
    {"254", "\010halfnone\4test"},
};

/* 0: none of these. */
static size_t script_pointer(const char *label, unsigned type, uint8_t *out, size_t len)
{
    static const uint8_t head[] = {0xc0, 12, 0, 12, 0, 1, 0, 0, 0, 60, 0};
    for (size_t i = 0; type == 12 && i < sizeof(pointers) / sizeof(pointers[0]); i++) {
        if (strcmp(label, pointers[i].label) != 0) {
            continue;
        }
        if (pointers[i].name == NULL) {
            out[3] |= 2;
            return len;
        }
        const size_t bytes = strlen(pointers[i].name) + 1;
        out[7] = 1;
        memcpy(out + len, head, sizeof(head));
        out[len + sizeof(head)] = (uint8_t)bytes;
        memcpy(out + len + sizeof(head) + 1, pointers[i].name, bytes);
        return len + sizeof(head) + 1 + bytes;
    }
    return 0;
}

/* Appends what the label asks for to the echoed question; 0: no answer. */
static size_t script_answer(const struct script *script, const char *label, unsigned type,
                            uint8_t *out, size_t len)
{
    static const uint8_t address[] = {0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 0};
    static const uint8_t loop[] = {0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 60, 0, 2, 0xc0, 12};
    out[2] = 0x81;
    out[3] = 0x80;
    if (strcmp(label, "silent") == 0) {
        return 0;
    }
    const size_t pointer = script_pointer(label, type, out, len);
    if (pointer != 0) {
        return pointer;
    }
    if (strcmp(label, "servfail") == 0 || (strcmp(label, "half") == 0 && type == 28) ||
        (strcmp(label, "halfnone") == 0 && type == 28)) {
        out[3] |= 2;
        return len;
    }
    if (strcmp(label, "loop") == 0) {
        out[7] = 1;
        memcpy(out + len, loop, sizeof(loop));
        return len + sizeof(loop);
    }
    if (type != 1 || strcmp(label, "halfnone") == 0) {
        return len;
    }
    size_t cut = strcmp(label, "cut") == 0 ? 3 : 0;
    out[7] = 1;
    memcpy(out + len, address, sizeof(address));
    out[len + sizeof(address) - 1] = script->octet;
    return len + sizeof(address) - cut;
}

static void on_question(uv_udp_t *udp, ssize_t n, const uv_buf_t *buffer,
                        const struct sockaddr *from, unsigned flags)
{
    (void)buffer;
    (void)flags;
    struct script *script = udp->data;
    char label[64] = "";
    uint8_t *bytes = script->buffer;
    if (n < 17 || from == NULL) {
        return;
    }
    script->questions++;
    if (script->mute) {
        return;
    }
    memcpy(label, bytes + 13, bytes[12] & 0x3f);
    size_t end = 12;
    while (bytes[end] != 0) {
        end += 1u + bytes[end];
    }
    unsigned type = (unsigned)bytes[end + 1] << 8 | bytes[end + 2];
    memset(bytes + 6, 0, 6);
    size_t len = script_answer(script, label, type, bytes, end + 5);
    uv_buf_t answer = uv_buf_init((char *)bytes, (unsigned)len);
    if (len > 0) {
        assert_int_equal(uv_udp_try_send(udp, &answer, 1, from), len);
    }
}

/* Bound before the bench's resolver is made, so the bench's loop is begun here. */
static void script_open(struct script *script, uv_loop_t *loop, uint8_t octet)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int len = sizeof(sa);
    *script = (struct script){.octet = octet};
    assert_int_equal(uv_udp_init(loop, &script->udp), 0);
    script->udp.data = script;
    assert_int_equal(uv_udp_bind(&script->udp, (struct sockaddr *)&sa, 0), 0);
    assert_int_equal(uv_udp_getsockname(&script->udp, (struct sockaddr *)&sa, &len), 0);
    assert_int_equal(uv_udp_recv_start(&script->udp, on_room, on_question), 0);
    snprintf(script->server, sizeof(script->server), "127.0.0.1:%u", ntohs(sa.sin_port));
}

static void bench_script(struct bench *bench, struct script *script)
{
    const char *const nowhere[] = {"127.0.0.1:9"};
    bench_open(bench, nowhere, 1, NULL, 1);
    script_open(script, &bench->loop, 33);
    const char *const servers[] = {script->server};
    const struct resolver_options options = {.servers = servers, .server_count = 1};
    resolver_configure(bench->resolver, &options);
}

static void bench_script_close(struct bench *bench, struct script *script)
{
    uv_close((uv_handle_t *)&script->udp, NULL);
    bench_close(bench);
}

static void failures_are_told_apart_from_absence(void **state)
{
    (void)state;
    static const struct {
        enum nexthop_kind kind;
        const char *name;
        enum resolver_status status;
    } cases[] = {
        {NEXTHOP_MX, "servfail.test", RESOLVER_FAIL},
        {NEXTHOP_HOST, "servfail.test", RESOLVER_FAIL},
        {NEXTHOP_HOST, "loop.test", RESOLVER_FAIL},
        {NEXTHOP_HOST, "cut.test", RESOLVER_FAIL},
        {NEXTHOP_HOST, "half.test", RESOLVER_OK},
        {NEXTHOP_HOST, "halfnone.test", RESOLVER_FAIL},
        {NEXTHOP_MX, "loop.test", RESOLVER_FAIL},
        {NEXTHOP_HOST, "plain.test", RESOLVER_OK},
    };
    struct bench bench;
    struct script script;
    bench_script(&bench, &script);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct seen seen = ask(&bench, cases[i].kind, cases[i].name);
        assert_int_equal(seen.status, cases[i].status);
    }
    bench_script_close(&bench, &script);
}

static void a_name_that_cannot_be_looked_up_now_may_come_later(void **state)
{
    (void)state;
    static const struct {
        const char *address, *reverse;
        bool later;
    } cases[] = {
        {"192.0.2.251", "half.test", false}, /* AAAA fails, which could not confirm */
        {"192.0.2.252", "servfail.test", true},  {"192.0.2.253", "-", true},
        {"192.0.2.254", "halfnone.test", false}, {"192.0.2.250", "-", false},
    };
    struct bench bench;
    struct script script;
    bench_script(&bench, &script);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct seen seen = ask_name(&bench, cases[i].address);
        assert_string_equal(seen.name, "-");
        assert_string_equal(seen.reverse, cases[i].reverse);
        assert_int_equal(seen.later, cases[i].later);
    }
    script.octet = 251;
    resolver_configure(bench.resolver,
                       &(struct resolver_options){.servers = (const char *const[]){script.server},
                                                  .server_count = 1});
    struct seen seen = ask_name(&bench, "192.0.2.251");
    assert_string_equal(seen.name, "half.test");
    assert_string_equal(seen.reverse, "half.test");
    assert_false(seen.later);
    bench_script_close(&bench, &script);
}

static void a_server_that_is_not_there_fails(void **state)
{
    (void)state;
    struct bench bench;
    uint16_t port = 0;
    char server[32];
    close(udp_socket(&port));
    snprintf(server, sizeof(server), "127.0.0.1:%u", port);
    const char *const servers[] = {server};
    bench_open(&bench, servers, 1, NULL, 1);
    struct seen seen = ask(&bench, NEXTHOP_MX, "a.test");
    assert_int_equal(seen.status, RESOLVER_FAIL);
    bench_close(&bench);
}

static void equal_questions_share_a_query_and_the_answer_is_kept(void **state)
{
    (void)state;
    struct bench bench;
    struct script script;
    struct seen *seen = calloc(5000, sizeof(*seen));
    const struct nexthop hop = hop_of(NEXTHOP_HOST, "plain.test");
    bench_script(&bench, &script);
    for (size_t i = 0; i < 5000; i++) {
        assert_non_null(resolver_nexthop(bench.resolver, &hop, SPAN(""), on_answer, &seen[i]));
    }
    for (size_t i = 0; i < 5000; i++) {
        await(&bench, &seen[i]);
        assert_addresses(&seen[i], "192.0.2.33:25=plain.test");
    }
    free(seen);
    assert_int_equal(script.questions, 2); /* A and AAAA */
    struct seen again = ask(&bench, NEXTHOP_HOST, "PLAIN.test");
    assert_addresses(&again, "192.0.2.33:25=plain.test");
    assert_int_equal(script.questions, 2);
    bench_script_close(&bench, &script);
}

static void configuring_empties_the_cache_and_running_queries_go_on(void **state)
{
    (void)state;
    struct bench bench;
    struct script old, new;
    struct seen running = {0};
    const struct nexthop hop = hop_of(NEXTHOP_HOST, "running.test");
    bench_script(&bench, &old);
    script_open(&new, &bench.loop, 44);
    struct seen seen = ask(&bench, NEXTHOP_HOST, "plain.test");
    assert_addresses(&seen, "192.0.2.33:25=plain.test");

    assert_non_null(resolver_nexthop(bench.resolver, &hop, SPAN(""), on_answer, &running));
    const char *const servers[] = {new.server};
    const struct resolver_options options = {.servers = servers, .server_count = 1};
    resolver_configure(bench.resolver, &options);
    seen = ask(&bench, NEXTHOP_HOST, "plain.test");
    assert_addresses(&seen, "192.0.2.44:25=plain.test");
    if (running.calls == 0) {
        await(&bench, &running);
    }
    assert_addresses(&running, "192.0.2.33:25=running.test");
    /* What the old server said late is not kept for the new one's. */
    seen = ask(&bench, NEXTHOP_HOST, "running.test");
    assert_addresses(&seen, "192.0.2.44:25=running.test");
    uv_close((uv_handle_t *)&new.udp, NULL);
    bench_script_close(&bench, &old);
}

static void no_callback_comes_after_cancel(void **state)
{
    (void)state;
    struct bench bench;
    struct script script;
    struct seen gone = {0}, kept = {0};
    const struct nexthop hop = hop_of(NEXTHOP_HOST, "plain.test");
    bench_script(&bench, &script);
    struct resolver_query *first =
        resolver_nexthop(bench.resolver, &hop, SPAN(""), on_answer, &gone);
    resolver_nexthop(bench.resolver, &hop, SPAN(""), on_answer, &kept);
    resolver_cancel(first);
    await(&bench, &kept);
    /* From the cache: ready, and called off before the loop's next turn. */
    resolver_cancel(resolver_nexthop(bench.resolver, &hop, SPAN(""), on_answer, &gone));
    const struct net_address client = ip("192.0.2.1", 1);
    resolver_cancel(resolver_ptr(bench.resolver, &client, on_name, &gone));
    struct seen last = ask(&bench, NEXTHOP_HOST, "last.test");
    assert_int_equal(last.status, RESOLVER_OK);
    assert_int_equal(gone.calls, 0);
    bench_script_close(&bench, &script);
}

static void closing_ends_all_without_callbacks(void **state)
{
    (void)state;
    struct bench bench;
    struct script script;
    struct seen seen = {0};
    const struct nexthop silent = hop_of(NEXTHOP_MX, "silent.test");
    const struct nexthop at_once = hop_of(NEXTHOP_HOST, "localhost");
    bench_script(&bench, &script);
    for (int i = 0; i < 3; i++) {
        resolver_nexthop(bench.resolver, &silent, SPAN(""), on_answer, &seen);
        resolver_nexthop(bench.resolver, &at_once, SPAN(""), on_answer, &seen);
    }
    uv_run(&bench.loop, UV_RUN_NOWAIT);
    seen.calls = 0;
    const char *const servers[] = {script.server};
    const struct resolver_options options = {.servers = servers, .server_count = 1};
    resolver_configure(bench.resolver, &options);
    resolver_nexthop(bench.resolver, &silent, SPAN(""), on_answer, &seen);
    resolver_nexthop(bench.resolver, &at_once, SPAN(""), on_answer, &seen);
    bench_script_close(&bench, &script);
    assert_int_equal(seen.calls, 0);
}

/* Two servers that say nothing: c-ares would take 12 s. */
static void silence_fails_within_the_deadline(void **state)
{
    (void)state;
    struct bench bench;
    struct script one, two;
    struct seen seen = {0};
    const struct nexthop hop = hop_of(NEXTHOP_MX, "silent.test");
    bench_script(&bench, &one);
    script_open(&two, &bench.loop, 44);
    const char *const servers[] = {one.server, two.server};
    const struct resolver_options options = {.servers = servers, .server_count = 2};
    resolver_configure(bench.resolver, &options);
    uint64_t start = uv_now(&bench.loop);
    resolver_nexthop(bench.resolver, &hop, SPAN(""), on_answer, &seen);
    await(&bench, &seen);
    assert_int_equal(seen.status, RESOLVER_FAIL);
    assert_in_range(uv_now(&bench.loop) - start, 4000, 10000);
    assert_true(one.questions > 0 && two.questions > 0);
    /* Remembered for some seconds. */
    start = uv_now(&bench.loop);
    seen = ask(&bench, NEXTHOP_MX, "silent.test");
    assert_int_equal(seen.status, RESOLVER_FAIL);
    assert_in_range(uv_now(&bench.loop) - start, 0, 1000);
    uv_close((uv_handle_t *)&two.udp, NULL);
    bench_script_close(&bench, &one);
}

/* How long the loop was at it, in milliseconds. */
static uint64_t time_of(struct bench *bench, const char *name, const char *wanted)
{
    const uint64_t start = uv_now(&bench->loop);
    struct seen seen = ask(bench, NEXTHOP_HOST, name);
    assert_addresses(&seen, wanted);
    return uv_now(&bench->loop) - start;
}

static void bench_two(struct bench *bench, struct script *one, struct script *two)
{
    bench_script(bench, one);
    script_open(two, &bench->loop, 44);
    const char *const servers[] = {one->server, two->server};
    const struct resolver_options options = {.servers = servers, .server_count = 2};
    resolver_configure(bench->resolver, &options);
}

static void bench_two_close(struct bench *bench, struct script *one, struct script *two)
{
    uv_close((uv_handle_t *)&two->udp, NULL);
    bench_script_close(bench, one);
}

static void a_server_that_says_nothing_is_soon_asked_last(void **state)
{
    (void)state;
    struct bench bench;
    struct script one, two;
    bench_two(&bench, &one, &two);
    one.mute = true;
    assert_in_range(time_of(&bench, "a.test", "192.0.2.44:25=a.test"), 800, 1800);
    assert_in_range(time_of(&bench, "b.test", "192.0.2.44:25=b.test"), 800, 1800);
    assert_in_range(time_of(&bench, "c.test", "192.0.2.44:25=c.test"), 0, 500);
    const unsigned asked = one.questions;
    assert_in_range(time_of(&bench, "d.test", "192.0.2.44:25=d.test"), 0, 500);
    assert_int_equal(one.questions, asked);
    /* What is known stays known, whoever comes first. */
    const unsigned answered = two.questions;
    assert_in_range(time_of(&bench, "a.test", "192.0.2.44:25=a.test"), 0, 500);
    assert_int_equal(two.questions, answered);
    /* And the one that had nothing to say comes before none at all. */
    one.mute = false;
    two.mute = true;
    assert_in_range(time_of(&bench, "e.test", "192.0.2.33:25=e.test"), 800, 1800);
    bench_two_close(&bench, &one, &two);
}

static void a_single_silence_changes_nothing(void **state)
{
    (void)state;
    struct bench bench;
    struct script one, two;
    bench_two(&bench, &one, &two);
    for (int i = 0; i < 3; i++) {
        char slow[16], fast[16], wanted[64];
        snprintf(slow, sizeof(slow), "s%d.test", i);
        snprintf(fast, sizeof(fast), "f%d.test", i);
        one.mute = true;
        snprintf(wanted, sizeof(wanted), "192.0.2.44:25=%s", slow);
        assert_in_range(time_of(&bench, slow, wanted), 800, 1800);
        one.mute = false;
        snprintf(wanted, sizeof(wanted), "192.0.2.33:25=%s", fast);
        assert_in_range(time_of(&bench, fast, wanted), 0, 500);
    }
    bench_two_close(&bench, &one, &two);
}

/* The order of the servers is given anew, whatever it had come to be. */
static void configuring_forgets_which_server_said_nothing(void **state)
{
    (void)state;
    struct bench bench;
    struct script one, two;
    bench_two(&bench, &one, &two);
    one.mute = true;
    for (int i = 0; i < 2; i++) {
        char name[16], wanted[64];
        snprintf(name, sizeof(name), "n%d.test", i);
        snprintf(wanted, sizeof(wanted), "192.0.2.44:25=%s", name);
        time_of(&bench, name, wanted);
    }
    one.mute = false;
    const char *const servers[] = {one.server, two.server};
    const struct resolver_options options = {.servers = servers, .server_count = 2};
    resolver_configure(bench.resolver, &options);
    assert_in_range(time_of(&bench, "a.test", "192.0.2.33:25=a.test"), 0, 500);
    bench_two_close(&bench, &one, &two);
}

/* resolv.conf */

static void assert_servers(const char *text, const char *wanted)
{
    char path[] = "/tmp/splitmx-resolv-XXXXXX", got[2048] = "";
    struct resolver_servers servers;
    int fd = mkstemp(path);
    size_t len = 0;
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
    assert_true(resolver_servers_read(path, &servers));
    unlink(path);
    for (size_t i = 0; i < servers.count; i++) {
        len += (size_t)snprintf(got + len, sizeof(got) - len, "%s%s", i > 0 ? " " : "",
                                servers.texts[i]);
    }
    assert_string_equal(got, wanted);
}

static void name_servers_are_read_in_order_and_nothing_else(void **state)
{
    (void)state;
    assert_servers("# made by hand\nnameserver 192.0.2.1\nsearch example.com test\n"
                   "options ndots:5 timeout:1 rotate\nnameserver 2001:db8::1\n",
                   "192.0.2.1:53 [2001:db8::1]:53");
    assert_servers("nameserver 127.0.0.11\noptions ndots:0\n", "127.0.0.11:53");
    assert_servers("nameserver not-an-address\nnameserver 192.0.2.7\n", "192.0.2.7:53");
    assert_servers("", "127.0.0.1:53");
    assert_servers("nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\n"
                   "nameserver 192.0.2.4\nnameserver 192.0.2.5\nnameserver 192.0.2.6\n"
                   "nameserver 192.0.2.7\nnameserver 192.0.2.8\nnameserver 192.0.2.9\n",
                   "192.0.2.1:53 192.0.2.2:53 192.0.2.3:53 192.0.2.4:53 192.0.2.5:53 "
                   "192.0.2.6:53 192.0.2.7:53 192.0.2.8:53");
}

static void without_a_file_the_machine_itself_is_asked(void **state)
{
    (void)state;
    struct resolver_servers servers;
    assert_true(resolver_servers_read("/nonexistent/resolv.conf", &servers));
    assert_int_equal(servers.count, 1);
    assert_string_equal(servers.texts[0], "127.0.0.1:53");
}

static void what_is_no_server_is_refused_and_the_old_ones_stay(void **state)
{
    (void)state;
    static const char *const bad[] = {"localhost:53", "192.0.2.1", "", "[::1]"};
    struct bench bench;
    struct script script;
    bench_script(&bench, &script);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        const struct resolver_options options = {.servers = &bad[i], .server_count = 1};
        assert_null(resolver_new(&bench.loop, &options));
        resolver_configure(bench.resolver, &options);
        time_of(&bench, "plain.test", "192.0.2.33:25=plain.test");
    }
    const struct resolver_options none = {.server_count = 0};
    assert_null(resolver_new(&bench.loop, &none));
    bench_script_close(&bench, &script);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_server_that_says_nothing_is_soon_asked_last),
        cmocka_unit_test(a_single_silence_changes_nothing),
        cmocka_unit_test(configuring_forgets_which_server_said_nothing),
        cmocka_unit_test(name_servers_are_read_in_order_and_nothing_else),
        cmocka_unit_test(without_a_file_the_machine_itself_is_asked),
        cmocka_unit_test(what_is_no_server_is_refused_and_the_old_ones_stay),
        cmocka_unit_test(failures_are_told_apart_from_absence),
        cmocka_unit_test(a_server_that_is_not_there_fails),
        cmocka_unit_test(a_name_that_cannot_be_looked_up_now_may_come_later),
        cmocka_unit_test(equal_questions_share_a_query_and_the_answer_is_kept),
        cmocka_unit_test(configuring_empties_the_cache_and_running_queries_go_on),
        cmocka_unit_test(no_callback_comes_after_cancel),
        cmocka_unit_test(closing_ends_all_without_callbacks),
        cmocka_unit_test(silence_fails_within_the_deadline),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
