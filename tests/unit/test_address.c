/* test_address.c - base/address.h: what is accepted, what is refused and why, and the way back to text.
 * Texts are parsed from exact-size heap copies, so that ASan sees an over-read by one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <arpa/inet.h>
#include <errno.h>
#include <cmocka.h>

#include "base/address.h"

#define LABEL_63 "aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffffggg"
#define PATH_107 "/" LABEL_63 "/hhhhhhhhhhiiiiiiiiiijjjjjjjjjjkkkkkkkkkkll"

#define COUNT(array) (sizeof(array) / sizeof *(array))

static int parse(const char *text, size_t len, struct address *address, const char **why)
{
    char *copy = malloc(len);
    int result;

    assert_true(copy != NULL || len == 0);
    if (len)
        memcpy(copy, text, len);
    result = address_parse(slice_of(copy, len), address, why);
    free(copy);
    return result;
}

static struct address must_parse(const char *text)
{
    struct address address;
    const char *why = NULL;

    if (parse(text, strlen(text), &address, &why) != 0)
        fail_msg("\"%s\": %s", text, why);
    return address;
}

static const struct {
    const char *text;
    enum address_kind kind;
    uint16_t port;
    const char *host;
    const char *endpoint; /* as text, when connecting; NULL for a name */
} good[] = {
    {"127.0.0.1:80", ADDRESS_IP, 80, "127.0.0.1", "127.0.0.1:80"},
    {"0.0.0.0:1", ADDRESS_IP, 1, "0.0.0.0", "0.0.0.0:1"},
    {"255.255.255.255:65535", ADDRESS_IP, 65535, "255.255.255.255", "255.255.255.255:65535"},
    {"[::1]:80", ADDRESS_IP, 80, "::1", "[::1]:80"},
    {"[::]:80", ADDRESS_IP, 80, "::", "[::]:80"},
    {"[2001:DB8::1]:443", ADDRESS_IP, 443, "2001:DB8::1", "[2001:db8::1]:443"},
    {"[::ffff:1.2.3.4]:80", ADDRESS_IP, 80, "::ffff:1.2.3.4", "1.2.3.4:80"},
    {"[ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255]:9", ADDRESS_IP, 9,
     "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255", "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:9"},
    {":8080", ADDRESS_ANY, 8080, "", "127.0.0.1:8080"},
    {"localhost:80", ADDRESS_NAME, 80, "localhost", NULL},
    {"a:1", ADDRESS_NAME, 1, "a", NULL},
    {"Web-1.example.com:80", ADDRESS_NAME, 80, "Web-1.example.com", NULL},
    {"example.com.:80", ADDRESS_NAME, 80, "example.com.", NULL},
    {"my_service:80", ADDRESS_NAME, 80, "my_service", NULL},
    {"1.example:80", ADDRESS_NAME, 80, "1.example", NULL},
    {"1a:80", ADDRESS_NAME, 80, "1a", NULL},
    {"unixy:80", ADDRESS_NAME, 80, "unixy", NULL},
    {LABEL_63 ":80", ADDRESS_NAME, 80, LABEL_63, NULL},
    {LABEL_63 "." LABEL_63 ":80", ADDRESS_NAME, 80, LABEL_63 "." LABEL_63, NULL},
    {"unix:/run/app.sock", ADDRESS_UNIX, 0, "/run/app.sock", "unix:/run/app.sock"},
    {"unix:/a", ADDRESS_UNIX, 0, "/a", "unix:/a"},
    {"unix:/a:80", ADDRESS_UNIX, 0, "/a:80", "unix:/a:80"},
    {"unix:" PATH_107, ADDRESS_UNIX, 0, PATH_107, "unix:" PATH_107},
};

static void every_form_is_parsed_into_its_kind_host_and_port(void **state)
{
    (void)state;
    assert_int_equal(strlen(PATH_107), 107);
    for (size_t i = 0; i < COUNT(good); i++) {
        struct address address = must_parse(good[i].text);

        if (address.kind != good[i].kind || address.port != good[i].port ||
            strcmp(address.host, good[i].host) != 0)
            fail_msg("\"%s\": kind %d, host \"%s\", port %u", good[i].text, address.kind, address.host,
                     address.port);
    }
}

