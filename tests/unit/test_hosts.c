#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "routing/hosts.h"

/* A hosts file with this text, read and removed again. */
static struct resolver_hosts *hosts_of(const char *text, size_t len)
{
    char folder[] = "/tmp/splitmx-hosts-XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/hosts", folder);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, len, file), len);
    fclose(file);
    struct resolver_hosts *hosts = resolver_hosts_read(path);
    unlink(path);
    rmdir(folder);
    assert_non_null(hosts);
    return hosts;
}

static struct net_address ip(const char *text)
{
    struct net_address address;
    assert_true(net_address_parse(span_of(text), 25, &address));
    return address;
}

static void assert_v4(const struct resolver_hosts *hosts, const char *name, const char *const *ips)
{
    const struct dns_answer *answer = hosts_answer(hosts, name, DNS_A);
    size_t count = 0;
    while (ips[count] != NULL) {
        count++;
    }
    assert_int_equal(answer->status, count > 0 ? DNS_OK : DNS_NODATA);
    assert_int_equal(answer->count, count);
    for (size_t i = 0; i < count; i++) {
        struct net_address wanted = ip(ips[i]);
        assert_memory_equal(&answer->records[i].in4, &wanted.in4.sin_addr, 4);
    }
    dns_answer_unref(answer);
}

static void names_lead_to_addresses_in_the_order_of_the_file(void **state)
{
    (void)state;
    static const char text[] = "# comment\n"
                               "127.0.0.1\tlocalhost\n"
                               "192.0.2.9 Mail.Example.COM mail # trailing 192.0.2.77 x\n"
                               "\n"
                               "  192.0.2.3   mail\r\n"
                               "2001:db8::3 mail six.\n"
                               "192.0.2.5 last";
    struct resolver_hosts *hosts = hosts_of(text, sizeof(text) - 1);
    assert_v4(hosts, "mail", (const char *[]){"192.0.2.9", "192.0.2.3", NULL});
    assert_v4(hosts, "mail.example.com", (const char *[]){"192.0.2.9", NULL});
    assert_v4(hosts, "last", (const char *[]){"192.0.2.5", NULL});
    assert_true(hosts_has(hosts, "six"));
    assert_v4(hosts, "six", (const char *[]){NULL});
    const struct dns_answer *six = hosts_answer(hosts, "six", DNS_AAAA);
    struct net_address wanted = ip("2001:db8::3");
    assert_int_equal(six->count, 1);
    assert_memory_equal(&six->records[0].in6, &wanted.in6.sin6_addr, 16);
    dns_answer_unref(six);
    assert_false(hosts_has(hosts, "x"));
    assert_false(hosts_has(hosts, "trailing"));
    assert_false(hosts_has(hosts, "zzz"));
    assert_false(hosts_has(hosts, "a"));
    resolver_hosts_unref(hosts);
}

static void an_address_leads_to_its_first_name(void **state)
{
    (void)state;
    static const char text[] = "192.0.2.9 first.test second.test\n192.0.2.9 third.test\n"
                               "2001:db8::1 six.test\n";
    struct resolver_hosts *hosts = hosts_of(text, sizeof(text) - 1);
    struct net_address four = ip("192.0.2.9"), six = ip("2001:db8::1"), none = ip("192.0.2.8");
    assert_string_equal(hosts_name(hosts, &four), "first.test");
    assert_string_equal(hosts_name(hosts, &six), "six.test");
    assert_null(hosts_name(hosts, &none));
    resolver_hosts_unref(hosts);
}

static void bad_lines_are_passed_over(void **state)
{
    (void)state;
    static const char text[] = "300.1.1.1 bad1\n192.0.2.1\nnonsense\nfe80::1%eth0 scoped\n"
                               "192.0.2.2 -bad- ok.test sp\x01"
                               "ce\n\0\0\0\n192.0.2.3 behind\n";
    struct resolver_hosts *hosts = hosts_of(text, sizeof(text) - 1);
    assert_false(hosts_has(hosts, "bad1"));
    assert_false(hosts_has(hosts, "-bad-"));
    assert_false(hosts_has(hosts, "sp\x01"
                                  "ce"));
    assert_true(hosts_has(hosts, "ok.test"));
    assert_true(hosts_has(hosts, "behind"));
    resolver_hosts_unref(hosts);
}

static void a_missing_file_or_a_folder_is_empty(void **state)
{
    (void)state;
    static const char *const paths[] = {"/nonexistent/hosts", "/tmp", "/dev/null"};
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        struct resolver_hosts *hosts = resolver_hosts_read(paths[i]);
        struct net_address address = ip("127.0.0.1");
        assert_non_null(hosts);
        assert_false(hosts_has(hosts, "localhost"));
        assert_null(hosts_name(hosts, &address));
        resolver_hosts_unref(hosts);
    }
    assert_false(hosts_has(NULL, "localhost"));
}

static void references_keep_it_alive(void **state)
{
    (void)state;
    struct resolver_hosts *hosts = hosts_of("192.0.2.1 a\n", 12);
    struct resolver_hosts *second = resolver_hosts_ref(hosts);
    resolver_hosts_unref(hosts);
    assert_true(hosts_has(second, "a"));
    resolver_hosts_unref(second);
    resolver_hosts_unref(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_lead_to_addresses_in_the_order_of_the_file),
        cmocka_unit_test(an_address_leads_to_its_first_name),
        cmocka_unit_test(bad_lines_are_passed_over),
        cmocka_unit_test(a_missing_file_or_a_folder_is_empty),
        cmocka_unit_test(references_keep_it_alive),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