static void an_address_comes_back_as_text(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(good); i++) {
        struct address address = must_parse(good[i].text);
        struct endpoint endpoint;
        char text[ADDRESS_TEXT_MAX];

        if (!good[i].endpoint)
            continue;
        endpoint_from_address(&endpoint, &address, false);
        assert_int_equal(endpoint_text(&endpoint, text), strlen(good[i].endpoint));
        assert_string_equal(text, good[i].endpoint);
    }
}

static const struct {
    const char *text;
    const char *why; /* stands in the reason */
} bad[] = {
    {"", "empty"},
    {"localhost", "port is missing"},
    {"127.0.0.1", "port is missing"},
    {"8080", "port is missing"},
    {":", "from 1 to 65535"},
    {"a:", "from 1 to 65535"},
    {":0", "from 1 to 65535"},
    {":65536", "from 1 to 65535"},
    {":99999999999999999999999", "from 1 to 65535"},
    {":080", "from 1 to 65535"},
    {":-1", "from 1 to 65535"},
    {":+1", "from 1 to 65535"},
    {": 80", "from 1 to 65535"},
    {":80 ", "from 1 to 65535"},
    {":http", "from 1 to 65535"},
    {"::1", "needs brackets"},
    {"::1:80", "needs brackets"},
    {"2001:db8::1", "needs brackets"},
    {"http://localhost:80", "needs brackets"},
    {"[::1]", "port is missing"},
    {"[::1]80", "port is missing"},
    {"[::1]:", "from 1 to 65535"},
    {"[::1]:0", "from 1 to 65535"},
    {"[::1]:65536", "from 1 to 65535"},
    {"[::1:80", "']'"},
    {"[", "']'"},
    {"[]:80", "not an IPv6 address"},
    {"[1.2.3.4]:80", "not an IPv6 address"},
    {"[localhost]:80", "not an IPv6 address"},
    {"[fe80::1%eth0]:80", "not an IPv6 address"},
    {"[:::1]:80", "not an IPv6 address"},
    {"[1:2:3:4:5:6:7:8:9]:80", "not an IPv6 address"},
    {"[ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.2555]:9", "not an IPv6 address"},
    {"*:80", "'*' is not an address"},
    {" localhost:80", "neither an IP address nor a name"},
    {"local host:80", "neither an IP address nor a name"},
    {"local .host:80", "neither an IP address nor a name"},
    {"a/b:80", "neither an IP address nor a name"},
    {"http//a:80", "neither an IP address nor a name"},
    {"user@a:80", "neither an IP address nor a name"},
    {"b\xc3\xbc"
     "cher:80",
     "neither an IP address nor a name"},
    {".:80", "neither an IP address nor a name"},
    {".a:80", "neither an IP address nor a name"},
    {"a..b:80", "neither an IP address nor a name"},
    {"a..:80", "neither an IP address nor a name"},
    {"-a:80", "neither an IP address nor a name"},
    {"a-.b:80", "neither an IP address nor a name"},
    {LABEL_63 "x:80", "neither an IP address nor a name"},
    {LABEL_63 "." LABEL_63 "x:80", "longer than 127"},
    {LABEL_63 "." LABEL_63 ".:80", "longer than 127"},
    {"256.0.0.1:80", "looks like an IPv4 address"},
    {"1.2.3:80", "looks like an IPv4 address"},
    {"1.2.3.4.5:80", "looks like an IPv4 address"},
    {"01.2.3.4:80", "looks like an IPv4 address"},
    {"1.2.3.4.:80", "looks like an IPv4 address"},
    {"80:80", "looks like an IPv4 address"},
    {"unix:", "absolute path"},
    {"unix:80", "absolute path"},
    {"unix:run/app.sock", "absolute path"},
    {"unix:/", "not a directory"},
    {"unix:/run/", "not a directory"},
    {"unix:" PATH_107 "x", "at most 107"},
};

static void what_is_no_address_is_refused_with_a_reason(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(bad); i++) {
        struct address address, untouched;
        const char *why = NULL;

        memset(&address, 0x5a, sizeof address);
        untouched = address;
        if (parse(bad[i].text, strlen(bad[i].text), &address, &why) != -EINVAL)
            fail_msg("\"%s\" was accepted", bad[i].text);
        if (!why || !strstr(why, bad[i].why))
            fail_msg("\"%s\": %s", bad[i].text, why ? why : "no reason");
        assert_memory_equal(&address, &untouched, sizeof address);
    }
}

static void a_nul_is_never_part_of_an_address(void **state)
{
    static const struct slice texts[] = {
        SLICE("127.0.0.1\0:80"), SLICE("local\0host:80"), SLICE("[::1\0]:80"),
        SLICE(":80\0"),          SLICE("unix:/a\0b"),     SLICE("\0"),
    };

    (void)state;
    for (size_t i = 0; i < COUNT(texts); i++) {
        struct address address;
        const char *why = NULL;

        assert_int_equal(parse(texts[i].ptr, texts[i].len, &address, &why), -EINVAL);
        assert_non_null(why);
    }
}

static void every_prefix_of_an_address_is_read_within_its_bytes(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(good); i++)
        for (size_t len = 0; len < strlen(good[i].text); len++) {
            struct address address;
            const char *why = NULL;
            int result = parse(good[i].text, len, &address, &why);

            assert_true(result == 0 ? why == NULL : result == -EINVAL && why != NULL);
        }
}

static void no_host_listens_everywhere_but_connects_to_this_machine(void **state)
{
    struct address address = must_parse(":8080");
    struct endpoint endpoint;
    char text[ADDRESS_TEXT_MAX];

    (void)state;
    endpoint_from_address(&endpoint, &address, true);
    endpoint_text(&endpoint, text);
    assert_string_equal(text, "[::]:8080");
    assert_int_equal(endpoint.len, sizeof(struct sockaddr_in6));
    endpoint_from_address(&endpoint, &address, false);
    endpoint_text(&endpoint, text);
    assert_string_equal(text, "127.0.0.1:8080");
    assert_int_equal(endpoint.len, sizeof(struct sockaddr_in));
}

static struct endpoint endpoint_of(const char *text)
{
    struct address address = must_parse(text);
    struct endpoint endpoint;

    endpoint_from_address(&endpoint, &address, false);
    return endpoint;
}

/* The same place as a dual-stack socket reports it. */
static struct endpoint mapped_endpoint(const char *v6, uint16_t port)
{
    struct endpoint endpoint = {.len = sizeof endpoint.in6};

    endpoint.in6.sin6_family = AF_INET6;
    endpoint.in6.sin6_port = htons(port);
    assert_int_equal(inet_pton(AF_INET6, v6, &endpoint.in6.sin6_addr), 1);
    return endpoint;
}

static void endpoints_are_equal_when_they_name_the_same_place(void **state)
{
    struct endpoint v4 = endpoint_of("1.2.3.4:80"), v6 = endpoint_of("[::1]:80");
    struct endpoint sock = endpoint_of("unix:/a"), other_port = endpoint_of("1.2.3.4:81");
    struct endpoint other_host = endpoint_of("1.2.3.5:80"), other_path = endpoint_of("unix:/ab");
    struct endpoint mapped = mapped_endpoint("::ffff:1.2.3.4", 80);
    struct endpoint same = endpoint_of("1.2.3.4:80"), same_path = endpoint_of("unix:/a");

    (void)state;
    assert_true(endpoint_equal(&v4, &same));
    assert_true(endpoint_equal(&v4, &mapped));
    assert_true(endpoint_equal(&sock, &same_path));
    assert_false(endpoint_equal(&v4, &other_port));
    assert_false(endpoint_equal(&v4, &other_host));
    assert_false(endpoint_equal(&v4, &v6));
    assert_false(endpoint_equal(&sock, &other_path));
    assert_false(endpoint_equal(&sock, &v6));
    assert_false(endpoint_equal(&v6, &sock));
}

static void a_unix_path_counts_without_what_follows_its_nul(void **state)
{
    struct endpoint a = endpoint_of("unix:/a"), full = endpoint_of("unix:/a");

    (void)state;
    full.len = sizeof full.un; /* some callers pass the whole structure */
    strcpy(full.un.sun_path + 3, "rest");
    assert_true(endpoint_equal(&a, &full));
}

static void a_client_of_a_unix_socket_has_a_text_though_it_has_no_name(void **state)
{
    struct endpoint unnamed = {.len = sizeof(sa_family_t)}, abstract = unnamed;
    char text[ADDRESS_TEXT_MAX];

    (void)state;
    unnamed.sa.sa_family = abstract.sa.sa_family = AF_UNIX;
    assert_int_equal(endpoint_text(&unnamed, text), 5);
    assert_string_equal(text, "unix:");
    memcpy(abstract.un.sun_path, "\0name", 5);
    abstract.len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 5);
    endpoint_text(&abstract, text);
    assert_string_equal(text, "unix:@name");
    assert_false(endpoint_equal(&unnamed, &abstract));
    assert_true(endpoint_equal(&abstract, &abstract));
}

static void the_longest_texts_fit(void **state)
{
    struct endpoint longest = mapped_endpoint("2001:1111:2222:3333:4444:5555:6666:7777", 65535);
    struct endpoint full = {.len = sizeof full.un}, abstract = {.len = sizeof abstract.un};
    char text[ADDRESS_TEXT_MAX];

    (void)state;
    endpoint_text(&longest, text);
    assert_string_equal(text, "[2001:1111:2222:3333:4444:5555:6666:7777]:65535");
    full.sa.sa_family = abstract.sa.sa_family = AF_UNIX;
    memset(full.un.sun_path, 'x', sizeof full.un.sun_path); /* no NUL: the kernel may return one such */
    assert_int_equal(endpoint_text(&full, text), 5 + sizeof full.un.sun_path);
    memset(abstract.un.sun_path + 1, 'x', sizeof abstract.un.sun_path - 1);
    assert_int_equal(endpoint_text(&abstract, text), 5 + sizeof full.un.sun_path);
}

static void an_ip_leaves_out_the_port_and_a_unix_socket_is_this_machine(void **state)
{
    static const struct {
        const char *endpoint, *ip;
        bool is_v4;
    } rows[] = {
        {"1.2.3.4:80", "1.2.3.4", true},
        {"[::ffff:1.2.3.4]:80", "1.2.3.4", true},
        {"[2001:db8::1]:80", "2001:db8::1", false},
        {"unix:/a", "::1", false},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct endpoint endpoint = endpoint_of(rows[i].endpoint);
        struct ip ip = ip_from_endpoint(&endpoint);
        char text[INET6_ADDRSTRLEN];

        assert_int_equal(ip_text(&ip, text), strlen(rows[i].ip));
        assert_string_equal(text, rows[i].ip);
        assert_int_equal(ip_is_v4(&ip), rows[i].is_v4);
    }
}

static bool parse_ip(const char *text, struct ip *ip)
{
    char *copy = malloc(strlen(text));
    bool ok;

    assert_true(copy != NULL || !*text);
    memcpy(copy, text, strlen(text));
    ok = ip_parse(slice_of(copy, strlen(text)), ip);
    free(copy);
    return ok;
}

static void an_ip_is_parsed_without_port_brackets_or_zone(void **state)
{
    static const char *const not_ips[] = {
        "",          "1.2.3",       "1.2.3.4:80",
        "[::1]",     "::1%lo",      "localhost",
        "1.2.3.4 ",  " ::1",        "::1/128",
        "1.2.3.4.5", ":",           "g::1",
        "1.2.3.04",  "00001.2.3.4", "999::1.2.3.4.5.6.7.8.9.10.11.12.13.14.15.16.17.18.19.20",
    };
    struct ip ip, mapped;

    (void)state;
    assert_true(parse_ip("1.2.3.4", &ip));
    assert_true(parse_ip("::ffff:1.2.3.4", &mapped));
    assert_memory_equal(&ip, &mapped, sizeof ip);
    assert_true(parse_ip("::1", &ip));
    assert_true(parse_ip("ABCD::", &ip));
    for (size_t i = 0; i < COUNT(not_ips); i++)
        if (parse_ip(not_ips[i], &ip))
            fail_msg("\"%s\" was accepted", not_ips[i]);
}

static bool parse_network(const char *text, struct ip_network *network)
{
    char *copy = malloc(strlen(text));
    bool ok;

    assert_true(copy != NULL || !*text);
    memcpy(copy, text, strlen(text));
    ok = ip_network_parse(slice_of(copy, strlen(text)), network);
    free(copy);
    return ok;
}

static void a_network_has_the_addresses_that_share_its_prefix(void **state)
{
    static const struct {
        const char *network, *inside, *outside;
    } rows[] = {
        {"10.0.0.0/8", "10.255.255.255", "11.0.0.0"},
        {"10.0.0.0/8", "10.0.0.0", "9.255.255.255"},
        {"10.1.2.3/8", "10.200.0.1", "11.1.2.3"}, /* bits of the host are masked away */
        {"192.168.128.0/17", "192.168.255.255", "192.168.127.255"},
        {"1.2.3.4", "1.2.3.4", "1.2.3.5"},
        {"1.2.3.4/32", "1.2.3.4", "1.2.3.5"},
        {"1.2.3.4/31", "1.2.3.5", "1.2.3.6"},
        {"0.0.0.0/0", "255.255.255.255", "::1"},
        {"0.0.0.0/1", "127.255.255.255", "128.0.0.0"},
        {"::1", "::1", "::2"},
        {"::1/128", "::1", "127.0.0.1"},
        {"2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"},
        {"2001:db8:1:2:3::9/32", "2001:db8::", "2001:db7::"},
        {"fe80::/10", "febf::1", "fec0::1"},
        {"::ffff:10.0.0.0/104", "10.9.9.9", "11.0.0.0"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct ip_network network;
        struct ip inside, outside;

        if (!parse_network(rows[i].network, &network) || !parse_ip(rows[i].inside, &inside) ||
            !parse_ip(rows[i].outside, &outside))
            fail_msg("\"%s\" was refused", rows[i].network);
        if (!ip_network_has(&network, &inside) || ip_network_has(&network, &outside))
            fail_msg("\"%s\", %s, %s", rows[i].network, rows[i].inside, rows[i].outside);
    }
}

static void every_address_is_in_the_network_of_no_bits(void **state)
{
    struct ip_network all;
    struct ip v4, v6;

    (void)state;
    assert_true(parse_network("::/0", &all));
    assert_true(parse_ip("1.2.3.4", &v4) && parse_ip("ffff::", &v6));
    assert_true(ip_network_has(&all, &v4));
    assert_true(ip_network_has(&all, &v6));
}

static void what_is_no_network_is_refused(void **state)
{
    static const char *const texts[] = {
        "",
        "/",
        "/8",
        "10.0.0.0/",
        "10.0.0.0/33",
        "10.0.0.0/-1",
        "10.0.0.0/a",
        "::/129",
        "10/8",
        "10.0.0/8",
        "10.0.0.0/8/",
        "10.0.0.0 /8",
        "10.0.0.0/ 8",
        "10.0.0.0/255.0.0.0",
        "host/8",
        "1.2.3.4:80",
        "[::1]/128",
        "::1/1288888888888888888888888",
    };
    struct ip_network network;

    (void)state;
    for (size_t i = 0; i < COUNT(texts); i++)
        if (parse_network(texts[i], &network))
            fail_msg("\"%s\" was accepted", texts[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_form_is_parsed_into_its_kind_host_and_port),
        cmocka_unit_test(an_address_comes_back_as_text),
        cmocka_unit_test(what_is_no_address_is_refused_with_a_reason),
        cmocka_unit_test(a_nul_is_never_part_of_an_address),
        cmocka_unit_test(every_prefix_of_an_address_is_read_within_its_bytes),
        cmocka_unit_test(no_host_listens_everywhere_but_connects_to_this_machine),
        cmocka_unit_test(endpoints_are_equal_when_they_name_the_same_place),
        cmocka_unit_test(a_unix_path_counts_without_what_follows_its_nul),
        cmocka_unit_test(a_client_of_a_unix_socket_has_a_text_though_it_has_no_name),
        cmocka_unit_test(the_longest_texts_fit),
        cmocka_unit_test(an_ip_leaves_out_the_port_and_a_unix_socket_is_this_machine),
        cmocka_unit_test(an_ip_is_parsed_without_port_brackets_or_zone),
        cmocka_unit_test(a_network_has_the_addresses_that_share_its_prefix),
        cmocka_unit_test(every_address_is_in_the_network_of_no_bits),
        cmocka_unit_test(what_is_no_network_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
